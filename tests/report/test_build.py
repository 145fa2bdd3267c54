"""The report's numbers, each against the raw files of the rounds."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path
from statistics import geometric_mean, mean, stdev

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file
from scipy import stats
from typer.testing import CliRunner

from fkal.cli.exit import MissingRuns
from fkal.cli.main import app
from fkal.config.schema import Config, ConfigError
from fkal.data.digest import bytes_digest
from fkal.experiment.experiment import prepare
from fkal.models.registry import build
from fkal.notify import PLAIN, Unseen
from fkal.plots.canvas import key_below
from fkal.plots.method_styles import method_styles
from fkal.report.build import report, report_options
from fkal.report.figures.labels_needed import needed_figure
from fkal.report.load.csv import from_curves
from fkal.report.load.local import from_runs
from fkal.report.load.mlflow import from_mlflow
from fkal.report.load.source import material
from fkal.report.panels import bias_words, panels_of
from fkal.report.stats.labels_needed import needed_frame
from fkal.results.manifest import read_about
from fkal.runner.run import run

ROOT = Path(__file__).parents[2]
PANELS = ("digits-ir1", "digits-ir20")


def raw(scratch: Path) -> dict[tuple[str, str, int], list[dict]]:
    """Rounds as JSON, with their confusion, by (panel, method, seed): read without the program's own code."""
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
    """In %; the labels of rounds are equally far apart."""
    a = [100 * r["metrics"]["test/accuracy"] for r in rounds]
    return (sum(a) - (a[0] + a[-1]) / 2) / (len(a) - 1)


def reached_by(runs: dict, panel: str, method: str, accuracy: float) -> dict[int, float | None]:
    """Labels by seed, on the line between two rounds."""
    found: dict[int, float | None] = {}
    for (p, m, seed), rounds in runs.items():
        if (p, m) == (panel, method):
            a = [r["metrics"]["test/accuracy"] for r in rounds]
            b = next((i for i, value in enumerate(a) if value >= accuracy), None)
            line = None if b is None else 20 * (b + (accuracy - a[b - 1]) / (a[b] - a[b - 1])) if b else 20.0
            found[seed] = line
    return found


def student(values: list[float]) -> tuple[float, float]:
    """The 95 % interval of a geometric mean."""
    logs = np.log(values)
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


def with_ends(values: list[float], form) -> str:
    """Geometric mean, with its interval from three values on."""
    middle = form(geometric_mean(values))
    return middle if len(values) < 3 else f"{middle} [{form(student(values)[0])}, {form(student(values)[1])}]"


FIRST_BATCH = 20.0
"""Labels of the first round of the experiments here; a curve that starts above an accuracy needs at most so many."""


def needed_cell(by_seed: list[float | None]) -> str:
    reached = [labels for labels in by_seed if labels is not None]
    if len(reached) < len(by_seed):
        return f"{len(reached)} of {len(by_seed)} seeds get there" if reached else "–"
    if FIRST_BATCH in reached:
        return f"≤ {geometric_mean(reached):,.0f}"
    return with_ends(reached, "{:,.0f}".format)


def saved_cell(parts: list[float], at_least: bool, at_most: bool) -> str:
    """Of labels needed as parts of the baseline's: what is saved."""
    if at_least and at_most:
        return "unknown"
    saved = f"{100 * (1 - geometric_mean(parts)):.0f} %"
    if at_least or at_most:
        return f"{'≥' if at_least else '≤'} {saved}"
    if len(parts) < 3:
        return saved
    low, high = student(parts)
    return f"{saved} [{100 * (1 - high):.0f} %, {100 * (1 - low):.0f} %]"


def raw_split(scratch: Path, panel: str) -> dict[str, list[float]]:
    """Images by part and class: the mean over the splits of this bias, weighed by the experiments that use them."""
    digests = {}
    for folder in (scratch / "state").iterdir():
        about = json.loads((folder / "about.json").read_text())
        if about["name"].startswith(f"{panel}-") and "-all-" not in about["name"]:
            digests.setdefault(about["split_digest"], []).append(about["name"])
    counts = {"pool": [], "validation": []}
    for path in (scratch / "splits").glob("*.json"):
        told = json.loads(path.read_text())
        for part, per_experiment in counts.items():
            per_experiment += [told["class_counts"][part]] * len(digests.get(bytes_digest([path.read_bytes()]), []))
    return {part: np.mean(each, axis=0).tolist() for part, each in counts.items()}


