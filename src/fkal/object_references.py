"""Objects by name: `package.module:name` references and other packages' entry points, imported when first used."""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any


def resolved(reference: str) -> Any:
    """The object that a reference such as `fkal.acquisition.random:select` names; its module is imported."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def offered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name; none of them is loaded."""
    return {point.name: point for point in entry_points(group=group)}
