"""Draws by group: none is split, however they lie."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fkal.data.datasets import Dataset, load
from fkal.data.errors import CorruptData
from fkal.data.files import tar_parts
from fkal.data.groups import (
    BY_NAME,
    BY_PATH,
    drawn_by_group,
    group_key,
    group_numbers,
    refuse_shared,
    seeming_groups,
    whole_groups,
)
from fkal.data.images import TensorImages
from fkal.data.settings import BiasConfig, DataConfig
from fkal.data.splits import draw_split, hold_out, read_split, write_split
from fkal.data.traffic_signs import in_published_order

GTSRB_TRACKS = r"([^/]+)/(\d+)_"
DATA = DataConfig(validation_per_class=10)
NO_BIAS = BiasConfig(kind="none")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tracks(*, per_class: int, frames: int, n_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and groups of a set whose classes have as many tracks of as many frames."""
    groups = torch.arange(n_classes * per_class).repeat_interleave(frames)
    return groups % n_classes, groups


def drawn(labels, groups, per_class, *, seed=0, share=3):
    classes = [str(c) for c in range(int(labels.max()) + 1)]
    return drawn_by_group(
        labels, groups, per_class, seeded(seed), classes=classes, share=share, setting="validation_per_class"
    )


@pytest.fixture
def dataset(tiny_images):
    labels, groups = tracks(per_class=9, frames=6)
    return Dataset("tiny", tiny_images(len(labels), labels=labels), tiny_images(20), "second_half", groups=groups)


def test_the_captures_together_are_the_key():
    numbers, known = group_numbers(
        ["train/stop/00001_00.jpg", "train/yield/00001_00.jpg", "train/stop/00001_01.jpg"], GTSRB_TRACKS
    )
    assert numbers.tolist() == [0, 1, 0]
    assert len(known) == 2


def test_keys_whose_captures_would_read_alike_side_by_side_are_two():
    assert group_numbers(["a1/1_", "a/11_"], r"(\w+)/(\d+)_")[0].tolist() == [0, 1]


def test_an_image_that_the_expression_does_not_match_is_named():
    with pytest.raises(ValueError, match=r"does not match 'train/stop/lone.jpg'; give an expression"):
        group_numbers(["train/stop/1_0.jpg", "train/stop/lone.jpg"], GTSRB_TRACKS)


def test_a_group_in_training_and_test_images_is_refused_and_one_of_no_group_is_not():
    _, known = group_numbers(["train/stop/1_0.jpg"], GTSRB_TRACKS)
    refuse_shared(known, ["test/stop/2_0.jpg", "test/stop/lone.jpg"], GTSRB_TRACKS)
    with pytest.raises(CorruptData, match=r"'test/stop/1_7.jpg' is of a group that has training images, too; move"):
        refuse_shared(known, ["test/stop/1_7.jpg"], GTSRB_TRACKS)


@pytest.mark.parametrize(
    ("per_class", "of", "expected"),
    [(10, 9, 2), (5, 9, 1), (6, 9, 2), (1, 9, 1), (30, 30, 6), (50, 9, 3), (20, 7, 2), (5, 2, 1)],
)
def test_a_fifth_as_many_groups_as_images_are_drawn_and_at_most_a_third(per_class, of, expected):
    labels, groups = tracks(per_class=of, frames=30)
    found = drawn(labels, groups, per_class)
    assert labels[found].bincount().tolist() == [per_class] * 4
    for c in range(4):
        assert len(groups[found][labels[found] == c].unique()) == expected


def test_images_are_taken_from_the_groups_in_turn():
    labels, groups = tracks(per_class=9, frames=30)
    found = drawn(labels, groups, 11)
    assert sorted(groups[found][labels[found] == 0].unique(return_counts=True)[1].tolist()) == [3, 4, 4]


def test_more_groups_are_drawn_where_a_fifth_have_too_few_images():
    labels, groups = tracks(per_class=12, frames=3)
    found = drawn(labels, groups, 10)
    assert labels[found].bincount().tolist() == [10] * 4
    assert len(groups[found][labels[found] == 0].unique()) == 4


def test_too_few_images_in_a_third_of_the_groups_are_refused_with_the_number_there_is():
    labels, groups = tracks(per_class=9, frames=3)
    with pytest.raises(
        ValueError,
        match=r"validation_per_class: 10: class '0' has 9 groups, of which at most 3 .* 9 images; give 9 or less",
    ):
        drawn(labels, groups, 10)


def test_a_class_of_one_group_is_refused():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"class '0' has 1 group, and no image of it would stay"):
        drawn(labels, torch.tensor([0, 0, 0, 1, 2, 3]), 1)


def test_a_group_with_several_classes_counts_as_drawn_for_each():
    labels = torch.arange(60) % 2  # each group has both classes
    groups = torch.arange(60) // 10
    found = drawn(labels, groups, 5)
    assert labels[found].bincount().tolist() == [5, 5]
    assert len(groups[found].unique()) == 1