def printed(values: list[float]) -> str:
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def table(made: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(made / "tables" / f"{name}.csv")


def named(folder: Path) -> str:
    return json.loads((folder / "about.json").read_text())["name"]


def settings_of(scratch: Path, name: str) -> Config:
    (folder,) = [f for f in (scratch / "state").iterdir() if named(f) == name]
    return read_about(folder).config


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
    finals = ["final accuracy, %", "final balanced, %", "final rare classes, %", "final worst class, %"]
    assert head == ["method", "seeds", "AUBC, %", *finals]
    for method, seeds, *cells in rows:
        mine = of(runs, panel, method)
        last = [rounds[-1]["metrics"] for rounds in mine]
        names = ("accuracy", "macro_accuracy", "minority_accuracy", "worst_class_accuracy")
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
            assert row["labels"] == pytest.approx(geometric_mean(reached))
            assert row["at_most"] == (FIRST_BATCH in reached)
            if row["at_most"]:
                assert np.isnan(row["low"]) and np.isnan(row["high"])
            elif len(reached) > 2:
                assert (row["low"], row["high"]) == pytest.approx(student(reached))
        else:
            assert np.isnan(row["labels"])
    (_, *head), *shown = page.rows[f"labels-{panel}"]
    assert head == ["60 %", "75 %", "99 %"] and [method for method, *_ in shown] == [*numbers.index.unique(0)]
    for method, *cells in shown:
        wanted = [list(reached_by(runs, panel, method, accuracy).values()) for accuracy in (0.6, 0.75, 0.99)]
        assert cells == [needed_cell(each) for each in wanted]


def test_a_saving_is_taken_seed_by_seed_and_says_where_it_is_a_bound(made, page, runs):
    savings, cells = table(made, "savings-digits-ir20"), []
    assert set(savings["method"]) | set(savings["baseline"]) == {"random", "pfk_joint", "coreset@fc1"}
    for row in savings.itertuples():
        ours, theirs = (reached_by(runs, "digits-ir20", m, row.accuracy) for m in (row.method, row.baseline))
        common = sorted(ours.keys() & theirs.keys())
        parts = [ours[seed] / (theirs[seed] or 80) for seed in common]
        assert row.seeds == len(common)
        at_least = any(theirs[seed] is None or ours[seed] == FIRST_BATCH for seed in common)
        at_most = any(theirs[seed] == FIRST_BATCH for seed in common)
        assert (row.at_least, row.at_most) == (at_least, at_most)
        if at_least and at_most:
            assert np.isnan(row.saving)
        else:
            assert row.saving == pytest.approx(1 - geometric_mean(parts))
        cells.append([row.method, row.baseline, f"{100 * row.accuracy:.0f} %", saved_cell(parts, at_least, at_most)])
        if len(parts) < 3 or at_least or at_most:
            assert np.isnan(row.low) and np.isnan(row.high)
        else:
            assert (1 - row.high, 1 - row.low) == pytest.approx(student(parts))
    assert savings["at_least"].any() and savings["at_most"].any()
    assert page.rows["savings-digits-ir20"][1:] == cells


@pytest.mark.parametrize("panel", PANELS)
def test_each_pair_is_tested_on_the_raw_areas(made, page, runs, panel):
    areas = {
        method: {seed: area(rounds) for (p, m, seed), rounds in runs.items() if (p, m) == (panel, method)}
        for method in ("random", "pfk_joint", "coreset@fc1")
    }
    numbers = table(made, f"pairs-{panel}")
    assert len(numbers) == 3
    tested = []
    for row in numbers.itertuples():
        common = sorted(areas[row.first].keys() & areas[row.second].keys())
        apart = [areas[row.first][seed] - areas[row.second][seed] for seed in common]
        assert row.difference == pytest.approx(mean(apart))
        if len(common) == 1:
            assert np.isnan(row.p) and row.verdict == "one seed: nothing can be concluded"
        else:
            tested.append(row)
            assert row.std == pytest.approx(stdev(apart))
            assert row.p == row.adjusted == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)
            better = row.first if mean(apart) > 0 else row.second
            assert row.verdict == (f"{better} is better" if row.p < 0.05 else "no difference shown")
    assert len(tested) == 1
    shown = {(cells[0], cells[1]): cells[2:] for cells in page.rows[f"pairs-{panel}"][1:]}
    for row in numbers.itertuples():
        apart = f"{row.difference:+.2f}" + ("" if np.isnan(row.std) else f" ± {row.std:.2f}")
        p = "–" if np.isnan(row.p) else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"
        assert shown[row.first, row.second] == [str(row.seeds), apart, p, p, row.verdict]
    assert "the 1 comparisons that can be tested" in (made / "index.html").read_text()


