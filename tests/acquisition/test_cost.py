"""Table 1 of the paper, and what is counted here, against numbers worked by hand."""

from dataclasses import replace

import pytest

from fkal.acquisition.cost import (
    EVALUATION,
    EVALUATION_EACH_EPOCH,
    GUESSING,
    LABELING,
    LETTERS,
    TABLE_1,
    TRAINING,
    Passes,
    Sizes,
    letters_in,
    training,
)
from fkal.acquisition.registry import ACQUISITIONS, BY_MATCHING
from fkal.core.labels import PSEUDO_LABELS

ENTRIES = {**ACQUISITIONS, **{f"pfk:{matching}": entry for matching, entry in BY_MATCHING.items()}}
SIZES = Sizes(
    unlabeled=90,
    labeled_before=10,
    labeled=20,
    validation=35,
    test=7,
    classes=5,
    epochs=3,
    samples=4,
    members=1,
    vae_images=200,
    discriminator_images=150,
)
FOUR = replace(SIZES, members=4)
MANY = replace(SIZES, validation=350)


@pytest.mark.parametrize(
    ("row", "sizes", "acquisition", "trained"),
    [
        ("uncertainty", SIZES, 360, 120),  # 4 x 90, 2 x 3 x 20
        ("ensemble", FOUR, 1440, 480),  # 4 x 4 x 90, 2 x 4 x 3 x 20
        ("VAAL", SIZES, 790, 120),  # 90 + 2 x 350
        ("PCC", SIZES, 125, 120),  # 35 + 90
        ("PFK", SIZES, 250, 120),  # 2 (35 + 90)
        ("PFK, MC labels", SIZES, 2500, 120),  # 4 x 5 (35 + 90)
    ],
)
def test_table_1_is_what_it_is_by_hand(row, sizes, acquisition, trained):
    assert TABLE_1[row].acquisition.passes(sizes) == acquisition
    assert TABLE_1[row].training.passes(sizes) == trained


@pytest.mark.parametrize(
    ("method", "pseudo_label", "sizes", "passes", "row"),
    [
        ("random", "joint", SIZES, (0, 0), None),
        ("all", "joint", SIZES, (0, 0), None),
        ("pcc", "joint", SIZES, (125, 0), "PCC"),
        ("coreset", "joint", SIZES, (100, 0), None),  # 90 open, 10 labeled before
        ("varr", "joint", SIZES, (360, 0), "uncertainty"),
        ("bald", "joint", FOUR, (1440, 0), "ensemble"),
        ("margin", "joint", SIZES, (90, 0), None),
        ("badge", "joint", SIZES, (90, 0), None),
        ("typiclust", "joint", SIZES, (100, 0), None),  # 90 open, 10 labeled before
        ("uherding", "joint", SIZES, (135, 0), None),  # 35 of validation beside these
        ("boss", "joint", SIZES, (135, 0), None),
        ("flqmi", "joint", SIZES, (125, 0), None),
        ("epig", "joint", SIZES, (500, 0), None),  # 4 (90 + 35)
        ("epig", "joint", MANY, (760, 0), None),  # 4 (90 + 100): no more than 100 of 350 are targets
        ("vaal", "joint", SIZES, (440, 200), "VAAL"),  # 90 + 200 + 150 forward, the VAE's own 200 backward
        ("pfk", "joint", SIZES, (125, 125), "PFK"),
        ("pfk", "predicted", SIZES, (125, 125), "PFK"),
        ("pfk", "true", SIZES, (125, 125), "PFK"),
        ("pfk", "joint_shift", SIZES, (215, 125), None),  # 125 + 90
        ("pfk", "joint_shift_grid", SIZES, (250, 125), None),  # 125 + 35 + 90
        ("pfk", "joint_zg", SIZES, (215, 575), None),  # 125 + 90; 125 + 5 x 90
        ("pfk", "trace", SIZES, (625, 2625), "PFK, MC labels"),  # 125 + 4 x 125; 125 + 4 x 5 x 125
        ("pfk", "mutual_information", SIZES, (625, 2625), "PFK, MC labels"),
        ("pfk", "mutual_information_diagonal", SIZES, (625, 2625), "PFK, MC labels"),
        ("pfk:ecov", "joint", SIZES, (125, 0), None),
        ("pfk:ecov", "predicted", SIZES, (125, 0), None),
        ("pfk:ecov", "joint_shift", SIZES, (125, 0), None),  # labels by the same features
        ("pfk:ecov", "joint_shift_grid", SIZES, (250, 0), None),  # 125 + 35 + 90
        ("pfk:ecov", "joint_zg", SIZES, (215, 485), None),  # 125 + 90; 35 + 5 x 90
        ("pfk:ecov", "trace", SIZES, (485, 1800), None),  # 125 + 4 x 90; 4 x 5 x 90
        ("pfk:noisy_or", "joint", SIZES, (135, 0), None),  # 10 labeled before
        ("pfk:noisy_or", "joint_shift_grid", SIZES, (260, 0), None),
        ("pfk:wcov", "joint_shift_grid", SIZES, (260, 0), None),
        ("pfk:wcov_zg", "joint", SIZES, (125, 125), "PFK"),
        ("pfk:wcov_zg", "joint_shift_grid", SIZES, (250, 125), None),
    ],
)
def test_what_a_method_should_pass_here_is_what_it_is_by_hand(method, pseudo_label, sizes, passes, row):
    cost = ENTRIES[method].cost(pseudo_label, members=sizes.members)
    assert cost.passes(sizes) == passes
    assert cost.row == row


