"""`fkal reproduce`: a finished experiment run again and held against its record."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import typer

from fkal.cli.exit import FAILED, cli_errors
from fkal.cli.options import DataRoot, Debug
from fkal.cli.report import KeptOut, KeptTracking, RunName
from fkal.cli.terminal import echo, say

if TYPE_CHECKING:
    from fkal.runner.reproduce import RoundComparison

REPRODUCE_EXAMPLES = (
    "Examples:\n\n    fkal reproduce digits-ir20-pfk_joint-s0\n\n"
    "    fkal reproduce mnist-ir100-pfk_joint-s0 --tracking-uri sqlite:///mlflow.db --data-root ~/datasets"
)
SHOWN = 3
"""Metrics of a round that are named where they differ."""


def reproduce(
    run: RunName,
    out: KeptOut = None,
    tracking_uri: KeptTracking = None,
    data_root: DataRoot = None,
    debug: Debug = False,
) -> None:
    """Run a finished experiment again from its own record, and compare picks and metrics round by round.

    The record has settings, seed, digests of images and split, and versions. Everything is made again in a folder that
    is then removed, and nothing is tracked. The exit code is 1 where a round differs.
    """
    with cli_errors(debug):
        from fkal.cli.progress import round_display
        from fkal.cli.show import found
        from fkal.experiment.device import device_named
        from fkal.results.manifest import made_with
        from fkal.runner.reproduce import reproduced

        (one,), _ = found([run], out, tracking_uri)
        for line in _changes(one.made_with, made_with(device_named(one.config.device))):
            say(line)
        display = round_display(as_json=False)
        rounds = []
        for each in reproduced(one, data_root, display.notify, display.one):
            rounds.append(each)
            echo(_line(each))
        equal = sum(each.is_equal for each in rounds)
        echo(f"{one.shown_name}: {equal} of {len(rounds)} rounds are the same to the last digit")
        if equal < len(rounds):
            raise typer.Exit(FAILED)


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What it was made with and what it is made with now, where these differ."""
    for name in before:
        if name in now and before[name] != now[name]:
            yield f"{name}: {before[name]} when it ran, {now[name]} now"


def _line(one: "RoundComparison") -> str:
    picks = "the same picks" if one.same_order else f"{one.same_picks} of {one.picks} picks the same"
    if not one.differing:
        return f"round {one.b}: {picks}, the same metrics"
    pairs = [f"{name} {_figure(was)} -> {_figure(is_now)}" for name, (was, is_now) in one.differing.items()]
    more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    return f"round {one.b}: {picks}; {', '.join(pairs[:SHOWN])}{more}"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"
