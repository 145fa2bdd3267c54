"""Printed tables are those of their CSV files, and rows are those of the listed grids."""

import importlib
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.plots.canvas import about_numbers
from fkal.report.build import csv_bytes
from fkal.report.figures.accuracy import accuracy_numbers
from fkal.report.load.csv import from_curves
from fkal.report.panels import panels_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_ROWS = [page for page in PAGES if "<!-- rows " in page.read_text(encoding="utf-8")]
ROWS = sorted((ROOT / "docs" / "results").glob("*/rows.csv"))


@pytest.fixture
def parts():
    """The modules of `benchmarks/result_pages` by name."""
    return {
        name: importlib.import_module(f"result_pages.{name}")
        for name in ("balanced", "grids", "pages", "rows", "standings", "tables")
    }


def test_rounds_that_follow_each_other_beyond_tolerance_are_one_entry(parts):
    told = parts["tables"].beyond_tolerance
    assert told({}) == ""
    assert told({4: -4.31, 5: -3.2}) == "b=4: -4.3, b=5: -3.2"
    assert told({2: 6.0, 4: 9.2, 5: 15.6, 6: 8.3}) == "b=2: +6.0, b=4-6: +8.3 to +15.6"
    assert told({4: -4.0, 5: -9.0, 6: -5.0}) == "b=4-6: -4.0 to -9.0"


@pytest.mark.parametrize("page", WITH_ROWS, ids=lambda page: page.name)
def test_each_printed_number_is_that_of_the_rows(page, parts):
    plan, rows, text = parts["grids"].read_plan(), parts["rows"].Pages(), page.read_text(encoding="utf-8")
    found = list(parts["pages"].MARKED.finditer(text))
    assert len(found) == text.count("<!-- rows ")
    for match in found:
        assert parts["pages"].filled(match, plan, rows) == match.group()


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.parent.name)
def test_rows_belong_to_a_listed_experiment_and_are_sorted_and_whole(path, parts):
    plan, text = parts["grids"].read_plan(), path.read_text(encoding="utf-8")
    rows = pd.read_csv(path)
    listed = {
        job.key: job
        for name in rows.grid.unique()
        for job in parts["grids"].jobs_of(plan.grids[name])
        if job.grid.page == path.parent.name
    }
    assert {tuple(key) for key in rows[["grid", "method", "seed"]].values} <= set(listed)
    ordered = rows.sort_values(["grid", "method", "seed", "b"], ignore_index=True)
    pd.testing.assert_frame_equal(rows, ordered)
    assert rows.groupby(["grid", "method", "seed"]).fingerprint.nunique().max() == 1
    assert "/work" not in text and "safetensors" not in text
    costs = pd.read_csv(path.with_name("costs.csv"))
    experiments = rows[["grid", "method", "seed"]].drop_duplicates(ignore_index=True)
    pd.testing.assert_frame_equal(experiments, costs[["grid", "method", "seed"]])


def test_a_recipe_depends_on_settings_and_not_on_the_machine(parts):
    grids = parts["grids"]
    grid = grids.read_plan().grids["cifar10-frozen-class_balanced"]
    here = grids.Machine(Path("images"), Path("backbone.safetensors"))
    assert [job.recipe for job in grids.jobs_of(grid, here)] == [job.recipe for job in grids.jobs_of(grid)]
    assert grids.jobs_of(grid, here)[0].config.model.weights == "backbone.safetensors"
    other = grid._replace(settings={**grid.settings, "train.loss": "plain"})
    assert not set(grids.recipes_of(other).values()) & set(grids.recipes_of(grid).values())


def test_rows_become_curves_that_the_report_reads(small, tmp_path):
    small("run", "--seeds", "0", "--methods", "random")
    assert small("curves", "small", str(tmp_path / "curves.csv")).exit_code == 0
    read = from_curves(tmp_path / "curves.csv").frame
    rows = pd.read_csv(small.rows)
    assert read["test/accuracy"].tolist() == rows["test/accuracy"].tolist()
    assert set(read["dataset"]) == {"digits"} and set(read["bias"]) == {"ir20"}


