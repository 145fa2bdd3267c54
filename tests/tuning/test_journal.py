"""Optuna's journal file as kills, full disks and people leave it."""

import json
from functools import partial
from pathlib import Path

import optuna
import pytest

from fkal.config.schema import ConfigError
from fkal.tuning.journal import open_journal, read_journal


@pytest.fixture
def path(tmp_path) -> Path:
    """A journal with a study of three trials."""
    path = tmp_path / "study.journal"
    study = optuna.create_study(study_name="s", storage=open_journal(path, print))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return path


def values(path: Path) -> list:
    study = optuna.load_study(study_name="s", storage=read_journal(path))
    return [trial.value for trial in study.trials]


@pytest.mark.parametrize("cut", [1, 2, 9, 25, 60])
def test_a_torn_last_line_is_cut_off_and_kept_and_the_study_goes_on(path, said, cut):
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole, last[: min(cut, len(last) - 1)]]))
    storage = open_journal(path, said.append)
    assert len(said) == 1 and str(path) in said[0] and "study.journal.torn" in said[0]
    assert path.read_bytes() == b"".join(whole)
    assert (path.parent / "study.journal.torn").read_bytes() == last[: min(cut, len(last) - 1)] + b"\n"
    study = optuna.load_study(study_name="s", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(values(path)) == 4


@pytest.mark.parametrize(
    "rest", [b"\0" * 80, b'{"op_code":5,"worker_id"\0\0\0', b'{"op_code":4,"wo{"op_code":0,"w":1}\n']
)
def test_what_a_power_failure_or_an_earlier_version_left_is_cut_off_too(path, said, rest):
    before = path.read_bytes()
    path.write_bytes(before + rest)
    open_journal(path, said.append)
    assert path.read_bytes() == before and len(said) == 1


def test_a_line_is_never_added_to_the_rest_of_a_torn_one(path, said):
    """The disk was full while another process added it."""
    study = optuna.load_study(study_name="s", storage=open_journal(path, said.append))
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(said) == 1
    assert len(values(path)) == 4
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_dry_look_changes_nothing(path):
    path.write_bytes(path.read_bytes() + b'{"op_code":4,"worker')
    before = path.read_bytes()
    assert len(values(path)) == 3
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"my notes",
        b"my notes\n",
        b"\x89PNG\r\n\x1a\n\0\0\0",
        b"SQLite format 3\0" + b"\0" * 84,
        b'{"study": "s"}',
        b'{"study": "s"}\n',
        b"[1, 2]\n",
        b"null\n",
        b'{"op_code": "0", "worker_id": "w"}\n',
        b'{"op_code": true, "worker_id": "w"}\n',
        b'{"op_code":0,"worker_id":"w"}\n',  # without what it needs
        b'{"op_code":99,"worker_id":"w"}\n',
        b"[" * 100_000 + b"\n",
    ],
)
@pytest.mark.parametrize("opened", [lambda path: open_journal(path, print), read_journal])
def test_any_other_file_is_named_and_left_alone(tmp_path, content, opened):
    path = tmp_path / "odd.journal"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"--storage .*odd\.journal: .*(name another|new one)"):
        optuna.get_all_study_summaries(opened(path))
    assert path.read_bytes() == content


def test_a_malformed_line_in_the_middle_is_named_by_its_number(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"op_code":4,"wor\n', *lines[2:]]))
    with pytest.raises(ConfigError, match=r"line 3 is none of Optuna's journal"):
        open_journal(path, print)


@pytest.mark.parametrize("damage", ["no beginning", "another number"])
def test_trials_of_a_study_that_the_journal_does_not_begin_are_not_left_out_unseen(path, damage):
    lines = path.read_bytes().splitlines(keepends=True)
    changed = (
        lines[1:] if damage == "no beginning" else [line.replace(b'"study_id":0', b'"study_id":9') for line in lines]
    )
    path.write_bytes(b"".join(changed))
    for opened in (partial(open_journal, say=print), read_journal):
        with pytest.raises(ConfigError, match=r"line \d is of study \d, and the lines before it begin \d studies; put"):
            opened(path)
    assert path.read_bytes() == b"".join(changed)


def test_a_folder_is_no_journal(tmp_path):
    with pytest.raises(ConfigError, match="is no file"):
        open_journal(tmp_path, print)
