"""Images by name, the bias of their pool, and the splits drawn from them."""
