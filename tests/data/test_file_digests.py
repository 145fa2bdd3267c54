"""Digests of files: remembered while nothing changes, and never believed where something might have."""

import json
import os
from pathlib import Path

import pytest

from fkal.data import file_digests
from fkal.data.file_digests import FileDigests
from fkal.data.regular_files import IrregularFile


@pytest.fixture(autouse=True)
def settled(monkeypatch) -> None:
    """Files that were written just now count as settled."""
    monkeypatch.setattr(file_digests, "SETTLED_NS", 0)


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the files whose bytes are read."""
    names: list[str] = []
    plain = file_digests.open_regular

    def noting(path, **options):
        names.append(Path(path).name)
        return plain(path, **options)

    monkeypatch.setattr(file_digests, "open_regular", noting)
    return names


@pytest.fixture
def root(tmp_path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(name.encode() * 10)
    return root


def digests(root: Path, *names: str, verify: bool = False) -> dict[str, str]:
    return FileDigests(root.parent / "kept", print, verify=verify).of("mine", root, names or ("a", "b"))


def memory(root: Path) -> Path:
    (path,) = (root.parent / "kept").glob("*.json")
    return path


def test_unchanged_files_are_not_read_again(root, opened):
    first = digests(root)
    assert opened == ["a", "b"] and len(set(first.values())) == 2
    assert digests(root) == first and opened == ["a", "b"]


def test_a_file_with_other_times_is_read_again_and_has_the_same_digest(root, opened):
    first = digests(root)
    os.utime(root / "a", ns=(1, 1))
    assert digests(root) == first and opened == ["a", "b", "a"]


def test_other_bytes_of_the_same_length_and_mtime_have_another_digest(root):
    first, times = digests(root), (root / "a").stat()
    (root / "a").write_bytes(b"c" * 10)
    os.utime(root / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    again = digests(root)
    assert again["a"] != first["a"] and again["b"] == first["b"]


def test_a_file_that_was_changed_just_now_is_not_remembered(root, opened, monkeypatch):
    monkeypatch.setattr(file_digests, "SETTLED_NS", 3_600_000_000_000)
    assert digests(root) == digests(root)
    assert opened == ["a", "b", "a", "b"]


def test_verify_reads_all_files_once_and_remembers_them(root, opened):
    first = digests(root)
    both = FileDigests(root.parent / "kept", print, verify=True)
    assert both.of("mine", root, ("a", "b")) == first == both.of("mine", root, ("a", "b"))
    assert opened == ["a", "b", "a", "b"]
    digests(root)
    assert opened == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"format": "fkal-digests-1", "files": {"a": [1',
        b"[]",
        b'{"format": "another", "files": {}}',
        b'{"format": "fkal-digests-1", "files": 3}',
        b"[" * 100_000,
    ],
)
def test_a_torn_or_foreign_memory_is_ignored_and_written_again(root, opened, content):
    first, whole = digests(root), memory(root).read_bytes()
    memory(root).write_bytes(content)
    assert digests(root) == first and opened == ["a", "b", "a", "b"]
    assert memory(root).read_bytes() == whole


@pytest.mark.parametrize("entry", [None, [], [1, 2, 3, 4, "0" * 32], {"a": 1}])
def test_an_entry_that_is_none_is_ignored(root, entry):
    first = digests(root)
    kept = json.loads(memory(root).read_bytes())
    kept["files"]["a"] = entry
    memory(root).write_text(json.dumps(kept))
    assert digests(root) == first


def test_a_remembered_digest_that_is_none_is_ignored(root):
    first = digests(root)
    kept = json.loads(memory(root).read_bytes())
    kept["files"]["a"][-1] = "../x"
    memory(root).write_text(json.dumps(kept))
    assert digests(root) == first


def test_files_that_are_gone_are_forgotten_and_so_are_the_oldest_memories(root, monkeypatch):
    monkeypatch.setattr(file_digests, "MOST_MEMORIES", 2)
    digests(root)
    digests(root, "a")
    assert set(json.loads(memory(root).read_bytes())["files"]) == {"a"}
    for dataset in ("one", "two", "three"):
        FileDigests(root.parent / "kept", print).of(dataset, root, ("a",))
    assert len(list((root.parent / "kept").glob("*.json"))) == 2


def test_where_nothing_can_be_remembered_this_is_said_and_the_digests_are_right(root, said):
    (root.parent / "kept").write_text("a file")
    found = FileDigests(root.parent / "kept", said.append).of("mine", root, ("a",))
    assert found["a"] == digests(root, "a")["a"]
    assert len(said) == 1 and "not remembered" in said[0]


def test_names_that_are_no_text_are_remembered(root, opened):
    name = os.fsdecode(b"\xff.png")
    (root / name).write_bytes(b"1")
    digests(root, name)
    digests(root, name)
    assert len(opened) == 1


def test_a_missing_file_and_a_folder_are_errors(root):
    (root / "folder").mkdir()
    with pytest.raises(FileNotFoundError):
        digests(root, "absent")
    with pytest.raises(IrregularFile):
        digests(root, "folder")
