import json
from dataclasses import replace

import pytest
import torch

from fkal.data.datasets import Dataset, load
from fkal.data.settings import BiasConfig, DataConfig
from fkal.data.splits import CorruptSplit, ForeignSplit, check_split, draw_split, hold_out, read_split, write_split

DATA = DataConfig(validation_per_class=2)


@pytest.fixture
def dataset(tiny_images):
    return Dataset("tiny", tiny_images(80), tiny_images(20), "second_half")


@pytest.fixture
def split(dataset):
    return draw_split(dataset, DATA, BiasConfig(ratio=4.0), 0)


@pytest.fixture
def written(split, tmp_path):
    write_split(split, tmp_path / "split.json")
    return tmp_path / "split.json"


def test_a_split_is_a_function_of_data_settings_and_seed(dataset, split, tmp_path):
    again = draw_split(dataset, DATA, BiasConfig(ratio=4.0), 0)
    for name, drawn in (("a", split), ("b", again)):
        write_split(drawn, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert split.digest == again.digest != draw_split(dataset, DATA, BiasConfig(ratio=4.0), 1).digest


def test_pool_and_validation_are_apart_sorted_and_as_large_as_said(dataset, split):
    assert split.validation.tolist() == sorted(set(split.validation.tolist()))
    assert not set(split.pool.tolist()) & set(split.validation.tolist())
    assert split.class_counts == {"pool": [18, 18, 5, 4], "validation": [2] * 4, "test": [5] * 4}
    assert dataset.train.labels[split.pool].bincount().tolist() == [18, 18, 5, 4]
    assert split.test.tolist() == list(range(20))


def test_what_is_held_out_has_each_class_alike_and_leaves_the_rest(dataset, split):
    rest, held = hold_out(split.validation, dataset, 1, torch.Generator().manual_seed(0))
    assert dataset.train.labels[held].bincount().tolist() == [1] * 4
    assert sorted([*rest.tolist(), *held.tolist()]) == split.validation.tolist()
    assert rest.tolist() == sorted(rest.tolist()) and held.tolist() == sorted(held.tolist())


def test_validation_does_not_know_the_bias(dataset, split):
    for bias in (BiasConfig(), BiasConfig(kind="long_tail", ratio=9.0), BiasConfig(kind="by_hand", fractions={0: 0.5})):
        assert torch.equal(draw_split(dataset, DATA, bias, 0).validation, split.validation)


def test_rare_classes_are_the_ones_that_would_be_cut_at_ratio_1(dataset):
    whole = draw_split(dataset, DATA, BiasConfig(), 0)
    assert whole.cut == (2, 3)
    assert whole.class_counts["pool"] == [18] * 4


def test_rare_classes_of_a_pool_that_is_left_as_it_is_follow_from_its_counts(tiny_images):
    labels = torch.tensor([0] * 60 + [1] * 12 + [2] * 60 + [3] * 50)
    dataset = Dataset("tiny", tiny_images(182, labels=labels), tiny_images(20), "random_half")
    drawn = draw_split(dataset, DATA, BiasConfig(kind="none"), 0)
    assert drawn.class_counts["pool"] == [58, 10, 58, 48]
    assert drawn.cut == (1,)


def test_rare_classes_may_be_named(dataset):
    data = DataConfig(validation_per_class=2, rare=(dataset.classes[3], dataset.classes[0]))
    assert draw_split(dataset, data, BiasConfig(ratio=4.0), 0).cut == (0, 3)


def test_a_rare_class_that_no_class_is_named_after_is_refused_with_the_names(dataset):
    data = DataConfig(validation_per_class=2, rare=("defekt",))
    with pytest.raises(ValueError, match=r"no class has this name; .*classes: "):
        draw_split(dataset, data, BiasConfig(ratio=4.0), 0)


def test_cut_classes_may_be_listed(dataset):
    assert draw_split(dataset, DATA, BiasConfig(ratio=4.0, cut=(0,)), 0).class_counts["pool"] == [13, 18, 18, 18]


def test_a_random_half_is_the_same_for_all_ratios_of_a_seed(tiny_images):
    dataset = Dataset("tiny", tiny_images(80), tiny_images(20), "random_half")
    assert draw_split(dataset, DATA, BiasConfig(), 3).cut == draw_split(dataset, DATA, BiasConfig(ratio=9.0), 3).cut


def test_a_class_too_small_for_validation_is_named(dataset):
    with pytest.raises(ValueError, match=r"class 'a' has only 20 images; give 20 or less"):
        draw_split(dataset, DataConfig(validation_per_class=21), BiasConfig(), 0)


def test_a_class_without_images_is_not_told_to_give_none(tiny_images):
    train = tiny_images(80)
    train.labels[train.labels == 0] = 1
    with pytest.raises(ValueError, match=r"class 'a' has only 0 images; bring some, or leave the class out"):
        draw_split(Dataset("tiny", train, tiny_images(20), "random_half"), DATA, BiasConfig(), 0)


def test_a_pool_without_the_last_class_keeps_its_tail(dataset):
    labels = dataset.train.labels
    labels[labels == 3] = torch.tensor([3] * 2 + [0] * 18)
    counts = draw_split(dataset, DATA, BiasConfig(kind="long_tail", ratio=8.0), 0).class_counts["pool"]
    assert counts == [36, 9, 4, 0]


def test_what_is_written_is_read_back(split, written):
    back = read_split(written)
    assert back.digest == split.digest
    assert (back.recipe, back.cut, back.class_counts) == (split.recipe, split.cut, split.class_counts)
    assert torch.equal(back.pool, split.pool)


def test_by_hand_fractions_are_read_back(dataset, tmp_path):
    split = draw_split(dataset, DATA, BiasConfig(kind="by_hand", fractions={3: 0.5, 1: 1.0}), 0)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json").recipe["fractions"] == {"1": 1.0, "3": 0.5}
    assert split.cut == (3,)


def test_every_index_list_has_a_line_of_its_own(written):
    starts = [line.split(":")[0] for line in written.read_text().splitlines()]
    assert starts == [
        "{", '"class_counts"', '"cut"', '"data_digest"', '"format"', '"pool"', '"recipe"', '"test"', '"validation"', "}"
    ]  # fmt: skip


def test_nothing_is_left_beside_a_written_split(written):
    assert [path.name for path in written.parent.iterdir()] == ["split.json"]


def test_a_failed_write_leaves_the_old_file(split, written, monkeypatch):
    def fails(*args):
        raise OSError("disk full")

    before = written.read_bytes()
    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_split(split, written)
    assert [path.name for path in written.parent.iterdir()] == ["split.json"]
    assert written.read_bytes() == before


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("format", "fkal-split-9", "format"),
        ("pool", [3, 2], "sorted"),
        ("pool", [2, 2], "twice"),
        ("pool", [-1], "below 0"),
        ("pool", [1.5], "whole numbers"),
        ("pool", [True], "whole numbers"),
        ("pool", "1,2", "whole numbers"),
        ("pool", [2**70], "beyond"),
        ("pool", [1], "add up"),
        ("cut", [9], "class 9"),
        ("data_digest", "abc", "hexadecimal"),
        ("data_digest", "Z" * 32, "hexadecimal"),
        ("data_digest", None, "hexadecimal"),
        ("recipe", {}, "recipe"),
        ("recipe", [], "recipe"),
        ("class_counts", {}, "class_counts"),
        ("class_counts", {"pool": [-1], "validation": [1], "test": [1]}, "whole numbers"),
        ("more", 1, "more"),
    ],
)
def test_a_spoilt_entry_is_reported_with_the_files_name(written, entry, value, message):
    entries = json.loads(written.read_text())
    entries[entry] = value
    written.write_text(json.dumps(entries))
    with pytest.raises(CorruptSplit, match=rf"split\.json: .*{message}.*; draw the split again"):
        read_split(written)


