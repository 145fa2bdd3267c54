"""How a command ends: one line, the path, the way out, the exit code."""

import errno
import io
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fkal.atomic_files import link_whole, whole_file, write_whole
from fkal.cli.exit import ENDING_SIGNALS, cli_errors
from fkal.cli.main import app
from fkal.config.schema import ConfigError
from fkal.errors import ends_all
from fkal.locks import NamedLock
from fkal.tracking.patience import StoreUnavailable


class Freed:
    """Something whose end has a callback."""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_comes_while_something_is_freed_is_not_lost(capsys, number, code):
    """Python lets nothing that a callback raises go further."""

    def callback(_: object) -> None:
        signal.raise_signal(number)
        for _ in range(1000):
            pass

    def work() -> None:
        freed = Freed()
        reference = weakref.ref(freed, callback)
        del freed
        assert reference() is None
        time.sleep(20)
        pytest.fail("the signal was lost")

    assert ending(work, capsys)[0] == code
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def ending(work, capsys) -> tuple[int, str]:
    """Exit code and line of a command that does this."""
    with pytest.raises(typer.Exit) as ended, cli_errors(debug=False):
        work()
    (line,) = capsys.readouterr().err.splitlines()
    return ended.value.exit_code, line


@pytest.fixture
def full_disk():
    """Nothing longer than 100 bytes can be written, as where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_with_the_path_and_leaves_nothing_half_written(tmp_path, capsys, full_disk):
    code, line = ending(lambda: write_whole(tmp_path / "round-01.json", b"x" * 200), capsys)
    assert code == 1
    assert f"{tmp_path}/round-01.json: File too large; make room there" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("make", "part"), [(os.mkfifo, "a device or a pipe has this name"), (os.mkdir, "directory")])
@pytest.mark.parametrize("write", [lambda path: write_whole(path, b"x"), lambda path: whole_file(path).__enter__()])
def test_what_is_no_file_is_not_written_to_and_is_a_usage_error(tmp_path, capsys, make, part, write):
    path = tmp_path / "split.json"
    make(path)
    code, line = ending(lambda: write(path), capsys)
    assert code == 2
    assert line.startswith(f"error: {path}: ") and part in line and "remove" in line and "name another" in line
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_since_a_file_has_its_name_is_a_usage_error(tmp_path, capsys):
    (tmp_path / "methods").touch()
    code, line = ending(lambda: (tmp_path / "methods").mkdir(exist_ok=True), capsys)
    assert (code, line) == (2, f"error: {tmp_path}/methods: File exists; remove what is there, or name another path")


def test_a_lock_that_cannot_be_named_is_told_and_let_go(tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        code, line = ending(NamedLock(tmp_path / "lock").__enter__, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and f"{tmp_path}/lock.holder: " in line
    with NamedLock(tmp_path / "lock"):
        pass


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), ["/a/b: No space left", "make room there"]),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a/b"), ["/a/b: Disk quota", "make room there"]),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), ["/a/b: Permission denied", "another folder"]),
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), ["/a/b: Read-only", "another folder"]),
        (OSError(errno.EMFILE, "Too many open files", "/a/b"), ["/a/b: Too many open files", "ulimit -n"]),
        (OSError(errno.EIO, "Input/output error", "/a/b"), ["/a/b: Input/output error", "same command again"]),
        (OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b"), ["/b: Invalid cross-device link"]),
        (shutil.Error([("/a", "/b", "[Errno 28] No space left on device")]), ["/b: ", "No space", "make room there"]),
    ],
)
def test_every_error_of_the_system_names_its_path_and_the_way_out(error, parts, capsys):
    def work() -> None:
        raise error

    code, line = ending(work, capsys)
    assert code == 1
    for part in parts:
        assert part in line


@pytest.mark.parametrize("kind", ["a folder", "below a file", "links in a circle", "a long name"])
def test_a_path_that_can_be_no_file_is_wrong(tmp_path, capsys, kind):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    places = {
        "a folder": "folder", "below a file": "file/x", "links in a circle": "a", "a long name": "n" * 300,
    }  # fmt: skip
    place = tmp_path / places[kind]
    code, line = ending(lambda: place.open("w"), capsys)
    assert code == 2 and line.startswith(f"error: {place}: ") and "name another path" in line


@pytest.mark.slow
@pytest.mark.parametrize("command", ["list acquisitions --json", "list datasets", "show --help"])
def test_a_reader_that_goes_away_ends_the_command_without_a_word(command):
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run([sys.executable, "-m", "fkal", *command.split()], stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    assert done.stderr == b"" and done.returncode == (1 if "--help" in command else 141)  # help is the library's


def test_a_library_s_long_message_is_one_line_that_can_be_read(capsys):
    def work() -> None:
        raise RuntimeError("no such column\n[SQL: SELECT " + "x, " * 2000 + "]")

    code, line = ending(work, capsys)
    assert code == 1 and "no such column" in line and len(line) < 600


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_with_its_code_and_what_was_open_is_closed(number, expected, tmp_path, capsys):
    closed = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            closed.append(True)
            os.kill(os.getpid(), signal.SIGTERM)  # a second one does not break what is being closed
            os.kill(os.getpid(), signal.SIGHUP)

    before = [signal.getsignal(each) for each in ENDING_SIGNALS]
    code, line = ending(work, capsys)
    assert code == expected and "terminated; the same command goes on" in line
    assert closed == [True]
    assert [signal.getsignal(each) for each in ENDING_SIGNALS] == before


def test_nohup_outlives_the_terminal(capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cli_errors(debug=False):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_was_closed_ends_a_command_with_129_and_not_while_it_closes_what_was_open(tmp_path):
    """The parent of a new session hangs up; what is still written would raise an OSError."""
    code = (
        "import pathlib, sys, time, typer\n"
        "from fkal.cli.exit import ENDING_SIGNALS, cli_errors\n"
        "from fkal.cli.terminal import say\n"
        "try:\n"
        "    with cli_errors(debug=False):\n"
        "        try:\n"
        "            say('ready')\n"
        "            time.sleep(60)\n"
        "        finally:\n"
        "            say('closing')\n"
        "            pathlib.Path(sys.argv[1]).write_text('closed')\n"
        "except typer.Exit as ended:\n"
        "    sys.exit(ended.exit_code)\n"
    )
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", code, str(tmp_path / "x")])
    assert b"ready" in os.read(terminal, 1000)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert (tmp_path / "x").read_text() == "closed"


def test_a_message_that_cannot_be_written_leaves_the_exit_code(monkeypatch):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(typer.Exit) as ended, cli_errors(debug=False):
        raise ConfigError("wrong")
    assert ended.value.exit_code == 2


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (ConfigError("wrong"), True),
        (StoreUnavailable("locked"), True),
        (OSError(errno.ENOSPC, "full", "/a"), True),
        (OSError(errno.EROFS, "fixed", "/a"), True),
        (OSError(errno.EIO, "odd", "/a"), False),
        (FloatingPointError("nan"), False),
    ],
)
def test_what_every_further_run_would_fail_of_ends_all(error, ends):
    assert ends_all(error) is ends


def test_a_link_that_must_be_copied_names_the_target(tmp_path, capsys, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"x" * 200)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "no link")))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code, line = ending(lambda: link_whole(source, Path(tmp_path / "target")), capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and "target" in line and "make room there" in line


@pytest.mark.parametrize("arguments", [["runs"], ["status"], ["label", "undo"]])
def test_a_command_in_a_folder_that_was_removed_says_so(tmp_path, monkeypatch, arguments):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    told = CliRunner().invoke(app, arguments)
    monkeypatch.chdir(tmp_path)
    assert told.exit_code == 2 and told.stderr == "error: this folder was removed; change into one that is there\n"