def test_training_sees_every_label_once_an_epoch_and_model():
    assert training(SIZES) == Passes(60, 60)
    assert training(FOUR) == Passes(240, 240)
    assert training(SIZES).total == TRAINING.passes(SIZES)
    assert training(FOUR).total == TABLE_1["ensemble"].training.passes(FOUR)


def test_evaluation_looks_at_validation_and_test_images_and_may_look_after_each_epoch():
    assert EVALUATION.passes(FOUR) == 4 * (35 + 7)
    assert EVALUATION_EACH_EPOCH.passes(FOUR) == 4 * (35 + 4 * 7)


def test_every_pseudo_label_has_a_cost():
    assert set(LABELING) == set(GUESSING) == {entry.passes for entry in PSEUDO_LABELS.values()}


@pytest.mark.parametrize("pseudo_label", list(PSEUDO_LABELS))
@pytest.mark.parametrize("method", list(ENTRIES))
@pytest.mark.parametrize("sizes", [SIZES, FOUR])
def test_table_1_and_the_count_are_either_equal_or_it_is_said_why_not(method, pseudo_label, sizes):
    cost = ENTRIES[method].cost(pseudo_label, members=sizes.members)
    if cost.printed is None or cost.printed.passes(sizes) != cost.passes(sizes).total:
        assert cost.why
        assert cost.printed is None or cost.printed.text != cost.text
    else:
        assert cost.printed.text == cost.text


@pytest.mark.parametrize("pseudo_label", list(PSEUDO_LABELS))
@pytest.mark.parametrize("method", list(ENTRIES))
def test_the_formula_as_text_is_the_formula_that_is_computed(method, pseudo_label):
    sizes = FOUR if method in ("varr", "entropy", "bald", "mean_std") else SIZES
    cost = ENTRIES[method].cost(pseudo_label, members=sizes.members)
    assert worked_out(cost.text, sizes) == cost.passes(sizes).total


@pytest.mark.parametrize("row", list(TABLE_1))
def test_the_text_of_table_1_is_what_is_computed(row):
    for formula in (*TABLE_1[row], EVALUATION, EVALUATION_EACH_EPOCH):
        assert worked_out(formula.text, FOUR) == formula.passes(FOUR)


def test_every_letter_has_a_value_and_a_meaning():
    assert list(SIZES.letters) == list(LETTERS)
    assert letters_in("N^b + N (2 I_VAE + I_D)", "E K N_(b-1)") == ["N", "N^b", "N_(b-1)", "I_VAE", "I_D", "K", "E"]


def worked_out(text: str, sizes: Sizes) -> int:
    """The printed formula as arithmetic: letters stand for their values, a blank for a product."""
    for letter in sorted(letters_in(text), key=len, reverse=True):
        text = text.replace(letter, str(sizes.letters[letter]))
    signs = text.replace(" + ", "+").replace(" ", "*")
    return round(eval(signs))
