"""Options are declared once, and a record of them is a command's argument."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

import fkal.cli
from fkal.cli import options
from fkal.cli.main import app
from fkal.cli.options import Settings, expanded
from fkal.paths import TUNED


@dataclass(frozen=True)
class Pair:
    left: Annotated[int, typer.Option(help="The first.")] = 1
    right: Annotated[str | None, typer.Option("--other", help="The second.")] = None


def test_the_fields_of_a_record_are_options_in_its_place():
    taken = []
    one = typer.Typer()

    @one.command()
    @expanded
    def command(context: typer.Context, *, first: str = "a", pair: Pair, last: bool = False) -> None:
        """What it does."""
        taken.append((first, pair, last, context.get_parameter_source("left").name))

    runner = CliRunner()
    assert runner.invoke(one, ["--other", "x", "--left", "3", "--last"]).exit_code == 0
    assert runner.invoke(one, []).exit_code == 0
    assert taken == [("a", Pair(3, "x"), True, "COMMANDLINE"), ("a", Pair(), False, "DEFAULT")]
    page = runner.invoke(one, ["--help"]).output
    assert "What it does." in page
    assert re.findall(r"--(first|left|other|last)\b", page)[:4] == ["first", "left", "other", "last"]


def test_settings_become_the_sources_of_a_configuration():
    sources = Settings(preset="digits", assignments=["seed=3"], data_root=Path("d")).sources(untuned=True)
    assert (sources.preset, list(sources.assignments), sources.data_root, sources.tuned) == (
        "digits", ["seed=3"], Path("d"), None,
    )  # fmt: skip
    assert Settings().sources().tuned == TUNED


def test_no_option_of_several_commands_is_declared_outside_the_options():
    folder = Path(fkal.cli.__file__).parent
    shared = [name for name, kind in vars(options).items() if hasattr(kind, "__metadata__")]
    assert {"Preset", "Params", "Set", "DataRoot", "Out", "Tracking", "Json", "DryRun", "Debug"} <= set(shared)
    helps = {vars(options)[name].__metadata__[0].help for name in shared}
    others = [path for path in folder.glob("*.py") if path.name != "options.py"]
    repeated = [(path.name, text) for path in others for text in helps if f'help="{text}"' in path.read_text()]
    assert repeated == []


def test_every_command_has_help_and_examples():
    runner = CliRunner()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        page = runner.invoke(app, [name, "--help"])
        assert page.exit_code == 0 and f"fkal {name}" in page.output, name