@pytest.mark.parametrize("seed", ["0", True, None])
def test_a_spoilt_recipe_is_reported(written, seed):
    entries = json.loads(written.read_text())
    entries["recipe"]["seed"] = seed
    written.write_text(json.dumps(entries))
    with pytest.raises(CorruptSplit, match="recipe's seed"):
        read_split(written)


def test_an_absent_entry_is_reported(written):
    entries = json.loads(written.read_text())
    del entries["test"]
    written.write_text(json.dumps(entries))
    with pytest.raises(CorruptSplit, match="test"):
        read_split(written)


def test_shared_images_are_reported(written):
    entries = json.loads(written.read_text())
    entries["pool"][0] = entries["validation"][0]
    entries["pool"].sort()
    written.write_text(json.dumps(entries))
    with pytest.raises(CorruptSplit, match="share images"):
        read_split(written)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_files_that_are_no_splits_are_reported(tmp_path, content):
    (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(CorruptSplit, match="draw the split again"):
        read_split(tmp_path / "split.json")


def test_a_split_of_other_images_is_refused(dataset, split, tiny_images):
    check_split(split, dataset)
    with pytest.raises(ForeignSplit, match="data digest"):
        check_split(split, Dataset("tiny", tiny_images(81), tiny_images(20), "second_half"))


def test_a_split_whose_counts_were_edited_is_refused(dataset, written):
    entries = json.loads(written.read_text())
    entries["class_counts"]["pool"] = entries["class_counts"]["pool"][::-1]
    written.write_text(json.dumps(entries))
    with pytest.raises(ForeignSplit, match="class counts"):
        check_split(read_split(written), dataset)


def test_a_split_that_points_beyond_the_images_is_refused(dataset, written):
    entries = json.loads(written.read_text())
    entries["pool"][-1] = 80
    written.write_text(json.dumps(entries))
    with pytest.raises(ForeignSplit, match="80"):
        check_split(read_split(written), dataset)


@pytest.mark.parametrize(("ratio", "pool"), [(1.0, (50_000, 0)), (100.0, (25_596, 255))])
def test_mnist_splits_have_the_protocols_sizes(real_root, ratio, pool):
    data = DataConfig(name="mnist", root=str(real_root), validation_per_class=1000)
    split = draw_split(load(data, download=False), data, BiasConfig(ratio=ratio), 0)
    counts = split.class_counts["pool"]
    assert (sum(counts[:5]), sum(counts[5:])) == pool if ratio > 1 else len(split.pool) == pool[0]
    assert (len(split.validation), len(split.test)) == (10_000, 10_000)
    assert split.cut == (5, 6, 7, 8, 9)


def test_a_validation_set_of_its_own_is_taken_whole_and_none_is_drawn(dataset, tmp_path):
    own = replace(dataset, validation=torch.arange(70, 80))
    data = DataConfig(name="folder", folder="pets", validation="others")
    split = draw_split(own, data, BiasConfig(kind="none"), 0)
    assert split.validation.tolist() == list(range(70, 80)) and split.pool.tolist() == list(range(70))
    assert split.recipe["validation"] == "a folder" and "validation_per_class" not in split.recipe
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json").digest == split.digest


@pytest.mark.parametrize("recipe", [{"validation": "drawn"}, {"validation": "a folder", "validation_per_class": 3}])
def test_a_recipe_says_of_validation_that_it_is_drawn_or_a_folder(written, recipe):
    entries = json.loads(written.read_text())
    entries["recipe"].pop("validation_per_class")
    entries["recipe"] |= recipe
    written.write_text(json.dumps(entries))
    with pytest.raises(CorruptSplit, match="recipe"):
        read_split(written)


def test_a_limit_per_class_comes_before_the_bias_and_is_in_the_recipe(dataset, tmp_path):
    data = DataConfig(validation_per_class=2, per_class=12)
    split = draw_split(dataset, data, BiasConfig(ratio=4.0), 0)
    assert split.class_counts["pool"] == [12, 12, 3, 3]
    write_split(split, tmp_path / "limited.json")
    assert read_split(tmp_path / "limited.json").recipe["per_class"] == 12


def test_a_limited_pool_lies_within_the_unlimited_one(dataset, split):
    limited = draw_split(dataset, DataConfig(validation_per_class=2, per_class=12), BiasConfig(ratio=4.0), 0)
    assert set(limited.pool.tolist()) < set(split.pool.tolist())
    assert torch.equal(limited.validation, split.validation)


def test_a_random_half_is_cut_where_the_rule_of_the_dataset_is_another(dataset):
    cuts = [draw_split(dataset, DATA, BiasConfig(ratio=4.0, cut="random_half"), seed).cut for seed in range(8)]
    assert all(len(cut) == 2 for cut in cuts)
    assert len(set(cuts)) > 1
    assert draw_split(dataset, DATA, BiasConfig(ratio=4.0), 0).cut == (2, 3)