def test_the_figure_of_the_readme_has_the_numbers_of_the_rows(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    grid, file = re.search(r"results.py curves (\S+) (\S+)", readme).groups()
    method = re.search(rf"fkal report --curves {file} --method (\S+)", readme)[1]
    results = importlib.import_module("results")
    assert CliRunner().invoke(results.app, ["curves", grid, str(tmp_path / file)]).exit_code == 0
    panels = panels_of(from_curves(tmp_path / file), method.split(","))
    with Image.open(ROOT / "docs" / "images" / "mnist.png") as image:
        assert image.text["Description"] == about_numbers(csv_bytes(accuracy_numbers(panels)))
    assert "docs/images/mnist.png" in readme


def test_a_table_has_the_seeds_of_each_row_and_names_what_is_not_measured(small):
    small("tables")
    assert small.table() == ["not measured by this version"]
    small("run", "--seeds", "0", "--methods", "random")
    measured = 100 * pd.read_csv(small.rows)["test/accuracy"]
    lines = small.table()
    assert lines[2].startswith(f"| `random` | 0 | {measured[0]:.1f} | {measured[1]:.1f} |")
    assert lines[3:] == ["", "Not measured by this version: `margin`."]
    small.set_epochs(2)
    small("tables")
    assert small.table() == ["not measured by this version"]


def test_a_table_may_have_some_methods_alone(small):
    small("run", "--seeds", "0", "--methods", "margin")
    small.page.write_text("<!-- rows short small of random -->\n<!-- end -->\n")
    small("tables")
    assert small.table() == ["not measured by this version"]
    small.page.write_text("<!-- rows short small of margin -->\n<!-- end -->\n")
    small("tables")
    assert [line.split("|")[1].strip() for line in small.table()[2:]] == ["`margin`"]
    small.page.write_text("<!-- rows short small of margin,badge -->\n<!-- end -->\n")
    result = small("tables")
    assert result.exit_code == 2 and "small of results.yaml: has no method badge" in result.output


def test_a_method_that_no_grid_has_is_refused(small):
    result = small("run", "--methods", "randm", "--dry-run")
    assert result.exit_code == 2 and "did you mean 'random'" in result.output


def test_a_difference_that_does_not_vary_has_no_p_and_spoils_no_other(parts):
    cells = importlib.import_module("result_pages.cells")
    found = cells.holm_ps({"same": pd.Series([0.0, 0.0, 0.0]), "other": pd.Series([2.0, 2.1, 2.05])})
    assert set(found) == {"other"} and found["other"] < 0.001


def test_the_limit_of_a_share_is_one_of_those_with_most_seeds(parts):
    areas = {
        "random": pd.Series([10.0, 11.0, 12.0, 10.5]),
        "pfk_true": pd.Series([30.0, 31.5, 32.0, 30.0]),
        "pfk_true:coverage": pd.Series([50.0, 52.0]),
        "margin": pd.Series([20.0, 21.2, 22.0, 20.3]),
    }
    shares = parts["balanced"].shares_of(areas)
    assert shares["pfk_true"] == "100" and shares["margin"] == "50"


def _curves(levels: dict[str, list[float]], grid: str = "g") -> pd.DataFrame:
    """Two rounds per seed, balanced accuracy in %; the last round is a point better."""
    return pd.DataFrame(
        {
            "grid": grid,
            "method": method,
            "seed": seed,
            "b": b,
            "labels_used": 10 * b,
            "test/macro_accuracy": (level + b - 1) / 100,
        }
        for method, of_seeds in levels.items()
        for seed, level in enumerate(of_seeds)
        for b in (1, 2)
    )


def _verdicts(parts, curves: pd.DataFrame) -> dict[str, list[str]]:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in parts["standings"].standings(curves, None)
    ]
    return {cells[1].strip("`"): cells for cells in lines[2:]}


def test_a_candidate_is_first_level_or_behind(parts):
    ours = "pfk_joint_shift_grid:"
    found = _verdicts(
        parts,
        _curves(
            {
                f"{ours}coverage": [50.0, 52.0, 54.0, 56.0],
                f"{ours}wcov": [50.4, 51.7, 54.5, 56.2],
                f"{ours}noisy_or": [40.0, 42.5, 44.0, 46.5],
                "random": [30.0, 35.0, 33.0, 31.0],
                "pfk_true": [80.0, 81.0, 82.0, 83.0],
                "all": [90.0, 90.0, 90.0, 90.0],
            }
        ),
    )
    assert set(found) == {"fisher_coverage", "weighted_coverage", "noisy_or"}
    assert found["weighted_coverage"][3:6] == ["53.7±2.6", "`fisher_coverage` +0.2±0.4, p 0.343", "first"]
    assert found["fisher_coverage"][4].startswith("`weighted_coverage` -0.2±0.4")
    assert found["fisher_coverage"][5] == "level"
    assert found["noisy_or"][4].startswith("`weighted_coverage`") and found["noisy_or"][5] == "behind"
    assert found["weighted_coverage"][6] == "54.2±2.6"  # the last round


@pytest.mark.parametrize(
    ("preset_name", "assignments", "matching"),
    [
        ("mnist", ["data.validation_per_class=200"], "coverage"),
        ("mnist", ["holdout=975"], "noisy_or"),
        ("gtsrb", [], "noisy_or"),
        ("cifar10-frozen", ["train.on_validation=false"], "wcov"),
        ("cifar10-frozen", ["train.on_validation=true"], None),
    ],
)
def test_the_rule_goes_by_the_model_and_the_validation_images(parts, preset_name, assignments, matching):
    config = merged([from_file(preset(preset_name), preset_name), from_assignments(assignments)])
    expected = f"pfk_joint_shift_grid:{matching}" if matching else ""
    assert parts["pages"].recommended(config) == expected


