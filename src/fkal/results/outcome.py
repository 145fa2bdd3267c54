"""Finished experiments, and which of them may be put side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fkal.config.schema import Config, digest_of
from fkal.engine.settings import TrainConfig
from fkal.escaping import file_stem
from fkal.experiment.names import (
    bias_name,
    dataset_name,
    experiment_name,
    experiment_title,
    method_name,
    shown_name,
    training_words,
)

if TYPE_CHECKING:
    from fkal.engine.rounds import Round


@dataclass(frozen=True)
class Outcome:
    """A finished experiment: its rounds (without weights, which stay on disk) and where it is tracked."""

    config: Config
    fingerprint: str
    split_digest: str
    rounds: tuple[Round, ...]
    run_id: str
    tracking_uri: str
    data_digest: str = ""  # of the images; empty where an earlier version did not keep it

    @property
    def name(self) -> str:
        return experiment_name(self.config)

    @property
    def shown_name(self) -> str:
        """With the alias that the method has."""
        return shown_name(self.config)

    @property
    def title(self) -> str:
        """As MLflow shows it."""
        return experiment_title(self.config)

    @property
    def method(self) -> str:
        return method_name(self.config)


class Group(NamedTuple):
    """Experiments that may be compared: the same images, bias, protocol, labels per round and images measured.

    `data` is the digest of the images, empty where it is not known. `holdout`, `validation_per_class`, `per_class` (0:
    no limit) and `groups` decide which images a method sees, `loss` and `on_validation` how the model is trained.
    """

    dataset: str
    bias: str
    protocol: str
    budget: int
    measured: str = "test"
    data: str = ""
    holdout: int = 0
    validation_per_class: int = 0
    per_class: int = 0
    groups: str = ""
    loss: str = TrainConfig.loss
    on_validation: bool = TrainConfig.on_validation

    @property
    def slug(self) -> str:
        """Names files."""
        paper = "-paper-protocol" if self.protocol == "paper" else ""
        held_out = "-holdout" if self.measured == "holdout" else ""
        training = "".join(f"-{word}" for word in training_words(self.loss, on_validation=self.on_validation))
        return file_stem(f"{self.dataset}-{self.bias}{paper}{training}{held_out}")

    @property
    def training_title(self) -> str:
        """`, balanced_softmax loss, trained on validation images`; nothing of the usual training."""
        loss = "" if self.loss == TrainConfig.loss else f", {self.loss} loss"
        return loss + (", trained on validation images" if self.on_validation else "")


GROUPED = ("data", "holdout", "validation_per_class", "per_class", "groups", "loss", "on_validation")
"""Fields of a group that say, beside dataset, bias, protocol and labels, what may be compared."""
SHORT = 6
"""Digits of a digest that tell two trees of one name apart."""


def by_cell(outcomes: Sequence[Outcome]) -> dict[Group, list[Outcome]]:
    groups: dict[Group, list[Outcome]] = {}
    for outcome, group in zip(outcomes, groups_of(outcomes), strict=True):
        groups.setdefault(group, []).append(outcome)
    return groups


def groups_of(outcomes: Sequence[Outcome]) -> list[Group]:
    """The group of each.

    Earlier versions did not keep the digest of the images. Where it is unknown, the images of a registered dataset
    are those that the others of its name have, if these are one; an own tree goes by its path.
    """
    known: dict[str, set[str]] = {}
    for outcome in outcomes:
        if outcome.data_digest:
            known.setdefault(outcome.config.data.name, set()).add(outcome.data_digest)
    return [_group_of(outcome, known) for outcome in outcomes]


def distinctions(groups: Sequence[Group]) -> dict[Group, str]:
    """What titles say beyond dataset, bias and protocol, where groups that are alike in these differ.

    `, images 1a2b3c`, `, 5 held out per class`, `, 30 validation images per class`, or nothing.
    """
    alike: dict[str, list[Group]] = {}
    for group in groups:
        alike.setdefault(group.slug, []).append(group)
    return {group: _distinction(group, alike[group.slug]) for group in groups}


def _distinction(group: Group, alike: Sequence[Group]) -> str:
    words: Mapping[str, str] = {
        "data": f"images {group.data[:SHORT]}" if group.data else "images of unknown digest",
        "holdout": f"{group.holdout} held out per class",
        "validation_per_class": f"{group.validation_per_class} validation images per class",
        "per_class": f"{group.per_class:,} pool images per class" if group.per_class else "all pool images",
        "groups": f"groups {group.groups}" if group.groups else "no groups",
    }
    said = [word for name, word in words.items() if len({getattr(each, name) for each in alike}) > 1]
    return "".join(f", {word}" for word in said)


def _group_of(outcome: Outcome, known: Mapping[str, set[str]]) -> Group:
    config = outcome.config
    first = outcome.rounds[0]
    return Group(
        dataset=dataset_name(config.data),
        bias=bias_name(config.bias),
        protocol=config.protocol,
        budget=first.labels_used,
        measured=first.measured,
        data=outcome.data_digest or _assumed_digest(config, known.get(config.data.name, set())),
        holdout=config.holdout,
        validation_per_class=config.data.validation_per_class,
        per_class=config.data.per_class or 0,
        groups=config.data.groups or "",
        loss=config.train.loss,
        on_validation=config.train.on_validation,
    )


def _assumed_digest(config: Config, known: set[str]) -> str:
    if config.data.name == "folder":
        return digest_of([config.data.root, config.data.folder])
    return next(iter(known)) if len(known) == 1 else ""
