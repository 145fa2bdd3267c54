"""The digest of the files that a dataset is read from: bytes and relative names, and nothing else."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fkal.data import sources
from fkal.data.datasets import load
from fkal.data.file_digests import FileDigests
from fkal.data.files import folder_files
from fkal.data.registry import CIFAR10_BATCHES, DATASETS, mnist_files
from fkal.data.settings import DataConfig
from fkal.data.sources import ABSENT, UNKNOWN, source_digest, source_stamp


@pytest.fixture
def digest(tmp_path):
    """The source digest of a configuration."""
    return lambda config: source_digest(config, FileDigests(tmp_path / "kept", print))


@pytest.fixture
def tree(tmp_path, write_tree) -> Path:
    return write_tree(tmp_path / "mine", per_class=2)


def mine(tree: Path) -> DataConfig:
    return DataConfig(name="folder", folder=str(tree))


def test_one_byte_of_one_image_changes_it(tree, digest):
    before = digest(mine(tree))
    image = tree / "train" / "cat" / "0001.jpg"
    image.write_bytes(image.read_bytes()[:-1] + b"\0")
    assert len(before) == 32 and digest(mine(tree)) != before


@pytest.mark.parametrize("part", ["train", "test"])
def test_another_name_or_class_of_an_image_changes_it(tree, digest, part):
    before = digest(mine(tree))
    (tree / part / "cat" / "0001.jpg").rename(tree / part / "dog" / "0002.jpg")
    assert digest(mine(tree)) not in (before, ABSENT)


def test_the_place_the_times_and_files_that_are_no_images_do_not_change_it(tree, digest, tmp_path):
    before = digest(mine(tree))
    (tree / "train" / "cat" / "notes.txt").write_text("x")
    (tree / "train" / "cat" / ".hidden.jpg").write_text("x")
    os.utime(tree / "train" / "cat" / "0001.jpg", ns=(1, 1))
    assert digest(mine(tree)) == before
    shutil.copytree(tree, tmp_path / "elsewhere")
    assert digest(mine(tmp_path / "elsewhere")) == before
    assert digest(DataConfig(name="folder", root=str(tmp_path), folder="elsewhere")) == before


def test_it_covers_the_files_that_the_decoder_reads(tree):
    names = {name for part in ("train", "test") for name in folder_files(tree, part).names}
    assert set(sources.folder(mine(tree)).names) == names


def test_a_tree_that_is_not_there_or_not_whole_is_absent(tree, digest, tmp_path):
    assert digest(mine(tmp_path / "nowhere")) == ABSENT
    assert digest(DataConfig(name="folder", folder="~nobody/x")) == ABSENT
    os.mkfifo(tree / "train" / "cat" / "pipe.png")
    assert digest(mine(tree)) == ABSENT


@pytest.mark.parametrize("name", ["mnist", "svhn", "cifar10", "tinyimagenet", "imagenet"])
def test_a_registered_dataset_that_is_not_there_is_absent(name, digest, tmp_path):
    assert digest(DataConfig(name=name, root=str(tmp_path))) == ABSENT


def test_every_registered_dataset_names_its_files():
    assert all(entry.list_sources is not None for entry in DATASETS.values())


def test_a_plug_in_that_names_no_files_is_unknown(digest, monkeypatch):
    entry = replace(DATASETS["digits"], sources=None)
    monkeypatch.setattr(sources, "entry_of", lambda name: entry)
    assert digest(DataConfig()) == UNKNOWN


def test_mnist_is_its_four_files(digest, tmp_path):
    for path in mnist_files(tmp_path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    config = DataConfig(name="mnist", root=str(tmp_path))
    before = digest(config)
    mnist_files(tmp_path)[3].write_bytes(b"y")
    assert digest(config) not in (before, ABSENT)
    mnist_files(tmp_path)[3].unlink()
    assert digest(config) == ABSENT


@pytest.mark.parametrize("folder", ["", "svhn"])
def test_svhn_is_its_three_files_in_either_place(folder, digest, tmp_path, write_svhn):
    write_svhn(tmp_path / folder)
    config = DataConfig(name="svhn", root=str(tmp_path))
    before = digest(config)
    (tmp_path / folder / "extra_32x32.mat").write_bytes(b"y")
    assert digest(config) not in (before, ABSENT)


def test_cifar10_is_what_its_loader_would_read(tmp_path, write_tree, tar_of):
    config = DataConfig(name="cifar10", root=str(tmp_path))
    tar_of(write_tree(tmp_path / "cifar10"), tmp_path / "cifar10-imagefolder.tar")
    assert sources.cifar10(config).root == tmp_path / "cifar10"
    shutil.rmtree(tmp_path / "cifar10")
    assert sources.cifar10(config).names == ("cifar10-imagefolder.tar",)
    (tmp_path / CIFAR10_BATCHES).mkdir()
    assert sources.cifar10(config).root == tmp_path / CIFAR10_BATCHES


def test_the_digits_are_the_file_that_scikit_learn_reads(digest):
    found = sources.digits(DataConfig())
    assert all((found.root / name).is_file() for name in found.names)
    assert len(digest(DataConfig())) == 32


def test_no_torch_is_imported_for_it(tree, tmp_path):
    program = (
        "import sys; from pathlib import Path; from fkal.data.settings import DataConfig;"
        "from fkal.data.sources import source_digest; from fkal.data.file_digests import FileDigests;"
        f"digests = FileDigests(Path({str(tmp_path / 'kept')!r}), print);"
        f"print(source_digest(DataConfig(name='folder', folder={str(tree)!r}), digests));"
        "print(len(source_digest(DataConfig(), digests)));"
        "print({'torch', 'sklearn', 'numpy'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert len(told[0]) == 32 and told[1:] == ["32", "set()"]


def test_two_trees_with_one_data_digest_are_loaded_as_one(tree, tmp_path):
    """The digest of decoded images, which results go by, does not depend on the place either."""
    shutil.copytree(tree, tmp_path / "copy")
    assert load(mine(tree)).digest == load(mine(tmp_path / "copy")).digest


def test_the_stamp_changes_with_a_file_and_reads_none(tree, monkeypatch):
    before = source_stamp(mine(tree))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", None)
        assert source_stamp(mine(tree)) == before != ""
    for change in (
        lambda image: os.utime(image, ns=(1, 1)),
        lambda image: image.write_bytes(b"x"),
        lambda image: image.rename(image.with_name("0009.jpg")),
    ):
        change(min((tree / "test" / "cat").iterdir()))
        assert source_stamp(mine(tree)) not in (before, "")
        before = source_stamp(mine(tree))
    shutil.rmtree(tree)
    assert source_stamp(mine(tree)) == ""
