"""Tables of accuracies on MNIST and of networks trained from scratch.

Each takes the rows of a page as `curves`, with `accuracy` as it was measured and `validation`, the images per class
that the method sees; and the published curves of the same data.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from fkal.config.method_spec import short_method_name
from fkal.report.figures.published import known_as
from result_pages.cells import (
    WITHOUT_CURVE,
    areas,
    by_round,
    gaps,
    head,
    holm_ps,
    p_text,
    points,
    row,
    seeds,
    spread,
)

ORDER = (
    "random",
    "varr",
    "varr:e4:k32",
    "entropy",
    "bald",
    "mean_std",
    "vaal",
    "coreset@fc1",
    "pcc@conv2",
    "pcc",
    "pfk_predicted@conv2",
    "pfk_predicted",
    "pfk_trace@conv2",
    "pfk_trace",
    "pfk_mutual_information@conv2",
    "pfk_mutual_information",
    "pfk_joint:random_theta_0@conv2",
    "pfk_joint:random_theta_0",
    "pfk_joint@conv2",
    "pfk_joint",
    "pfk_true@conv2",
    "pfk_true",
    "all",
)
"""Of the rows of the paper's methods."""
OURS = "pfk_joint_shift_grid:coverage"
OTHER_MATCHINGS = tuple(f"pfk_joint_shift_grid:{matching}" for matching in ("ecov", "noisy_or", "wcov", "wcov_zg"))
AGAINST = "pfk_joint"
CONTENDERS = (
    "validation_only",
    "random",
    "least_confidence",
    "softmax_entropy",
    "margin",
    "balanced_margin",
    "base",
    "direct",
    "galaxy",
    "badge",
    "bait",
    "coreset",
    "coreset@fc1",
    "typiclust",
    "probcover",
    "maxherding",
    "uherding",
    "epig:k16",
    "dropquery",
    "gcmi",
    "flqmi",
    "pfk_joint",
    OURS,
    *OTHER_MATCHINGS,
    "pfk_true",
    "pfk_true:coverage",
)
"""Rows of the table of what came since the paper; they are held against `AGAINST`."""
SMALL = ("validation_only", OURS, AGAINST)
"""Methods that are measured with small validation sets."""
WITHOUT = "base"
"""The best method that needs no validation set."""
TOLERANCE = {2: 5.0, 3: 5.0}
LATER = 3.0
DIGITS = 10
CONFUSED_DIGITS = ["test/class_5", "test/class_8", "test/class_9"]
RARE_DIGITS = [f"test/class_{digit}" for digit in range(5, DIGITS)]
PAID = (250, 375, 500, 625, 750, 875, 1000, 1125, 1250, 1500)
README_LABELS = (125, 250, 500, 1250)
REMARKS = {"pfk_joint": " (the paper's)", OURS: " (ours)"}
OPTIONS = re.compile(
    r"pfk_(?P<label>joint|joint_shift|joint_shift_grid)(?P<coverage>:coverage)?(?P<whiten>:whiten)?(?P<cold>:random_theta_0)?"
)
Table = Callable[[pd.DataFrame, pd.DataFrame], list[str]]


def rounds_of(curves: pd.DataFrame) -> list[int]:
    return list(range(1, int(curves.b.max()) + 1))


def round_heads(rounds: Sequence[int]) -> list[str]:
    return [f"b={b}" for b in rounds]


def rank(method: str) -> tuple[int, str]:
    plain = known_as(method)
    return (ORDER.index(plain) if plain in ORDER else len(ORDER), method)


def is_of_the_paper(method: str) -> bool:
    return known_as(method) in ORDER and not method.startswith("all")


