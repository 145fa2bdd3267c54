"""Legends fit their figures."""

import pytest

from fkal.plots.canvas import canvas, fitting_columns, legend_below, style

LONG = "pfk_joint_shift:coverage:whiten:random_theta_0 (5 seeds)"


@pytest.mark.parametrize(
    "names", [["random", "pcc"], [LONG, "random", LONG + "@conv2"], [f"{LONG}{i}" for i in range(30)]]
)
def test_no_legend_is_cut(names):
    with style():
        figure, axes = canvas()
        for name in names:
            axes[0, 0].plot([0, 1], [0, 1], label=name)
        legend_below(figure, axes)
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert box.y0 >= 0 and box.height < 0.8 * figure.bbox.height


def test_short_names_stand_side_by_side():
    assert fitting_columns(["random", "pcc"], 2, points=8, width=5) == 2
    assert fitting_columns([LONG] * 4, 2, points=8, width=5) == 1
