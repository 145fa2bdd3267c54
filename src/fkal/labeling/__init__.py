"""Own pools: a project's folder, its batches, and the labels that people give."""
