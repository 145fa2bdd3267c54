"""The paper's own curves, read off its figures (VAAL's are numbers that the authors stored)."""

import re
from functools import cache
from importlib.resources import files

import pandas as pd


@cache
def published_curves() -> pd.DataFrame:
    """Columns dataset, bias, method, b, labels_used, accuracy (%)."""
    with (files("fkal.report") / "published.csv").open() as file:
        return pd.read_csv(file)


def published_curve(dataset: str, bias: str, method: str) -> pd.Series:
    """Accuracy in % by labels used; empty where the paper has no such curve.

    The paper took 128 Monte Carlo views for labels; fewer stand beside its curve all the same, and are named.
    """
    table, method = published_curves(), known_as(method)
    mine = table[(table["dataset"] == dataset) & (table["bias"] == bias) & (table["method"] == method)]
    return mine.set_index("labels_used")["accuracy"]


def known_as(method: str) -> str:
    """A method's name in the paper's tables: without the number of Monte Carlo views of its labels."""
    return re.sub(r"^(pfk_(?:trace|mutual_information)):k\d+", r"\1", method)
