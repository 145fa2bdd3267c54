"""The tables of docs/results.md, which earlier versions measured, and the kept curves that they are made of.

A table is between `<!-- table NAME DATASET BIAS -->` and `<!-- end -->`. Nothing is added to these curves any more:
`results.yaml` lists what takes their place.
"""

import re
from pathlib import Path

import pandas as pd
from scipy import stats

from fkal.atomic_files import write_whole
from fkal.report.figures.published import published_curves
from fkal.report.stats.paired_tests import holm
from result_pages import tables
from result_pages.cells import areas, by_round, head, p_text, points, row, seeds, signed_points
from result_pages.grids import ROOT
from result_pages.tables import AGAINST, BEFORE, OURS, Table, is_of_the_paper, rank

PAGE = ROOT / "docs" / "results.md"
FOLDER = ROOT / "docs" / "results"
MARKED = re.compile(
    r"(?P<start><!-- table (?P<name>\w+) (?P<dataset>\w+) (?P<bias>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
WHOLE_VALIDATION = 1000
"""Images per class."""
PLAIN: dict[str, Table] = {
    "short": tables.in_short,
    "reduced": tables.in_short,
    "accuracy": tables.accuracy,
    "digits": tables.confused_digits,
    "all": tables.whole_pool,
    "contenders": tables.contenders,
    "options": tables.options,
    "small": tables.small,
    "paid": tables.paid,
}


def write_tables() -> list[Path]:
    """Fill in the page's tables; returns the page if it changed."""
    before = PAGE.read_text(encoding="utf-8")
    after = MARKED.sub(filled, before)
    if after == before:
        return []
    write_whole(PAGE, after.encode())
    return [PAGE]


def filled(match: re.Match[str]) -> str:
    """One table with its markers."""
    name, dataset, bias = match["name"], match["dataset"], match["bias"]
    published = published_curves()
    paper = published[(published.dataset == dataset) & (published.bias == bias)]
    curves = curves_of(name, dataset, bias)
    lines = again(curves) if name == "again" else PLAIN[name](curves, paper)
    return match["start"] + "\n".join(lines) + "\n" + match["end"]


def curves_of(name: str, dataset: str, bias: str) -> pd.DataFrame:
    """The kept curves that this table shows."""
    if name == "paid":
        return small_validation()
    curves = pd.read_csv(FOLDER / kept_file(name, dataset, bias))
    curves = curves[(curves.dataset == dataset) & (curves.bias == bias) & (curves.protocol == "last")]
    curves = curves.assign(accuracy=curves["test/accuracy"], validation=WHOLE_VALIDATION)
    if name == "small":
        return pd.concat([small_validation(), curves[curves.method.isin((OURS, *BEFORE, AGAINST))]])
    if name in ("accuracy", "digits"):
        return curves[curves.method.map(is_of_the_paper) | ((name == "digits") & (curves.method == "all"))]
    return curves[curves.method == "all"] if name == "all" else curves


def kept_file(name: str, dataset: str, bias: str) -> Path:
    """The paper's own dataset and bias have the plain name."""
    if dataset != "mnist":
        return Path(f"curves-{dataset}-reduced.csv" if name == "reduced" else f"curves-{dataset}.csv")
    return Path("curves.csv" if bias.startswith("ir") else f"curves-{bias}.csv")


def small_validation() -> pd.DataFrame:
    """Experiments whose method saw a part of the validation images."""
    runs = pd.read_csv(FOLDER / "small_validation.csv")
    return runs.assign(validation=runs.validation // tables.DIGITS)


def again(curves: pd.DataFrame) -> list[str]:
    """Rows measured again with a later algorithm, and how their area compares to the same seeds' of before."""
    now = pd.read_csv(FOLDER / "algorithm-2.csv")
    now = now[now.protocol == "last"]
    methods = sorted(now.method.unique(), key=rank)
    was = {m: areas(curves[curves.method == m]) for m in methods if m in set(curves.method)}
    new = {method: areas(now[now.method == method], "test/accuracy") for method in methods}
    apart = {method: (new[method] - before).dropna() for method, before in was.items()}
    ps = {method: float(stats.ttest_1samp(gap, 0).pvalue) for method, gap in apart.items()}
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    rounds = range(1, 11)
    lines = head("method", "seeds", *tables.round_heads(rounds), "AUBC", "- AUBC of before", "p", "p, Holm")
    for method in methods:
        mine = now[now.method == method]
        gap = apart.get(method)
        test = ["", "", ""] if gap is None else [signed_points(gap), p_text(ps[method]), p_text(adjusted[method])]
        cells = (*by_round(mine, "test/accuracy", rounds), points(new[method]), *test)
        lines.append(row(f"`{method}`", seeds(mine), *cells))
    return lines
