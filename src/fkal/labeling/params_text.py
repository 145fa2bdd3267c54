"""The params file of a project: its first text with comments, and places that are added to it later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml

from fkal.atomic_files import write_whole
from fkal.config.documents import file_bytes
from fkal.config.params_file import MOST_EXPERIMENTS
from fkal.errors import ConfigError
from fkal.labeling.project import Part

KEYS: dict[Part, str] = {"pool": "pools", "validation": "validation", "test": "test"}
"""Keys of section `project` that list places."""


FROM_SCRATCH = """\
model:
  name: {model}  # see `fkal list models`
pretrain:
  task: rotation  # learns from unlabeled images before the first label; or none
  epochs: 10
  batch_size: 64
  lr: 0.05
  momentum: 0.5
  weight_decay: 0.0
  decay: 0.1
  decay_epochs: [6, 9]
train:
  epochs: 30
  batch_size: 20
  lr: 0.05
  momentum: 0.5
  weight_decay: 0.0
  decay: 0.1
  decay_epochs: [15, 25]
  start: warm  # each round goes on from the weights of the round before
acquisition:
  name: pfk  # these three are {method}, which fkal recommends for a network that learns
  pseudo_label: joint_shift_grid
  matching: {matching}  # {reason}
"""
"""A network that learns from the pool and from labels alone, and the method that suits it."""
MANY = 50
"""With so many validation images per class, on average, a network that learns gets `coverage`, with fewer `noisy_or`.
Held-out images chose both (docs/log.md)."""
FROZEN = """\
model:
  name: {model}  # torchvision:NAME, timm:NAME, or the file of an exported program, NAME.pt2
  weights: {weights}  # DEFAULT, a name, a file, or an id of the Hugging Face hub
pretrain:
  task: none
train:
  layers: frozen  # the pool is embedded once, and a linear head learns
  loss: balanced_softmax  # rare classes count as much as common ones
  on_validation: false  # true: validation images are trained on as well; set acquisition.name to random or base then
acquisition:
  name: pfk  # these three are weighted_coverage, which fkal recommends for a frozen backbone
  pseudo_label: joint_shift_grid
  matching: wcov
"""
"""A pretrained model under a linear head, and the method that suits it."""


class FirstParams(NamedTuple):
    """What the first params file of a project says of its own."""

    name: str
    pools: Sequence[str]
    validation: Sequence[str]
    test: Sequence[str]
    model: str
    weights: str | None
    """Of a pretrained model, which then is frozen under a linear head; None for one that learns from scratch."""
    image_size: int | None
    groups: str | None
    validation_per_class: float
    """Validation images per class, the mean; 0 without any."""
    budget: int
    budget_rule: str


def first_text(values: FirstParams) -> str:
    """YAML with comments; every place is one line of JSON, which YAML reads as well."""
    groups = "" if values.groups is None else f"\n  groups: {json.dumps(values.groups)}  # images that belong together"
    size = "null" if values.image_size is None else values.image_size
    return f"""\
# A project of fkal. `fkal config --schema` says what each setting means; places start from this folder.
project:
  name: {values.name}
  pools: {_flow(values.pools)}  # unlabeled images; more: fkal pool add PATH
  validation: {_flow(values.validation)}  # places of validation images; more: fkal val add PATH
  test: {_flow(values.test)}  # places of test images, which steer nothing
labels:
  resolve: error  # where people disagree: error, latest or majority
data:
  image_size: {size}  # pixels per side; null: the model's own, else the median of the pool{groups}
  workers: 2  # processes that decode image files
bias:
  kind: none  # the pool is used as it is
{_learning(values)}  budget: {values.budget}  # images per round; {values.budget_rule}
  rounds: 5
seed: 0
device: auto
"""


def _learning(values: FirstParams) -> str:
    """The sections of the model, of its training and of the method; the last one is continued."""
    if values.weights is None:
        has_many = values.validation_per_class >= MANY
        return FROM_SCRATCH.format(
            model=json.dumps(values.model),
            method="fisher_coverage" if has_many else "noisy_or",
            matching="coverage" if has_many else "noisy_or",
            reason=f"coverage from {MANY} validation images per class on, else noisy_or",
        )
    return FROZEN.format(model=json.dumps(values.model), weights=json.dumps(values.weights))


@contextmanager
def restored_on_failure(path: Path) -> Iterator[None]:
    """Gives the params file the content it had before, where the block does not end well."""
    before = file_bytes(path, str(path))
    try:
        yield
    except BaseException:
        write_whole(path, before)
        raise


def with_place(path: Path, part: Part, place: str) -> int:
    """The number of a place of a part, which is added to the params file if it is not there yet.

    The rest of the text stays as people wrote it.
    """
    text = file_bytes(path, str(path)).decode()
    project = _value(yaml.compose(text), "project")
    node = _value(project, KEYS[part])
    if not isinstance(project, yaml.MappingNode):
        raise ConfigError(f"{path}: has no section project; run fkal init again")
    if node is not None and not isinstance(node, yaml.SequenceNode):
        raise ConfigError(f"{path}: project.{KEYS[part]}: give a list of places")
    places = [] if node is None else [str(each.value) for each in node.value]
    if place in places:
        return places.index(place)
    if len(places) >= MOST_EXPERIMENTS:
        raise ConfigError(f"{path}: project.{KEYS[part]} has {len(places):,} places; list more images in one manifest")
    if node is None:
        text = _with_key(text, project, f"{KEYS[part]}: {_flow([place])}")
    elif node.flow_style or not places:
        text = f"{text[: node.start_mark.index]}{_flow([*places, place])}{text[node.end_mark.index :]}"
    else:
        text = _with_line(text, node, place)
    write_whole(path, text.encode())
    return len(places)


def _with_line(text: str, node: yaml.SequenceNode, place: str) -> str:
    """The text with a further line of a list that has a line per place."""
    last = node.value[-1].end_mark.index
    end = text.find("\n", last)
    end = len(text) if end < 0 else end
    return f"{text[:end]}\n{' ' * node.start_mark.column}- {json.dumps(place, ensure_ascii=False)}{text[end:]}"


def _with_key(text: str, section: yaml.MappingNode, key: str) -> str:
    """The text with a further key, the first of its section."""
    start = section.start_mark
    if section.flow_style:
        return f"{text[: start.index]}{{{key}, {text[start.index + 1 :]}"
    return f"{text[: start.index]}{key}\n{' ' * start.column}{text[start.index :]}"


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _flow(places: Sequence[str]) -> str:
    return json.dumps(list(places), ensure_ascii=False)
