"""A small plot made of characters."""

from collections.abc import Mapping, Sequence

COLUMNS, ROWS = 60, 14
MARKS = "●○▲△"
GAP = 8  # characters of an axis' numbers


def text_plot(curves: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> str:
    """Up to four curves of (x, y) points, each with a mark of its own; the later is drawn over the earlier."""
    assert len(curves) <= len(MARKS)
    points = [point for curve in curves.values() for point in curve]
    (left, right), (low, high) = (_range([p[axis] for p in points]) for axis in (0, 1))
    field = [[" "] * COLUMNS for _ in range(ROWS)]
    for mark, curve in zip(MARKS, curves.values(), strict=False):
        for px, py in curve:
            column = round((px - left) / (right - left) * (COLUMNS - 1))
            field[ROWS - 1 - round((py - low) / (high - low) * (ROWS - 1))][column] = mark
    names = [f"{mark} {name}" for mark, name in zip(MARKS, curves, strict=False)]
    ends = {0: f"{high:.1f}", ROWS - 1: f"{low:.1f}"}
    lines = [f"{ends.get(row, ''):>{GAP}} │{''.join(cells)}".rstrip() for row, cells in enumerate(field)]
    axis = f"{' ' * GAP} └{'─' * COLUMNS}"
    foot = f"{' ' * GAP}  {left:<{COLUMNS // 2},.0f}{right:>{COLUMNS - COLUMNS // 2},.0f}"
    return "\n".join([f"{y}   {'   '.join(names)}", *lines, axis, foot, f"{x:>{GAP + 2 + COLUMNS}}"])


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Never empty, so that a single value has a place."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
