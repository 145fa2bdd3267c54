"""An experiment: names become objects, seeds are set, nothing else.

`prepare` refuses what cannot work before any work is done; `Experiment.events` then yields the
`Progress` and the `Round`s of one (dataset, bias, method, seed).
"""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fkal.acquisition import Acquisition, AcquisitionConfig, acquisition
from fkal.algorithm import ALGO_VERSION
from fkal.config import Config, ConfigError, about_data, digest_of
from fkal.core.evidence import FisherScores, Nothing
from fkal.core.pseudo_labels import PSEUDO_LABELS
from fkal.core.randomness import stream
from fkal.data.config import BiasConfig, DataConfig
from fkal.data.datasets import Dataset, load
from fkal.data.splits import Split
from fkal.engine.loop import ActiveLearning, Method, Problem, Weights
from fkal.engine.metering import Meter, Progress
from fkal.engine.pretraining import pretrain
from fkal.engine.rounds import Round
from fkal.models import MODELS, build, head_name, tap_widths
from fkal.shared import Say, shared_split, shared_weights, split_path


@dataclass(frozen=True)
class Experiment:
    """One (dataset, bias, method, seed), checked and ready to run.

    `name` is for people (`mnist-ir100-pfk_joint-s0`), `fingerprint` for finding it again: the
    digest of configuration, data, split and algorithm version. `model` is the task model with
    its random head; it is worked on in place.
    """

    config: Config
    dataset: Dataset
    split: Split
    split_path: Path
    weights_path: Path
    model: nn.Module
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
        paper = "-paper_protocol" if self.protocol == "paper" else ""
        return f"{self.config.data.name}-{self.bias}-{self.method}{paper}"

    @property
    def name(self) -> str:
        return f"{self.cell}-s{self.config.seed}"

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def protocol(self) -> str:
        return self.config.protocol

    @property
    def rounds(self) -> int:
        return self.config.acquisition.rounds

    @property
    def params(self) -> dict[str, Any]:
        return self.config.flat

    @property
    def tags(self) -> dict[str, str]:
        return {
            "dataset": self.config.data.name,
            "bias": self.bias,
            "method": self.method,
            "protocol": self.protocol,
            "model": self.config.model.name,
        }

    def events(self, finished: Sequence[Round] = ()) -> Iterator[Progress | Round]:
        """Progress, and the rounds that follow the `finished` ones; pretrains if need be."""
        deterministic(self.config.threads)
        theta_0 = yield from self.theta_0()
        yield from self._learning(theta_0).rounds(finished)

    def theta_0(self) -> Generator[Progress, None, Weights]:
        """The weights before the first label: pretrained by rotation, the head random."""
        first = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if self.config.pretrain.task == "none":
            return first
        expected = {k: v for k, v in first.items() if not k.startswith(f"{head_name(self.model)}.")}

        def fits(weights: Mapping[str, Tensor]) -> bool:
            return {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in expected.items()}

        body = yield from shared_weights(self.weights_path, self._pretrain, fits, self.say)
        return {**first, **body}

    def _pretrain(self) -> Generator[Progress, None, dict[str, Tensor]]:
        return pretrain(
            self.model,
            self.dataset.train,
            self.split.pool,
            config=self.config.pretrain,
            generator=stream(self.seed, "pretrain"),
            meter=Meter(self.device),
        )

    def _learning(self, theta_0: Weights) -> ActiveLearning:
        config = self.config.acquisition
        entry = acquisition(config.name)
        options = {name: getattr(config, name) for name in entry.options}
        labels = self.dataset.train.labels
        return ActiveLearning(
            problem=Problem(
                train=self.dataset.train,
                test_images=self.dataset.test,
                pool=self.split.pool,
                validation=self.split.validation,
                test=self.split.test,
                minority=self.split.cut,
            ),
            method=Method(
                needs=entry.needs,
                select=partial(entry.select, **options),
                estimate=PSEUDO_LABELS[config.pseudo_label].estimate,
                taps=config.taps,
                describe_batch=config.batch_size,
                budget=config.budget,
                rounds=config.rounds,
            ),
            model=self.model.to(self.device),
            theta_0=theta_0,
            oracle=lambda indices: labels[indices],
            training=self.config.train,
            protocol=self.config.protocol,
            seed=self.seed,
            device=self.device,
        )


def prepare(config: Config, out: Path, say: Say) -> Experiment:
    """Everything of an experiment but its work; `out` holds splits and weights that runs share.

    Raises ConfigError for what cannot work (P beyond the pool, a tap that the model lacks, no
    such device), MissingData if the dataset is not there.
    """
    entry = _configured("acquisition.name", acquisition, config.acquisition.name)
    device = device_named(config.device)
    dataset = _dataset(config.data, device)
    split, path = prepare_split(config, out, say)
    _refuse_beyond_pool(config.acquisition, len(split.pool))
    model = _configured(
        "model.name",
        lambda name: _seeded_model(name, dataset, config.seed),
        config.model.name,
    )
    if config.pretrain.task != "none":
        _configured("model.name", lambda name: head_name(model), config.model.name)
    if entry.needs is not Nothing:
        widths = _configured(
            "acquisition.taps",
            lambda taps: tap_widths(model, taps, dataset.train.shape),
            config.acquisition.taps,
        )
        _refuse_narrow(widths)
    return Experiment(
        config=config,
        dataset=dataset,
        split=split,
        split_path=path,
        weights_path=out / "pretrained" / f"{_pretrain_key(config, split, device)}.safetensors",
        model=model,
        device=device,
        fingerprint=_fingerprint(config, entry, split, device),
        say=say,
    )


