"""Which images a round's accuracies belong to. Imports no torch."""

from collections.abc import Container

VALIDATION = "val"
"""What metrics call the validation images."""


def part_word(part: str) -> str:
    """What people call the part of a metric's name."""
    return {VALIDATION: "validation"}.get(part, part)


def measured_part(metrics: Container[str]) -> str:
    """`holdout` where a part held out was measured, else `test`, else the validation images, `val`."""
    return next((part for part in ("holdout", "test") if f"{part}/accuracy" in metrics), VALIDATION)
