"""The report's numbers, each against the raw files of the iterations."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

from fkal.config import ConfigError
from fkal.edge.answers import MissingRuns
from fkal.edge.report import csv_bytes, report, wishes
from fkal.edge.reporting.accuracy_curves import accuracy_numbers
from fkal.edge.reporting.canvas import about_numbers
from fkal.edge.reporting.finished import material_of
from fkal.edge.reporting.panels import panels_of
from fkal.edge.reporting.reading import material
from fkal.edge.reporting.reading_curves import from_curves
from fkal.edge.reporting.reading_runs import from_runs

ROOT = Path(__file__).parents[3]
PANELS = ("digits-ir1", "digits-ir20")


def raw(scratch: Path) -> dict[tuple[str, str, int], list[dict]]:
    """Iterations as JSON, with their confusion, by (panel, method, seed): read without the program's own code."""
    found = {}
    for folder in (scratch / "state").iterdir():
        name = json.loads((folder / "about.json").read_text())["name"]
        rounds = []
        for path in sorted(folder.glob("round-*.json")):
            tensors = load_file(path.with_suffix(".safetensors"))
            rounds.append({**json.loads(path.read_text()), "matrix": tensors["confusion"]})
        dataset, bias, rest = name.split("-", 2)
        method, seed = rest.rsplit("-s", 1)
        found[f"{dataset}-{bias}", method, int(seed)] = rounds
    return found


def of(runs: dict, panel: str, method: str) -> list[list[dict]]:
    return [rounds for (p, m, _), rounds in sorted(runs.items()) if (p, m) == (panel, method)]


def area(rounds: list[dict]) -> float:
    """In %; the labels of iterations lie equally far apart."""
    a = [100 * r["metrics"]["test/accuracy"] for r in rounds]
    return (sum(a) - (a[0] + a[-1]) / 2) / (len(a) - 1)