def prepare_split(config: Config, out: Path, say: Say) -> tuple[Split, Path]:
    """The split of a configuration and the file that holds it."""
    dataset = _dataset(config.data, device_named(config.device))
    tree = config.tree
    recipe = {
        "bias": tree["bias"],
        "validation_per_class": config.data.validation_per_class,
        "data": dataset.digest,
    }
    name = f"{config.data.name}-{bias_name(config.bias)}"
    path = split_path(out, name, config.seed, digest_of(recipe))
    try:
        split = shared_split(path, dataset, config.data, config.bias, config.seed, say)
    except ValueError as error:
        raise ConfigError(f"split of {name}: {error}") from error
    return split, path


def bias_name(bias: BiasConfig) -> str:
    """`ir100`, `longtail100`, or `byhand-` and a digest of the fractions."""
    match bias.kind:
        case "imbalance":
            return f"ir{bias.ratio:g}"
        case "long_tail":
            return f"longtail{bias.ratio:g}"
    fractions = {str(k): v for k, v in sorted((bias.fractions or {}).items())}
    return f"byhand-{digest_of(fractions)[:6]}"


def method_name(config: Config) -> str:
    """`random`, `pcc`, `pfk_joint`, as `--method` takes it.

    With `:sum` where the kernel is not the usual product, `@conv2` where the taps are not the
    model's usual ones.
    """
    chosen, needs = config.acquisition, acquisition(config.acquisition.name).needs
    name = chosen.name
    if needs is FisherScores:
        name += f"_{chosen.pseudo_label}"
        name += "" if chosen.combine == AcquisitionConfig.combine else f":{chosen.combine}"
    usual = MODELS[config.model.name].taps if config.model.name in MODELS else ()
    return name if needs is Nothing or chosen.taps == usual else f"{name}@{'+'.join(chosen.taps)}"


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
    if threads is not None:
        torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


@lru_cache(maxsize=2)
def _dataset(data: DataConfig, device: torch.device) -> Dataset:
    """Loaded once for all experiments of a call."""
    try:
        return load(data, device=device)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error


def _seeded_model(name: str, dataset: Dataset, seed: int) -> nn.Module:
    """Weights from the stream `init`; torch's initialisers know only the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "init").initial_seed())
        return build(name, dataset.train.shape, len(dataset.classes))


def _configured(key: str, make: Any, value: Any) -> Any:
    """`make(value)`, its refusal being one of the configuration's `key`."""
    try:
        return make(value)
    except ValueError as error:
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(f"{key} = {shown!r}: {error}") from error


def _refuse_beyond_pool(config: AcquisitionConfig, pool: int) -> None:
    asked = config.budget * config.rounds
    if config.budget > pool:
        raise ConfigError(f"acquisition.budget = {config.budget}: the pool has {pool} images; give at most {pool}")
    if asked > pool:
        raise ConfigError(
            f"acquisition.rounds = {config.rounds}: {config.rounds} x budget {config.budget} = {asked} labels, "
            f"but the pool has {pool} images; give at most {pool // config.budget} rounds"
        )


def _refuse_narrow(widths: Mapping[str, int]) -> None:
    narrow = [tap for tap, width in widths.items() if width < 2]
    if narrow:
        raise ConfigError(f"acquisition.taps: {narrow} return a single number, which has no correlation; tap others")


def _pretrain_key(config: Config, split: Split, device: torch.device) -> str:
    """What pretrained weights depend on: data, pool, model, settings, seed, where it is computed."""
    tree = config.tree
    return digest_of(
        {
            "pretrain": tree["pretrain"],
            "model": tree["model"],
            "data": about_data(tree),
            "split": split.digest,
            "seed": config.seed,
            "device": device.type,
            "threads": config.threads,
            "algorithm": ALGO_VERSION,
        }
    )


def _fingerprint(config: Config, entry: Acquisition, split: Split, device: torch.device) -> str:
    """Digest of what the result depends on; settings that the method does not read have no part."""
    tree = config.tree
    tree["data"] = about_data(tree)
    unread: set[str] = set()
    if entry.needs is not FisherScores:
        unread |= {"pseudo_label"}
    if entry.needs is Nothing:
        unread |= {"taps"}
    unread |= {"combine"} - set(entry.options)
    for key in unread:
        tree["acquisition"].pop(key)
    return digest_of({**tree, "split": split.digest, "device": device.type, "algorithm": ALGO_VERSION})
