"""An experiment: names become objects, seeds are set, nothing else.

`prepare` refuses what cannot work before any work is done; `Experiment.events` then yields the
`Progress` and the `Round`s of one (dataset, bias, method, seed).
"""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fkal.acquisition import Acquisition, acquisition
from fkal.config.schema import Config, ConfigError
from fkal.core.kernels import R_ZG
from fkal.core.pseudo_labels import PSEUDO_LABELS
from fkal.core.randomness import stream
from fkal.data.config import DataConfig
from fkal.data.datasets import Dataset, load
from fkal.data.splits import Split, draw_split, hold_out
from fkal.engine.describing import Keep
from fkal.engine.gathering import Gathering
from fkal.engine.loop import ActiveLearning, Method, Problem, Weights, member_name
from fkal.engine.metering import Meter, Progress
from fkal.engine.pretraining import pretrain
from fkal.engine.rounds import Round
from fkal.experiment.checks import configured, refuse_infeasible
from fkal.experiment.command import command_of
from fkal.experiment.descriptor_cache import KeptDescriptors
from fkal.experiment.fingerprint import (
    about_descriptors,
    about_labels,
    algorithm,
    bias_name,
    cell_name,
    experiment_name,
    experiment_title,
    fingerprint,
    method_digest,
    method_name,
    method_title,
    pretraining_key,
    read_params,
    round_title,
    split_key,
)
from fkal.experiment.shared_files import Say, checksum, shared_tensors, written_split
from fkal.models import Ensemble, build, members_of


@dataclass(frozen=True)
class Experiment:
    """One (dataset, bias, method, seed), checked and ready to run.

    `name` is for people (`mnist-ir100-pfk_joint-s0`), `fingerprint` for finding it again: the
    digest of configuration, data, split and algorithm version. `model` is the task model (or the
    ensemble), worked on in place; `first_weights` are those that it was built with. `weights_paths`
    has the file of pretrained weights of each member, `descriptors_path` is the folder of kept descriptors.
    """

    config: Config
    dataset: Dataset
    split: Split
    split_path: Path
    weights_paths: tuple[Path, ...]
    descriptors_path: Path
    model: nn.Module
    first_weights: Weights
    device: torch.device
    fingerprint: str
    say: Say

    @property
    def bias(self) -> str:
        return bias_name(self.config.bias)

    @property
    def method(self) -> str:
        return method_name(self.config)

    @property
    def cell(self) -> str:
        return cell_name(self.config)

    @property
    def name(self) -> str:
        return experiment_name(self.config)

    @property
    def title(self) -> str:
        return experiment_title(self.config)

    @property
    def method_title(self) -> str:
        return method_title(self.config)

    @property
    def method_digest(self) -> str:
        return method_digest(self.config)

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def protocol(self) -> str:
        return self.config.protocol

    @property
    def rounds(self) -> int:
        return 1 if self._acquisition.whole_pool else self.config.acquisition.rounds

    @property
    def budget(self) -> int:
        """Images labeled an iteration."""
        return len(self.split.pool) if self._acquisition.whole_pool else self.config.acquisition.budget

    @property
    def _acquisition(self) -> Acquisition:
        return acquisition(self.config.acquisition.name)

    @property
    def params(self) -> dict[str, Any]:
        return self.config.flat

    @property
    def read_params(self) -> dict[str, Any]:
        return read_params(self.config)

    def command(self, seeds: Sequence[int]) -> str:
        return command_of(self.config, seeds)

    def round_title(self, b: int) -> str:
        return round_title(self.config, b)

    @property
    def tags(self) -> dict[str, str]:
        return {
            "dataset": self.config.data.name,
            "bias": self.bias,
            "method": self.method,
            "protocol": self.protocol,
            "model": self.config.model.name,
            "algorithm": algorithm(self.config),
        }

    @cached_property
    def problem(self) -> Problem:
        """Which images are pool, validation and measured; with a holdout, the test set is no part of it."""
        whole = Problem(
            train=self.dataset.train,
            test_images=self.dataset.test,
            pool=self.split.pool,
            validation=self.split.validation,
            test=self.split.test,
            minority=self.split.cut,
        )
        if not self.config.holdout:
            return whole
        draws = stream(self.seed, "tune", "holdout")
        rest, held_out = hold_out(whole.validation, whole.train.labels, self.config.holdout, draws)
        return replace(whole, test_images=whole.train, validation=rest, test=held_out, measured="holdout")

    def events(self, finished: Sequence[Round] = ()) -> Iterator[Progress | Round]:
        """Progress, and the rounds that follow the `finished` ones; pretrains if need be."""
        deterministic(self.config.threads)
        theta_0 = yield from self.theta_0()
        yield from self._learning(theta_0, self._kept(theta_0)).rounds(finished)

    def first_descriptors(self) -> Generator[Progress, None, list[Path]]:
        """Make the descriptors of theta^0 that the first iteration reads, and keep them; returns their folders.

        Where they lie, `events` reads them; a method whose first iteration is random has none.
        """
        deterministic(self.config.threads)
        theta_0 = yield from self.theta_0()
        kept = self._kept(theta_0, makes=True)
        yield from self._learning(theta_0, kept).first_evidence()
        return kept.used

    def _kept(self, theta_0: Weights, *, makes: bool = False) -> KeptDescriptors:
        return KeptDescriptors(
            folder=self.descriptors_path,
            about={**about_descriptors(self.config, self.dataset.digest, self.device), "weights": checksum(theta_0)},
            labeling=about_labels(self.config, self.problem.validation),
            device=self.device,
            say=self.say,
            makes=makes,
        )

    def theta_0(self) -> Generator[Progress, None, Weights]:
        """The weights before the first label: pretrained by rotation, the head random; each member has its own."""
        if self.config.pretrain.task == "none":
            return self.first_weights
        self.model.load_state_dict(self.first_weights)
        for e, member in enumerate(members_of(self.model)):
            body = yield from shared_tensors(self.weights_paths[e], partial(self._pretrain, e, member), self.say)
            member.load_state_dict({**member.state_dict(), **body})
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _pretrain(self, e: int, member: nn.Module) -> Generator[Progress, None, dict[str, Tensor]]:
        return pretrain(
            member,
            self.dataset.train,
            self.split.pool,
            config=self.config.pretrain,
            generator=stream(self.seed, "pretrain", *member_name(e)),
            meter=Meter(self.device),
        )

    def _learning(self, theta_0: Weights, keep: Keep) -> ActiveLearning:
        config, entry = self.config.acquisition, self._acquisition
        options = {name: getattr(config, name) for name in entry.options}
        labels = self.dataset.train.labels
        return ActiveLearning(
            problem=self.problem,
            method=Method(
                needs=entry.needs,
                select=partial(entry.select, **options),
                gathering=Gathering(
                    taps=config.taps,
                    batch_size=config.batch_size,
                    pseudo_label=PSEUDO_LABELS[config.pseudo_label],
                    kernel=R_ZG[config.combine],
                    whitening=config.whitening,
                    samples=config.samples,
                    view_degrees=config.view_degrees,
                    view_noise=config.view_noise,
                    vaal=self.config.vaal,
                ),
                budget=self.budget,
                rounds=self.rounds,
                random_first=entry.random_first,
            ),
            model=self.model.to(self.device),
            theta_0=theta_0,
            oracle=lambda indices: labels[indices],
            training=self.config.train,
            protocol=self.config.protocol,
            seed=self.seed,
            device=self.device,
            keep=keep,
        )


