"""The measured tables of docs/results.md, from the curves that `fkal run` leaves beside its figures.

    python benchmarks/results.py add runs/curves/*.csv    # into docs/results/curves.csv
    python benchmarks/results.py add-again data/curves/*.csv    # of rows measured again: algorithm-2.csv
    python benchmarks/results.py add-reduced runs/curves/*.csv  # in small, of fewer epochs: curves-DATASET-reduced.csv
    python benchmarks/results.py add-small runs.csv       # of `fkal runs export`: small_validation.csv
    python benchmarks/results.py tables                   # docs/results.md, between its markers

A table is between `<!-- table NAME DATASET BIAS -->` and `<!-- end -->`. Below a method's row is the
published one (fkal's published.csv) where there is one, and after it the rounds in which the
measured mean is farther from it than 5 points (b = 2, 3) or 3 points (b = 4 and later).
"""

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from fkal.report.figures.published import known_as
from fkal.report.stats.paired_tests import holm
from fkal.results.curves import area_under_budget_curve

ROOT = Path(__file__).resolve().parents[1]
CURVES, PAGE = ROOT / "docs" / "results" / "curves.csv", ROOT / "docs" / "results.md"
SMALL = ROOT / "docs" / "results" / "small_validation.csv"
ANEW = ROOT / "docs" / "results" / "algorithm-2.csv"
PUBLISHED = ROOT / "src" / "fkal" / "report" / "published.csv"
RUN = ["dataset", "bias", "protocol", "method", "seed", "b"]
KEPT = [
    *RUN,
    "labels_used",
    "test/accuracy",
    "test/minority_accuracy",
    "val/accuracy",
    "select/minority_fraction",
    "pseudo/accuracy",
]
MARKED = re.compile(
    r"(?P<start><!-- table (?P<name>\w+) (?P<dataset>\w+) (?P<bias>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
CONFUSED_DIGITS = ["test/class_5", "test/class_8", "test/class_9"]
TOLERANCE = {2: 5.0, 3: 5.0}
LATER = 3.0
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
BEFORE = ("pfk_joint_shift:coverage", "pfk_joint_shift:coverage:whiten")
"""What was recommended before."""
CONTENDERS = (
    "random",
    "margin",
    "balanced_margin",
    "base",
    "direct",
    "galaxy",
    "badge",
    "coreset@fc1",
    "typiclust",
    "probcover",
    "uherding",
    "epig:k16",
    "flqmi",
    "pfk_joint",
    *BEFORE,
    OURS,
    "pfk_true",
)
"""Rows of the table of what came since; they are held against `AGAINST`."""

AGAINST = "pfk_joint"
WITHOUT = "base"
"""The best method that needs no validation set."""

SMALL_RUN = ["dataset", "bias", "method", "validation", "seed", "b", "labels_used"]
PAID = (375, 500, 625, 750, 875, 1000, 1125, 1250, 1500)
OPTIONS = re.compile(
    r"pfk_(?P<label>joint|joint_shift|joint_shift_grid)(?P<coverage>:coverage)?(?P<whiten>:whiten)?(?P<cold>:random_theta_0)?"
)
RARE_DIGITS = [f"test/class_{digit}" for digit in range(5, 10)]


def add(files: list[Path]) -> None:
    """Merge curves into the kept ones (`kept_curves` says which file); a run that is there already is replaced.

    What was measured on held-out validation images has no test accuracy and is left out.
    """
    every = pd.concat([pd.read_csv(file) for file in files])
    for (dataset, bias), runs in every.dropna(subset=["test/accuracy"]).groupby(["dataset", "bias"]):
        merge(runs, kept_curves(str(dataset), str(bias)))


def add_reduced(files: list[Path]) -> None:
    """Merge curves of reduced settings, which are named like those of the full ones and kept apart from them."""
    every = pd.concat([pd.read_csv(file) for file in files])
    for dataset, runs in every.dropna(subset=["test/accuracy"]).groupby("dataset"):
        merge(runs, reduced_curves(str(dataset)))


def merge(runs: pd.DataFrame, kept: Path) -> None:
    parts = [pd.read_csv(kept)] if kept.exists() else []
    curves = pd.concat([*parts, runs]).drop_duplicates(RUN, keep="last").dropna(axis=1, how="all")
    classes = sorted(c for c in curves if c.startswith("test/class_"))
    present = [c for c in KEPT if c in curves]
    curves = curves.sort_values(RUN)[[*present, *classes]]
    curves.to_csv(kept, index=False, float_format="%.6g")
    print(f"{curves.groupby(RUN[:5]).ngroups} runs in {kept}")


def kept_curves(dataset: str, bias: str) -> Path:
    """The paper's own dataset and bias, which the figure shows, have the plain name."""
    if dataset != "mnist":
        return CURVES.with_name(f"curves-{dataset}.csv")
    return CURVES if bias.startswith("ir") else CURVES.with_name(f"curves-{bias}.csv")


def reduced_curves(dataset: str) -> Path:
    return CURVES.with_name(f"curves-{dataset}-reduced.csv")


def add_small(files: list[Path]) -> None:
    """Merge experiments whose method saw a part of the validation images; a run that is there already is replaced."""
    parts = [pd.read_csv(SMALL)] if SMALL.exists() else []
    for file in files:
        runs = pd.read_csv(file, low_memory=False)
        runs = runs[(runs["holdout"] > 0) & (runs["status"] == "FINISHED") & ~runs["superseded"]].copy()
        classes = runs["data.validation_per_class"] - runs["holdout"]
        parts.append(runs.assign(validation=10 * classes, accuracy=runs["holdout/accuracy"])[[*SMALL_RUN, "accuracy"]])
    whole = pd.concat(parts).drop_duplicates(SMALL_RUN, keep="last").sort_values(SMALL_RUN)
    whole.to_csv(SMALL, index=False, float_format="%.6g")
    print(f"{whole.groupby(SMALL_RUN[:5]).ngroups} runs in {SMALL}")


def tables() -> None:
    """Fill in the page's tables."""
    published = pd.read_csv(PUBLISHED)

    def filled(match: re.Match[str]) -> str:
        of = (match["dataset"], match["bias"])
        curves = pd.read_csv(reduced_curves(of[0]) if match["name"] == "reduced" else kept_curves(*of))
        chosen = curves[(curves.dataset == of[0]) & (curves.bias == of[1]) & (curves.protocol == "last")]
        paper = published[(published.dataset == of[0]) & (published.bias == of[1])]
        lines = TABLES[match["name"]](chosen, paper)
        return match["start"] + "\n".join(lines) + "\n" + match["end"]

    PAGE.write_text(MARKED.sub(filled, PAGE.read_text()))


def accuracy(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Mean ± standard deviation by round, the published row below."""
    curves = curves[curves.method.map(known_as).isin(ORDER) & ~curves.method.str.startswith("all")]
    if curves.empty:
        return ["not measured"]
    rounds = range(1, int(curves.b.max()) + 1)
    lines = [
        f"| method | seeds | {' | '.join(f'b={b}' for b in rounds)} | beyond tolerance |",
        "| --- | --- |" + " --- |" * (len(rounds) + 1),
    ]
    for method in sorted(curves.method.unique(), key=rank):
        mine = curves[curves.method == method]
        paper = published[published.method == known_as(method)].set_index("b").accuracy
        by_b = 100 * mine.groupby("b")["test/accuracy"].agg(["mean", "std"])
        off = [b for b in rounds if b > 1 and b in paper and abs(by_b["mean"][b] - paper[b]) > TOLERANCE.get(b, LATER)]
        cells = " | ".join(spread(*by_b.loc[b]) if b in by_b.index else "" for b in rounds)
        beyond = ", ".join(f"b={b}: {by_b['mean'][b] - paper[b]:+.1f}" for b in off)
        lines.append(f"| `{method}` | {seeds(mine)} | {cells} | {beyond} |")
        if len(paper):
            cells = " | ".join(f"*{paper[b]:.1f}*" if b in paper else "" for b in rounds)
            lines.append(f"| *published* | | {cells} | |")
    return lines


def confused_digits(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Mean accuracy of the digits 5, 8 and 9 at b = 3."""
    third = curves[(curves.b == 3) & curves.method.map(known_as).isin(ORDER)]
    lines = ["| method | seeds | digits 5, 8, 9 at b = 3 |", "| --- | --- | --- |"]
    for method in sorted(third.method.unique(), key=rank):
        mine = third[third.method == method]
        by_seed = 100 * mine[CONFUSED_DIGITS].mean(axis=1)
        lines.append(f"| `{method}` | {seeds(mine)} | {spread(by_seed.mean(), by_seed.std())} |")
    return lines


def whole_pool(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Every pool image labeled."""
    mine = curves[curves.method == "all"]
    if mine.empty:
        return ["not measured"]
    values = 100 * mine["test/accuracy"]
    return [
        "| method | seeds | labels | accuracy |",
        "| --- | --- | --- | --- |",
        f"| `all` | {seeds(mine)} | {int(mine.labels_used.max())} | {spread(values.mean(), values.std())} |",
    ]


def contenders(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Mean ± standard deviation by round, rare digits, area under the curve and its paired test."""
    known = [method for method in CONTENDERS if method in set(curves.method)]
    areas = {method: _areas(curves[curves.method == method]) for method in known}
    tests = {method: stats.ttest_1samp((areas[method] - areas[AGAINST]).dropna(), 0).pvalue for method in known}
    rivals = [method for method in known if method != AGAINST]
    adjusted = dict(zip(rivals, holm([float(tests[method]) for method in rivals]), strict=True))
    rounds = " | ".join(f"b={b}" for b in range(1, 11))
    lines = [
        f"| method | seeds | {rounds} | rare digits, b=4 | AUBC | - `{AGAINST}` | p |",
        "| --- | --- |" + " --- |" * 14,
    ]
    for method in known:
        mine = curves[curves.method == method]
        by_b = 100 * mine.groupby("b")["test/accuracy"].agg(["mean", "std"])
        cells = " | ".join(spread(*by_b.loc[b]) for b in range(1, 11))
        rare = 100 * mine[mine.b == 4][RARE_DIGITS].mean(axis=1)
        gap = (areas[method] - areas[AGAINST]).dropna().mean()
        against = "| |" if method == AGAINST else f"| {gap:+.1f} | {p_text(adjusted[method])} |"
        area = spread(areas[method].mean(), areas[method].std())
        lines.append(f"| `{method}` | {seeds(mine)} | {cells} | {spread(rare.mean(), rare.std())} | {area} {against}")
    return lines


def again(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Rows measured again with a later algorithm, and how their area compares to the same seeds' of before."""
    now = pd.read_csv(ANEW)
    now = now[now.protocol == "last"]
    methods = sorted(now.method.unique(), key=rank)
    areas = {method: (_areas(curves[curves.method == method]), _areas(now[now.method == method])) for method in methods}
    both = [method for method in methods if len(areas[method][0])]
    ps = [float(stats.ttest_1samp((areas[m][1] - areas[m][0]).dropna(), 0).pvalue) for m in both]
    adjusted = dict(zip(both, holm(ps), strict=True))
    rounds = " | ".join(f"b={b}" for b in range(1, 11))
    head = f"| method | seeds | {rounds} | AUBC | - AUBC of before | p | p, Holm |"
    lines = [head, "| --- | --- |" + " --- |" * 14]
    for method in methods:
        mine = now[now.method == method]
        by_b = 100 * mine.groupby("b")["test/accuracy"].agg(["mean", "std"])
        cells = " | ".join(spread(*by_b.loc[b]) for b in range(1, 11))
        area = areas[method][1]
        apart = (area - areas[method][0]).dropna()
        p = dict(zip(both, ps, strict=True)).get(method)
        test = (
            "| |" if p is None else f"{apart.mean():+.1f}±{apart.std():.1f} | {p_text(p)} | {p_text(adjusted[method])}"
        )
        lines.append(f"| `{method}` | {seeds(mine)} | {cells} | {spread(area.mean(), area.std())} | {test} |")
    return lines


def _areas(curves: pd.DataFrame) -> pd.Series:
    """AUBC in points, by seed."""
    ordered = curves.sort_values("b")
    return pd.Series(
        {
            seed: 100 * area_under_budget_curve(run["labels_used"].tolist(), run["test/accuracy"].tolist())
            for seed, run in ordered.groupby("seed")
        }
    )


def options(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """The first four rounds of each combination of the three options, on pretraining and off it."""
    lines = ["| pretrained | labels | matching | whitened | seeds | b=1 | b=2 | b=3 | b=4 |", "|" + " --- |" * 9]
    for cold in (False, True):
        found = {m: OPTIONS.fullmatch(m) for m in curves.method.unique()}
        named = {m: match for m, match in found.items() if match and bool(match["cold"]) is cold}
        for method in sorted(named, key=lambda m: (named[m]["label"], bool(named[m]["coverage"]), m)):
            label, coverage, whiten = (named[method][part] for part in ("label", "coverage", "whiten"))
            mine = curves[curves.method == method]
            by_b = 100 * mine.groupby("b")["test/accuracy"].agg(["mean", "std"])
            said = (
                "no" if cold else "yes",
                f"`{label}`",
                "`coverage`" if coverage else "`k_center`",
                "yes" if whiten else "no",
                seeds(mine),
                *(spread(*by_b.loc[b]) for b in range(1, 5)),
            )
            lines.append(f"| {' | '.join(said)} |")
    return lines


def small(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """The first five rounds by size of the validation set; the whole one's are of the kept curves."""
    runs = pd.read_csv(SMALL)
    methods = (OURS, *BEFORE, AGAINST)
    whole = curves[curves["method"].isin(methods)]
    whole = whole.assign(validation=10_000, accuracy=whole["test/accuracy"])
    lines = ["| validation images | method | seeds | b=1 | b=2 | b=3 | b=4 | b=5 |", "|" + " --- |" * 8]
    for size, of_size in pd.concat([runs[runs["method"] != WITHOUT], whole]).groupby("validation"):
        for method in methods:
            mine = of_size[of_size["method"] == method]
            if mine.empty:
                continue
            by_b = 100 * mine.groupby("b")["accuracy"].agg(["mean", "std"])
            cells = " | ".join(spread(*by_b.loc[b]) for b in range(1, 6))
            lines.append(f"| {size:,} | `{method}` | {seeds(mine)} | {cells} |")
    return lines


def paid(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Mean accuracy by labels paid for, those of the validation set included; between rounds on the line."""
    runs = pd.read_csv(SMALL)
    head = " | ".join(f"{n:,}" for n in PAID)
    lines = [f"| method | validation images | {head} |", "| --- | --- |" + " --- |" * len(PAID)]
    none = runs[runs["method"] == WITHOUT].assign(validation=0)
    for (size, method), mine in pd.concat([none, runs[runs["method"] != WITHOUT]]).groupby(["validation", "method"]):
        by_labels = 100 * mine.groupby("labels_used")["accuracy"].mean()
        spent = by_labels.index.to_numpy() + size
        cells = [f"{np.interp(n, spent, by_labels.to_numpy()):.1f}" if spent[0] <= n <= spent[-1] else "" for n in PAID]
        lines.append(f"| `{method}` | {size or 'none'} | {' | '.join(cells)} |")
    return lines


def in_short(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """Every method that was run, the smallest area first: accuracies, those of rare classes after the last label,
    the area under the curve, and what was rare among all picks."""
    rounds = range(1, int(curves.b.max()) + 1)
    lines = [
        f"| method | seeds | {' | '.join(f'b={b}' for b in rounds)} | rare classes | AUBC | rare among all picks, % |",
        "| --- | --- |" + " --- |" * (len(rounds) + 3),
    ]
    areas = {method: _areas(mine) for method, mine in curves.groupby("method")}
    for method in sorted(areas, key=lambda method: areas[method].mean()):
        mine = curves[curves.method == method]
        by_b = 100 * mine.groupby("b")["test/accuracy"].agg(["mean", "std"])
        cells = " | ".join(spread(*by_b.loc[b]) for b in rounds)
        rare = 100 * mine[mine.b == rounds[-1]]["test/minority_accuracy"]
        picked = 100 * mine.groupby("seed")["select/minority_fraction"].mean()
        last = (rare, areas[method], picked)
        more = " | ".join(spread(values.mean(), values.std()) for values in last)
        lines.append(f"| `{method}` | {seeds(mine)} | {cells} | {more} |")
    return lines


TABLES = {
    "again": again,
    "short": in_short,
    "reduced": in_short,
    "small": small,
    "paid": paid,
    "accuracy": accuracy,
    "digits": confused_digits,
    "all": whole_pool,
    "contenders": contenders,
    "options": options,
}


def rank(method: str) -> tuple[int, str]:
    plain = known_as(method)
    return (ORDER.index(plain) if plain in ORDER else len(ORDER), method)


def seeds(curves: pd.DataFrame) -> str:
    numbers = sorted(curves.seed.unique())
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(str(n) for n in numbers)


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def spread(mean: float, std: float) -> str:
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f}±{std:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add").add_argument("files", nargs="+", type=Path)
    commands.add_parser("add-again").add_argument("files", nargs="+", type=Path)
    commands.add_parser("add-reduced").add_argument("files", nargs="+", type=Path)
    commands.add_parser("add-small").add_argument("files", nargs="+", type=Path)
    commands.add_parser("tables")
    given = parser.parse_args()
    if given.command == "add":
        add(given.files)
    elif given.command == "add-again":
        merge(pd.concat([pd.read_csv(file) for file in given.files]), ANEW)
    elif given.command == "add-reduced":
        add_reduced(given.files)
    elif given.command == "add-small":
        add_small(given.files)
    else:
        tables()


if __name__ == "__main__":
    main()
