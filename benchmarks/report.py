"""How long `fkal report` takes on a full grid of MNIST experiments.

    python benchmarks/report.py --data-root ~/datasets [--seeds 5] [--rounds 10]

The experiments (six methods, ratios 1 and 100) are not run: their picks, confusions and weights are drawn at random,
and everything is written as `fkal run` leaves it, so that the report reads, draws and describes as much as it would
of real ones. Prints the seconds of the whole command by the clock and of the processor.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fkal import config as configuration
from fkal.config import Layer
from fkal.edge.about import about_bytes
from fkal.edge.state import StateDirectory
from fkal.engine.evaluation import accuracies
from fkal.engine.rounds import Round, Selection
from fkal.experiment import Experiment, prepare

METHODS = ("random", "varr", "coreset@fc1", "pcc", "pfk_joint", "fisher_coverage")
RATIOS = (1, 100)
REPORT = "from fkal.edge.cli import app; app()"


def drawn(experiment: Experiment, b: int, right: float) -> Round:
    """An iteration whose model is right about so often."""
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


def keep_grid(out: Path, seeds: int, rounds: int, data_root: Path) -> int:
    preset = configuration.from_file(configuration.preset("mnist"), "mnist")
    for ratio in RATIOS:
        for place, method in enumerate(METHODS):
            for seed in range(seeds):
                own = {"seed": seed, "bias": {"ratio": ratio}, "data": {"root": str(data_root)}}
                own |= {"acquisition": {"rounds": rounds}}
                layers = [preset, configuration.method_layer(method), Layer("benchmark", own)]
                experiment = prepare(configuration.merged(layers), out, print)
                with StateDirectory(out, experiment.fingerprint) as state:
                    state.describe(about_bytes(experiment))
                    for b in range(1, rounds + 1):
                        state.add(drawn(experiment, b, 0.5 + 0.04 * b + 0.005 * place))
    return len(RATIOS) * len(METHODS) * seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out, to = Path(folder) / "runs", Path(folder) / "report"
        n = keep_grid(out, given.seeds, given.rounds, given.data_root.resolve())
        start, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-c", REPORT, "report", "--out", str(out), "--to", str(to)], check=True)
        wall, after = time.perf_counter() - start, os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        page = (to / "index.html").stat().st_size / 2**20
    print(f"{n} experiments: {wall:.0f} s by the clock, {spent:.0f} s of the processor, a page of {page:.1f} MiB")


if __name__ == "__main__":
    main()
