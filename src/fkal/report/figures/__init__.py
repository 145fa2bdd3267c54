"""Figures of the report; matplotlib is imported here and in plots/."""
