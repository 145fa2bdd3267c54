"""Own pools that people label: projects, batches, labels, rounds; and selection on arrays."""