@given(seed=st.integers(0, 2**32), n_groups=st.integers(12, 40), per_class=st.integers(1, 6))
def test_pool_and_validation_never_share_a_group(seed, n_groups, per_class):
    draws = seeded(seed)
    groups = torch.randint(n_groups, (400,), generator=draws)
    labels = torch.randint(4, (400,), generator=draws)
    images = TensorImages(torch.zeros(400, 1, 2, 2, dtype=torch.uint8), labels, "abcd", mean=(0.5,), std=(0.5,))
    dataset = Dataset("tiny", images, images, "second_half", groups=groups)
    split = draw_split(dataset, DataConfig(validation_per_class=per_class), NO_BIAS, seed % 1000)
    assert split.class_counts["validation"] == [per_class] * 4
    assert not torch.isin(groups[split.pool], groups[split.validation]).any()


def test_the_other_images_of_a_validation_group_leave_the_pool(dataset):
    split = draw_split(dataset, DATA, NO_BIAS, 0)
    assert split.class_counts["validation"] == [10] * 4
    assert split.class_counts["pool"] == [7 * 6] * 4


def test_what_is_held_out_shares_no_group_with_what_stays(dataset):
    split = draw_split(dataset, DATA, NO_BIAS, 0)
    rest, held = hold_out(split.validation, dataset, 3, seeded())
    assert dataset.train.labels[held].bincount().tolist() == [3] * 4
    assert not torch.isin(dataset.groups[held], dataset.groups[rest]).any()
    assert dataset.train.labels[rest].bincount().tolist() == [5] * 4


def test_images_of_the_groups_of_an_own_validation_set_leave_the_pool(dataset, tiny_images):
    own = torch.tensor([0, 6, 12, 18])
    given_set = Dataset("tiny", dataset.train, dataset.test, "second_half", own, groups=dataset.groups)
    split = draw_split(given_set, DataConfig(name="folder", folder="t", validation="v"), NO_BIAS, 0)
    assert split.validation.tolist() == own.tolist()
    assert not torch.isin(dataset.groups[split.pool], dataset.groups[own]).any()


def test_a_split_by_group_says_so_and_is_read_back(dataset, tmp_path):
    split = draw_split(dataset, DataConfig(validation_per_class=10, groups=GTSRB_TRACKS), NO_BIAS, 0)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json").recipe["groups"] == GTSRB_TRACKS


def test_a_tree_is_grouped_by_its_paths_and_refused_where_the_test_part_has_the_same_groups(write_tree, tmp_path):
    write_tree(tmp_path / "tree", per_class=8)
    with pytest.raises(ValueError, match="is of a group that has training images"):
        load(DataConfig(name="folder", root=str(tmp_path), folder="tree", groups=r"(\w+)/(\d{3})"))
    grouped = load(DataConfig(name="folder", root=str(tmp_path), folder="tree", groups=r"(train|test)/(\w+)/\d{3}(\d)"))
    assert grouped.groups.tolist() == list(range(16))


def test_a_word_without_captures_is_a_column_of_a_manifest_which_a_published_dataset_has_not():
    with pytest.raises(
        ValueError, match=r"'patient': without captures it names a manifest's column, and dataset digits"
    ):
        load(DataConfig(name="digits", groups="patient"))


@pytest.mark.slow
def test_gtsrb_validates_on_two_tracks_per_class_none_of_which_is_in_the_pool(real_root):
    """From the names in the tar alone: decoding its images takes a minute."""
    train, test = tar_parts(real_root / "gtsrb-imagefolder.tar", "train", "test")
    train = in_published_order(train)
    groups, known = group_numbers(train.names, GTSRB_TRACKS)
    refuse_shared(known, test.names, GTSRB_TRACKS)
    found = drawn_by_group(train.labels, groups, 10, seeded(), classes=train.classes, share=3, setting="")
    assert len(known) == 1307
    assert train.labels[found].bincount().tolist() == [10] * 43
    assert len(groups[found].unique()) == 86
    assert len(whole_groups(found, groups)) == 86 * 30


def frames(tracks, per_track, folders=("",)):
    return [f"{folder}{t:05}_{i:05}.jpg" for folder in folders for t in range(tracks) for i in range(per_track)]


@pytest.mark.parametrize(
    ("names", "count", "pattern"),
    [(frames(12, 3), 12, BY_NAME), (frames(6, 5, ("a/", "b/")), 12, BY_PATH)],
    ids=["names", "names that begin again in each folder"],
)
def test_names_of_frames_seem_to_say_groups_which_the_pattern_finds(names, count, pattern):
    found = seeming_groups(names, n_classes=4)
    assert found is not None
    assert (found.n, found.pattern) == (count, pattern)
    assert len({group_key(name, found.pattern) for name in names}) == count


@pytest.mark.parametrize(
    "names",
    [
        [f"IMG_{i:04}.jpg" for i in range(100)],
        [f"{i:04}.jpg" for i in range(100)],
        frames(9, 5),
        frames(40, 2),
        [f"class{c}_{i}.png" for c in range(12) for i in range(9)],
        [*frames(12, 3), *(f"photo{i}.png" for i in range(9))],
    ],
    ids=["one beginning", "numbers", "few tracks", "pairs", "a beginning a class", "a quarter is named otherwise"],
)
def test_other_names_say_no_groups(names):
    assert seeming_groups(names, n_classes=10) is None
