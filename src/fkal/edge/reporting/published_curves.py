"""The paper's own curves, read off its figures (VAAL's are numbers that the authors stored)."""

from functools import cache
from importlib.resources import files

import pandas as pd


@cache
def published_curves() -> pd.DataFrame:
    """Columns dataset, bias, method, b, labels_used, accuracy (%)."""
    with (files("fkal.edge.reporting") / "published.csv").open() as file:
        return pd.read_csv(file)


def published_curve(dataset: str, bias: str, method: str) -> pd.Series:
    """Accuracy in % by labels used; empty where the paper has no such curve."""
    table = published_curves()
    mine = table[(table["dataset"] == dataset) & (table["bias"] == bias) & (table["method"] == method)]
    return mine.set_index("labels_used")["accuracy"]
