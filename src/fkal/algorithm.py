"""The version of the algorithm itself, part of every fingerprint."""

ALGO_VERSION = 1
"""Goes up by one whenever the same configuration and seed would give other results than before."""
