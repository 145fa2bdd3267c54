"""Where the outside is: the command line, the tracking store, files, figures."""
