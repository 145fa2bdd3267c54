"""Bills: what an experiment costs by Table 1, by what its method should pass here, and as it was counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

from fkal.acquisition.cost import (
    EMBEDDING,
    EVALUATION,
    EVALUATION_EACH_EPOCH,
    EVALUATION_ON_TEST,
    EVALUATION_ON_TEST_EACH_EPOCH,
    EVALUATION_ONCE,
    NO_PASS,
    Cost,
    Formula,
    Passes,
    Sizes,
    letters_in,
    training,
)
from fkal.acquisition.registry import acquisition_of
from fkal.engine.cross_fitting import folds
from fkal.experiment.experiment import Experiment
from fkal.experiment.names import ensemble_size
from fkal.notify import Notify
from fkal.results.checkpoint import Checkpoint
from fkal.results.round_facts import PassCounts

PHASES: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "acquisition": lambda phase: phase not in ("train", "evaluate"),
        "training": lambda phase: phase == "train",
        "evaluation": lambda phase: phase == "evaluate",
    }
)
"""Which of the meter's phases belong to each: the acquisition has all that is neither training nor evaluation."""

VARYING = ("N^b", "N_b", "N_(b-1)")
"""Letters whose value is another in each round."""


@dataclass(frozen=True)
class PassCount:
    """Passes of one phase: by Table 1 (None: it has no such row), as they should be, as counted (None: not run)."""

    table_1: int | None
    expected: Passes
    counted: Passes | None

    @property
    def differs(self) -> bool:
        return self.counted is not None and self.counted != self.expected

    @property
    def ratio(self) -> float | None:
        """Counted to Table 1."""
        return self.counted.total / self.table_1 if self.counted and self.table_1 else None

    def plus(self, other: "PassCount") -> "PassCount":
        return PassCount(
            None if self.table_1 is None or other.table_1 is None else self.table_1 + other.table_1,
            self.expected.plus(other.expected),
            None if self.counted is None or other.counted is None else self.counted.plus(other.counted),
        )


Figures = Mapping[str, PassCount]
"""By the names of `PHASES`."""


@dataclass(frozen=True)
class Iteration:
    """What round b costs, and of what sizes that is made."""

    b: int
    sizes: Sizes
    figures: Figures


@dataclass(frozen=True)
class CostReport:
    """What an experiment costs, round by round; `notes` say what its figures do not."""

    name: str
    method: str
    seed: int
    fingerprint: str
    cost: Cost
    evaluation: Formula
    iterations: tuple[Iteration, ...]
    finished: int
    notes: tuple[str, ...]

    @property
    def letters(self) -> dict[str, int | float]:
        """Those of the formulas' letters that all rounds share."""
        printed = self.cost.printed.text if self.cost.printed else ""
        texts = (self.cost.text, printed, self.cost.training.text, self.evaluation.text)
        values = self.iterations[0].sizes.letters
        return {letter: values[letter] for letter in letters_in(*texts) if letter not in VARYING}

    @property
    def total(self) -> Figures:
        return _sum(self.iterations)

    @property
    def so_far(self) -> Figures | None:
        """The sum of the finished rounds, where some are finished and some are not."""
        return _sum(self.iterations[: self.finished]) if 0 < self.finished < len(self.iterations) else None

    @property
    def differences(self) -> list[str]:
        return [
            f"{self.name}, round {each.b}, {phase}: {_shown(figure.counted)}, should be {_shown(figure.expected)}"
            for each in self.iterations
            for phase, figure in each.figures.items()
            if figure.differs and figure.counted
        ]


def bill_of(experiment: Experiment, out: Path, say: Notify) -> CostReport:
    """What it costs by the formulas, and what its finished rounds under `out` have counted."""
    config = experiment.config.acquisition
    entry = acquisition_of(config)
    is_frozen = experiment.config.is_frozen
    cost = EMBEDDING if is_frozen else entry.cost(config.pseudo_label, members=ensemble_size(experiment.config))
    counted = Checkpoint(out, experiment.fingerprint).counted(say)[: experiment.rounds]
    return CostReport(
        name=experiment.name,
        method=experiment.method,
        seed=experiment.seed,
        fingerprint=experiment.fingerprint,
        cost=cost,
        evaluation=_evaluation(experiment),
        iterations=tuple(
            _iteration(experiment, b, cost, counted[b - 1] if b <= len(counted) else None)
            for b in range(1, experiment.rounds + 1)
        ),
        finished=len(counted),
        notes=_notes(experiment, cost, random_first=entry.random_first and not is_frozen),
    )


