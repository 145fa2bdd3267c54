"""The command line: options, what commands print, exit codes, progress bars."""
