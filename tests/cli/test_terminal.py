"""The door to the terminal, in front of a hostile name and behind a terminal that knows ASCII alone."""

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fkal.cli import terminal
from fkal.cli.progress import Bars, ManyBars
from fkal.engine.progress import Progress

NAMES = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "[/red]x": "[/red]x",
    "[bold]x[/bold]": "[bold]x[/bold]",
    ":smiley:": ":smiley:",
    "bad\udcff": r"bad\udcff",
    "a\u202eb": r"a\u202eb",
    "a\rb": r"a\x0db",
    "\x9b2J": r"\x9b2J",
    "<script>": "<script>",
}
"""And how each is shown."""
SOURCE = Path(terminal.__file__).parents[1]
names = pytest.mark.parametrize(("name", "shown"), NAMES.items())


class Streams:
    """Standard output and error of one encoding, by their bytes."""

    def __init__(self, encoding: str) -> None:
        self.out, self.err = (io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2))

    def written(self) -> list[bytes]:
        return [stream.buffer.getvalue() for stream in (self.out, self.err)]  # type: ignore[attr-defined]


@pytest.fixture
def streams(monkeypatch) -> Callable[..., Streams]:
    """Opens them in the test itself: pytest puts its own in place after the fixtures."""

    def opened(encoding: str = "utf-8") -> Streams:
        made = Streams(encoding)
        monkeypatch.setattr(sys, "stdout", made.out)
        monkeypatch.setattr(sys, "stderr", made.err)
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        terminal.prepare_streams()
        return made

    return opened


@names
def test_lines_show_it(name, shown, streams):
    opened = streams()
    terminal.echo(f"run {name}")
    terminal.say(f"run {name}")
    terminal.complain(f"error: {name}")
    out, err = opened.written()
    assert out.decode() == f"run {shown}\n"
    assert err.decode() == f"run {shown}\nerror: {shown}\n"


@names
def test_tables_show_it_in_titles_heads_cells_and_captions(name, shown, streams):
    opened = streams()
    table = Table(title=f"t {name}", caption=f"c {name}", box=box.SIMPLE)
    table.add_column(f"h {name}", no_wrap=True)
    table.add_row(f"a {name}{' ' * 40}z")
    table.add_row(Text(f"b {name}"))
    terminal.console().print(Group(Text(f"bold {name}", style="bold"), table, f"group {name}"))
    out = opened.written()[0].decode()
    for before in ("t", "c", "h", "a", "group"):
        assert f"{before} {shown}" in out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out)


def test_columns_are_as_wide_as_what_is_shown(streams):
    opened = streams()
    table = Table(box=box.ASCII)
    table.add_column("name")
    table.add_row("\x1b]0;title\x07")
    table.add_row("cat")
    terminal.console(piped=40).print(table)
    assert len({len(line) for line in opened.written()[0].decode().splitlines()}) == 1


@names
def test_bars_show_it(name, shown, streams, monkeypatch):
    opened = streams()
    monkeypatch.setattr(opened.err, "isatty", lambda: True)
    with Bars(f"run {name}", iterations=2) as bars:
        bars.show(Progress(f"phase {name}", 1, 2, "batches"))
    with ManyBars(1) as many:
        many.began(1, f"many {name}", 2, 0)
        many.show(1, f"unit {name}")
    text = opened.written()[1].decode()
    assert f"phase {shown}" in text.replace("\n", " ")
    assert name == shown or name not in text


@names
def test_json_reads_back(name, shown, streams):
    opened = streams()
    terminal.echo_json({"name": name})
    told = json.loads(opened.written()[0])["name"]
    assert told == (shown if "\udcff" in name else name)


def test_signs_that_ascii_lacks_become_others(streams):
    opened = streams("ascii")
    terminal.echo("84.1 ± 0.5 – ≥ 3 … ●○ │└─ 猫")
    terminal.say("±")
    table = Table(title="mean ± std", box=box.SIMPLE)
    table.add_column("accuracy")
    table.add_row("84.1±0.5")
    terminal.console().print(table)
    out, err = opened.written()
    assert out.decode("ascii").splitlines()[0] == r"84.1 +- 0.5 - >= 3 ... *o |+- \u732b"
    assert "mean +- std" in out.decode("ascii") and "84.1+-0.5" in out.decode("ascii")
    assert err == b"+-\n"


def test_a_traceback_shows_it(streams):
    opened = streams()
    error = ValueError("\x1b]0;title\x07 bad\udcff")
    sys.excepthook(ValueError, error, None)
    assert opened.written()[1].decode() == "ValueError: \\x1b]0;title\\x07 bad\\udcff\n"


def test_a_question_shows_it(streams, monkeypatch):
    opened = streams()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    terminal.confirm("Remove \x1b]0;title\x07?")
    assert r"Remove \x1b]0;title\x07?" in opened.written()[1].decode()


@pytest.mark.parametrize(
    ("word", "doors"),
    [
        (
            r"typer\.(echo|secho|confirm)|click\.|\bConsole\(|sys\.std(out|err)\.write|(?<![\w.])print\(",
            ["cli/terminal.py", "notify.py"],  # warnings of a program that uses fkal as a library
        ),
        (r"\.to_csv\(|csv\.writer", ["results/csv_files.py"]),
    ],
)
def test_there_is_one_door(word, doors):
    files = [path for path in SOURCE.rglob("*.py") if re.search(word, path.read_text(encoding="utf-8"))]
    assert sorted(path.relative_to(SOURCE).as_posix() for path in files) == doors