def sizes_of(experiment: Experiment, b: int) -> Sizes:
    """The sizes of round b, which nothing has to be run for."""
    config, vaal = experiment.config, experiment.config.vaal
    before = (b - 1) * experiment.budget
    return Sizes(
        unlabeled=len(experiment.split.pool) - before,
        labeled_before=before,
        labeled=before + experiment.budget,
        validation=len(experiment.problem.validation),
        test=len(experiment.problem.test),
        classes=len(experiment.dataset.classes),
        epochs=config.train.epochs,
        samples=config.acquisition.samples,
        members=ensemble_size(config),
        vae_images=vaal.iterations * vaal.vae_steps * 2 * vaal.batch_size,
        discriminator_images=vaal.iterations * vaal.discriminator_steps * 2 * vaal.batch_size,
    )


def _iteration(experiment: Experiment, b: int, cost: Cost, counted: PassCounts | None) -> Iteration:
    sizes, is_frozen = sizes_of(experiment, b), experiment.config.is_frozen
    at_random = b == 1 and acquisition_of(experiment.config.acquisition).random_first and not is_frozen
    table_1 = 0 if at_random else cost.printed.passes(sizes) if cost.printed else None
    expected = {
        "acquisition": (NO_PASS if at_random else cost).passes(sizes),
        "training": Passes(0, 0) if is_frozen else _training(experiment, sizes),
        "evaluation": Passes(_evaluation(experiment).passes(sizes), 0),
    }
    printed = {
        "acquisition": table_1,
        "training": None if is_frozen else cost.training.passes(sizes),
        "evaluation": None,
    }
    figures = {phase: PassCount(printed[phase], expected[phase], _passes(counted, phase)) for phase in PHASES}
    return Iteration(b, sizes, figures)


def _training(experiment: Experiment, sizes: Sizes) -> Passes:
    """With validation images that are trained on, a network for each fold learns beside the model."""
    if not experiment.trains_on_validation:
        return training(sizes)
    problem, n, m = experiment.problem, sizes.labeled, sizes.validation
    groups = None if problem.groups is None else problem.groups[problem.validation]
    fold = folds(problem.train.labels[problem.validation], groups, torch.Generator().manual_seed(0))
    n_folds = int(fold.max()) + 1
    seen = sizes.epochs * (sizes.members * (n + m) + n_folds * (n + m) - m)
    return Passes(seen + m, seen)


def _evaluation(experiment: Experiment) -> Formula:
    if experiment.config.is_frozen:
        return EVALUATION_ONCE
    each_epoch = experiment.config.epoch == "best_on_test"
    if experiment.trains_on_validation:
        return EVALUATION_ON_TEST_EACH_EPOCH if each_epoch else EVALUATION_ON_TEST
    return EVALUATION_EACH_EPOCH if each_epoch else EVALUATION


def _passes(counted: PassCounts | None, phase: str) -> Passes | None:
    if counted is None:
        return None
    ways = (counted.forward_images, counted.backward_images)
    return Passes(*(sum(n for name, n in images.items() if PHASES[phase](name)) for images in ways))


def _sum(iterations: Sequence[Iteration]) -> Figures:
    first, *others = (each.figures for each in iterations)
    total = dict(first)
    for figures in others:
        total = {phase: total[phase].plus(figure) for phase, figure in figures.items()}
    return total


def _notes(experiment: Experiment, cost: Cost, *, random_first: bool) -> tuple[str, ...]:
    """Why Table 1 and the count are what they are, in one line."""
    if cost.printed is None:
        notes = ["Table 1 has no such method"]
    elif cost.printed.text == cost.text:
        notes = ["they agree"]
    else:
        notes = ["Table 1 counts otherwise"]
    notes += [cost.why] if cost.why else []
    notes += ["b = 1 picks at random, in the paper as well: 0 passes"] if random_first else []
    if experiment.trains_on_validation:
        notes += ["validation images are trained on and cross-fitted, which Table 1 does not have"]
    notes += ["backward passes of training reach the head alone"] if experiment.config.train.layers == "head" else []
    return tuple(notes)


def _shown(passes: Passes) -> str:
    return f"{passes.forward:,} forward and {passes.backward:,} backward"
