"""Names in figures: drawn as they are, as no formula, without a warning, into files that parse."""

import io
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fkal.data.images import TensorImages
from fkal.engine.rounds import Selection
from fkal.plots.figure_text import caption_text, figure_text
from fkal.tracking.contact_sheet import contact_sheet

NAMES = (
    r"$\frac{$",
    r"$x^2$",
    r"\$5 and $6",
    "\x1b]0;title\x07",
    "bad\udcff",
    "a\u202eb",
    "猫",
    "😀",
    "_hidden",
    "tab\there",
    "two\nlines",
    "a--b",
    "]]><script>",
    "\uffff",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_with_it_is_drawn_and_its_svg_parses(name):
    text = figure_text(name)
    figure = Figure(figsize=(3, 2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(text)
    axes.plot([0, 1], [0, 1], label=text)
    axes.set_xticks([0], [text])
    axes.legend(handles=[*axes.lines, Patch(label=text)])
    assert len(axes.get_legend().get_texts()) == 2
    for kind in ("png", "svg"):
        content = io.BytesIO()
        figure.savefig(content, format=kind)
    assert ElementTree.fromstring(content.getvalue()).tag.endswith("svg")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("pfk_joint:k16@conv2", "pfk_joint:k16@conv2"), ("été θ ±", "été θ ±"), ("猫", r"\u732b"), ("_x", " _x")],
)
def test_letters_that_a_font_has_stay(name, shown):
    assert figure_text(name) == shown


def test_a_dollar_sign_is_drawn_as_one():
    axes = Figure().add_subplot()
    text = axes.set_title(figure_text(r"$a$ \$b"))
    assert text._preprocess_math(text.get_text()) == (r"$a$ \$b", False)


@pytest.mark.parametrize("name", NAMES)
def test_a_contact_sheet_with_it_is_drawn(name):
    images = TensorImages(
        torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), (name, "cat"), mean=(0.5,), std=(0.5,)
    )
    selection = Selection(torch.tensor([0, 1]), torch.tensor([0, 1]), pseudo_labels=torch.tensor([1, 0]))
    assert contact_sheet(images, selection, f"run {name}").size[0] >= 640


def test_a_caption_is_one_line():
    assert caption_text("two\nlines $x$ 猫\udcff") == r"two\nlines $x$ \u732b\udcff"
