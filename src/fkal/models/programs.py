"""Exported programs (pt2) as backbones: a graph of tensor operations and its weights, and nothing that runs as Python.

`torch.export.load` unpickles some kinds of content, compiles others, and evaluates the formulas of dynamic sizes. An
archive that has any content of these kinds is refused before it is loaded.
"""

import ast
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fkal.errors import ConfigError, MissingWeights, first_line, shortened
from fkal.models.licenses import NOT_STATED
from fkal.models.pretrained import Inputs, Pretrained
from fkal.models.settings import DEFAULT_WEIGHTS, ModelConfig
from fkal.models.weights_files import unpickled_tensors
from fkal.paths import at_home

CHANNELS = 3
HOLDS_CODE = ("data/aotinductor/", "data/executorch/")
"""Folders of an archive whose files are programs of the machine."""
PICKLED = ("custom_obj_", "opaque_obj_")
"""What the names of pickled objects start with."""
SYMBOL = re.compile(r"[a-z]+[0-9]+")
"""A dynamic size, such as s77."""
FUNCTION = re.compile(r"[A-Z][A-Za-z]*")
"""What formulas of sizes call, such as Symbol, Integer and Max."""
FORMULA_NODES = (
    ast.Expression,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
)
"""What formulas of sizes are made of; neither attributes nor anything that could reach beyond sizes."""


class Program(nn.Module):
    """An exported graph. It has no training mode; switching modes leaves it as it is."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def train(self, mode: bool = True) -> "Program":  # the graph's own raises
        return self

    def forward(self, x: Tensor) -> Any:  # a file decides what
        return self.graph(x)


def pretrained_program(config: ModelConfig) -> Pretrained:
    """The program of a file, whose output is the embedding of its images.

    Raises:
        MissingWeights: There is no such file.
        ConfigError: It is no exported program, it holds what would run as code, or it takes no batch of images.
    """
    path = at_home(config.name)
    if config.weights not in (None, DEFAULT_WEIGHTS):
        raise ConfigError(
            f"model.weights = {shortened(config.weights)}: an exported program has its weights in it; leave weights out"
        )
    if not path.is_file():
        raise MissingWeights(f"model.name = {shortened(config.name)}: there is no such file; put it there")
    content = path.read_bytes()
    _refuse_code(content, config.name)
    try:
        exported = torch.export.load(io.BytesIO(content))
    except Exception as error:  # torch.export's have no common class
        raise _unfit(config.name, first_line(error)) from error
    return Pretrained(
        name=config.name,
        model=Program(exported.module()),
        inputs=Inputs(size=_side(exported, config.name)),
        digest=hashlib.sha256(content).hexdigest(),
        license=NOT_STATED,
        is_program=True,
    )


def _side(exported: torch.export.ExportedProgram, name: str) -> int | None:
    """Pixels per side that the program takes; None where it takes any.

    Raises ConfigError for a program that takes something else than a batch of any size of color images.
    """
    names = exported.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in exported.graph.nodes if node.name in names]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise _unfit(name, "it does not take one batch of images (n, 3, height, width)")
    batch, channels, _, side = shapes[0]
    if isinstance(batch, int):
        raise _unfit(name, f"it takes only batches of {batch}")
    if isinstance(channels, int) and channels != CHANNELS:
        raise _unfit(name, f"it takes images of {channels} channels")
    return side if isinstance(side, int) else None


def _refuse_code(content: bytes, name: str) -> None:
    """Raises ConfigError for an archive with anything in it that loading would run, compile or evaluate."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {each.partition("/")[2]: each for each in archive.namelist()}
            if "archive_format" not in entries or archive.read(entries["archive_format"]) != b"pt2":
                raise _unfit(name, "it is not of the format pt2")
            for inner, entry in entries.items():
                _refuse_entry(inner, archive.read(entry), name)
    except (zipfile.BadZipFile, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise _unfit(name, first_line(error)) from error


def _refuse_entry(inner: str, content: bytes, name: str) -> None:
    if inner.startswith(HOLDS_CODE):
        raise _unfit(name, f"{inner} is compiled code")
    if Path(inner).name.startswith(PICKLED):
        raise _unfit(name, f"{inner} is a pickled object")
    if inner.endswith(".pt"):
        _refuse_pickle(inner, content, name)
    if inner.endswith(".json"):
        _refuse_values(inner, json.loads(content), name)


def _refuse_pickle(inner: str, content: bytes, name: str) -> None:
    try:
        unpickled_tensors(io.BytesIO(content))
    except Exception as error:  # what torch.load raises for bytes of another kind has no common class
        raise _unfit(name, f"{inner} would run code as it is unpickled") from error


def _refuse_values(inner: str, held: Any, name: str) -> None:
    for key, value in _items(held):
        if key == "use_pickle" and value:
            raise _unfit(name, f"{inner} names a pickled tensor")
        if key == "expr_str" and not _is_formula(value):
            raise _unfit(name, f"{inner} has the formula {shortened(value)}")


def _is_formula(value: Any) -> bool:
    """Whether a text is a formula of sizes alone; loading evaluates it."""
    try:
        nodes = list(ast.walk(ast.parse(value, mode="eval")))
    except (SyntaxError, TypeError, ValueError, RecursionError):
        return False
    return all(isinstance(node, FORMULA_NODES) and _is_plain(node) for node in nodes)


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return bool(SYMBOL.fullmatch(node.id) or FUNCTION.fullmatch(node.id))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return bool(SYMBOL.fullmatch(node.value))
    return not isinstance(node, ast.Constant) or isinstance(node.value, int | float)


def _items(held: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values at any depth."""
    waiting = [held]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield from each.items()
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _unfit(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"model.name = {shortened(name)}: not a program to embed by ({reason}); save one by torch.export.save, with a "
        "dynamic batch and images of three channels"
    )