def test_penalties_are_counted_on_the_raw_accuracies(made, page, runs):
    wins = {("pfk_joint", "random"): 0.0, ("random", "pfk_joint"): 0.0}
    for panel in PANELS:
        curves = {
            m: [[r["metrics"]["test/accuracy"] for r in rounds] for rounds in of(runs, panel, m)] for m, _ in wins
        }
        for b in range(4):
            apart = [ours[b] - theirs[b] for ours, theirs in zip(curves["pfk_joint"], curves["random"], strict=True)]
            if stats.ttest_1samp(apart, 0).pvalue < 0.05:
                wins["pfk_joint", "random"] += (mean(apart) > 0) / 4
                wins["random", "pfk_joint"] += (mean(apart) < 0) / 4
    numbers = table(made, "penalty").set_index("method")
    for (winner, loser), n in wins.items():
        assert numbers.loc[winner, loser] == pytest.approx(n)
    assert numbers["coreset@fc1"].isna().all()
    head, *rows = page.rows["penalty"]
    assert rows[-1][head.index("coreset@fc1")] == "–"
    assert rows[-1][head.index("random")] == f"{wins['pfk_joint', 'random']:.2f}"


@pytest.mark.parametrize("panel", PANELS)
def test_the_dotted_line_is_what_all_labels_give(made, runs, panel):
    for score in ("accuracy", "minority_accuracy", "worst_class_accuracy"):
        wanted = mean(100 * rounds[-1]["metrics"][f"test/{score}"] for rounds in of(runs, panel, "all"))
        assert table(made, f"{score}-{panel}")["all_labels"].unique() == pytest.approx([wanted])
    assert "all" not in {*table(made, f"ranking-{panel}")["method"]}


@pytest.mark.parametrize("panel", PANELS)
def test_the_summarys_numbers_are_those_of_the_raw_iterations(made, runs, panel):
    for row in table(made, f"ranking-{panel}").to_dict("records"):
        mine = of(runs, panel, row["method"])
        assert row["seeds"] == len(mine)
        assert row["aubc_mean"] == pytest.approx(mean(map(area, mine)))
        for score in ("accuracy", "minority_accuracy", "worst_class_accuracy"):
            values = [100 * rounds[-1]["metrics"][f"test/{score}"] for rounds in mine]
            assert row[f"{score}_mean"] == pytest.approx(mean(values))


def test_what_dvc_plots_is_the_mean_and_one_deviation_around_it(made, runs):
    curves = pd.read_csv(made / "accuracy.csv")
    for row in curves.itertuples():
        mine = of(runs, f"digits-{row.bias}", row.method)
        values = [
            r["metrics"]["test/accuracy"] for rounds in mine for r in rounds if r["labels_used"] == row.labels_used
        ]
        off = stdev(values) if len(values) > 1 else 0
        assert (row.low, row.accuracy, row.high) == pytest.approx(
            (mean(values) - off, mean(values), mean(values) + off)
        )
        assert row.seeds == len(values)


def test_the_iterations_table_has_every_raw_metric(made, runs):
    frame = pd.read_csv(made / "iterations.csv")
    assert len(frame) == sum(map(len, runs.values()))
    for row in frame.to_dict("records"):
        raw_round = runs[f"digits-{row['bias']}", row["method"], row["seed"]][row["b"] - 1]
        for name, value in raw_round["metrics"].items():
            assert row[name] == pytest.approx(value)


def test_the_page_says_how_many_experiments_and_which(made, runs):
    shown = [key for key in runs if key[1] != "all"]
    lead = f"{len(shown)} finished experiments: 3 methods on digits, ir = 1, digits, ir = 20."
    assert lead in (made / "index.html").read_text()
    text = (made / "index.html").read_text()
    assert text.index('class="verdict"') < text.index("finished experiments:") < text.index("<nav>")
    trust = table(made, "experiments")
    assert sorted(trust["experiment"]) == sorted(f"{panel}-{method}-s{seed}" for panel, method, seed in runs)
    assert trust["made with"].str.contains("torch").all() and trust["fingerprint"].is_unique


def test_what_was_used_and_by_what_is_told_of_each_experiment(scratch, made, page, runs):
    """Digests again from the images and the split's file; versions, hardware and commit as kept when it was made."""
    rows = {row[0]: row[1:] for row in page.rows["experiments"][1:]}
    assert len(rows) == len(runs) == len(table(made, "experiments"))
    dataset = prepare(settings_of(scratch, "digits-ir20-random-s0"), scratch, lambda _: None).dataset
    images = bytes_digest([pixels_told(part).encode() for part in (dataset.train, dataset.test)])
    splits = {
        (told["recipe"]["ratio"], told["recipe"]["seed"]): bytes_digest([path.read_bytes()])
        for path in (scratch / "splits").glob("*.json")
        for told in [json.loads(path.read_text())]
    }
    for folder in (scratch / "state").iterdir():
        about = json.loads((folder / "about.json").read_text())
        fingerprint, split, data, commit, made_with = rows[about["name"]]
        assert (fingerprint, data) == (folder.name, images)
        recipe = read_about(folder).config
        assert split == about["split_digest"] == splits[recipe.bias.ratio, recipe.seed]
        kept = dict(about["made_with"])
        assert commit == kept.pop("git commit", "–")
        assert made_with == ", ".join(f"{name} {value}" for name, value in kept.items())


