"""Finished experiments, and which of them may be put side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fkal.engine.rounds import Round
from fkal.experiment import Experiment


@dataclass(frozen=True)
class Outcome:
    """An experiment that is finished, its iterations, and where it is tracked."""

    experiment: Experiment
    rounds: tuple[Round, ...]
    run_id: str
    tracking_uri: str


class Group(NamedTuple):
    """Experiments that may be compared: the same images, bias, protocol and labels an iteration."""

    dataset: str
    bias: str
    protocol: str
    budget: int

    @property
    def slug(self) -> str:
        paper = "-paper-protocol" if self.protocol == "paper" else ""
        return f"{self.dataset}-{self.bias}{paper}"


def by_cell(outcomes: Sequence[Outcome]) -> dict[Group, list[Outcome]]:
    groups: dict[Group, list[Outcome]] = {}
    for outcome in outcomes:
        config, experiment = outcome.experiment.config, outcome.experiment
        key = Group(config.data.name, experiment.bias, config.protocol, config.acquisition.budget)
        groups.setdefault(key, []).append(outcome)
    return groups
