"""What the seeds prove: paired tests between methods, and the pairwise penalty matrix of deep active learning."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from fkal.config.method_spec import short_method_name
from fkal.report.panels import Panel

ALPHA = 0.05
"""A difference counts where it would arise by chance in less than one of twenty families of comparisons."""

ROUNDING = 1e-9
"""Differences closer together than this vary by the rounding of sums alone."""

TESTS: Mapping[str, tuple[str, Callable[[np.ndarray], float]]] = {
    "t": ("paired t-test", lambda differences: float(stats.ttest_1samp(differences, 0).pvalue)),
    "wilcoxon": (
        "Wilcoxon signed-rank test",
        lambda differences: float(stats.wilcoxon(differences, method="exact").pvalue),
    ),
}
"""By name: in words, and the two-sided p-value of paired differences."""


class Pair(NamedTuple):
    """Two methods on the seeds that both have; `difference` is the mean of first - second, in points of AUBC.

    `p` and Holm's `adjusted` p are None where the differences allow no test: fewer than two, or all equal.
    """

    first: str
    second: str
    seeds: int
    difference: float
    std: float | None
    p: float | None
    adjusted: float | None
    verdict: str


def pairs(panel: Panel, test: str = "t", against: str | None = None) -> list[Pair]:
    """Every pair of a panel's methods, or those of `against` with each other one: one family of comparisons."""
    areas = {method: 100 * panel.areas(method) for method in panel.methods}
    wanted = list(combinations(panel.methods, 2))
    if against is not None and against in panel.methods:
        wanted = [(method, against) for method in panel.methods if method != against]
    found = [(a, b, _differences(areas[a], areas[b])) for a, b in wanted]
    ps = [paired_p_value(differences, test) for _, _, differences in found]
    adjusted = iter(holm([p for p in ps if p is not None]))
    return [
        _pair(a, b, differences, p, None if p is None else next(adjusted))
        for (a, b, differences), p in zip(found, ps, strict=True)
    ]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics, 1979) of a family of p-values."""
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


def pairs_frame(found: Sequence[Pair]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=list(Pair._fields))


def penalty_matrix(panels: Sequence[Panel]) -> pd.DataFrame:
    """Row i, column j: in how many panels' worth of rounds method i beat method j (Ash et al., ICLR 2020, BADGE).

    In each round i beats j where a two-sided paired t-test over their common seeds says so at 95 %; a round
    counts 1 / rounds, so a panel counts 1 at most. Missing where no panel has two seeds of both. A column's mean
    is how often its method was beaten.
    """
    methods = list(dict.fromkeys(method for panel in panels for method in panel.methods))
    table = pd.DataFrame(np.nan, index=methods, columns=methods)
    for panel in panels:
        accuracy = {method: panel.by_seed(method, panel.accuracy) for method in panel.methods}
        for a, b in combinations(panel.methods, 2):
            differences = (accuracy[a] - accuracy[b]).dropna(how="all").dropna(axis=1)
            if differences.shape[1] < 2:
                continue
            for cell in ((a, b), (b, a)):
                table.loc[cell] = np.nan_to_num(table.loc[cell])
            for _, row in differences.iterrows():
                winner = _winner(row.to_numpy())
                if winner:
                    table.loc[(a, b) if winner > 0 else (b, a)] += 1 / len(differences)
    return table


def _winner(differences: np.ndarray) -> int:
    p = paired_p_value(differences, "t")
    return 0 if p is None or p >= ALPHA else int(np.sign(differences.mean()))


def _differences(first: pd.Series, second: pd.Series) -> np.ndarray:
    return (first - second).dropna().to_numpy()


def paired_p_value(differences: np.ndarray, test: str) -> float | None:
    """None where there is nothing to test: differences that do not vary have no error to be held against."""
    if len(differences) < 2 or np.ptp(differences) < ROUNDING:
        return None
    return TESTS[test][1](differences)


def _pair(first: str, second: str, differences: np.ndarray, p: float | None, adjusted: float | None) -> Pair:
    n = len(differences)
    mean = float(differences.mean()) if n else float("nan")
    std = float(differences.std(ddof=1)) if n > 1 else None
    return Pair(first, second, n, mean, std, p, adjusted, _verdict(first, second, n, mean, adjusted))


def _verdict(first: str, second: str, seeds: int, difference: float, adjusted: float | None) -> str:
    if seeds == 0:
        return "no seed in common: nothing can be concluded"
    if seeds == 1:
        return "one seed: nothing can be concluded"
    if adjusted is None:
        return "all seeds differ alike: no test applies"
    if adjusted >= ALPHA:
        return "no difference shown"
    return f"{short_method_name(first if difference > 0 else second)} is better"
