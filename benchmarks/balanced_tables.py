"""Tables of balanced accuracy for the presets with frozen backbones and for GTSRB.

    python benchmarks/balanced_tables.py add runs/curves/*.csv    # into docs/results/cifar10-frozen.csv, ...
    python benchmarks/balanced_tables.py tables                   # docs/results/cifar10-frozen.md, ..., between markers

A table is between `<!-- balanced PRESET LOSS ON_VALIDATION -->` and `<!-- end -->`. A run that is there already is
replaced. Each row has one loss and one use of the validation images.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from scipy import stats

from fkal.config.method_spec import short_method_name
from fkal.report.stats.paired_tests import holm
from fkal.results.curves import area_under_budget_curve
from results import p_text, seeds, spread

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results"
PRESETS = {"cifar10": "cifar10-frozen", "tinyimagenet": "tinyimagenet-frozen", "gtsrb": "gtsrb"}
SETTINGS = ["bias", "loss", "on_validation"]
RUN = [*SETTINGS, "method", "seed", "b"]
MEASURED = ["labels_used", "test/accuracy", "test/macro_accuracy", "test/minority_accuracy", "val/macro_accuracy"]
MARKED = re.compile(
    r"(?P<start><!-- balanced (?P<preset>\S+) (?P<loss>\w+) (?P<validation>\w+) -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)
METHODS = (
    "validation_only",
    "random",
    "margin",
    "balanced_margin",
    "base",
    "badge",
    "coreset",
    "typiclust",
    "flqmi",
    "pfk_joint",
    "pfk_joint_shift_grid:coverage",
    "pfk_true",
    "pfk_true:coverage",
    "all",
)
BASELINE = "random"
AGAINST = "balanced_margin"
LIMITS = ("pfk_true", "pfk_true:coverage")
WITHOUT_CURVE = ("validation_only", "all")
ALPHA = 0.05


def add(files: Sequence[Path]) -> None:
    """Merge curves of `fkal run` into the kept ones of their presets."""
    curves = pd.concat([pd.read_csv(file) for file in files])
    for dataset, runs in curves.groupby("dataset"):
        kept = FOLDER / f"{PRESETS[str(dataset)]}.csv"
        before = [pd.read_csv(kept)] if kept.exists() else []
        whole = pd.concat([*before, runs[[*RUN, *MEASURED]]]).drop_duplicates(RUN, keep="last").sort_values(RUN)
        whole.to_csv(kept, index=False, float_format="%.6g")
        print(f"{whole.groupby(RUN[:-1]).ngroups} runs in {kept}")


def tables() -> None:
    """Fill in the tables of each preset's page."""
    for preset in PRESETS.values():
        page = FOLDER / f"{preset}.md"
        if page.exists():
            page.write_text(MARKED.sub(filled, page.read_text(encoding="utf-8")), encoding="utf-8")


def filled(match: re.Match[str]) -> str:
    """One table with its markers."""
    kept = FOLDER / f"{match['preset']}.csv"
    curves = pd.read_csv(kept) if kept.exists() else pd.DataFrame(columns=[*RUN, *MEASURED])
    asked = (curves.loss == match["loss"]) & (curves.on_validation == (match["validation"] == "true"))
    return match["start"] + "\n".join(table(curves[asked])) + "\n" + match["end"]


def table(curves: pd.DataFrame) -> list[str]:
    """A row per method: balanced accuracies, their area, the share of the reachable gain, a paired test."""
    known = [method for method in METHODS if method in set(curves.method)]
    if not known:
        return ["not measured"]
    areas = {m: areas_of(curves[curves.method == m]) for m in known if m not in WITHOUT_CURVE}
    shares, tests = shares_of(areas), tests_of(areas)
    last = int(curves[curves.method == BASELINE].b.max())
    shown = [b for b in (1, 2, 4, last) if b <= last]
    labels = curves[curves.method == BASELINE].groupby("b").labels_used.first()
    heads = " | ".join(f"{labels[b]:,} labels" for b in shown)
    lines = [
        f"| method | seeds | {heads} | rare classes, last | AUBC | share, % | - `{AGAINST}` | p |",
        "| --- | --- |" + " --- |" * (len(shown) + 5),
    ]
    for method in known:
        mine = curves[curves.method == method]
        by_b = 100 * mine.groupby("b")["test/macro_accuracy"].agg(["mean", "std"])
        if method in WITHOUT_CURVE:
            cells = [""] * (len(shown) - 1) + [spread(*by_b.loc[1])]
        else:
            cells = [spread(*by_b.loc[b]) for b in shown]
        rare = 100 * mine[mine.b == mine.b.max()]["test/minority_accuracy"]
        area = areas.get(method)
        more = (
            spread(rare.mean(), rare.std()),
            "" if area is None else spread(area.mean(), area.std()),
            shares.get(method, ""),
            *tests.get(method, ("", "")),
        )
        lines.append(f"| `{short_method_name(method)}` | {seeds(mine)} | {' | '.join([*cells, *more])} |")
    return lines


def areas_of(curves: pd.DataFrame) -> pd.Series:
    """Mean balanced accuracy over the budget, in %, by seed."""
    return pd.Series(
        {
            seed: 100 * area_under_budget_curve(run["labels_used"].tolist(), run["test/macro_accuracy"].tolist())
            for seed, run in curves.sort_values("b").groupby("seed")
        }
    )


def shares_of(areas: dict[str, pd.Series]) -> dict[str, str]:
    """(method - random) / (limit - random) in %, the limit being the better of two; nothing where it gains nothing."""
    limits = [method for method in LIMITS if method in areas]
    if not limits or BASELINE not in areas:
        return {}
    limit = max(limits, key=lambda method: float(areas[method].mean()))
    gain = (areas[limit] - areas[BASELINE]).dropna()
    if gain.mean() <= 0 or stats.ttest_1samp(gain, 0).pvalue >= ALPHA:
        return {limit: f"no reachable gain ({gain.mean():+.1f}±{gain.std():.1f})"}
    return {
        method: f"{100 * (area - areas[BASELINE]).dropna().mean() / gain.mean():.0f}"
        for method, area in areas.items()
        if method != BASELINE
    }


def tests_of(areas: dict[str, pd.Series]) -> dict[str, tuple[str, str]]:
    """The mean difference to `AGAINST` over common seeds, and its p-value by Holm over all methods of the table."""
    if AGAINST not in areas:
        return {}
    gaps = {method: (area - areas[AGAINST]).dropna() for method, area in areas.items() if method != AGAINST}
    adjusted = holm([float(stats.ttest_1samp(gap, 0).pvalue) for gap in gaps.values()])
    return {
        method: (f"{gap.mean():+.1f}±{gap.std():.1f}", p_text(p))
        for (method, gap), p in zip(gaps.items(), adjusted, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add").add_argument("files", nargs="+", type=Path)
    commands.add_parser("tables")
    given = parser.parse_args()
    if given.command == "add":
        add(given.files)
    else:
        tables()


if __name__ == "__main__":
    main()
