"""Experiments that were not run: picks, confusions and weights are drawn at random, and kept as `fkal run` does."""

from pathlib import Path

import torch

from fkal.engine.evaluation import accuracies
from fkal.engine.rounds import Round, Selection
from fkal.experiment.experiment import Experiment
from fkal.results.checkpoint import Checkpoint
from fkal.results.manifest import about_bytes


def keep_drawn(experiment: Experiment, out: Path, better: float) -> None:
    """All rounds of it in the scratch folder `out`; the accuracies are by so much `better`."""
    with Checkpoint(out, experiment.fingerprint) as state:
        state.describe(about_bytes(experiment))
        for b in range(1, experiment.rounds + 1):
            state.add(drawn(experiment, b, 0.5 + 0.04 * b + better))


def drawn(experiment: Experiment, b: int, right: float) -> Round:
    """A round whose model is right about so often."""
    budget, split = experiment.config.acquisition.budget, experiment.split
    labels, truth = experiment.dataset.train.labels, experiment.dataset.test.labels
    order = split.pool[torch.randperm(len(split.pool), generator=torch.Generator().manual_seed(experiment.seed))]
    draws = torch.Generator().manual_seed(100 * experiment.seed + b)
    wrong = torch.rand(len(truth), generator=draws) > right
    guessed = torch.where(wrong, torch.randint(10, (len(truth),), generator=draws), truth)
    confusion = torch.bincount(10 * truth + guessed, minlength=100).view(10, 10)
    picked = order[(b - 1) * budget : b * budget]
    pseudo = {f"pseudo/{name}": 0.5 for name in ("accuracy", "minority_precision", "minority_recall")}
    prior = {f"prior/{kind}_{k}": 0.1 for kind in ("estimated", "true") for k in range(10)}
    return Round(
        b=b,
        labels_used=b * budget,
        selection=Selection(indices=picked, labels=labels[picked], matches=split.validation[:budget]),
        metrics={
            **accuracies(confusion, experiment.split.cut, prefix="test"),
            "val/accuracy": right,
            **pseudo,
            **prior,
        },
        train_loss=(0.1,) * experiment.config.train.epochs,
        epoch=experiment.config.train.epochs,
        confusion=confusion,
        labeled_counts=tuple(labels[order[: b * budget]].bincount(minlength=10).tolist()),
        forward_images={"descriptors": 60_000, "train": 50 * b * budget, "evaluate": 20_000},
        backward_images={"descriptors": 60_000, "train": 50 * b * budget},
        seconds={"descriptors": 20.0, "select": 2.0, "train": 2.0 * b, "evaluate": 2.0},
        peak_memory_mb=None,
        weights=experiment.first_weights,
    )
