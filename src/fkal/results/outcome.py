"""Finished experiments, and which of them may be put side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fkal.config.schema import Config, digest_of
from fkal.engine.rounds import Round
from fkal.escaping import file_stem
from fkal.experiment.names import bias_name, dataset_name, experiment_name, experiment_title, method_name, shown_name


@dataclass(frozen=True)
class Outcome:
    """A finished experiment: its iterations (without weights, which stay on disk) and where it is tracked."""

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

    `data` is the digest of the images, empty where it is not known; `holdout` and `validation_per_class` decide which
    images a method sees.
    """

    dataset: str
    bias: str
    protocol: str
    budget: int
    measured: str = "test"
    data: str = ""
    holdout: int = 0
    validation_per_class: int = 0

    @property
    def slug(self) -> str:
        """Names files."""
        paper = "-paper-protocol" if self.protocol == "paper" else ""
        held_out = "-holdout" if self.measured == "holdout" else ""
        return file_stem(f"{self.dataset}-{self.bias}{paper}{held_out}")


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
    )


def _assumed_digest(config: Config, known: set[str]) -> str:
    if config.data.name == "folder":
        return digest_of([config.data.root, config.data.folder])
    return next(iter(known)) if len(known) == 1 else ""