def pixels_told(part) -> str:
    """The digest of images, from what they are: kind, shape, number, classes; labels; pixels."""
    facts = repr(("pixels", tuple(part.shape), len(part.labels), tuple(part.classes))).encode()
    pixels = torch.stack(list(part.pixels(torch.arange(len(part.labels))))).numpy()
    return hashlib.sha256(facts + b"\0" + part.labels.numpy().astype("<i8").tobytes() + pixels.tobytes()).hexdigest()[
        :32
    ]


def test_class_frequencies_are_the_means_of_the_raw_ones(made, runs):
    numbers = table(made, "prior-digits-ir20")
    for row in numbers.itertuples():
        mine = of(runs, "digits-ir20", row.method)
        b = int(row.labels_used) // 20 - 1
        for kind in ("estimated", "true"):
            wanted = mean(rounds[b]["metrics"][f"prior/{kind}_{row.label}"] for rounds in mine)
            assert getattr(row, kind) == pytest.approx(wanted)


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
            right = [rounds[b - 1]["metrics"]["test/accuracy"] for rounds in of(runs, panel, row.method)]
            assert row.accuracy == pytest.approx(100 * mean(right))


@pytest.mark.parametrize("panel", PANELS)
def test_confusions_and_class_counts_are_the_sums_of_the_raw_ones(made, runs, scratch, panel):
    confusion = table(made, f"confusion-{panel}")
    for method, mine in confusion.groupby("method"):
        wanted = sum(rounds[-1]["matrix"] for rounds in of(runs, panel, method))
        assert (mine.pivot(index="true", columns="predicted", values="images").to_numpy() == wanted).all()
    counts = table(made, f"labeled-{panel}")
    for part, wanted in raw_split(scratch, panel).items():
        assert counts[counts["method"] == part]["images"].tolist() == pytest.approx(wanted)
    for (method, labels), mine in counts[counts["labels_used"] > 0].groupby(["method", "labels_used"]):
        wanted = np.mean([rounds[labels // 20 - 1]["labeled_counts"] for rounds in of(runs, panel, method)], axis=0)
        assert mine["images"].to_numpy() == pytest.approx(wanted)


def test_pseudo_labels_are_those_of_the_methods_that_make_them(made, runs):
    numbers = table(made, "pseudo-digits-ir20")
    assert set(numbers["method"]) == {"pfk_joint"}
    mine = of(runs, "digits-ir20", "pfk_joint")
    for name in ("accuracy", "minority_precision", "minority_recall"):
        wanted = [mean(100 * rounds[b]["metrics"][f"pseudo/{name}"] for rounds in mine) for b in range(4)]
        assert numbers[name].tolist() == pytest.approx(wanted)


def test_no_heading_stands_twice_and_figures_leave_theirs_to_the_page(made):
    text = (made / "index.html").read_text()
    headings = re.findall(r"<h3>(.+?)</h3>", text)
    assert len(headings) == len(set(headings))
    for svg in re.findall(r"<svg.+?</svg>", text, re.DOTALL):
        used = set(re.findall(r'<use [^>]*href="#([^"]+)"', svg))
        assert used <= set(re.findall(r' id="([^"]+)"', svg))  # the letters of what is left stay defined
        title = re.search(r'<g id="[^"]*own-title">.*', svg, re.DOTALL)
        assert title is None or "<use" not in title[0].split("</g>")[0]


def test_a_dash_is_explained_where_there_is_one(made):
    text = (made / "index.html").read_text()
    for figure in re.findall(r"<figure.+?</figure>", text, re.DOTALL):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", figure)
        if "–" in cells:
            assert "–: " in figure


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
    from fkal.runner.expand import Sources, experiments

    page = (made / "index.html").read_text()
    settings = made / "settings" / "digits-ir20-coreset-at-fc1.yaml"
    assert {"root", "workers"}.isdisjoint(yaml.safe_load(settings.read_text())["data"])
    assert f"fkal run --params {settings} --untuned --seeds 1" in page
    sources = Sources(params=settings, environment={}, tuned=None)
    (again,) = experiments(sources, None, "1")
    assert (scratch / "state" / prepare(again, scratch, lambda _: None).fingerprint).is_dir()


@pytest.mark.slow
def test_the_same_experiments_make_the_same_files(scratch, made, tmp_path):
    chosen = report_options("random,pfk_joint", "60", "wilcoxon", None)
    for to in (tmp_path / "a", tmp_path / "b"):
        report(from_curves(made / "iterations.csv"), to, chosen)
    told = ("index.html", "figures.csv")  # which name the folder
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file() and p.name not in told]
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.mark.slow
def test_curves_alone_make_a_page_that_says_what_is_left_out(made, tmp_path, capsys):
    steps: list[tuple[int, int, str]] = []

    class Seen(Unseen):
        def show(self, progress):
            steps.append((progress.done, progress.total, progress.unit))

    display = PLAIN._replace(one=Seen)
    report(from_curves(made / "iterations.csv"), tmp_path, report_options(None, "60", "t", None), display=display)
    sections = [step for step in steps if step[2] == "sections"]
    figures = [step for step in steps if step[2] == "figures"]
    assert sections == [(done, 9, "sections") for done in range(9)]
    assert len(figures) > 3 and figures == [(done, len(figures), "figures") for done in range(len(figures))]
    assert table(tmp_path, "accuracy").equals(table(made, "accuracy"))
    assert "curves alone were read" in (tmp_path / "index.html").read_text()
    assert "left out: digits, ir = 20: test descriptors (t-SNE): curves alone were read." in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_leaves_nothing_of_the_one_before_it_and_all_that_is_not_its_own(made, tmp_path):
    again = tmp_path / "report"
    shutil.copytree(made, again)
    mine = again / "figures" / "mine.png"
    mine.write_bytes(b"mine")
    other = tmp_path / "other.csv"
    other.write_text("kept")
    with (again / ".fkal-report").open("a") as listing:
        listing.write("figures/../../other.csv\n../other.csv\n")
    report(from_curves(made / "iterations.csv"), again, report_options("random,pfk_joint", "60", "t", None))
    written = {
        str(p.relative_to(again)) for folder in ("figures", "tables", "settings") for p in (again / folder).iterdir()
    }
    listed = set((again / ".fkal-report").read_text().split())
    assert written == {*listed, "figures/mine.png"}
    assert "figures/tsne-digits-ir20.png" not in listed
    assert (made / "figures" / "tsne-digits-ir20.png").is_file()
    assert other.read_text() == "kept"


def test_what_is_not_there_or_wrong_is_said(tmp_path, scratch):
    with pytest.raises(MissingRuns, match="fkal run --out"):
        from_runs(tmp_path, None)
    with pytest.raises(ConfigError, match="known: all, coreset@fc1, pfk_joint, random"):
        report(from_runs(scratch, None), tmp_path, report_options("pfk", "60", "t", None))
    with pytest.raises(ConfigError, match="give accuracies in %"):
        report_options(None, "much", "t", None)
    with pytest.raises(ConfigError, match="known: t, wilcoxon"):
        report_options(None, "60", "z", None)
    with pytest.raises(ConfigError, match="--curves stands alone"):
        material(root=tmp_path, out=scratch, curves=tmp_path / "c.csv", tracking=None)
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="lacks"):
        from_curves(tmp_path / "c.csv")


def test_a_curve_is_made_of_experiments_that_differ_in_their_seeds_alone(scratch, longer):
    """Of two variants the one with more seeds is shown, and the page says what the other had."""
    whole = from_runs(scratch, None)
    assert longer[0] in set(whole.frame["fingerprint"]) and longer[1] not in set(whole.frame["fingerprint"])
    (note,) = whole.notes
    assert note.startswith("digits-ir20-random, seed 0: left out, as it has train.epochs = 60 (shown: 50)")


def test_methods_that_are_compared_have_one_training(kept_experiment, tmp_path):
    """Random picks of another learning rate are no rival, though nobody ran them with the usual one."""
    out = tmp_path / "runs"
    for seed in (0, 1, 2, 3):
        kept_experiment("pfk_joint", seed, out)
    for method, seed in (("random", 0), ("random", 1), ("pfk_joint", 0)):
        kept_experiment(method, seed, out, {"train": {"lr": 0.005}})
    found = from_runs(out, None)
    assert {each.outcome.method for each in found.finished} == {"pfk_joint"} and len(found.finished) == 4
    assert sorted(note.partition(":")[0] for note in found.notes) == [
        "digits-ir20-pfk_joint, seed 0", "digits-ir20-random, seed 0, 1",
    ]  # fmt: skip
    assert all("left out, as it has train.lr = 0.005 (shown: 0.05)" in note for note in found.notes)


def test_schedules_of_labels_that_differ_stand_in_panels_of_their_own(made, tmp_path):
    """Areas under curves of other lengths say nothing of each other."""
    frame = pd.read_csv(made / "iterations.csv")
    short = (frame["method"] == "pfk_joint") & (frame["bias"] == "ir20")
    frame[~short | (frame["b"] < 3)].to_csv(tmp_path / "mixed.csv", index=False)
    one, long, few = panels_of(from_curves(tmp_path / "mixed.csv"))
    assert (one.name, long.name, few.name) == ("digits-ir1", "digits-ir20", "digits-ir20-20-to-40")
    assert few.methods == ("pfk_joint",) and set(long.methods) == {"random", "coreset@fc1"}
    assert few.title == "digits, ir = 20, 20 to 40 labels" and long.title == "digits, ir = 20, 20 to 80 labels"
    assert one.title == "digits, ir = 1"


@pytest.mark.slow
def test_seeds_of_another_length_are_no_seeds_of_the_curve(made, tmp_path):
    frame = pd.read_csv(made / "iterations.csv")
    shorter = (frame["method"] == "random") & (frame["seed"] == 1) & (frame["b"] > 2)
    frame[~shorter].to_csv(tmp_path / "c.csv", index=False)
    report(from_curves(tmp_path / "c.csv"), tmp_path / "to", report_options("random", "60", "t", None))
    assert "nan" not in re.sub(r"<style>.*?</style>", "", (tmp_path / "to" / "index.html").read_text(), flags=re.DOTALL)
    assert table(tmp_path / "to", "ranking-digits-ir20")["seeds"].tolist() == [2]


@pytest.mark.slow
def test_what_was_held_out_is_reported_in_the_test_sets_stead(made, tmp_path):
    frame = pd.read_csv(made / "iterations.csv").rename(columns=lambda name: name.replace("test/", "holdout/"))
    frame.to_csv(tmp_path / "held.csv", index=False)
    report(from_curves(tmp_path / "held.csv"), tmp_path / "to", report_options(None, "60", "t", None))
    curves = pd.read_csv(tmp_path / "to" / "accuracy.csv")
    assert curves["accuracy"].tolist() == pytest.approx(pd.read_csv(made / "accuracy.csv")["accuracy"].tolist())
    assert curves["curve"].str.endswith("(held out)").all()


@pytest.mark.slow
def test_curves_of_two_schedules_are_two_in_what_dvc_plots(made, tmp_path):
    """One method that was asked for 20 labels at once, and for 40."""
    frame = pd.read_csv(made / "iterations.csv")
    twice = frame[(frame["method"] == "random") & (frame["bias"] == "ir20")]
    wide = twice.assign(labels_used=2 * twice["labels_used"], fingerprint="w" + twice["fingerprint"].str[1:])
    pd.concat([twice, wide]).to_csv(tmp_path / "c.csv", index=False)
    report(from_curves(tmp_path / "c.csv"), tmp_path / "to", report_options(None, "60", "t", None))
    curves = pd.read_csv(tmp_path / "to" / "accuracy.csv")
    assert set(curves["curve"]) == {"digits ir20 random, 20 to 80 labels", "digits ir20 random, 40 to 160 labels"}
    assert (curves["seeds"] == 3).all()
    assert set(table(tmp_path / "to", "accuracy")["schedule"]) == {"20 to 80 labels", "40 to 160 labels"}


def test_two_gpus_are_one_kind_of_device(scratch):
    one, two = (
        replace(from_runs(scratch, None).finished[0], made_with={"device": device})
        for device in ("cuda:0", "cuda:1 (A)")
    )
    assert one.variant == two.variant
    assert one.variant != replace(one, made_with={"device": "cpu"}).variant


def test_a_key_has_a_column_however_long_its_names(made):
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure((3, 3))
    key_below(figure, [Patch(label=90 * "x"), Patch(label="y")])
    assert figure.get_figheight() > 3


def test_a_round_that_lacks_between_others_is_refused(made, tmp_path):
    frame = pd.read_csv(made / "iterations.csv")
    first = frame[frame["fingerprint"] == frame["fingerprint"].iloc[0]]
    frame.drop(first.index[first["b"] == 2]).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(ConfigError, match=r"round 3 of .*, comes after round 1; add the rounds between them"):
        from_curves(tmp_path / "c.csv")


@pytest.mark.slow
def test_a_metric_that_one_panel_lacks_is_left_out_there(made, tmp_path):
    frame = pd.read_csv(made / "iterations.csv")
    frame.loc[frame["bias"] == "ir1", "test/minority_accuracy"] = np.nan
    frame.to_csv(tmp_path / "c.csv", index=False)
    report(from_curves(tmp_path / "c.csv"), tmp_path / "to", report_options(None, "60", "t", None))
    assert "minority_accuracy_mean" not in table(tmp_path / "to", "ranking-digits-ir1")
    assert "minority_accuracy_mean" in table(tmp_path / "to", "ranking-digits-ir20")


def test_an_iteration_that_stands_twice_in_a_table_is_refused(made, tmp_path):
    frame = pd.read_csv(made / "iterations.csv")
    pd.concat([frame, frame.head(1)]).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(ConfigError, match=r"stands there more than once \(1 rows too many\)"):
        from_curves(tmp_path / "c.csv")
    other = frame[frame["fingerprint"] == frame["fingerprint"].iloc[0]].assign(fingerprint=32 * "0")
    pd.concat([frame, other]).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(ConfigError, match=rf"more than once \({len(other)} rows too many\)"):
        from_curves(tmp_path / "c.csv")


@pytest.mark.slow
def test_a_short_name_names_the_method_it_stands_for(made, tmp_path):
    frame = pd.read_csv(made / "iterations.csv").replace({"method": {"pfk_joint": "pfk_joint_shift_grid:coverage"}})
    frame.to_csv(tmp_path / "c.csv", index=False)
    asked = report_options("random,fisher_coverage", "60", "t", None, "fisher_coverage")
    report(from_curves(tmp_path / "c.csv"), tmp_path / "to", asked)
    assert "pfk_joint_shift_grid:coverage" in set(table(tmp_path / "to", "ranking-digits-ir20")["method"])
    text = (tmp_path / "to" / "index.html").read_text()
    assert ">fisher_coverage<" in text and "fisher_coverage is better" in text
    assert "pfk_joint_shift_grid" not in text
    with pytest.raises(ConfigError, match="--against 'pcc': no finished experiment has it"):
        report(from_curves(tmp_path / "c.csv"), tmp_path / "to", report_options(None, "60", "t", None, "pcc"))


@pytest.mark.slow
def test_a_tracking_store_tells_the_same_as_the_scratch_folder(scratch, tmp_path, configured):
    """Without the scratch folder: what `fkal run` tracked is enough."""
    chosen = [configured("pfk_joint", 0, 20), configured("random", 1, 20)]
    run(chosen, out=shutil.copytree(scratch, tmp_path / "runs"), tracking=f"sqlite:///{tmp_path}/mlflow.db")
    shutil.rmtree(tmp_path / "runs")
    stored = from_mlflow(f"sqlite:///{tmp_path}/mlflow.db")
    kept = from_runs(scratch, None)
    prints = {each.outcome.fingerprint for each in stored.finished}
    assert len(prints) == 2
    assert {each.classes for each in stored.finished} == {tuple("0123456789")}
    columns = [name for name in kept.frame if name in stored.frame]
    assert {"test/accuracy", "acquisition_passes", "acquisition_seconds", "pseudo/accuracy"} < set(columns)
    ours = kept.frame[kept.frame["fingerprint"].isin(prints)].reset_index(drop=True)
    pd.testing.assert_frame_equal(stored.frame[columns], ours[columns], check_dtype=False)
    by_print = {each.outcome.fingerprint: each for each in kept.finished}
    for each in stored.finished:
        same = by_print[each.outcome.fingerprint]
        assert each.split == same.split and each.variant == same.variant
        for theirs, mine in zip(each.outcome.rounds, same.outcome.rounds, strict=True):
            assert theirs.selection.indices.equal(mine.selection.indices)
            assert theirs.confusion.equal(mine.confusion)
        weights = each.last_weights()
        assert all(value.equal(weights[name]) for name, value in same.last_weights().items())
    names = ["digits-ir20-pfk_joint-s0", "digits-ir20-random-s1"]
    for command in (["show", names[0]], ["compare", *names], ["compare", names[0], names[0]]):
        texts = [
            CliRunner().invoke(app, [*command, *where])
            for where in (["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"], ["--out", str(scratch)])
        ]
        assert texts[0].exit_code == 0 and texts[0].output == texts[1].output, texts[0].output


def test_what_was_picked_is_told_pick_by_pick(scratch, made):
    picks = table(made, "picked-digits-ir20-pfk_joint")
    (folder,) = [f for f in (scratch / "state").iterdir() if named(f) == "digits-ir20-pfk_joint-s0"]
    for b, mine in picks.groupby("b"):
        tensors = load_file(folder / f"round-{b:02d}.safetensors")
        columns = {"index": "indices", "label": "labels", "pseudo_label": "pseudo_labels"}
        columns |= {"matched_validation_index": "matches"}
        for column, name in columns.items():
            assert mine[column].tolist() == tensors[f"selection.{name}"].tolist()
    assert set(picks["b"]) == {1, 2, 3, 4}


def test_the_sheet_shows_the_first_picks_above_what_they_were_matched_with(scratch, made):
    (folder,) = [f for f in (scratch / "state").iterdir() if named(f) == "digits-ir20-pfk_joint-s0"]
    train = prepare(settings_of(scratch, "digits-ir20-pfk_joint-s0"), scratch, lambda _: None).dataset.train
    sheet = np.asarray(Image.open(made / "figures" / "picked-digits-ir20-pfk_joint.png").convert("L"), dtype=int)
    side, gap, left, n = 64, 2, 46, 14  # pixels: of an 8x8 image eight times as large, between two, of the caption
    for b in range(1, 5):
        tensors = load_file(folder / f"round-{b:02d}.safetensors")
        top = (b - 1) * (2 * (side + gap) + 3 * gap)
        for row, name in enumerate(("indices", "matches")):
            y = top + row * (side + gap)
            wanted = train.pixels(torch.tensor(tensors[f"selection.{name}"][:n]))
            for x, image in enumerate(wanted):
                start = left + x * (side + gap)
                shown = sheet[y : y + side, start : start + side]
                large = image[0].numpy().astype(int).repeat(8, axis=0).repeat(8, axis=1)
                assert abs(shown - large).max() <= 4, (b, name, x)  # the page's picture has 64 colours


def test_the_ringed_are_those_that_the_last_model_gets_wrong(scratch, made):
    points = table(made, "tsne-digits-ir20")
    some = torch.tensor(points["test_index"].tolist())
    images = prepare(settings_of(scratch, "digits-ir20-random-s0"), scratch, lambda _: None).dataset.test
    assert points["label"].tolist() == images.labels[some].tolist()
    (folder,) = [f for f in (scratch / "state").iterdir() if named(f) == "digits-ir20-random-s0"]
    tensors = load_file(folder / "round-04.safetensors")
    model = build("lenet", images.shape, 10).eval()
    weights = {k.removeprefix("weights."): torch.tensor(v) for k, v in tensors.items() if k.startswith("weights.")}
    model.load_state_dict(weights)
    (x,) = images.batches([some], device=torch.device("cpu"))
    with torch.no_grad():
        right = model(x).argmax(dim=1) == images.labels[some]
    assert points["random"].tolist() == right.tolist()


def test_the_labels_needed_are_drawn_where_the_table_has_them(made):
    panel = panels_of(from_curves(made / "iterations.csv"))[1]
    needed = needed_frame(panel, [0.6, 0.99])
    reach, never = needed_figure(panel, needed, method_styles(panel.methods)).axes
    marks = {line.get_xdata()[0] for line in reach.lines if len(line.get_xdata()) == 1}
    assert marks == set(needed[needed["accuracy"] == 0.6]["labels"].dropna())
    assert not never.lines
    assert needed_figure(panel, needed[needed["accuracy"] == 0.99], method_styles(panel.methods)) is None


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        ("ir100", "ir = 100"),
        ("ir2.5-cut0.1", "ir = 2.5-cut0.1"),
        ("longtail100", "long tail = 100"),
        ("byhand-1a2b", "byhand-1a2b"),
    ],
)
def test_a_bias_that_has_a_ratio_is_written_out(bias, words):
    assert bias_words(bias) == words


