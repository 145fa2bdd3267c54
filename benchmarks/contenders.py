"""What each method's selection takes in CPU time and memory, against core-set's in the same run, on made-up evidence.

    python benchmarks/contenders.py [--pool 50000] [--width 512] [--p 125] [--labeled 1000] [--validation 10000]

Each method selects in a process of its own, one after another, so that peaks of memory are its own. CPU seconds are
those of all threads, which other work on the machine does not lengthen. Of EPIG, whose work is done while its evidence
is gathered, that work is timed, for `--samples` networks.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from fkal.acquisition.registry import ACQUISITIONS
from fkal.acquisition.settings import EPIG_TARGETS
from fkal.core.epig import epig
from fkal.core.evidence import (
    Calibrated,
    Coverage,
    Evidence,
    LastLayer,
    Outputs,
    Predictions,
    PredictiveInformation,
    Queried,
    Supervised,
)

BASELINE = "coreset"
CLASSES = 10
BATCH = 500


class Made:
    """Features of a class's direction under noise, half of them zero as after a ReLU, and logits of these."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.sizes = arguments
        self.draws = torch.Generator().manual_seed(0)
        self.weight = torch.randn(CLASSES, arguments.width, generator=self.draws) / arguments.width**0.5

    def outputs(self, n: int) -> Outputs:
        """Made in place, so that the peak before the selection is what the evidence takes."""
        features = torch.empty(n, self.sizes.width).normal_(generator=self.draws)
        for rows, y in zip(features.split(BATCH), self.labels(n).split(BATCH), strict=True):
            rows.add_(self.weight[y], alpha=self.sizes.width**0.5).clamp_(min=0)
        return Outputs(features @ self.weight.T, features)

    def labels(self, n: int) -> Tensor:
        return torch.randint(CLASSES, (n,), generator=self.draws)

    def evidence(self, needs: type[Evidence]) -> Evidence | None:
        pool = self.outputs(self.sizes.pool)
        labeled, y = self.outputs(self.sizes.labeled), self.labels(self.sizes.labeled)
        validation, y_v = self.outputs(self.sizes.validation), self.labels(self.sizes.validation)
        make: dict[type, Callable[[], Evidence]] = {
            Coverage: lambda: Coverage(pool.features, labeled.features),
            Predictions: lambda: Predictions(pool.logits),
            LastLayer: lambda: LastLayer(pool, self.weight),
            Supervised: lambda: Supervised(pool, labeled, y),
            Calibrated: lambda: Calibrated(pool, labeled, y, validation.logits, y_v),
            Queried: lambda: Queried(pool.features, validation.features),
        }
        return make[needs]() if needs in make else None


def epig_of_batches(arguments: argparse.Namespace) -> PredictiveInformation:
    draws = torch.Generator().manual_seed(0)

    def passes(n: int) -> Tensor:
        return torch.randn(arguments.samples, n, CLASSES, generator=draws).softmax(dim=2)

    targets = passes(EPIG_TARGETS)
    return PredictiveInformation(torch.cat([epig(passes(BATCH), targets) for _ in range(arguments.pool // BATCH)]))


def measure(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(arguments.threads)
    entry = ACQUISITIONS[name]
    evidence = Made(arguments).evidence(entry.needs.record)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    if evidence is None:
        evidence = epig_of_batches(arguments)
    picks = entry.select(evidence, arguments.p, torch.Generator().manual_seed(0))
    seconds = time.process_time() - start
    assert len(picks.positions.unique()) == arguments.p
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "extra_mb": (peak - before) / 1024}


def contenders() -> list[str]:
    needs = (Predictions, LastLayer, Supervised, Calibrated, Queried, PredictiveInformation)
    return [name for name, entry in ACQUISITIONS.items() if entry.needs.record in needs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"pool": 50_000, "width": 512, "p": 125, "labeled": 1_000, "validation": 10_000, "samples": 128}
    for name, value in {**sizes, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--methods", default=",".join(contenders()))
    parser.add_argument("--method", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        print(json.dumps(measure(arguments.method, arguments)))
        return
    baseline = None
    for name in (BASELINE, *arguments.methods.split(",")):
        command = [sys.executable, __file__, *sys.argv[1:], "--method", name]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        baseline = baseline or told
        ratios = [told[key] / max(baseline[key], 1e-9) for key in ("seconds", "extra_mb")]
        print(
            f"{name:>16}: {told['seconds']:6.2f} CPU s, {told['extra_mb']:6.0f} MB above its inputs; "
            f"{ratios[0]:.2f} of the time, {ratios[1]:.2f} of the memory of {BASELINE}",
            flush=True,
        )


if __name__ == "__main__":
    main()
