"""Folders that are written to and removed."""

import os
from pathlib import Path

import pytest

from fkal.atomic_files import write_whole
from fkal.folders import below, finish_folder, in_place, own_folder, remove_folder, unfinished_folder
from fkal.identifiers import UnsafeName

LAYOUT = r"about\.json|s\d/round-\d\d\.json"


@pytest.fixture
def precious(tmp_path) -> Path:
    """A folder beside the root."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "about.json").write_text("mine")
    return folder


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "data"
    (folder / "x" / "s0").mkdir(parents=True)
    (folder / "x" / "about.json").write_text("{}")
    (folder / "x" / "s0" / "round-01.json").write_text("{}")
    return folder


def is_whole(precious: Path) -> bool:
    return [path.name for path in precious.iterdir()] == ["about.json"] and (
        precious / "about.json"
    ).read_text() == "mine"


@pytest.mark.parametrize("name", ["", ".", "..", "../precious", "x/../../precious", "/etc", "x/..", "a\0b"])
def test_a_name_that_leads_out_is_refused(root, precious, name):
    for refuses in (below, in_place):
        with pytest.raises(UnsafeName):
            refuses(root, name)
    for refuses in (own_folder, remove_folder):
        with pytest.raises(UnsafeName):
            refuses(root, name, LAYOUT)
    assert is_whole(precious) and (root / "x" / "about.json").exists()


@pytest.mark.parametrize("place", ["y", "y/z", "y/s0/about.json"])
def test_a_link_that_leads_out_is_not_followed(root, precious, place):
    (root / "y").symlink_to(precious)
    with pytest.raises(UnsafeName, match=r"symbolic link leads out of .*data, to .*precious"):
        below(root, place)
    with pytest.raises(UnsafeName):
        remove_folder(root, "y", ".*")
    assert is_whole(precious) and (root / "y").is_symlink()


def test_a_link_to_what_is_not_there_yet_is_not_followed(root, precious):
    (root / "y").symlink_to(precious / "new")
    with pytest.raises(UnsafeName):
        below(root, "y/about.json")
    assert is_whole(precious)


def test_links_in_a_circle_are_refused(root):
    (root / "y").symlink_to(root / "z")
    (root / "z").symlink_to(root / "y")
    with pytest.raises((UnsafeName, OSError)):
        remove_folder(root, "y/about", ".*")


def test_the_root_itself_may_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert below(tmp_path / "link", "x/about.json").read_text() == "{}"
    assert below(tmp_path / "nowhere", "x/y").parent.parent == tmp_path / "nowhere"


def test_a_file_that_is_a_link_is_replaced_and_its_target_kept(root, precious):
    path = root / "x" / "link.json"
    path.symlink_to(precious / "about.json")
    write_whole(below(root, "x/link.json"), b"new")
    assert path.read_bytes() == b"new" and not path.is_symlink()
    assert is_whole(precious)


def test_no_file_is_written_through_a_link_with_the_temporary_name(root, precious):
    (root / "x" / f".about.json.{os.getpid()}.tmp").symlink_to(precious / "about.json")
    write_whole(root / "x" / "about.json", b"new")
    assert (root / "x" / "about.json").read_bytes() == b"new"
    assert is_whole(precious)


def test_a_file_that_is_appended_to_is_no_link(root, precious):
    (root / "journal").symlink_to(precious / "about.json")
    with pytest.raises(UnsafeName, match="remove the link"):
        in_place(root, "journal")


def test_a_folder_of_own_files_is_removed_with_what_a_kill_left(root):
    (root / "x" / "s0" / ".round-02.json.123.tmp").write_text("")
    remove_folder(root, "x", LAYOUT)
    assert not (root / "x").exists() and root.exists()
    remove_folder(root, "x", LAYOUT)  # which is not there


@pytest.mark.parametrize("name", ["notes.txt", "s0/thesis.tex", "s1/a/round-01.json", ".hidden", "about.json.bak"])
def test_a_folder_with_a_foreign_file_is_not_removed_and_the_file_named(root, name):
    path = root / "x" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(UnsafeName, match=rf"did not write '{name}' in it; move that away"):
        remove_folder(root, "x", LAYOUT)
    assert path.read_text() == "mine" and (root / "x" / "s0" / "round-01.json").exists()


def test_a_link_to_a_folder_is_foreign_and_one_to_a_file_goes_alone(root, precious):
    (root / "x" / "s1").symlink_to(precious)
    with pytest.raises(UnsafeName, match="did not write 's1'"):
        remove_folder(root, "x", LAYOUT)
    (root / "x" / "s1").unlink()
    (root / "x" / "s0" / "round-02.json").symlink_to(precious / "about.json")  # as DVC's cache of links has it
    remove_folder(root, "x", LAYOUT)
    assert is_whole(precious) and not (root / "x").exists()


def test_a_link_that_stays_within_is_no_folder_of_fkal(root):
    (root / "y").symlink_to(root / "x")
    with pytest.raises(UnsafeName, match="remove the link"):
        remove_folder(root, "y", LAYOUT)
    assert (root / "x" / "about.json").exists()


def test_a_file_where_a_folder_is_expected_is_kept(root):
    with pytest.raises(UnsafeName, match="not a folder"):
        remove_folder(root, "x/about.json", LAYOUT)
    assert (root / "x" / "about.json").exists()


def test_one_place_alone_removes_folders():
    sources = Path(below.__code__.co_filename).parent.rglob("*.py")
    assert [path.name for path in sources if "rmtree" in path.read_text()] == ["folders.py"]


def test_a_folder_is_filled_under_another_name_and_what_a_kill_left_is_removed(tmp_path):
    first = unfinished_folder(tmp_path / "out")
    (first / "half").write_text("")
    second = unfinished_folder(tmp_path / "out")
    assert second == first and not (second / "half").exists()
    (second / "whole").write_text("")
    finish_folder(second, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_unfinished_folder_of_somebody_else_is_left_alone(tmp_path):
    mine = tmp_path / ".out.unfinished"
    mine.mkdir()
    (mine / "precious").write_text("x")
    with pytest.raises(UnsafeName, match="fkal did not make it"):
        unfinished_folder(tmp_path / "out")
    assert (mine / "precious").read_text() == "x"
