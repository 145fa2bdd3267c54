"""What a reader needs to trust the page: settings, seeds, versions, digests, and commands that make it again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from fkal.config.machine import MACHINE_KEYS
from fkal.config.method_spec import short_method_name
from fkal.report.exhibit import Exhibit, Section, Shown
from fkal.report.experiments import Finished
from fkal.report.figures.picked_images import file_name
from fkal.report.format import MISSING, seeds_text
from fkal.report.panels import Panel


class Recipe(NamedTuple):
    """How one cell is run again: the settings file that the report writes, and the command that reads it.

    Where the images are is no part of it: FKAL_DATA_ROOT or --data-root says that on each machine.
    """

    name: str
    file: str
    settings: str
    command: str


def recipes(panels: Sequence[Panel], to: Path) -> list[Recipe]:
    """One a panel and method, with the settings that its seeds share; `to` is the report's folder."""
    return [_recipe(p, method, p.experiments(method), to) for p in panels for method in p.methods if p.finished]


def experiments_exhibit(panels: Sequence[Panel], dotted: Sequence[Finished] = ()) -> Exhibit:
    """Those of the panels, and `dotted`, the ones behind the line of all labels."""
    shown = [each for panel in panels for method in panel.methods for each in panel.experiments(method)]
    rows = [_row(each) for each in [*shown, *dotted]]
    named = [[each.outcome.shown_name, *row[1:]] for each, row in zip([*shown, *dotted], rows, strict=True)]
    head = ["experiment", "fingerprint", "split", "data", "git commit", "made with"]
    if not rows:
        return Exhibit("experiments", "Experiments", missing="Experiments: curves alone were read.")
    return Exhibit(
        "experiments",
        "Experiments",
        "Digests cover content: equal ones are equal data. –: not recorded.",
        numbers=pd.DataFrame(rows, columns=head),
        shown=Shown(head, named, left=len(head)),
        folded=True,
        wide=True,
    )


def figures_exhibit(sections: Sequence[Section], command: str) -> Exhibit:
    """Which files hold each figure, and the command that makes it."""
    rows = [
        [
            each.title,
            f"figures/{each.name}.png, .svg",
            f"tables/{each.name}.csv" if each.numbers is not None else MISSING,
            command,
        ]
        for section in sections
        for each in section.exhibits
        if each.figure is not None
    ]
    head = ["figure", "files", "numbers", "made by"]
    table = pd.DataFrame(rows, columns=head)
    dash = f"{MISSING}: no table belongs to the figure." if any(MISSING in row for row in rows) else ""
    return Exhibit("figures", "Figures", dash, numbers=table, shown=Shown(head, rows, left=4), folded=True, wide=True)


def _recipe(panel: Panel, method: str, experiments: Sequence[Finished], to: Path) -> Recipe:
    name = f"{panel.name}-{file_name(method)}"
    file = f"settings/{name}.yaml"
    settings = {k: v for k, v in experiments[0].outcome.config.tree.items() if k != "seed"}
    settings["data"] = {k: v for k, v in settings["data"].items() if k not in MACHINE_KEYS}
    seeds = seeds_text(each.outcome.config.seed for each in experiments).replace(" ", "")
    command = ["fkal", "run", "--params", str(to / file), "--untuned", "--seeds", seeds]
    shown = f"{panel.name}-{short_method_name(method)}"
    return Recipe(shown, file, _yaml(settings), shlex.join(command))


def _yaml(settings: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)


def _row(each: Finished) -> list[str]:
    made = dict(each.made_with)
    commit = made.pop("git commit", MISSING)
    return [
        each.outcome.name,
        each.outcome.fingerprint,
        each.outcome.split_digest or MISSING,
        each.split.data_digest if each.split else MISSING,
        commit,
        ", ".join(f"{name} {value}" for name, value in made.items()) or MISSING,
    ]
