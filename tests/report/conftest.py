"""A scratch folder of finished experiments on the digits, without training: picks and confusions are drawn."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fkal.config.layers import Layer, from_file, merged, preset
from fkal.config.method_spec import method_layer
from fkal.config.schema import Config
from fkal.engine.evaluation import accuracies
from fkal.engine.rounds import Round, Selection
from fkal.experiment.experiment import Experiment, prepare
from fkal.experiment.names import method_name
from fkal.report.build import report, report_options
from fkal.report.load.local import from_runs
from fkal.results.checkpoint import Checkpoint
from fkal.results.manifest import about_bytes

METHODS = {"random": 0.42, "pfk_joint": 0.7, "coreset@fc1": 0.6, "all": 0.9}
"""And how often, about, each is right."""
SEEDS = {"random": (0, 1, 2), "pfk_joint": (0, 1, 2), "coreset@fc1": (1,), "all": (0, 1)}
BUDGET, ROUNDS = 20, 4


def settings(method: str, seed: int, ratio: int) -> Config:
    small = {
        "acquisition": {"budget": BUDGET, "rounds": ROUNDS},
        "bias": {"ratio": ratio},
        "seed": seed,
        "device": "cpu",
    }
    return merged([from_file(preset("digits"), "digits"), Layer("small", small), method_layer(method)])


def drawn_round(experiment: Experiment, b: int) -> Round:
    method, seed = method_name(experiment.config), experiment.seed
    generator = torch.Generator().manual_seed(100 * seed + b)
    pool, labels = experiment.split.pool, experiment.dataset.train.labels
    budget = len(pool) if method == "all" else BUDGET
    own = torch.Generator().manual_seed(10 * seed + list(METHODS).index(method))
    picked = pool[torch.randperm(len(pool), generator=own)][: b * budget]
    indices = picked[-budget:]
    right = METHODS[method] + 0.05 * b
    truth = experiment.dataset.test.labels
    guessed = torch.where(
        torch.rand(len(truth), generator=generator) < right,
        truth,
        torch.randint(10, (len(truth),), generator=generator),
    )
    confusion = torch.bincount(10 * truth + guessed, minlength=100).view(10, 10)
    fisher = method.startswith("pfk")
    descriptors = {} if method == "random" else {"descriptors": 1000 + b}
    return Round(
        b=b,
        labels_used=len(picked),
        selection=Selection(
            indices=indices,
            labels=labels[indices],
            matches=experiment.split.validation[:BUDGET] if fisher else None,
            pseudo_labels=labels[indices] if fisher else None,
        ),
        metrics={
            **accuracies(confusion, experiment.split.cut, prefix="test"),
            "val/accuracy": 0.5,
            **(_about_labels(b, seed) if fisher else {}),
        },
        train_loss=(1.0,),
        epoch=1,
        confusion=confusion,
        labeled_counts=tuple(labels[picked].bincount(minlength=10).tolist()),
        forward_images={**descriptors, "train": 10 * b, "evaluate": 100},
        backward_images={**descriptors, "train": 10 * b},
        seconds={**({"descriptors": 0.5 * b} if descriptors else {}), "select": 0.125, "train": 2.0},
        peak_memory_mb=None,
        weights=experiment.first_weights,
    )


def _about_labels(b: int, seed: int) -> dict[str, float]:
    return {
        "pseudo/accuracy": 0.7 + 0.01 * b,
        "pseudo/minority_precision": 0.3 + 0.02 * b - 0.01 * seed,
        "pseudo/minority_recall": 0.1 * b + 0.01 * seed,
        **{f"prior/estimated_{k}": 0.05 + 0.01 * k + 0.001 * seed for k in range(10)},
        **{f"prior/true_{k}": 0.1 for k in range(10)},
    }


def keep(experiment: Experiment, out: Path) -> None:
    """Its drawn rounds, as `fkal run` would leave them."""
    n = 1 if method_name(experiment.config) == "all" else ROUNDS
    with Checkpoint(out, experiment.fingerprint) as state:
        state.describe(about_bytes(experiment))
        for b in range(1, n + 1):
            state.add(drawn_round(experiment, b))


@pytest.fixture
def kept_experiment() -> Callable[..., None]:
    """Keeps one below a folder: method, seed, folder, and settings that are not the usual ones."""

    def keep_it(method: str, seed: int, out: Path, changes: dict[str, dict[str, object]] | None = None) -> None:
        usual = settings(method, seed, 20)
        config = merged([Layer("usual", usual.tree), Layer("changes", changes or {})])
        keep(prepare(config, out, lambda _: None), out)

    return keep_it


@pytest.fixture(scope="session")
def scratch(tmp_path_factory) -> Path:
    """As `fkal run --out` leaves it, two biases; coreset has one seed alone."""
    out = tmp_path_factory.mktemp("scratch") / "runs"
    for ratio in (1, 20):
        for method, seeds in SEEDS.items():
            for seed in seeds:
                keep(prepare(settings(method, seed, ratio), out, lambda _: None), out)
    return out


@pytest.fixture
def longer(scratch) -> Iterator[tuple[str, str]]:
    """Fingerprints of digits-ir20-random-s0 and, for as long as a test lasts, of one trained for longer."""
    usual = settings("random", 0, 20)
    changed = merged([Layer("usual", usual.tree), Layer("longer", {"train": {"epochs": 60}})])
    plain, other = (prepare(config, scratch, lambda _: None) for config in (usual, changed))
    keep(other, scratch)
    yield plain.fingerprint, other.fingerprint
    shutil.rmtree(scratch / "state" / other.fingerprint)


@pytest.fixture(scope="session")
def made(scratch, tmp_path_factory) -> Path:
    """The folder of a report on it."""
    to = tmp_path_factory.mktemp("report")
    report(from_runs(scratch, None), to, report_options(None, "60,75,99", "t", None))
    return to


@pytest.fixture(scope="session")
def configured() -> Callable[[str, int, int], Config]:
    """The settings of an experiment, by method, seed and ratio."""
    return settings