def accuracy(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Mean ± standard deviation by round, the published row below."""
    rounds = rounds_of(curves)
    lines = head("method", "seeds", *round_heads(rounds), "beyond tolerance")
    for method in sorted(curves.method.unique(), key=rank):
        mine = curves[curves.method == method]
        paper = published[published.method == known_as(method)].set_index("b").accuracy
        means = 100 * mine.groupby("b").accuracy.mean()
        off = {
            b: means[b] - paper[b]
            for b in rounds
            if b > 1 and b in paper and abs(means[b] - paper[b]) > TOLERANCE.get(b, LATER)
        }
        cells = by_round(mine, "accuracy", rounds)
        lines.append(row(f"`{short_method_name(method)}`", seeds(mine), *cells, beyond_tolerance(off)))
        if len(paper):
            lines.append(row("*published*", "", *(f"*{paper[b]:.1f}*" if b in paper else "" for b in rounds), ""))
    return lines


def beyond_tolerance(off: Mapping[int, float]) -> str:
    """Points by round; three rounds and more that follow each other are one entry, of the least and the most."""
    runs: list[list[int]] = []
    for b in off:
        if runs and runs[-1][-1] == b - 1:
            runs[-1].append(b)
        else:
            runs.append([b])
    said = []
    for run in runs:
        if len(run) < 3:
            said += [f"b={b}: {off[b]:+.1f}" for b in run]
        else:
            least, most = (pick((off[b] for b in run), key=abs) for pick in (min, max))
            said.append(f"b={run[0]}-{run[-1]}: {least:+.1f} to {most:+.1f}")
    return ", ".join(said)


def confused_digits(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Mean accuracy of the digits 5, 8 and 9 at b = 3."""
    third = curves[curves.b == 3]
    lines = head("method", "seeds", "digits 5, 8, 9 at b = 3")
    for method in sorted(third.method.unique(), key=rank):
        mine = third[third.method == method]
        lines.append(row(f"`{method}`", seeds(mine), spread(mine[CONFUSED_DIGITS].mean(axis=1))))
    return lines


def whole_pool(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Every pool image labeled."""
    labels = str(int(curves.labels_used.max()))
    return [
        *head("method", "seeds", "labels", "accuracy"),
        row("`all`", seeds(curves), labels, spread(curves.accuracy)),
    ]


def contenders(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Mean ± standard deviation by round, rare digits, area under the curve and its paired test."""
    rounds = rounds_of(curves)
    measured = [method for method in CONTENDERS if method in set(curves.method)]
    of_methods = {m: areas(curves[curves.method == m]) for m in measured if m not in WITHOUT_CURVE}
    apart = gaps(of_methods, AGAINST)
    ps = holm_ps(apart)
    lines = head("method", "seeds", *round_heads(rounds), "rare digits, b=4", "AUBC", f"- `{AGAINST}`", "p")
    for method in measured:
        mine = curves[curves.method == method]
        rare = spread(mine[mine.b == 4][RARE_DIGITS].mean(axis=1)) if 4 in set(mine.b) else ""
        area = points(of_methods[method]) if method in of_methods else ""
        test = (f"{apart[method].mean():+.1f}", p_text(ps[method])) if method in ps else ("", "")
        cells = (*by_round(mine, "accuracy", rounds), rare, area, *test)
        lines.append(row(f"`{short_method_name(method)}`", seeds(mine), *cells))
    return lines


def options(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """The first four rounds of each combination of the three options, on pretraining and off it."""
    lines = head("pretrained", "labels", "matching", "whitened", "seeds", "b=1", "b=2", "b=3", "b=4")
    found = {m: match for m in curves.method.unique() if (match := OPTIONS.fullmatch(m))}
    order = sorted(found, key=lambda m: (bool(found[m]["cold"]), found[m]["label"], bool(found[m]["coverage"]), m))
    for method in order:
        label, coverage, whiten, cold = (found[method][part] for part in ("label", "coverage", "whiten", "cold"))
        named = (
            "no" if cold else "yes",
            f"`{label}`",
            "`coverage`" if coverage else "`k_center`",
            "yes" if whiten else "no",
        )
        mine = curves[curves.method == method]
        lines.append(row(*named, seeds(mine), *by_round(mine, "accuracy", range(1, 5))))
    return lines


def small(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """The first five rounds by size of the validation set."""
    rounds = range(1, 6)
    lines = head("validation images", "method", "seeds", *round_heads(rounds))
    for size, of_size in curves[curves.method != WITHOUT].groupby("validation"):
        for method in SMALL:
            mine = of_size[of_size.method == method]
            if len(mine):
                cells = by_round(mine, "accuracy", rounds)
                lines.append(row(f"{DIGITS * size:,}", f"`{short_method_name(method)}`", seeds(mine), *cells))
    return lines


def paid(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Mean accuracy by labels paid for, those of the validation set included; between rounds on the line."""
    lines = head("method", "validation images", *(f"{n:,}" for n in PAID))
    bought = curves.validation.where(curves.method != WITHOUT, 0)
    for (size, method), mine in curves.assign(validation=DIGITS * bought).groupby(["validation", "method"]):
        by_labels = 100 * mine.groupby("labels_used").accuracy.mean()
        spent = by_labels.index.to_numpy() + size
        cells = [f"{np.interp(n, spent, by_labels.to_numpy()):.1f}" if spent[0] <= n <= spent[-1] else "" for n in PAID]
        lines.append(row(f"`{short_method_name(method)}`", f"{size:,}" if size else "none", *cells))
    return lines


def in_short(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Every method, the smallest area first: accuracies, those of rare classes after the last label, the area under
    the curve, and what was rare among all picks."""
    rounds = rounds_of(curves)
    of_methods = {method: areas(mine) for method, mine in curves.groupby("method")}  # of one round, its accuracy
    lines = head("method", "seeds", *round_heads(rounds), "rare classes", "AUBC", "rare among all picks, %")
    for method in sorted(of_methods, key=lambda method: of_methods[method].mean()):
        mine = curves[curves.method == method]
        picked = mine.groupby("seed")["select/minority_fraction"].mean()
        rare = spread(mine[mine.b == mine.b.max()]["test/minority_accuracy"])
        area = "" if method in WITHOUT_CURVE else points(of_methods[method])
        cells = (*by_round(mine, "accuracy", rounds), rare, area, spread(picked))
        lines.append(row(f"`{short_method_name(method)}`", seeds(mine), *cells))
    return lines


def readme(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Four methods by four label counts."""
    lines = head("method", "seeds", *(f"{n:,} labels" for n in README_LABELS))
    for method in dict.fromkeys(curves.method):
        mine = curves[curves.method == method]
        name = f"`{short_method_name(method)}`{REMARKS.get(method, '')}"
        cells = by_round(mine.assign(b=mine.labels_used), "accuracy", README_LABELS)
        lines.append(row(name, seeds(mine), *cells))
    return lines
