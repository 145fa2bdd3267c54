"""Settings: their schema, the layers they are merged from, and the files that hold them."""
