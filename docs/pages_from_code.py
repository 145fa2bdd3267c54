"""Pages of the site made of the code: command line, settings, methods. A hook of mkdocs.yml."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from fkal.acquisition.registry import ACQUISITIONS
from fkal.acquisition.settings import AcquisitionConfig
from fkal.cli.main import app
from fkal.config.json_schema import FILE_SECTIONS, params_schema


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages to those of the folder."""
    made = {"reference/cli.md": cli_page(), "reference/settings.md": settings_page(), "methods.md": methods_page()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def cli_page() -> str:
    """Every command with its options, as typer knows them."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command, info_name="fkal"), name="fkal", title="Command line")
    return text.replace("~", "\\~")


def settings_page() -> str:
    """Every key of a params file with its type, its default and what it does."""
    schema = params_schema()
    text = [
        "# Settings",
        "",
        "The keys of `params.yaml` and of `--set KEY=VALUE`. [How to set them](../guides/configure.md).",
        "",
    ]
    sections = [(key, _resolved(part, schema)) for key, part in schema["properties"].items()]
    plain = {key: part for key, part in sections if "properties" not in part and key not in FILE_SECTIONS}
    text += ["## Without a section", "", *_table("", plain.items())]
    for key, part in sections:
        if "properties" in part:
            text += [f"## {key}", "", part.get("description", ""), "", *_table(f"{key}.", part["properties"].items())]
    return "\n".join(text)


def _resolved(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = part.get("$ref", "").rpartition("/")[2]
    return {**schema["$defs"][name], **part} if name else part


def _table(prefix: str, keys: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, part in keys:
        default = json.dumps(part["default"]) if "default" in part else ""
        meaning = " ".join(part.get("description", "").split()).replace("|", "\\|")
        rows.append(f"| `{prefix}{key}` | {_type(part)} | {f'`{default}`' if default else ''} | {meaning} |")
    return [*rows, ""]


def _type(part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in part["enum"])
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_type(each) for each in part["anyOf"]))
    if part.get("type") == "array":
        return f"list of {_type(part['items'])}" if "items" in part else "list"
    if isinstance(part.get("type"), list):
        return " or ".join(_type({"type": each}) for each in part["type"])
    return {"null": "`null`", "object": "mapping", "string": "text", "integer": "whole number"}.get(
        part.get("type", ""), str(part.get("type", "any"))
    )


def methods_page() -> str:
    """The registry of acquisitions as a table."""
    text = [
        "# Methods",
        "",
        "Every acquisition that `fkal run --method` takes. [fisher_coverage, weighted_coverage and "
        "noisy_or](fisher_coverage.md) are short for `pfk_joint_shift_grid:coverage`, `:wcov` and `:noisy_or`. "
        "[Options of a name](guides/configure.md#names-of-methods) come after a colon.",
        "",
        "| name | picks by | needs | passes | source |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, entry in ACQUISITIONS.items():
        passes = entry.cost(AcquisitionConfig.pseudo_label, members=2).text
        cells = (f"`{name}`", entry.summary, entry.needs.summary, passes, entry.reference)
        text.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    text += [
        "",
        "Passes are images per round: N^b open pool images, M validation images, K passes or views, E models. "
        "Those of `pfk` come on top of the pseudo-label's, which `fkal list pseudo-labels` prints.",
        "",
        "[Decision 010](decisions/010-todays-contenders.md) says where a method departs from its paper.",
    ]
    return "\n".join(text)
