"""Panels: experiments that may be held against each other, each with its methods and its baseline."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, count
from typing import Any

import pandas as pd

from fkal.config.method_spec import HEAD_ONLY, RANDOM_THETA_0, long_method_name, short_method_name
from fkal.config.schema import ConfigError
from fkal.errors import did_you_mean
from fkal.plots.curves import PAPER_TITLE
from fkal.report.experiments import Finished, Material
from fkal.results.class_names import names_by_number, numbers
from fkal.results.curves import area_under_budget_curve
from fkal.results.outcome import GROUPED, SHORT, Group, distinctions

COMPARED = ["dataset", "bias", "protocol", "measured", *GROUPED]
SAME = [*COMPARED, "budget", "most"]
RUN = [*COMPARED, "method", "seed"]
ONCE = [*RUN, "b"]
SCORES = ("accuracy", "macro_accuracy", "minority_accuracy", "worst_class_accuracy")
STARTS = (RANDOM_THETA_0, HEAD_ONLY)
"""What a method's name says of training, not of the method."""
BIASES = {"ir": "ir", "longtail": "long tail"}
"""How the names of those that have a ratio are written."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One dataset and bias, under one protocol and one schedule of labels, since areas under curves of others differ.

    `methods` are in the order of their area under the budget curve, the best first. `baseline` has the scores
    of each seed with every label of the pool, by `SCORES`, and `validation_only` those with none. `name` is unlike that
    of any other panel, and fit for files; `schedule` says in the title what tells it from another of the same dataset
    and bias. `not_chosen` are methods that were run alike and are not among those that the report is asked for.
    """

    name: str
    group: Group
    frame: pd.DataFrame
    methods: tuple[str, ...]
    baseline: Mapping[str, pd.Series]
    finished: tuple[Finished, ...]
    schedule: str = ""
    validation_only: Mapping[str, pd.Series] = field(default_factory=dict)
    not_chosen: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        paper = f", {PAPER_TITLE}" if self.group.protocol == "paper" else ""
        held_out = ", on held-out validation images" if self.group.measured == "holdout" else ""
        training = self.group.training_title
        return f"{self.group.dataset}, {bias_words(self.group.bias)}{paper}{training}{held_out}{self.schedule}"

    @property
    def rare(self) -> bool:
        """Whether some classes are rarer than others in the pool."""
        return self.group.bias != "ir1"

    def has(self, metric: str) -> bool:
        """Whether any experiment has it."""
        return metric in self.frame and bool(self.frame[metric].notna().any())

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

    def trained_alike(self, method: str) -> str:
        """The name that a method has here: `random:random_theta_0` where no method is pretrained."""
        return _trained_as(self.methods, method)

    def experiments(self, method: str) -> list[Finished]:
        """Those of a method, by seed."""
        mine = [each for each in self.finished if each.outcome.method == method]
        return sorted(mine, key=lambda each: each.outcome.config.seed)

    def class_names(self, n: int) -> tuple[str, ...]:
        """The names of its `n` classes, or their numbers where its experiments hold no names."""
        return self._known_names(n) or numbers(n)

    def class_note(self, n: int) -> str:
        """What a caption says where numbers stand for names."""
        return "" if self._known_names(n) else " These runs hold no names of classes, so numbers stand for them."

    def _known_names(self, n: int) -> tuple[str, ...]:
        return names_by_number(self.group.dataset, n, (each.classes for each in self.finished))

    def areas(self, method: str, metric: str | None = None) -> pd.Series:
        """Mean over the budget of each seed, as a fraction: of the accuracy, unless it names another metric."""
        table = self.by_seed(method, metric or self.accuracy)
        return table.apply(lambda curve: area_under_budget_curve(curve.index.tolist(), curve.tolist()))


def panels_of(material: Material, methods: Sequence[str] = ()) -> list[Panel]:
    """Of some methods or all. Raises ConfigError for a method that no experiment has."""
    frame = with_groups(material.frame)
    known = sorted(frame["method"].unique())
    wanted = [known_method(method, known, "--method") for method in methods]
    whole = frame["method"].map(has_no_curve)
    is_wanted = frame["method"].isin(wanted) if wanted else ~whole
    chosen = frame[~whole & is_wanted]
    if chosen.empty:
        raise ConfigError(
            "all experiments label the whole pool or nothing: there is no curve to draw; run a method with a budget"
        )
    others = {same: tuple(mine["method"].unique()) for same, mine in frame[~whole & ~is_wanted].groupby(SAME)}
    return list(_panels(chosen, frame[whole], material.finished, others))


def known_method(name: str, known: Sequence[str], option: str) -> str:
    """The long name of a method of the report, by either of its names. Raises ConfigError for what it has not."""
    long = long_method_name(name)
    if long not in known:
        shown = [short_method_name(method) for method in known]
        near = did_you_mean(name, [*shown, *known])
        raise ConfigError(f"{option} {name!r}: no finished experiment has it; {near}known: {', '.join(shown)}")
    return long


