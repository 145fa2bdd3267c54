"""The JSON schema of params files: it is what the models say, and it takes what they take."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.config.json_schema import field_docstrings, params_schema, schema_text
from fkal.config.layers import presets
from fkal.config.schema import Config

ROOT = Path(__file__).resolve().parents[2]
FILES = {"params.yaml": ROOT / "params.yaml", **presets()}
TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def problems(value: Any, part: Mapping[str, Any], schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Where a value does not fit: types, names, enumerations and references, which is what this schema has."""
    if "$ref" in part:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    if "anyOf" in part:
        if all(list(problems(value, each, schema, where)) for each in part["anyOf"]):
            yield f"{where}: {value!r} fits none"
        return
    if "enum" in part and value not in part["enum"]:
        yield f"{where}: {value!r} is none of {part['enum']}"
    kinds = part.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, TYPES[kind]) for kind in kinds):
        yield f"{where}: {value!r} is no {kinds}"
    if isinstance(value, dict):
        for key, each in value.items():
            inner = part.get("properties", {}).get(str(key), part.get("additionalProperties", {}))
            if inner is False:
                yield f"{where}: unknown key {key}"
            elif isinstance(inner, dict):
                yield from problems(each, inner, schema, f"{where}.{key}")
    if isinstance(value, list):
        for each in value:
            yield from problems(each, part.get("items", {}), schema, f"{where}[]")


def test_the_shipped_schema_is_what_the_models_give():
    """`python -m fkal.config.json_schema` writes it again."""
    assert json.loads(schema_text()) == params_schema()


def test_config_prints_the_shipped_schema():
    result = CliRunner().invoke(app, ["config", "--schema"])
    assert (result.exit_code, result.stdout) == (0, schema_text())


def test_schema_refuses_options_that_it_ignores():
    result = CliRunner().invoke(app, ["config", "--schema", "--preset", "digits"])
    assert result.exit_code == 2 and "--schema cannot be combined with --preset" in result.stderr


@pytest.mark.parametrize("name", sorted(FILES))
def test_params_yaml_and_every_preset_fit_the_schema(name):
    schema = params_schema()
    assert list(problems(yaml.safe_load(FILES[name].read_text(encoding="utf-8")), schema, schema)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"train": {"learning_rate": 0.1}},
        {"train": {"epochs": "many"}},
        {"acquisition": {"matching": "luck"}},
        {"datasets": {"digits": {"bias": {"kind": "odd"}}}},
        {"grid": {"datasets": ["digits"]}},
        {"colour": "red"},
    ],
)
def test_what_the_settings_refuse_does_not_fit_the_schema(wrong):
    schema = params_schema()
    assert list(problems(wrong, schema, schema))


def test_params_yaml_names_the_schema_on_its_first_line():
    first = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (ROOT / first.partition("=")[2]).read_text(encoding="utf-8") == schema_text()


def test_every_setting_says_what_it_means():
    schema = params_schema()
    for name, field in Config.model_fields.items():
        if is_dataclass(field.annotation):
            described = schema["$defs"][field.annotation.__name__]["properties"]
            assert set(field_docstrings(field.annotation)) == set(described)
            assert all(part["description"].endswith(".") for part in described.values())
        else:
            assert schema["properties"][name]["description"]


def test_train_and_pretrain_inherit_what_their_settings_mean():
    schema = params_schema()
    assert schema["$defs"]["PretrainConfig"]["properties"]["lr"]["description"] == "Learning rate."
    assert field_docstrings(Config)["seed"] == "Seed of every random choice."
