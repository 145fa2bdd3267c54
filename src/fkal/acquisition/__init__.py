"""Acquisitions: pure functions (evidence, p, generator) -> p distinct pool positions. Import from the modules."""
