"""The JSON schema of a params file, for editors: made of the models, shipped as `fkal/schema/params.schema.json`.

`python -m fkal.config.json_schema` writes it again.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from fkal.acquisition.settings import COMBINE_NAMES, MATCHING_NAMES, WHITENING_NAMES
from fkal.config.params_file import Grid
from fkal.config.schema import Config
from fkal.core.labels import PSEUDO_LABELS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES: Mapping[str, tuple[str | bool, ...]] = {
    "pseudo_label": (*PSEUDO_LABELS, True),  # YAML reads `true` as a boolean
    "combine": COMBINE_NAMES,
    "matching": MATCHING_NAMES,
    "whitening": WHITENING_NAMES,
}
"""Settings of the acquisition that the models hold as text."""

FILE_SECTIONS: Mapping[str, Any] = {
    "grid": {
        "$ref": "#/$defs/Grid",
        "description": "What is compared: every dataset, ratio and method with each seed.",
    },
    "methods": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Names for methods with options, which stages of the pipeline can have: `{a: pcc@conv2}`.",
    },
    "datasets": {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/Settings"},
        "description": "The settings of each dataset of the grid, by its name.",
    },
    "tune": {
        "type": "object",
        "properties": {
            "space": {"type": "object", "description": "What `fkal tune` searches: a range or a list by key."}
        },
        "additionalProperties": False,
        "description": "The search space of `fkal tune`.",
    },
}


def schema_text() -> str:
    """The shipped schema.

    Returns:
        The JSON text of `fkal/schema/params.schema.json`, which `fkal config --schema` prints.
    """
    return _shipped().read_text(encoding="utf-8")


def params_schema() -> dict[str, Any]:
    """The schema as the models of the settings give it. Reads their source for what each key means."""
    settings = Config.model_json_schema()
    definitions = settings.pop("$defs")
    grid = Grid.model_json_schema()
    grid["properties"]["seeds"]["type"] = ["string", "integer"]  # `seeds: 0` is as good as `seeds: "0"`
    _describe(grid, Grid)
    for name, section in _sections().items():
        _describe(definitions[section.__name__], section)
        settings["properties"][name].pop("default", None)
    _describe(settings, Config)
    for key, names in NAMES.items():
        definitions["AcquisitionConfig"]["properties"][key]["enum"] = list(names)
        definitions["AcquisitionConfig"]["properties"][key].pop("type")
    return {
        "$schema": DIALECT,
        "title": "params.yaml of fkal",
        "description": "The settings of one experiment, or a grid of experiments and the settings of each dataset.",
        "type": "object",
        "properties": {**settings["properties"], **FILE_SECTIONS},
        "additionalProperties": False,
        "$defs": {**definitions, "Grid": grid, "Settings": settings},
    }


def _shipped() -> Path:
    return Path(str(files("fkal") / "schema" / "params.schema.json"))


def _sections() -> dict[str, type]:
    """The classes of the settings' sections by the name of the section."""
    fields = {name: field.annotation for name, field in Config.model_fields.items()}
    return {name: cls for name, cls in fields.items() if inspect.isclass(cls) and cls.__module__.endswith(".settings")}


def _describe(definition: dict[str, Any], cls: type) -> None:
    """Puts the docstrings of the fields into a definition; that of the class is for programmers."""
    meanings = field_docstrings(cls)
    definition["description"] = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
    for key, part in definition["properties"].items():
        if key in meanings:
            part["description"] = meanings[key]
        part.pop("title", None)


def field_docstrings(cls: type) -> dict[str, str]:
    """What the strings below the fields of a class and of its bases say, by field."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if each.__module__.startswith("fkal."):
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, text in zip(body.body, body.body[1:], strict=False):
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                        found[name] = " ".join(meaning.split())
    return found


if __name__ == "__main__":
    _shipped().write_text(json.dumps(params_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
