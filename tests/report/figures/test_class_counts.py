"""Small pictures: what their bars, keys and captions say."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fkal.plots.canvas import broken, has_paper, style
from fkal.plots.class_colours import MUTED, class_colours
from fkal.report.experiments import SplitFacts
from fkal.report.figures.class_counts import confusion_exhibit, counts_exhibit, rare_in_pool
from fkal.report.figures.tsne import Described, _of_ensembles
from fkal.report.load.local import from_runs
from fkal.report.panels import Panel, panels_of


@pytest.fixture(scope="module")
def panels(scratch) -> dict[str, Panel]:
    return {panel.name: panel for panel in panels_of(from_runs(scratch, None))}


def hatched(figure) -> set[str]:
    """Colours of the bars that are hatched."""
    return {to_hex(bar.get_facecolor()).upper() for each in figure.axes for bar in each.patches if bar.get_hatch()}


def key(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_rare_classes_are_hatched_bars_and_the_key_names_them(panels):
    with style():
        exhibit = counts_exhibit(panels["digits-ir20"])
    assert hatched(exhibit.figure) == {colour.upper() for colour in MUTED[5:]}
    assert set(key(exhibit.figure)) == {*map(str, range(10)), "rare"}
    assert "Hatched" in exhibit.caption and "(P)" in exhibit.caption
    bars = exhibit.figure.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(100 * len({bar.get_x() for bar in bars}))


def test_where_nothing_is_cut_nothing_is_called_rare(panels):
    with style():
        exhibit = counts_exhibit(panels["digits-ir1"])
    assert not hatched(exhibit.figure)
    assert "rare" not in key(exhibit.figure)
    assert "rare" not in exhibit.caption


def test_without_split_files_the_caption_does_not_speak_of_them(panels):
    panel = panels["digits-ir20"]
    bare = replace(panel, finished=tuple(replace(each, split=None) for each in panel.finished))
    with style():
        caption = counts_exhibit(bare).caption
    assert "(P)" not in caption and "pool" not in caption and "rare" not in caption


def test_a_class_is_rare_if_every_split_names_and_cuts_it(panels):
    some = panels["digits-ir1"].finished[:2]
    first = SplitFacts({"pool": [100, 90, 20, 10]}, (1, 2, 3), "")
    second = SplitFacts({"pool": [100, 20, 90, 10]}, (1, 2, 3), "")
    assert rare_in_pool([replace(some[0], split=first)]) == {2, 3}
    assert rare_in_pool([replace(e, split=split) for e, split in zip(some, (first, second), strict=True)]) == {3}
    assert rare_in_pool([]) == set()


def test_a_confusion_names_its_axes_and_lies_on_its_own_paper(panels):
    with style():
        figure = confusion_exhibit(panels["digits-ir20"]).figure
    assert figure.axes[0].get_xlabel() == "predicted class"
    assert figure.axes[0].get_ylabel() == "true class"
    assert has_paper(figure)


def test_ensembles_are_named_where_their_first_member_is_shown():
    one, several = (Described(np.zeros((1, 1)), np.ones(1, bool), is_member) for is_member in (False, True))
    assert _of_ensembles({"pcc": one}) == ""
    assert "(varr:e4:k32) its first member" in _of_ensembles({"pcc": one, "varr:e4:k32": several})


@pytest.mark.parametrize("n", [2, 10, 20])
def test_classes_have_colours_of_their_own(n):
    assert len(set(class_colours(n))) == n


def test_long_names_are_broken_before_their_marks():
    assert broken("pfk_joint_shift:coverage:whiten") == "pfk_joint_shift:coverage\n:whiten"
    assert broken("random") == "random"


ANIMALS = ("10", "2", "cat", "dog", "a very long name of a class", "emu", "fox", "gnu", "hen", "$x$")


def with_names(panel: Panel, classes: tuple[str, ...]) -> Panel:
    """Own images, whose names the registry does not know."""
    finished = tuple(replace(each, classes=classes) for each in panel.finished)
    return replace(panel, group=panel.group._replace(dataset="folder"), finished=finished)


def test_classes_are_named_in_keys_ticks_and_tables(panels):
    panel = with_names(panels["digits-ir20"], ANIMALS)
    with style():
        counts, taken = counts_exhibit(panel), confusion_exhibit(panel)
    assert set(key(counts.figure)) == {*ANIMALS[:4], "a very long n…", *ANIMALS[5:9], r"\$x\$", "rare"}
    assert "The first class, 10, is at the bottom" in counts.caption and "no names" not in counts.caption
    ticks = [tick.get_text() for tick in taken.figure.axes[0].get_yticklabels()]
    assert ticks[:4] == ["10", "2", "cat", "dog"] and len(ticks) == 10
    numbers = counts.numbers
    assert [ANIMALS[k] for k in numbers["label"]] == numbers["class"].tolist()
    assert [ANIMALS[k] for k in taken.numbers["true"]] == taken.numbers["true_class"].tolist()
    assert [ANIMALS[k] for k in taken.numbers["predicted"]] == taken.numbers["predicted_class"].tolist()


def test_where_runs_hold_no_names_numbers_are_shown_and_the_caption_says_so(panels):
    panel = with_names(panels["digits-ir20"], ())
    with style():
        exhibits = counts_exhibit(panel), confusion_exhibit(panel)
    assert set(key(exhibits[0].figure)) == {*map(str, range(10)), "rare"}
    assert all("hold no names of classes" in each.caption for each in exhibits)


def test_a_method_with_an_alias_is_titled_by_it():
    assert broken("pfk_joint_shift_grid:coverage@conv2") == "fisher_coverage@conv2"
