"""Budget curves."""

from itertools import pairwise

import pandas as pd
import pytest
from PIL import Image

from fkal.plots.curves import curve_figure, save_curve_png, seeds_named
from fkal.plots.method_styles import STYLES


def frame(*accuracies: float) -> pd.DataFrame:
    return pd.DataFrame({"labels_used": [10 * (i + 1) for i in range(len(accuracies))], "test/accuracy": accuracies})


def test_methods_look_the_same_in_every_figure_and_unlike_each_other():
    first = curve_figure({"random": [frame(0.1, 0.2)], "own": [frame(0.1, 0.3)], "pcc": [frame(0.2, 0.3)]}, "a")
    second = curve_figure({"pcc": [frame(0.2, 0.3)]}, "b")
    lines = {line.get_label(): line for line in first.axes[0].lines}
    assert lines["pcc"].get_color() == second.axes[0].lines[0].get_color() == STYLES["pcc"][0]
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines.values()]
    assert len(set(looks)) == 3
    assert len(set(STYLES.values())) == len(STYLES)


def test_several_seeds_have_a_band_and_one_has_none():
    figure = curve_figure({"pcc": [frame(0.1, 0.2), frame(0.3, 0.4)], "random": [frame(0.1, 0.2)]}, "t", baseline=0.9)
    axes = figure.axes[0]
    assert len(axes.collections) == 1
    assert axes.lines[0].get_ydata() == pytest.approx([20, 30])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("labels used", "test accuracy, %")
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["pcc (2 seeds)", "random", "all labels of the pool"]


def test_a_figure_is_a_png_with_nothing_cut_off(tmp_path):
    save_curve_png(tmp_path / "curve.png", {"pcc": [frame(0.5)]}, "one round")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
    ticks = curve_figure({"pcc": [frame(0.5, 0.6)]}, "t").axes[0].get_xticks()
    assert all(b > a for a, b in pairwise(ticks))


def test_a_band_ends_at_0_and_100_percent():
    figure = curve_figure({"pcc": [frame(0.0, 1.0), frame(0.3, 0.8)], "random": [frame(0.5, 0.5)]}, "t")
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == 0 and heights.max() == 100


def test_a_legend_names_a_method_by_its_alias():
    assert seeds_named("pfk_joint_shift_grid:coverage", 3) == "fisher_coverage (3 seeds)"
