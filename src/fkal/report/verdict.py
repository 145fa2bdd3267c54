"""What the page says first: whether the best method is better than its rival, and what was compared."""

from collections.abc import Sequence

import pandas as pd

from fkal.config.method_spec import short_method_name
from fkal.report.format import p_value, seeds_text
from fkal.report.panels import Panel
from fkal.report.stats.labels_needed import KNOWS_LABELS
from fkal.report.stats.paired_tests import ALPHA, TESTS, Pair, pairs

USUAL_RIVAL = "random"
FEW_SEEDS = 5
"""Fewer seeds than this often miss a difference that is there."""
PROTOCOLS = {"last": "after the last epoch", "paper": "after the epoch that is best ON THE TEST SET"}


def verdicts(panels: Sequence[Panel], test: str, against: str | None = None) -> list[str]:
    """A sentence or two per panel, from the same comparisons and p-values as the table of pairs."""
    several = len(panels) > 1
    return [
        f"{panel.title}: {_verdict(panel, test, against)}" if several else _verdict(panel, test, against)
        for panel in panels
    ]


def setup(panels: Sequence[Panel], test: str) -> str:
    """Seeds, labels, and how methods are compared."""
    frame = pd.concat([panel.frame for panel in panels])
    rounds = frame.groupby(["dataset", "bias", "method", "seed"])["b"].max()
    fewest, most = rounds.min(), rounds.max()
    how_many = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    measured = " and ".join(sorted(frame["measured"].unique())).replace("holdout", "held-out validation")
    when = " or ".join(PROTOCOLS[protocol] for protocol in PROTOCOLS if protocol in set(frame["protocol"]))
    labels = frame["labels_used"]
    return (
        f"Seeds {seeds_text(frame['seed'])}; {labels.min():,} to {labels.max():,} labels in {how_many} rounds; "
        f"accuracy on {measured} images {when}. Methods are compared by their mean accuracy over the budget, seed by "
        f"seed ({TESTS[test][0]}, p after Holm's correction)."
    )


def _verdict(panel: Panel, test: str, against: str | None) -> str:
    methods = [method for method in panel.methods if not method.startswith(KNOWS_LABELS)]
    if len(methods) < 2:
        return "There is one method here, and nothing to compare it with."
    rival = _rival(methods, (against, panel.trained_alike(USUAL_RIVAL)))
    held = rival if against in panel.methods and against not in methods else against  # no method, but a limit
    beside = {_other(each, rival): each for each in pairs(panel, test, held) if rival in (each.first, each.second)}
    best = max((method for method in methods if method != rival), key=lambda method: _rank(beside[method], method))
    pair = beside[best]
    return _sentence(pair, short_method_name(best), short_method_name(rival), _difference(pair, best))


def _other(pair: Pair, method: str) -> str:
    return pair.second if pair.first == method else pair.first


def _difference(pair: Pair, method: str) -> float:
    """Of the method to the other one."""
    return pair.difference if pair.first == method else -pair.difference


def _rank(pair: Pair, method: str) -> tuple[bool, bool, float]:
    """The best has the largest difference; one that several seeds show comes before one of a single seed."""
    return pair.seeds > 1, pair.seeds > 0, _difference(pair, method) if pair.seeds else 0.0


def _rival(methods: Sequence[str], wanted: Sequence[str | None]) -> str:
    """The method that the best other one is held against: the first wanted that is there, else the second best."""
    asked = [name for name in wanted if name is not None and name in methods]
    return asked[0] if asked else methods[1]


def _sentence(pair: Pair, best: str, rival: str, difference: float) -> str:
    if pair.seeds == 0:
        return f"Nothing can be concluded: {best} and {rival} have no seed in common."
    gap = f"{difference:+.1f} points of mean accuracy"
    if pair.seeds == 1:
        return f"Nothing can be concluded from one seed. With it, {best} is at {gap} from {rival}."
    if pair.adjusted is None:
        return f"No test applies to {best} and {rival}: all {pair.seeds} seeds differ alike, by {gap}."
    facts = f"{gap}, p {p_value(pair.adjusted)}; {pair.seeds} seeds"
    if pair.adjusted >= ALPHA:
        few = " With so few seeds a difference is easily missed." if pair.seeds < FEW_SEEDS else ""
        return f"No difference is shown between {best} and {rival}: {facts}.{few}"
    if difference < 0:
        return f"No method is better than {rival}. The next, {best}, is worse: {facts}."
    return f"{best} is better than {rival}: {facts}."