def with_class_names(
    table: pd.DataFrame, names: Sequence[str], number: str = "label", name: str = "class"
) -> pd.DataFrame:
    """With the names of classes in a column right of their numbers."""
    table = table.copy(deep=False)
    table.insert(list(table.columns).index(number) + 1, name, [names[int(k)] for k in table[number]])
    return table


def with_groups(frame: pd.DataFrame) -> pd.DataFrame:
    """With the columns `measured`, `budget` and `most` (labels of the first round, and of all).

    A table of curves alone may lack what `GROUPED` names; then its images, validation sets and trainings are taken to
    be the same.
    """
    frame = frame.assign(**{name: Group._field_defaults[name] for name in GROUPED if name not in frame})
    held_out = frame["holdout/accuracy"].notna() if "holdout/accuracy" in frame else pd.Series(False, frame.index)
    frame = frame.assign(measured=held_out.map({True: "holdout", False: "test"}))
    labels = frame.groupby([*RUN, *(["fingerprint"] if "fingerprint" in frame else [])])["labels_used"]
    return frame.assign(budget=labels.transform("min"), most=labels.transform("max"))


def has_no_curve(method: str) -> bool:
    """Whether it labels the whole pool, or nothing."""
    return re.split("[:@]", method)[0] in ("all", "validation_only")


def bias_words(bias: str) -> str:
    """`ir = 100` of `ir100`, `long tail = 100` of `longtail100`, `no bias added` of `natural`."""
    if bias == "natural":
        return "no bias added"
    ratio = re.fullmatch(r"(ir|longtail)([\d.]+)(.*)", bias)
    return f"{BIASES[ratio[1]]} = {ratio[2]}{ratio[3]}" if ratio else bias


def _panels(
    frame: pd.DataFrame,
    whole: pd.DataFrame,
    finished: Sequence[Finished],
    others: Mapping[tuple[object, ...], tuple[str, ...]],
) -> Iterator[Panel]:
    """By dataset and bias; of several schedules of labels the one with the most comes first, and has the plain name."""
    cells = [
        (*_cell(dict(zip(SAME, same, strict=True)), mine), others.get(same, ())) for same, mine in frame.groupby(SAME)
    ]
    differs = distinctions([group for group, *_ in cells])
    cells.sort(key=lambda cell: (cell[0].slug, -cell[1], cell[0].budget))
    schedules: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for group, most, *_ in cells:
        schedules.setdefault((group.slug, differs[group]), set()).add((group.budget, most))
    taken: set[str] = set()
    for group, most, mine, not_chosen in cells:
        told = differs[group]
        own = [f"{group.slug}-{group.data[:SHORT]}"] if "images" in told and group.data else []
        name = _new_name([group.slug, *own, f"{group.slug}-{group.budget}-to-{most}"], taken)
        taken.add(name)
        several = len(schedules[group.slug, told]) > 1
        schedule = told + (f", {group.budget} to {most:,} labels" if several else "")
        members = [each for each in finished if each.outcome.fingerprint in set(mine["fingerprint"])]
        methods = tuple(mine["method"].unique())
        beside = [_trained_as(methods, method) for method in ("all", "validation_only")]
        all_labels, no_labels = (_baseline(whole, group, method) for method in beside)
        panel = Panel(name, group, mine, methods, all_labels, tuple(members), schedule, no_labels, not_chosen)
        area = {method: panel.areas(method).mean() for method in panel.methods}
        yield replace(panel, methods=tuple(sorted(area, key=lambda method: (-area[method], method))))


def _cell(same: Mapping[str, Any], mine: pd.DataFrame) -> tuple[Group, int, pd.DataFrame]:
    """The group of rows that have these values, their labels in all, and the rows."""
    kinds = {name: type(default) for name, default in Group._field_defaults.items()} | {"budget": int}
    values = {name: kinds.get(name, str)(same[name]) for name in Group._fields}
    return Group(**values), int(same["most"]), mine


def _new_name(wanted: Sequence[str], taken: Collection[str]) -> str:
    """The first that is free, else the last with a number: two datasets may have one name once it is fit for files."""
    numbered = (f"{wanted[-1]}-{number}" for number in count(2))
    return next(name for name in chain(wanted, numbered) if name not in taken)


def _trained_as(methods: Sequence[str], method: str) -> str:
    """With the marks of `STARTS` that all methods have."""
    marks = [set(re.split("[:@]", each)[1:]) for each in methods]
    return ":".join([method, *(start for start in STARTS if marks and all(start in mark for mark in marks))])


def _baseline(whole: pd.DataFrame, group: Group, method: str) -> Mapping[str, pd.Series]:
    """By score and seed, of the method as it is; its variants (`all:random_theta_0`) are methods of their own."""
    same = whole[(whole["method"] == method) & (whole["dataset"] == group.dataset) & (whole["bias"] == group.bias)]
    same = same[(same["protocol"] == group.protocol) & (same["measured"] == group.measured)]
    for name in GROUPED:
        same = same[same[name] == getattr(group, name)]
    scores = {score: f"{group.measured}/{score}" for score in SCORES}
    by_seed = same.set_index("seed")
    return {k: by_seed[v].dropna() for k, v in scores.items() if v in same and same[v].notna().any()}
