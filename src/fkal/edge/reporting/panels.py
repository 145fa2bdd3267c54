"""Panels: experiments that may be held against each other, each with its methods and its baseline."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from fkal.config import ConfigError
from fkal.edge.curves import PAPER_TITLE, area_under_budget_curve
from fkal.edge.outcomes import Group, group_of
from fkal.edge.reporting.finished import Finished, Material

SAME = ["dataset", "bias", "protocol", "measured", "budget"]


@dataclass(frozen=True, eq=False)
class Panel:
    """One dataset and bias, under one protocol and schedule of labels.

    `methods` stand in the order of their area under the budget curve, the best first. `baseline` is the mean accuracy
    with every label of the pool. `name` is unlike that of any other panel, and fit for files.
    """

    name: str
    group: Group
    frame: pd.DataFrame
    methods: tuple[str, ...]
    baseline: float | None
    finished: tuple[Finished, ...]

    @property
    def title(self) -> str:
        paper = f", {PAPER_TITLE}" if self.group.protocol == "paper" else ""
        held_out = ", on held-out validation images" if self.group.measured == "holdout" else ""
        return f"{self.group.dataset}, {bias_words(self.group.bias)}{paper}{held_out}"

    @property
    def accuracy(self) -> str:
        return f"{self.group.measured}/accuracy"

    def of(self, method: str) -> pd.DataFrame:
        return self.frame[self.frame["method"] == method]

    def by_seed(self, method: str, metric: str) -> pd.DataFrame:
        """Labels used by seed; empty where the method has no such metric."""
        if (method, metric) not in self._tables:
            mine = self.of(method)
            known = mine.pivot(index="labels_used", columns="seed", values=metric) if metric in mine else pd.DataFrame()
            self._tables[method, metric] = known.dropna(how="all")
        return self._tables[method, metric]

    @cached_property
    def _tables(self) -> dict[tuple[str, str], pd.DataFrame]:
        """What `by_seed` has answered already."""
        return {}

    def experiments(self, method: str) -> list[Finished]:
        """Those of a method, by seed."""
        mine = [each for each in self.finished if each.outcome.method == method]
        return sorted(mine, key=lambda each: each.outcome.config.seed)

    def areas(self, method: str) -> pd.Series:
        """Mean accuracy over the budget of each seed, as a fraction."""
        table = self.by_seed(method, self.accuracy)
        return table.apply(lambda curve: area_under_budget_curve(curve.index.tolist(), curve.tolist()))


def panels_of(material: Material, methods: Sequence[str] = ()) -> list[Panel]:
    """Of some methods or all. Raises ConfigError for a method that no experiment has."""
    frame = with_groups(material.frame)
    known = sorted(frame["method"].unique())
    for unknown in sorted(set(methods).difference(known)):
        raise ConfigError(f"--method {unknown!r}: no finished experiment has it; known: {', '.join(known)}")
    whole = frame["method"].map(labels_whole_pool)
    chosen = frame[~whole & (frame["method"].isin(methods) if methods else True)]
    if chosen.empty:
        raise ConfigError("all experiments label the whole pool: there is no curve to draw; run a method with a budget")
    return list(_panels(chosen, frame[whole], material.finished))


def with_groups(frame: pd.DataFrame) -> pd.DataFrame:
    """With the columns `measured` and `budget` (labels of the first iteration)."""
    held_out = frame["holdout/accuracy"].notna() if "holdout/accuracy" in frame else pd.Series(False, frame.index)
    first = frame.groupby(["dataset", "bias", "protocol", "method", "seed"])["labels_used"].transform("min")
    return frame.assign(measured=held_out.map({True: "holdout", False: "test"}), budget=first)


def labels_whole_pool(method: str) -> bool:
    return re.split("[:@]", method)[0] == "all"


def bias_words(bias: str) -> str:
    """`ir = 100` of `ir100`."""
    ratio = re.fullmatch(r"ir([\d.]+)(.*)", bias)
    return f"ir = {ratio[1]}{ratio[2]}" if ratio else bias


def _panels(frame: pd.DataFrame, whole: pd.DataFrame, finished: Sequence[Finished]) -> Iterator[Panel]:
    taken: set[str] = set()
    for key, mine in frame.groupby(SAME, sort=True):
        dataset, bias, protocol, measured, budget = key
        group = Group(dataset, bias, protocol, int(budget), measured)
        name = group.slug if group.slug not in taken else f"{group.slug}-p{budget}"
        taken.add(name)
        keys = set(zip(mine["method"], mine["seed"], strict=True))
        members = [each for each in finished if _is_of(each, group) and _key(each) in keys]
        panel = Panel(name, group, mine, tuple(mine["method"].unique()), _baseline(whole, group), tuple(members))
        area = {method: panel.areas(method).mean() for method in panel.methods}
        yield replace(panel, methods=tuple(sorted(area, key=lambda method: (-area[method], method))))


def _is_of(each: Finished, group: Group) -> bool:
    return group_of(each.outcome) == group


def _key(each: Finished) -> tuple[str, int]:
    return each.outcome.method, each.outcome.config.seed


def _baseline(whole: pd.DataFrame, group: Group) -> float | None:
    same = whole[(whole["dataset"] == group.dataset) & (whole["bias"] == group.bias)]
    same = same[(same["protocol"] == group.protocol) & (same["measured"] == group.measured)]
    return None if same.empty else float(same[f"{group.measured}/accuracy"].mean())
