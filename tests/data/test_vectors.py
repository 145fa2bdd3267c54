"""Own embeddings: read from npz and Parquet alike, and refused where they are not what a run needs."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fkal.data.datasets import load
from fkal.data.errors import CorruptData, MissingData
from fkal.data.settings import DataConfig

FEATURES = np.arange(24, dtype=np.float64).reshape(8, 3)
GOOD = {
    "features": FEATURES,
    "ids": np.array([f"image {i}" for i in range(8)]),
    "labels": np.array(["owl", "cat"] * 4),
    "parts": np.array(["train"] * 6 + ["test"] * 2),
}


def at(file: Path) -> DataConfig:
    return DataConfig(name="embeddings", embeddings=str(file))


def saved(folder: Path, **columns) -> Path:
    given = {name: value for name, value in {**GOOD, **columns}.items() if value is not None}
    np.savez(folder / "v.npz", **given)
    return folder / "v.npz"


def test_npz_and_parquet_give_the_same_dataset(tmp_path):
    frame = pd.DataFrame({name: list(column) for name, column in GOOD.items()})
    frame.to_parquet(tmp_path / "v.parquet")
    one, other = load(at(saved(tmp_path))), load(at(tmp_path / "v.parquet"))
    assert one.digest == other.digest and one.classes == other.classes == ("cat", "owl")
    assert one.train.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert one.train.names[1] == "image 1" and one.test.names[0] == "image 6"
    torch.testing.assert_close(one.train.rows(torch.tensor([2])), torch.tensor([[6.0, 7.0, 8.0]]))


def test_a_validation_part_is_taken_as_it_is(tmp_path):
    parts = np.array(["train"] * 4 + ["validation"] * 2 + ["test"] * 2)
    dataset = load(at(saved(tmp_path, parts=parts)))
    assert dataset.validation.tolist() == [4, 5]


def test_a_class_that_validation_has_not_is_refused(tmp_path):
    parts = np.array(["train"] * 5 + ["validation"] + ["test"] * 2)
    with pytest.raises(CorruptData, match="'validation' has the label 'owl'; give each class some"):
        load(at(saved(tmp_path, parts=parts)))


def test_a_file_that_is_not_there_is_named_and_no_data_root(tmp_path):
    with pytest.raises(MissingData, match=r"none\.npz: there is no such file; make it from your own model") as missing:
        load(at(tmp_path / "none.npz"))
    assert "put there" not in str(missing.value)


def test_numbers_name_classes_in_their_order(tmp_path):
    assert load(at(saved(tmp_path, labels=np.array([10, 9] * 4)))).classes == ("9", "10")


def test_ids_may_be_left_out(tmp_path):
    assert load(at(saved(tmp_path, ids=None))).train.names[:2] == ["0", "1"]


def test_a_picture_of_a_vector_has_all_its_numbers(tmp_path):
    pixels = load(at(saved(tmp_path))).train.pixels(torch.tensor([0, 3]))
    assert pixels.shape == (2, 1, 2, 2) and pixels[0].flatten().tolist() == [0, 127, 255, 0]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"labels": None}, "has no labels"),
        ({"features": None}, "has no features"),
        ({"features": FEATURES[0]}, "n x l numbers"),
        ({"features": FEATURES.astype(str)}, "n x l numbers"),
        ({"features": np.where(FEATURES == 5, np.nan, FEATURES)}, "not finite"),
        ({"labels": GOOD["labels"][:5]}, "one entry for each of 8"),
        ({"labels": np.array(["owl", ""] * 4)}, "have the label ''"),
        ({"parts": np.array(["train"] * 8)}, "no image of the part test"),
        ({"parts": np.array(["pool"] * 8)}, "a part is called 'pool'"),
        ({"ids": np.array(["same"] * 8)}, "an id is there twice"),
        ({"ids": np.array([" same", "same "] * 4)}, "an id is there twice"),
        ({"ids": np.array([{"a": 1}] * 8, dtype=object)}, "cannot be read"),
        ({"ids": np.array([[1, 2]] * 8)}, r"ids of shape \(8, 2\)"),
        ({"labels": np.array([["owl", "cat"]] * 8)}, r"labels of shape \(8, 2\)"),
        ({"parts": np.array([["train"]] * 8)}, r"parts of shape \(8, 1\)"),
        ({"labels": np.array([b"\xff", b"cat"] * 4)}, "labels: cannot be read as text"),
        ({"features": np.full((8, 3), 1e300)}, "not finite"),
        ({"labels": np.array(["owl"] * 8)}, "all images have the label 'owl'"),
    ],
)
def test_a_file_that_no_run_could_use_is_refused(tmp_path, columns, reason):
    with pytest.raises(CorruptData, match=reason):
        load(at(saved(tmp_path, **columns)))


def test_long_digits_and_spaces_around_names_are_no_other_classes(tmp_path):
    labels = np.array(["9" * 5000, " cat", "cat ", "10", "9", "cat", "cat", "9"])
    assert load(at(saved(tmp_path, labels=labels))).classes == ("9", "10", "9" * 5000, "cat")


def edited(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def test_odd_files_are_refused_for_what_they_are(tmp_path):
    whole = saved(tmp_path).read_bytes()
    central = whole.index(b"PK\x01\x02")
    header = np.lib.format.magic(1, 0) + b"\x76\x00"
    shape = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as file:
        file.writestr("features.npy", header + shape.ljust(117) + b"\n")
    np.save(tmp_path / "one.npy", FEATURES)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    (tmp_path / "encrypted.npz").write_bytes(edited(edited(whole, 6, b"\x01"), central + 8, b"\x01"))
    (tmp_path / "packed.npz").write_bytes(edited(edited(whole, 8, b"\x63"), central + 10, b"\x63"))
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    said = {
        "huge": "Unable to allocate", "one": "it is one array", "encrypted": "encrypted", "packed": "compression",
        "cut": "cannot be read", "folder": "it is a folder", "pipe": "it is a pipe",
    }  # fmt: skip
    for name, reason in said.items():
        with pytest.raises(CorruptData, match=reason):
            load(at(tmp_path / f"{name}.npz"))


def test_an_absent_file_is_missing_and_another_file_is_refused(tmp_path):
    with pytest.raises(MissingData, match="no such file"):
        load(at(tmp_path / "none.npz"))
    for name in ("v.npz", "v.parquet"):
        (tmp_path / name).write_bytes(b"not this")
        with pytest.raises(CorruptData, match="cannot be read"):
            load(at(tmp_path / name))