def printed(values: list[float]) -> str:
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def table(made: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(made / "tables" / f"{name}.csv")


class Page(HTMLParser):
    """Rows of cells by the exhibit they belong to, ids, and what the page points at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self._exhibit, self._in_cell = "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self._exhibit = given.get("data-name", self._exhibit)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[key] for key in ("href", "src", "xlink:href") if key in given]
        if tag == "tr":
            self.rows.setdefault(self._exhibit, []).append([])
        if tag in ("td", "th"):
            self._in_cell = True
            self.rows[self._exhibit][-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[self._exhibit][-1][-1] += data


@pytest.fixture(scope="module")
def page(made) -> Page:
    return Page((made / "index.html").read_text())


@pytest.fixture(scope="module")
def runs(scratch) -> dict:
    return raw(scratch)


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("score", ["accuracy", "minority_accuracy", "worst_class_accuracy"])
def test_curves_are_the_means_of_the_raw_iterations(made, runs, panel, score):
    numbers = table(made, f"{score}-{panel}")
    assert set(numbers["method"]) == {"random", "pfk_joint", "coreset@fc1"}
    for row in numbers.itertuples():
        b = int(row.labels_used) // 20 - 1
        values = [100 * rounds[b]["metrics"][f"test/{score}"] for rounds in of(runs, panel, row.method)]
        assert row.mean == pytest.approx(mean(values))
        assert row.seeds == len(values)
        assert np.isnan(row.std) if len(values) == 1 else row.std == pytest.approx(stdev(values))


@pytest.mark.parametrize("panel", PANELS)
def test_the_summary_on_the_page_is_that_of_the_raw_iterations(page, runs, panel):
    head, *rows = page.rows[f"ranking-{panel}"]
    assert head == ["method", "seeds", "AUBC, %", "final accuracy, %", "final rare classes, %", "final worst class, %"]
    for method, seeds, *cells in rows:
        mine = of(runs, panel, method)
        last = [rounds[-1]["metrics"] for rounds in mine]
        names = ("accuracy", "minority_accuracy", "worst_class_accuracy")
        values = [[area(rounds) for rounds in mine], *([100 * m[f"test/{name}"] for m in last] for name in names)]
        assert cells == [printed(each) for each in values]
        assert seeds == ("1" if method == "coreset@fc1" else "0-2")
    assert [row[0] for row in rows] == sorted(
        (row[0] for row in rows), key=lambda m: -mean(map(area, of(runs, panel, m)))
    )


@pytest.mark.parametrize("panel", PANELS)
def test_labels_needed_lie_on_the_line_between_two_iterations(made, page, runs, panel):
    numbers = table(made, f"labels-{panel}").set_index(["method", "accuracy"])
    for (method, accuracy), row in numbers.iterrows():
        reached = []
        for rounds in of(runs, panel, method):
            a = [r["metrics"]["test/accuracy"] for r in rounds]
            b = next((i for i, value in enumerate(a) if value >= accuracy), None)
            if b is not None:
                reached.append(20.0 if b == 0 else 20 * (b + (accuracy - a[b - 1]) / (a[b] - a[b - 1])))
        assert row["reached_by"] == len(reached)
        if len(reached) == row["seeds"]:
            assert row["labels"] == pytest.approx(mean(reached))
        else:
            assert np.isnan(row["labels"])
    shown = {row[0]: row[1:] for row in page.rows[f"labels-{panel}"]}
    assert shown["method"] == ["60 %", "75 %", "99 %"]
    assert all(cells[2] == "–" for method, cells in shown.items() if method != "method")


def test_a_saving_is_taken_seed_by_seed_and_says_where_it_is_a_bound(made):
    savings = table(made, "savings-digits-ir20")
    at_60 = savings[
        (savings["method"] == "pfk_joint") & (savings["baseline"] == "random") & (savings["accuracy"] == 0.6)
    ]
    (row,) = at_60.to_dict("records")
    assert row["seeds"] == 3 and 0 < row["saving"] < 1
    at_75 = savings[(savings["baseline"] == "random") & (savings["accuracy"] == 0.75)]
    assert at_75["at_least"].all() and len(at_75)
    assert not set(savings["baseline"]) & {"pfk_joint"}


@pytest.mark.parametrize("panel", PANELS)
def test_costs_are_the_sums_of_the_raw_passes_and_seconds(made, runs, panel):
    for unit in ("passes", "seconds"):
        for row in table(made, f"cost-{unit}-{panel}").itertuples():
            b = int(row.labels_used) // 20
            spent = []
            for rounds in of(runs, panel, row.method):
                ways = ("forward_images", "backward_images") if unit == "passes" else ("seconds",)
                a_round = [
                    sum(n for way in ways for phase, n in r[way].items() if phase not in ("train", "evaluate"))
                    for r in rounds
                ]
                spent.append(list(accumulate(a_round))[b - 1])
            assert row.cost == pytest.approx(mean(spent))


@pytest.mark.parametrize("panel", PANELS)
def test_confusions_and_class_counts_are_the_sums_of_the_raw_ones(made, runs, panel):
    confusion = table(made, f"confusion-{panel}")
    for method, mine in confusion.groupby("method"):
        wanted = sum(rounds[-1]["matrix"] for rounds in of(runs, panel, method))
        assert (mine.pivot(index="true", columns="predicted", values="images").to_numpy() == wanted).all()
    counts = table(made, f"labeled-{panel}")
    assert {"pool", "validation"} < set(counts["method"])
    for (method, labels), mine in counts[counts["labels_used"] > 0].groupby(["method", "labels_used"]):
        wanted = np.mean([rounds[labels // 20 - 1]["labeled_counts"] for rounds in of(runs, panel, method)], axis=0)
        assert mine["images"].to_numpy() == pytest.approx(wanted)


def test_pseudo_labels_are_those_of_the_methods_that_make_them(made, runs):
    numbers = table(made, "pseudo-digits-ir20")
    assert set(numbers["method"]) == {"pfk_joint"}
    mine = of(runs, "digits-ir20", "pfk_joint")
    wanted = [mean(100 * rounds[b]["metrics"]["pseudo/minority_recall"] for rounds in mine) for b in range(4)]
    assert numbers["minority_recall"].tolist() == pytest.approx(wanted)


def test_the_page_holds_all_it_shows_and_its_links_lead_somewhere(made, page):
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        elif not link.startswith("data:"):
            assert (made / link).is_file(), link
    text = (made / "index.html").read_text()
    assert "@import" not in text and "<script" not in text
    assert {f"accuracy-{panel}" for panel in PANELS} < set(page.ids)


def test_the_settings_it_writes_run_the_same_experiments_again(made, scratch):
    from fkal.edge.configuring import Sources, experiments
    from fkal.experiment import prepare

    page = (made / "index.html").read_text()
    command = "fkal run --params settings/digits-ir20-coreset-at-fc1.yaml --seeds 1"
    assert command in page
    sources = Sources(params=made / "settings" / "digits-ir20-coreset-at-fc1.yaml", environment={}, tuned=None)
    (again,) = experiments(sources, None, "1")
    assert (scratch / "state" / prepare(again, scratch, lambda _: None).fingerprint).is_dir()


def test_the_same_experiments_make_the_same_files(scratch, made, tmp_path):
    chosen = wishes("random,pfk_joint", "60", "wilcoxon", None)
    for to in (tmp_path / "a", tmp_path / "b"):
        report(from_curves(made / "iterations.csv"), to, chosen)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file() and p.suffix != ".html"]
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_curves_alone_make_a_page_that_says_what_is_left_out(made, tmp_path, capsys):
    report(from_curves(made / "iterations.csv"), tmp_path, wishes(None, "60", "t", None))
    assert table(tmp_path, "accuracy").equals(table(made, "accuracy"))
    assert "curves alone were read" in (tmp_path / "index.html").read_text()
    assert "left out: digits, ir = 20: test descriptors (t-SNE): curves alone were read." in capsys.readouterr().err


def test_what_is_not_there_or_wrong_is_said(tmp_path, scratch):
    with pytest.raises(MissingRuns, match="fkal run --out"):
        from_runs(tmp_path, None)
    with pytest.raises(ConfigError, match="known: coreset@fc1, pfk_joint, random"):
        report(from_runs(scratch, None), tmp_path, wishes("pfk", "60", "t", None))
    with pytest.raises(ConfigError, match="give accuracies in %"):
        wishes(None, "much", "t", None)
    with pytest.raises(ConfigError, match="known: t, wilcoxon"):
        wishes(None, "60", "z", None)
    with pytest.raises(ConfigError, match="--curves stands alone"):
        material(root=tmp_path, out=scratch, curves=tmp_path / "c.csv", tracking=None)
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="lacks"):
        from_curves(tmp_path / "c.csv")


def test_the_figure_of_the_readme_has_the_numbers_of_the_kept_curves():
    kept = from_curves(ROOT / "docs" / "results" / "curves.csv")
    method = re.search(r"--curves docs/results/curves.csv --method (\S+)", (ROOT / "README.md").read_text())
    panels = panels_of(kept, method[1].split(","))
    with Image.open(ROOT / "docs" / "images" / "mnist.png") as image:
        assert image.text["Description"] == about_numbers(csv_bytes(accuracy_numbers(panels)))
    assert "docs/images/mnist.png" in (ROOT / "README.md").read_text()


def test_of_experiments_that_share_a_name_the_longest_is_shown_and_the_others_are_named(scratch):
    whole = from_runs(scratch, None)
    longest = max(whole.finished, key=lambda each: len(each.outcome.rounds))
    outcome = replace(longest.outcome, fingerprint="0" * 32, rounds=longest.outcome.rounds[:2])
    again = material_of([replace(longest, outcome=outcome), *whole.finished], whole.source, whole.notes)
    assert again.frame.equals(whole.frame)
    (note,) = set(again.notes) - set(whole.notes)
    assert note.startswith(f"00000000: another {outcome.name} with other settings and 2 iterations")
