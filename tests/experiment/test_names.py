"""What datasets are called."""

from pathlib import Path

import pytest

from fkal.data.registry import DATASETS
from fkal.data.settings import DataConfig
from fkal.experiment.names import dataset_name
from fkal.identifiers import dataset_name as checked


def called(folder: str, root: str = "data") -> str:
    return dataset_name(DataConfig(name="folder", root=root, folder=folder))


def test_a_registered_dataset_has_its_name():
    assert dataset_name(DataConfig(name="svhn")) == "svhn"


@pytest.mark.parametrize("folder", ["mine", "of/all/mine", "/srv/mine", "mine/", "~/mine", "mine/."])
def test_an_own_tree_has_the_last_part_of_its_folder(folder):
    assert called(folder) == "mine"


@pytest.mark.parametrize("name", list(DATASETS))
def test_an_own_tree_is_not_called_as_a_registered_dataset_is(name):
    assert called(f"/srv/{name}") == f"folder-{name}"


@pytest.mark.parametrize(
    "folder",
    ["a b", "é", "..x", "-x", ".hidden", "a:b", "a\nb", "x" * 250, "日本", "\udcff", "=1+1", "[/red]x", "~", "/"],
)
def test_any_folder_gives_a_name_that_files_and_addresses_take(folder):
    assert checked(called(folder), "test")


def test_names_that_differ_in_what_no_name_holds_stay_different():
    assert len({called(name) for name in ("a b", "a:b", "a-b", "a?b")}) == 4


@pytest.mark.parametrize("folder", [".", "sub/.."])
def test_the_root_itself_has_its_own_name(folder, tmp_path):
    (tmp_path / "photographs" / "sub").mkdir(parents=True)
    assert called(folder, str(tmp_path / "photographs")) == "photographs"


def test_the_name_does_not_depend_on_where_the_tree_is():
    assert called("mine", "/a") == called("mine", "/b") == called(str(Path("/c") / "mine"))
