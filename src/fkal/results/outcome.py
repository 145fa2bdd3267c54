"""Finished experiments, and which of them may be put side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fkal.config.schema import Config
from fkal.engine.rounds import Round
from fkal.escaping import file_stem
from fkal.experiment.names import bias_name, experiment_name, experiment_title, method_name, shown_name


@dataclass(frozen=True)
class Outcome:
    """A finished experiment: its iterations (without weights, which stay on disk) and where it is tracked."""

    config: Config
    fingerprint: str
    split_digest: str
    rounds: tuple[Round, ...]
    run_id: str
    tracking_uri: str

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
    """Experiments that may be compared: the same images, bias, protocol, labels an iteration and images measured."""

    dataset: str
    bias: str
    protocol: str
    budget: int
    measured: str = "test"

    @property
    def slug(self) -> str:
        """Names files."""
        paper = "-paper-protocol" if self.protocol == "paper" else ""
        held_out = "-holdout" if self.measured == "holdout" else ""
        return file_stem(f"{self.dataset}-{self.bias}{paper}{held_out}")


def by_cell(outcomes: Sequence[Outcome]) -> dict[Group, list[Outcome]]:
    groups: dict[Group, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(group_of(outcome), []).append(outcome)
    return groups


def group_of(outcome: Outcome) -> Group:
    config = outcome.config
    first = outcome.rounds[0]
    return Group(config.data.name, bias_name(config.bias), config.protocol, first.labels_used, first.measured)