def test_the_method_of_the_rule_is_bold(parts):
    curves = _curves({"pfk_joint_shift_grid:coverage": [50.0, 52.0, 51.0], "random": [30.0, 35.0, 31.0]}, "g")
    ruled = curves.assign(rule="pfk_joint_shift_grid:coverage")
    assert parts["standings"].standings(ruled, None)[2].startswith("| `g` | **`fisher_coverage`** |")
    assert parts["standings"].standings(curves, None)[2].startswith("| `g` | `fisher_coverage` |")


def test_what_validation_images_alone_give_stands_beside_the_best_last_round(parts):
    alone = pd.DataFrame(
        [
            {"grid": "g", "method": method, "seed": seed, "b": b, "labels_used": 10 * b, "test/macro_accuracy": value}
            for method, by_seed in {
                "validation_only": [[0.8], [0.9], [0.85], [0.7]],
                "random": [[0.1, 0.6], [0.1, 0.7], [0.1, 0.65]],
                "margin": [[0.2, 0.5], [0.2, 0.5], [0.2, 0.5]],
                "vaal": [[0.2, 0.9], [0.2, 0.9]],
                "pfk_true@conv2": [[0.9, 0.95], [0.9, 0.95], [0.9, 0.95]],
            }.items()
            for seed, values in enumerate(by_seed)
            for b, value in enumerate(values, 1)
        ]
    )
    lines = parts["standings"].alone(alone, None)
    assert lines[2:] == ["| `g` | 0-2 | 85.0±5.0 | `random` | 65.0±5.0 | +20.0±0.0 |"]


def test_over_random_has_the_gap_of_area_and_of_the_last_round_in_each_setting(parts):
    one = _curves({"random": [30.0, 32.0, 34.0], "base": [31.0, 33.5, 35.1], "all": [90.0, 90.0, 90.0]}, "one")
    two = _curves({"random": [30.0, 32.0, 34.0], "margin": [29.0, 31.5, 33.0]}, "two")
    lines = parts["standings"].over_random(pd.concat([one, two]), None)
    assert lines[0] == "| method | `one` | `two` |"
    assert lines[2:] == [
        "| `base` | +1.2±0.3 (0.016), +1.2±0.3 (0.016) |  |",
        "| `margin` |  | -0.8±0.3 (0.038), -0.8±0.3 (0.038) |",
    ]


def test_a_candidate_is_behind_even_if_the_best_mean_proves_nothing(parts):
    """The method with the largest mean scatters; another one is a little and surely ahead."""
    found = _verdicts(
        parts,
        _curves(
            {
                "pfk_joint_shift_grid:coverage": [50.0, 51.0, 52.0, 53.0],
                "base": [70.0, 40.0, 75.0, 45.0],
                "margin": [50.5, 51.6, 52.5, 53.6],
            }
        ),
    )
    other, p = found["fisher_coverage"][4].split(", p ")
    assert other.startswith("`base`") and float(p) > 0.05
    assert found["fisher_coverage"][5] == "behind"


def test_a_candidate_without_a_second_common_seed_has_no_row(parts):
    one = _curves({"pfk_joint_shift_grid:coverage": [50.0], "random": [40.0, 41.0]})
    assert _verdicts(parts, one) == {}


def test_what_lacks_is_named_by_setting(parts):
    curves = pd.concat([_curves({"random": [40.0]}, "one"), _curves({"margin": [40.0]}, "two")])
    methods = {"one": ["random", "margin"], "two": ["random", "margin"]}
    lines = parts["pages"].lacking(curves, methods)
    assert lines == ["", "Not measured by this version: in `one` `margin`; in `two` `random`."]
    assert parts["pages"].lacking(curves[curves.grid == "one"], {"one": ["random"]}) == []


def test_an_overview_has_the_first_and_the_last_round_of_each_setting(parts):
    accuracies = {"random": [40.0, 42.0], "pfk_true:coverage": [70.0], "validation_only": [60.0, 61.0]}
    curves = _curves(accuracies, "g").assign(title="a pool")
    curves = curves[(curves.method != "validation_only") | (curves.b == 1)]
    lines = parts["balanced"].overview(curves, None)
    assert lines[0].startswith("| setting | labels | `random` | `balanced_margin` |")
    assert lines[2:] == ["| a pool (seeds 0-1) | 10, 20 | 41.0, 42.0 |  |  |  |  | 70.0, 71.0 (0) | 60.5 |"]
