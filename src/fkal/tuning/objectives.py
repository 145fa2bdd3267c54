"""What a study makes large or small, from the rounds so far, all measured on held-out validation images."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fkal.config.schema import ConfigError
from fkal.engine.rounds import Round
from fkal.errors import did_you_mean
from fkal.results.curves import area_under_budget_curve
from fkal.runner.cost import PHASES

ACCURACY = "holdout/accuracy"
BALANCED = "holdout/macro_accuracy"
MINORITY = "holdout/minority_accuracy"


@dataclass(frozen=True)
class Objective:
    """`of(rounds)` after any number of rounds of one seed, from 0 to `largest`; seeds are averaged."""

    name: str
    title: str
    direction: Literal["maximize", "minimize"]
    of: Callable[[Sequence[Round]], float]
    largest: float = 1.0


def _area(rounds: Sequence[Round]) -> float:
    return area_under_budget_curve([r.labels_used for r in rounds], [r.metrics[ACCURACY] for r in rounds])


def _balanced_area(rounds: Sequence[Round]) -> float:
    return area_under_budget_curve([r.labels_used for r in rounds], [r.metrics[BALANCED] for r in rounds])


def acquisition_passes(rounds: Sequence[Round]) -> float:
    """Images through the model, forward and backward, to pick what is labeled; training is no part of it."""
    ways = [images for r in rounds for images in (r.forward_images, r.backward_images)]
    return float(sum(n for images in ways for phase, n in images.items() if PHASES["acquisition"](phase)))


OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        "aubc": Objective("aubc", "area under the held-out accuracy curve", "maximize", _area),
        "final": Objective("final", "final held-out accuracy", "maximize", lambda rounds: rounds[-1].metrics[ACCURACY]),
        "aubc_balanced": Objective(
            "aubc_balanced", "area under the held-out balanced accuracy curve", "maximize", _balanced_area
        ),
        "balanced": Objective(
            "balanced", "final held-out balanced accuracy", "maximize", lambda rounds: rounds[-1].metrics[BALANCED]
        ),
        "minority": Objective(
            "minority", "final held-out minority accuracy", "maximize", lambda rounds: rounds[-1].metrics[MINORITY]
        ),
        "cost": Objective("cost", "acquisition passes", "minimize", acquisition_passes, math.inf),
    }
)


def objectives(text: str) -> tuple[Objective, ...]:
    """`aubc`, or `aubc,cost`. Raises ConfigError for what is no objective."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise ConfigError(
                f"--objective {text!r}: {name!r} is unknown; {did_you_mean(name, OBJECTIVES)}known: {known}"
            )
    accuracies = [name for name in names if name != "cost"]
    if len(accuracies) != 1 or len(names) > 2 or len(set(names)) < len(names) or names[0] == "cost":
        raise ConfigError(f"--objective {text!r}: give one accuracy, say aubc, or one and the cost: aubc,cost")
    return tuple(OBJECTIVES[name] for name in names)
