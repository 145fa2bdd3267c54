"""What a configuration can name."""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TypeVar

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from fkal.acquisition import ACQUISITIONS
from fkal.config import ConfigError, presets
from fkal.core.pseudo_labels import PSEUDO_LABELS
from fkal.data.datasets import DATASETS
from fkal.models import MODELS

Row = dict[str, str]
T = TypeVar("T")


def _offered(known: Mapping[str, T], group: str) -> dict[str, T]:
    """What is built in, and what other packages offer as entry points of the group."""
    return {**known, **{point.name: point.load() for point in entry_points(group=group)}}


def _datasets() -> list[Row]:
    return [
        {"name": name, "what": entry.about, "files under the data root": "\n".join(entry.needs) or "none"}
        for name, entry in _offered(DATASETS, "fkal.datasets").items()
    ]


def _models() -> list[Row]:
    rows = [
        {"name": name, "what": entry.summary, "usual taps": ", ".join(entry.taps)}
        for name, entry in _offered(MODELS, "fkal.models").items()
    ]
    any_other = {"name": "...", "what": "any torchvision classification model by its name", "usual taps": "yours"}
    return [*rows, any_other]


def _acquisitions() -> list[Row]:
    return [
        {
            "name": name,
            "what": entry.summary,
            "needs": entry.needs.__name__,
            "options": ", ".join(entry.options) or "none",
            "reference": entry.reference,
        }
        for name, entry in _offered(ACQUISITIONS, "fkal.acquisitions").items()
    ]


def _pseudo_labels() -> list[Row]:
    return [
        {"name": name, "what": entry.summary, "reads true labels": "yes" if entry.sees_oracle else "no"}
        for name, entry in PSEUDO_LABELS.items()
    ]


def _presets() -> list[Row]:
    return [
        {"name": name, "what": path.read_text().splitlines()[0].lstrip("# "), "file": str(path)}
        for name, path in presets().items()
    ]


LISTS: Mapping[str, Callable[[], list[Row]]] = MappingProxyType(
    {
        "datasets": _datasets,
        "models": _models,
        "acquisitions": _acquisitions,
        "pseudo-labels": _pseudo_labels,
        "presets": _presets,
    }
)


def show(what: str, *, as_json: bool) -> None:
    """Print one of the lists. Raises ConfigError for one that does not exist."""
    if what not in LISTS:
        raise ConfigError(f"there is no list of {what!r}; choose one of {', '.join(LISTS)}")
    rows = LISTS[what]()
    if as_json:
        typer.echo(json.dumps({what: rows}))
        return
    table = Table(*rows[0], box=box.SIMPLE)
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)
