"""One experiment: names become objects, what cannot work is refused, shared files are made once."""
