"""What a claim of labels saved has to be held against: validation images alone, all labels, and the limit."""

from collections.abc import Sequence

import pandas as pd

from fkal.config.layers import Layer, merged
from fkal.config.method_spec import method_layer
from fkal.config.method_spec import short_method_name as shown
from fkal.config.schema import ConfigError
from fkal.experiment.command import command_of
from fkal.report.exhibit import Exhibit, Shown
from fkal.report.format import MISSING, mean_std
from fkal.report.panels import Panel
from fkal.report.stats.reachable_gain import LIMITS, ReachableGain, balanced_areas, reachable_gain

VALIDATION_ONLY, ALL = "validation_only", "all"
ROWS = (VALIDATION_ONLY, ALL, *LIMITS)
"""What a comparison shows beside its methods."""


def validation_labels(panel: Panel) -> str:
    """`430 validation labels`, or how many there are per class where the split is not at hand."""
    held_out = panel.group.holdout
    for each in panel.finished:
        if each.split is not None:
            counts = each.split.class_counts["validation"]
            return f"{sum(counts) - held_out * len(counts):,} validation labels"
    per_class = panel.group.validation_per_class - held_out
    return f"{per_class:,} validation labels per class" if per_class > 0 else "validation labels"


def not_counted(panel: Panel) -> str:
    """The sentence wherever labels saved are spoken of."""
    use = "trained on as well" if panel.group.on_validation else "not trained on"
    return f"Labels of the pool alone are counted: every method also has {validation_labels(panel)}, {use}."


def honest_exhibit(panel: Panel, test: str) -> Exhibit:
    """The rows in balanced accuracy, with each method's share of the reachable gain."""
    title = f"{panel.title}: what labels and selection are worth"
    if not panel.has(f"{panel.group.measured}/macro_accuracy"):
        return Exhibit(f"worth-{panel.name}", title, missing=f"{title}: balanced accuracy is not in what was read.")
    found = reachable_gain(panel, test)
    rows, numbers = [], []
    for method in panel.methods:
        areas, last = balanced_areas(panel, method), _last(panel, method)
        rows.append(
            [
                shown(method),
                f"{panel.of(method)['labels_used'].max():,}",
                mean_std(areas),
                mean_std(last),
                _share(found, method),
            ]
        )
        numbers.append(_numbers(method, int(panel.of(method)["labels_used"].max()), areas, last, found))
    for method, scores in ((ALL, panel.baseline), (VALIDATION_ONLY, panel.validation_only)):
        if "macro_accuracy" in scores:
            value = 100 * scores["macro_accuracy"]
            labels = "all" if method == ALL else "0"
            rows.append([method, labels, MISSING, mean_std(value), MISSING])
            numbers.append(
                _numbers(method, 0 if method == VALIDATION_ONLY else None, pd.Series([float("nan")]), value, None)
            )
    head = ["method", "pool labels", "AUBC of balanced accuracy, %", "final balanced accuracy, %", "share of the gain"]
    caption = [
        f"Balanced accuracy is the mean over classes. {not_counted(panel)}",
        _gain_words(found),
        f"{MISSING}: there is no share without a limit, and no curve of a single round."
        if any(MISSING in row for row in rows)
        else "",
        _absent_words(panel),
    ]
    return Exhibit(
        f"worth-{panel.name}",
        title,
        " ".join(word for word in caption if word),
        numbers=pd.DataFrame(numbers),
        shown=Shown(head, rows),
    )


def gain_words(panel: Panel, test: str) -> str:
    """One sentence on the limit, for the head of the page; empty where it was not run."""
    found = reachable_gain(panel, test)
    return "" if found is None or found.shares is not None else f"{panel.title}: {_no_gain(found)} for any selection."


def _last(panel: Panel, method: str) -> pd.Series:
    table = 100 * panel.by_seed(method, f"{panel.group.measured}/macro_accuracy")
    return table.iloc[-1] if len(table) else pd.Series([float("nan")])


def _numbers(
    method: str, labels: int | None, areas: pd.Series, last: pd.Series, found: ReachableGain | None
) -> dict[str, object]:
    return {
        "method": method,
        "pool_labels": labels,
        "aubc_balanced_mean": areas.mean(),
        "aubc_balanced_std": areas.std(),
        "final_balanced_mean": last.mean(),
        "final_balanced_std": last.std(),
        "share": None if found is None or found.shares is None else found.shares.get(method),
    }


def _share(found: ReachableGain | None, method: str) -> str:
    if found is None or found.shares is None or pd.isna(found.shares.get(method, float("nan"))):
        return MISSING
    return f"{100 * found.shares[method]:.0f} %"


def _no_gain(found: ReachableGain) -> str:
    spread = "" if found.std is None else f" ± {found.std:.1f}"
    return f"{'no' if found.is_tested else 'untested'} reachable gain ({found.gain:.1f}{spread})"


def _gain_words(found: ReachableGain | None) -> str:
    if found is None:
        return "The share of the reachable gain needs random and pfk_true on the same seeds."
    if not found.is_tested:
        seeds = "one seed" if found.std is None else "seeds that all differ alike"
        return f"The reachable gain, {found.gain:.1f} by {shown(found.limit)}, cannot be tested with {seeds}."
    if found.shares is None:
        return f"There is {_no_gain(found)}: {shown(found.limit)} is not significantly above random."
    spread = "" if found.std is None else f" ± {found.std:.1f}"
    return (
        f"The share is (method - random) / (limit - random); the limit, {shown(found.limit)}, knows the pool's labels "
        f"and is {found.gain:.1f}{spread} points above random."
    )


def _absent_words(panel: Panel) -> str:
    """Which rows are not here, and the command that runs those that never ran."""
    once = [row for row, scores in ((ALL, panel.baseline), (VALIDATION_ONLY, panel.validation_only)) if scores]
    unseen = [row for row in ROWS if row not in once and panel.trained_alike(row) not in panel.methods]
    unasked = [row for row in unseen if panel.trained_alike(row) in panel.not_chosen]
    absent = [row for row in unseen if row not in unasked]
    words = [f"Left out by --method: {', '.join(unasked)}."] if unasked else []
    if absent:
        words.append(f"Not run: {', '.join(absent)}; run: {_command(panel, absent)}.")
    return " ".join(words)


def _command(panel: Panel, methods: Sequence[str]) -> str:
    """With the settings of an experiment of the panel, where there is one."""
    word = "random"
    if panel.finished:
        seeds = sorted({each.outcome.config.seed for each in panel.finished})
        try:
            config = merged([Layer("run", panel.finished[0].outcome.config.tree), method_layer(word)])
            return command_of(config, seeds).replace(f"--method {word}", f"--method {','.join(methods)}", 1)
        except ConfigError:  # settings that only a plug-in's method takes
            pass
    return f"fkal run --method {','.join(map(panel.trained_alike, methods))}"
