"""Runs experiments: expands a grid, prepares, runs one or several side by side."""