def prepare(config: Config, out: Path, say: Say) -> Experiment:
    """Everything of an experiment but its work; `out` holds splits and weights that runs share.

    Raises ConfigError for what cannot work (P beyond the pool, a tap that the model lacks, no
    such device), MissingData if the dataset is not there.
    """
    configured("acquisition.name", acquisition, config.acquisition.name)
    device = device_named(config.device)
    set_threads(config.threads)
    dataset = _dataset(config.data, device)
    split, path = prepare_split(config, out, say)
    n_members = ensemble_size(config)
    model = configured("model.name", lambda _: _seeded_model(config, dataset, n_members), config.model.name)
    refuse_infeasible(config, dataset, split, model, device)
    return Experiment(
        config=config,
        dataset=dataset,
        split=split,
        split_path=path,
        weights_paths=tuple(
            out / "pretrained" / f"{pretraining_key(config, split, device, e)}.safetensors" for e in range(n_members)
        ),
        descriptors_path=out / "descriptors",
        model=model,
        first_weights={name: value.detach().clone() for name, value in model.state_dict().items()},
        device=device,
        fingerprint=fingerprint(config, split, device),
        say=say,
    )


def prepare_split(config: Config, out: Path, say: Say) -> tuple[Split, Path]:
    """The split of a configuration and the file `<out>/splits/mnist-ir100-s0-1a2b3c4d.json` that holds it."""
    dataset = _dataset(config.data, device_named(config.device))
    name = f"{config.data.name}-{bias_name(config.bias)}-s{config.seed}"
    try:
        split = draw_split(dataset, config.data, config.bias, config.seed)
    except ValueError as error:
        raise ConfigError(f"split {name}: {error}") from error
    path = out / "splits" / f"{name}-{split_key(config, dataset.digest)[:8]}.json"
    written_split(path, split, say)
    return split, path


def device_named(name: str) -> torch.device:
    """The device of this name; `auto` is the first accelerator, else the CPU."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device = {name!r}: torch sees no CUDA device; set device=cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device = {name!r}: there are {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device = {name!r}: torch sees no MPS device; set device=cpu or auto")
    return device


def deterministic(threads: int | None) -> None:
    """Set torch up so that the same seed gives the same numbers on the same machine."""
    set_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)


@lru_cache(maxsize=2)
def _dataset(data: DataConfig, device: torch.device) -> Dataset:
    """Loaded once for all experiments of a call."""
    try:
        return load(data, device=device)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error


def ensemble_size(config: Config) -> int:
    """The paper's E for a method that samples an ensemble, else 1."""
    chosen = config.acquisition
    return chosen.ensemble if "ensemble" in acquisition(chosen.name).reads(chosen.pseudo_label) else 1


def _seeded_model(config: Config, dataset: Dataset, n_members: int) -> nn.Module:
    """Weights from the stream `init`; torch's initialisers know only the global generator."""
    members = []
    for e in range(n_members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(config.seed, "init", *member_name(e)).initial_seed())
            members.append(build(config.model.name, dataset.train.shape, len(dataset.classes)))
    return members[0] if n_members == 1 else Ensemble(members)
