"""The commit of a folder, asked of git without running what the folder's repository names."""

import os
import subprocess
from pathlib import Path

import pytest

from fkal.results.git import git_commit


def git(folder: Path, *arguments: str) -> str:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(folder), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **who})
    return answer.stdout.strip()


def made(folder: Path, attributes: str = "") -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("one\n")
    (folder / "a.csv").write_text("one\n")
    if attributes:
        (folder / ".gitattributes").write_text(attributes)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.fixture
def ran(tmp_path) -> Path:
    """A folder with a file for each program that was run."""
    folder = tmp_path / "ran"
    folder.mkdir()
    return folder


def program(ran: Path, name: str) -> str:
    path = ran.parent / f"program-{name}"
    path.write_text(f"#!/bin/sh\ntouch '{ran}/{name}'\ncat\n")
    path.chmod(0o755)
    return str(path)


def armed(repository: Path, ran: Path) -> None:
    """The repository's configuration names a program wherever git takes one."""
    hooks = ran.parent / "hooks"
    hooks.mkdir()
    for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "post-checkout"):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch '{ran}/{hook}'\n")
        (hooks / hook).chmod(0o755)
    for key, value in {
        "core.fsmonitor": program(ran, "fsmonitor"),
        "core.hooksPath": str(hooks),
        "core.pager": program(ran, "pager"),
        "core.sshCommand": program(ran, "ssh"),
        "pager.status": program(ran, "status-pager"),
        "diff.external": program(ran, "external"),
        "diff.words.textconv": program(ran, "textconv"),
        "diff.words.command": program(ran, "diff-command"),
        "status.submoduleSummary": "true",
        "filter.clean.clean": program(ran, "clean"),
        "filter.clean.smudge": program(ran, "smudge"),
        "filter.clean.required": "true",
        "filter.a.b.c.clean": program(ran, "dotted"),
        "filter.long.process": program(ran, "process"),
        "alias.status": f"!{program(ran, 'alias')}",
    }.items():
        git(repository, "config", key, value)


def touched(path: Path) -> None:
    """Its time is another than the one in the index, so git must read the file."""
    os.utime(path, (1, 1))


@pytest.mark.parametrize("attributes", ["*.csv filter=clean diff=words\n", "*.csv filter=a.b.c\n", "* filter=long\n"])
def test_no_program_that_the_repository_names_is_run(tmp_path, ran, attributes):
    repository = made(tmp_path / "armed", attributes)
    commit = git(repository, "rev-parse", "HEAD")
    armed(repository, ran)
    touched(repository / "a.csv")
    assert git_commit(repository) == commit
    (repository / "a.csv").write_text("two\n")
    assert git_commit(repository) == f"{commit}-dirty"
    assert list(ran.iterdir()) == []


def test_the_programs_of_this_test_are_run_by_a_plain_git(tmp_path, ran):
    repository = made(tmp_path / "armed", "*.csv filter=clean\n")
    armed(repository, ran)
    touched(repository / "a.csv")
    subprocess.run(["git", "-C", str(repository), "describe", "--always", "--dirty"], capture_output=True, check=False)
    assert {"clean", "fsmonitor"} <= {path.name for path in ran.iterdir()}


def test_a_filter_whose_name_cannot_be_taken_away_ends_the_question(tmp_path, ran):
    repository = made(tmp_path / "armed", "*.csv filter=a=b\n")
    with (repository / ".git" / "config").open("a") as file:
        file.write(f'[filter "a=b"]\n\tclean = {program(ran, "equals")}\n')
    touched(repository / "a.csv")
    assert git_commit(repository) is None
    assert list(ran.iterdir()) == []


def test_a_submodule_is_not_asked_by_its_own_configuration(tmp_path, ran):
    inner = made(tmp_path / "inner", "*.csv filter=clean\n")
    outer = made(tmp_path / "outer")
    git(outer, "submodule", "add", "-q", str(inner), "sub")
    git(outer, "commit", "-qm", "second")
    commit = git(outer, "rev-parse", "HEAD")
    armed(outer / "sub", ran)
    touched(outer / "sub" / "a.csv")
    assert git_commit(outer) == commit
    assert list(ran.iterdir()) == []


@pytest.mark.parametrize("change", ["changed", "staged", "removed", "added"])
def test_a_change_of_a_tracked_file_is_told(tmp_path, change):
    repository = made(tmp_path / "plain")
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "untracked.txt").write_text("x")
    (repository / "folder").mkdir()
    touched(repository / "a.txt")
    assert git_commit(repository / "folder") == commit
    if change == "removed":
        (repository / "a.txt").unlink()
    elif change == "added":
        git(repository, "add", "untracked.txt")
    else:
        (repository / "a.txt").write_text("two\n")
        if change == "staged":
            git(repository, "add", "a.txt")
    assert git_commit(repository / "folder") == f"{commit}-dirty"


def test_the_index_is_left_as_it_is(tmp_path):
    repository = made(tmp_path / "plain")
    touched(repository / "a.txt")
    before = (repository / ".git" / "index").read_bytes()
    git_commit(repository)
    assert (repository / ".git" / "index").read_bytes() == before


def test_a_folder_without_a_commit_has_none(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert git_commit(tmp_path / "absent") is None
    assert git_commit(empty) is None
    git(empty, "init", "-q")
    assert git_commit(empty) is None


def test_a_bare_repository_has_a_commit_and_nothing_that_differs(tmp_path):
    repository = made(tmp_path / "plain")
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    assert git_commit(tmp_path / "bare.git") == git(repository, "rev-parse", "HEAD")
