"""What is put into one panel, and what distinguishes panels of one name; from tables alone."""

import pandas as pd

from fkal.report.experiments import Material
from fkal.report.honest_rows import honest_exhibit
from fkal.report.panels import Panel, panels_of

ONE, OTHER = "1a2b3c" + "0" * 26, "4d5e6f" + "0" * 26


def rows(**changes: object) -> list[dict]:
    """Two rounds of two seeds."""
    about = {"dataset": "mine", "bias": "ir2", "protocol": "last", "method": "random"}
    grouped = {"data": ONE, "holdout": 0, "validation_per_class": 4}
    return [
        {**about, **grouped, "seed": seed, "b": b, "labels_used": 10 * b, "test/accuracy": 0.5, **changes}
        for seed in (0, 1)
        for b in (1, 2)
    ]


def panels(*tables: list[dict]) -> list[Panel]:
    frame = pd.DataFrame([row for table in tables for row in table])
    frame.insert(0, "fingerprint", [f"{place // 2}" for place in range(len(frame))])
    return panels_of(Material(frame, (), ()))


def test_seeds_of_one_tree_are_one_panel_whose_title_has_no_digest():
    (panel,) = panels(rows())
    assert (panel.name, panel.title) == ("mine-ir2", "mine, ir = 2")
    assert list(panel.by_seed("random", "test/accuracy").columns) == [0, 1]


def test_two_trees_of_one_name_are_two_panels():
    first, second = panels(rows(), rows(data=OTHER))
    assert {first.title, second.title} == {"mine, ir = 2, images 1a2b3c", "mine, ir = 2, images 4d5e6f"}
    assert len({first.name, second.name}) == 2


def test_another_holdout_or_validation_set_is_another_panel():
    held_out = {"holdout/accuracy": 0.5}
    titles = {panel.title for panel in panels(rows(holdout=1, **held_out), rows(holdout=2, **held_out))}
    end = "on held-out validation images"
    assert titles == {f"mine, ir = 2, {end}, 1 held out per class", f"mine, ir = 2, {end}, 2 held out per class"}
    titles = {panel.title for panel in panels(rows(), rows(validation_per_class=5))}
    assert titles == {
        "mine, ir = 2, 4 validation images per class",
        "mine, ir = 2, 5 validation images per class",
    }


def test_schedules_are_said_where_the_same_images_have_several():
    longer = [{**row, "labels_used": 3 * row["labels_used"]} for row in rows()]
    titles = [panel.title for panel in panels(rows(), longer, rows(data=OTHER))]
    assert sorted(titles) == [
        "mine, ir = 2, images 1a2b3c, 10 to 20 labels",
        "mine, ir = 2, images 1a2b3c, 30 to 60 labels",
        "mine, ir = 2, images 4d5e6f",
    ]


def test_the_line_of_all_labels_is_of_the_same_images():
    whole = [row for row in rows(method="all", data=OTHER, **{"test/accuracy": 0.9}) if row["b"] == 1]
    first, second = sorted(panels(rows(), rows(data=OTHER), whole), key=lambda panel: panel.group.data)
    assert first.baseline == {}
    assert {score: set(values) for score, values in second.baseline.items()} == {"accuracy": {0.9}}


def test_a_table_without_these_columns_is_one_panel():
    table = [
        {key: value for key, value in row.items() if key not in ("data", "holdout", "validation_per_class")}
        for row in rows()
    ]
    (panel,) = panels(table)
    assert panel.title == "mine, ir = 2"


def test_methods_that_the_report_is_not_asked_for_are_not_called_not_run():
    """Of the same images and schedule; the limit of another panel is no row of this one."""
    here = [{**row, "method": method} for method in ("random", "pfk_joint", "pfk_true") for row in rows()]
    more = [{**row, "labels_used": 2 * row["labels_used"]} for row in rows()]
    there = [{**row, "method": method} for method in ("random", "pfk_true:coverage") for row in more]
    frame = pd.DataFrame([*here, *there]).assign(**{"test/macro_accuracy": 0.5})
    frame.insert(0, "fingerprint", [f"{place // 2}" for place in range(len(frame))])
    found = panels_of(Material(frame, (), ()), ["random"])
    assert {panel.not_chosen for panel in found} == {("pfk_joint", "pfk_true"), ("pfk_true:coverage",)}
    (one,) = (panel for panel in found if "pfk_true" in panel.not_chosen)
    caption = honest_exhibit(one, "t").caption
    assert "Left out by --method: pfk_true. Not run: validation_only, all, pfk_true:coverage; run: fkal run" in caption
    assert all(panel.not_chosen == () for panel in panels_of(Material(frame, (), ())))
