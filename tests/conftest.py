"""Real data where there are any, hand-made experiments and rounds, and an empty MLflow store: nothing is trained."""

import gc
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.testing
from _pytest.unraisableexception import gc_collect_iterations_key
from torch import nn

from fkal.data.datasets import Dataset
from fkal.data.images import TensorImages
from fkal.data.settings import BiasConfig, DataConfig
from fkal.data.splits import Split, draw_split, write_split
from fkal.engine.rounds import Round, Selection
from fkal.experiment.experiment import Loadable
from fkal.models.lenet import LeNet
from fkal.results.checkpoint import Checkpoint
from fkal.tracking import (
    mlflow_env,  # noqa: F401  MLflow reads its settings while it is imported
    store_file,
)

MAKE_STORE = store_file._make
REPOSITORY = Path(__file__).resolve().parents[1]
CLASSES = ("cat", "dog", "owl")
BUDGET = 6


def tiny_dataset(side: int = 8) -> Dataset:
    def part(word: str, n: int, seed: int) -> TensorImages:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(256, (n, 1, side, side), dtype=torch.uint8, generator=generator)
        return TensorImages(pixels, torch.arange(n) % 3, CLASSES, mean=(0.5,), std=(0.5,), names=word)

    return Dataset("tiny", part("train", 90, 0), part("test", 12, 1), "second_half")


@dataclass(frozen=True)
class StandIn:
    """What tracking reads of an experiment."""

    split_path: Path
    split: Split
    dataset: Dataset = field(default_factory=tiny_dataset)
    name: str = "tiny-ir2-pfk_joint-s0"
    title: str = "pfk_joint s0 tiny ir2"
    method_title: str = "pfk_joint tiny ir2"
    method_digest: str = "fedcba9876543210"
    cell: str = "tiny-ir2-pfk_joint"
    fingerprint: str = "0123456789abcdef0123456789abcdef"
    seed: int = 0
    params: Mapping[str, Any] = field(
        default_factory=lambda: {
            "data.name": "tiny",
            "train.lr": 0.1,
            "train.nesterov": True,
            "acquisition.taps": '["conv1","fc1"]',
            "acquisition.budget": BUDGET,
        }
    )
    tags: Mapping[str, str] = field(
        default_factory=lambda: {"dataset": "tiny", "bias": "ir2", "method": "pfk_joint", "protocol": "last"}
    )
    protocol: str = "last"
    model: nn.Module = field(default_factory=lambda: LeNet(1, 8, 8, 3))
    rounds: int = 3
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def read_params(self) -> Mapping[str, Any]:
        return self.params

    def command(self, seeds: Sequence[int]) -> str:
        return f"fkal run --preset tiny --method {self.tags['method']} --seeds {','.join(map(str, seeds))}"

    def round_title(self, b: int) -> str:
        return f"{self.tags['method']} s{self.seed} round {b}"

    def loadable(self, weights: Mapping[str, torch.Tensor], n: int) -> Loadable:
        (examples,) = self.dataset.train.batches([self.split.validation[:n]], device="cpu")
        return Loadable(self.model, weights, examples)


def make_stand_in(folder: Path, **changes: Any) -> StandIn:
    dataset = tiny_dataset()
    split = draw_split(dataset, DataConfig(name="tiny", validation_per_class=3), BiasConfig(ratio=2.0), seed=0)
    path = folder / "tiny-ir2-s0.json"
    write_split(split, path)
    return replace(StandIn(path, split, dataset), **changes)


def make_round(experiment: StandIn, b: int, *, accuracy: float | None = None) -> Round:
    """Round b; equal calls give equal rounds."""
    generator = torch.Generator().manual_seed(b)
    indices = experiment.split.pool[(b - 1) * BUDGET : b * BUDGET]
    labels = experiment.dataset.train.labels[indices]
    matches = experiment.split.validation[torch.randint(9, (BUDGET,), generator=generator)]
    return Round(
        b=b,
        labels_used=b * BUDGET,
        selection=Selection(
            indices=indices,
            labels=labels,
            ranks=torch.arange(BUDGET),
            scores=torch.rand(BUDGET, generator=generator),
            matches=matches,
            pseudo_labels=(labels + (torch.arange(BUDGET) == 1)) % 3,
        ),
        metrics={
            "test/accuracy": 0.1 + 0.2 * b + 1 / 3e9 if accuracy is None else accuracy,
            "val/accuracy": 0.15 * b,
            "select/minority_fraction": 1 / 3,
            "select/targets": 9.0,
        },
        train_loss=(1 / 3, 0.1 * b),
        epoch=2,
        confusion=torch.arange(9).reshape(3, 3),
        labeled_counts=(2 * b, 2 * b, 2 * b),
        forward_images={"descriptors": 90, "train": 12 * b},
        backward_images={"descriptors": 90, "train": 12 * b},
        seconds={"descriptors": 0.25, "train": 0.5},
        peak_memory_mb=None,
        weights={k: torch.randn(v.shape, generator=generator) for k, v in experiment.model.state_dict().items()},
    )


typer.testing._get_command = lru_cache(typer.testing._get_command)
"""The program's commands are the same in every test; it takes 10 ms to put them together."""


def pytest_configure(config: pytest.Config):
    torch.set_num_threads(1)
    config.stash[gc_collect_iterations_key] = 1  # at the end; five of them take ten seconds on so many objects


def pytest_collection_finish():
    """What is there now stays: the collector need not look at it each time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Where real datasets are: FKAL_DATA_ROOT, else data/."""
    return Path(os.environ.get("FKAL_DATA_ROOT", REPOSITORY / "data")).resolve()


@pytest.fixture(scope="session")
def mnist_root(data_root) -> Path:
    if not (data_root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"real MNIST is not under {data_root}; set FKAL_DATA_ROOT to the folder that holds MNIST/raw")
    return data_root


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    """What the developer has set for fkal or MLflow must not reach the tests."""
    for name in list(os.environ):
        if name.startswith("FKAL_") or name == "MLFLOW_TRACKING_URI":
            monkeypatch.delenv(name)


@pytest.fixture
def use_store() -> Iterator[Callable[[str], None]]:
    """Sets the store of MLflow's own functions, which the next test of this process does not see."""
    import mlflow

    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(None)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def experiment(tmp_path: Path) -> StandIn:
    return make_stand_in(tmp_path)


@pytest.fixture
def tiny_round() -> Callable[..., Round]:
    return make_round


@pytest.fixture
def said() -> list[str]:
    """What is said to the user: pass `said.append`."""
    return []


@pytest.fixture
def state(tmp_path: Path, experiment: StandIn):
    with Checkpoint(tmp_path / "out", experiment.fingerprint) as opened:
        yield opened


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, by the program itself."""
    from fkal.tracking.store import prepare_store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_file, "_make", MAKE_STORE)
        prepare_store(f"sqlite:///{path}")
    return path


def copy_of_store(empty_store: Path, new: Path) -> None:
    """As if it had been made at that place."""
    shutil.copy(empty_store, new)
    with closing(sqlite3.connect(new)) as opened, opened:
        folder = (new.parent / store_file.ARTIFACTS).as_uri()
        opened.execute("UPDATE experiments SET artifact_location = ?", (f"{folder}/0",))


@pytest.fixture(autouse=True)
def new_stores_are_copies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of an empty store are always the same, and each making of them takes a second."""

    def copy(new: Path) -> None:
        copy_of_store(request.getfixturevalue("empty_store"), new)

    monkeypatch.setattr(store_file, "_make", copy)


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> str:
    """The address of a store of its own."""
    copy_of_store(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"
