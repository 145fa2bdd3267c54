"""A finished experiment without its tensors: what `fkal show` and `fkal compare` print. Imports no torch."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load

from fkal.config.schema import Config, ConfigError
from fkal.data.regular_files import regular_bytes
from fkal.engine.measured import measured_part
from fkal.errors import first_line
from fkal.experiment.names import experiment_name, experiment_title, shown_name
from fkal.results.class_names import names_by_number
from fkal.results.round_facts import UnusableRound, read_facts, round_files

INDICES, LABELS = "selection.indices", "selection.labels"


@dataclass(frozen=True)
class RoundSummary:
    """One round: its figures, and the indices that it had labeled, in the order of picking.

    `labeled_counts` counts all labels so far by class, `selected_counts` those of this round. `measured` is the part
    that accuracies belong to: `holdout`, `test` or `val`.
    """

    b: int
    labels_used: int
    measured: str
    metrics: Mapping[str, float]
    labeled_counts: Sequence[int]
    selected_counts: Sequence[int]
    indices: Sequence[int]
    forward_images: Mapping[str, int]
    backward_images: Mapping[str, int]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class RunSummary:
    """One experiment.

    `data_digest` and `classes` are empty where an earlier version did not keep them; `made_with` has versions and
    hardware, as far as they were recorded.
    """

    config: Config
    fingerprint: str
    split_digest: str
    data_digest: str
    rounds: Sequence[RoundSummary]
    classes: tuple[str, ...]
    made_with: Mapping[str, str]

    @property
    def shown_name(self) -> str:
        """With the alias that the method has."""
        return shown_name(self.config)

    @property
    def names(self) -> tuple[str, ...]:
        """What people call it: by the long name or the alias of its method, or as MLflow does."""
        return experiment_name(self.config), self.shown_name, experiment_title(self.config)

    @property
    def known_classes(self) -> tuple[str, ...]:
        """The names of its classes, as it kept them or as the registry has them; nothing where neither knows them."""
        return names_by_number(self.config.data.name, len(self.rounds[-1].labeled_counts), [self.classes])


def counts_by_class(labels: Iterable[int], n_classes: int) -> list[int]:
    """How many of the labels each class has."""
    counts = Counter(labels)
    return [counts[k] for k in range(n_classes)]


def summaries_in(folder: Path) -> tuple[RoundSummary, ...]:
    """The rounds of a state folder in their order. Raises ConfigError for one that is not whole."""
    return tuple(_summary(path) for path in round_files(folder))


def _summary(path: Path) -> RoundSummary:
    try:
        facts = read_facts(regular_bytes(path))
        indices, labels = _selection(regular_bytes(path.with_suffix(".safetensors")), facts["sha256"])
    except (OSError, UnusableRound) as error:
        raise ConfigError(f"{path}: {first_line(error)}") from None
    return RoundSummary(
        b=facts["b"],
        labels_used=facts["labels_used"],
        measured=measured_part(facts["metrics"]),
        metrics=facts["metrics"],
        labeled_counts=facts["labeled_counts"],
        selected_counts=counts_by_class(labels, len(facts["labeled_counts"])),
        indices=indices,
        forward_images=facts["forward_images"],
        backward_images=facts["backward_images"],
        seconds=facts["seconds"],
    )


def _selection(tensor_bytes: bytes, sha256: str) -> tuple[list[int], list[int]]:
    """The indices that were picked, and their labels."""
    if hashlib.sha256(tensor_bytes).hexdigest() != sha256:
        raise UnusableRound("its safetensors file is not the one that was written with its JSON file")
    try:
        tensors = load(tensor_bytes)
        return [int(each) for each in tensors[INDICES]], [int(each) for each in tensors[LABELS]]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UnusableRound(f"its files are corrupt ({error})") from error