@pytest.mark.slow
def test_names_in_a_csv_of_curves_lead_no_file_out_of_the_report(made, tmp_path):
    frame = pd.read_csv(made / "iterations.csv")
    for column in ("dataset", "bias", "method"):
        frame[column] = "../../../" + frame[column].astype(str)
    frame.to_csv(tmp_path / "odd.csv", index=False)
    to = tmp_path / "deep" / "er" / "report"
    report(from_curves(tmp_path / "odd.csv"), to, report_options(None, "60", "t", None))
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(to)]
    assert outside == [tmp_path / "odd.csv"]
    assert len(list((to / "figures").glob("*.png"))) == len(list((to / "figures").glob("*.svg"))) > 5


@pytest.mark.parametrize("name", ["figures", "tables"])
def test_a_report_is_not_written_through_a_link(made, tmp_path, name):
    precious, to = tmp_path / "precious", tmp_path / "report"
    for folder in (precious, to):
        folder.mkdir()
    (precious / "old.csv").write_text("mine")
    (precious / "old.png").write_text("mine")
    (to / ".fkal-report").write_text("tables/old.csv\nfigures/old.png\n")
    (to / name).symlink_to(precious)
    with pytest.raises(ValueError, match="symbolic link leads out of"):
        report(from_curves(made / "iterations.csv"), to, report_options("random", "60", "t", None))
    assert sorted(path.name for path in precious.iterdir()) == ["old.csv", "old.png"]
