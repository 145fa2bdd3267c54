"""An experiment: names become objects, seeds are set, nothing else.

`prepare` refuses what cannot work before any work is done; `Experiment.events` then yields the
`Progress` and the `Round`s of one (dataset, bias, method, seed).
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from fkal.acquisition.registry import Acquisition, acquisition_of
from fkal.config.machine import memory_gb
from fkal.config.method_checks import refuse_unable_in_parts
from fkal.config.schema import Config, ConfigError, configured
from fkal.core.pool_parts import MapParts, Parts, one_by_one
from fkal.core.precision_names import Precision
from fkal.core.randomness import stream
from fkal.core.standardising import Standardising
from fkal.data.datasets import Dataset, load
from fkal.data.digest import bytes_digest
from fkal.data.images import ImageSet
from fkal.data.settings import DataConfig
from fkal.data.sources import source_stamp
from fkal.data.splits import Split, draw_split, hold_out
from fkal.engine.batch_parts import BatchParts
from fkal.engine.compiling import why_not
from fkal.engine.describing import DescriptorCache
from fkal.engine.embedded_images import EmbeddedImages
from fkal.engine.embedding import Embedded, Embedding, components, embedded_problem
from fkal.engine.feature_check import FeatureCheck, feature_check
from fkal.engine.gathering import EvidenceConfig
from fkal.engine.head_training import LabeledRows
from fkal.engine.loop import ActiveLearning, Method, Problem, Weights, member_name
from fkal.engine.measured import VALIDATION
from fkal.engine.memory import UNBOUNDED, MemoryBound
from fkal.engine.metering import Meter
from fkal.engine.pretraining import pretrain
from fkal.engine.processes import ALONE, Processes, current_processes
from fkal.engine.progress import Progress
from fkal.engine.rounds import Round
from fkal.engine.unfinished import UnfinishedRounds
from fkal.errors import MissingWeights
from fkal.experiment.backbone import Backbone, about_weights, backbone_of, feature_check_line, seen_dataset
from fkal.experiment.checks import doubts, refuse_beyond_pool, refuse_infeasible, refuse_unfit_for_frozen
from fkal.experiment.command import command_of
from fkal.experiment.descriptor_cache import DescriptorFiles, ShardMade
from fkal.experiment.device import device_named, reproducible, reproducibly
from fkal.experiment.embedding_cache import EmbeddingFiles
from fkal.experiment.fingerprint import (
    about_descriptors,
    about_embeddings,
    about_labels,
    fingerprint,
    pretraining_key,
    split_file_name,
)
from fkal.experiment.names import (
    algorithm,
    bias_name,
    cell_name,
    dataset_name,
    ensemble_size,
    experiment_name,
    experiment_title,
    method_digest,
    method_name,
    method_title,
    read_params,
    round_title,
    shown_name,
)
from fkal.experiment.shared_files import ensure_split, shared_tensors
from fkal.folders import below
from fkal.models.ensemble import Ensemble, members_of
from fkal.models.linear_head import LinearHead
from fkal.models.pretrained import names_own_file, weights_are_here
from fkal.models.registry import build, refuse_unless_it_takes
from fkal.models.weights_files import checksum
from fkal.notify import Notify

R = TypeVar("R")
Part = Literal["train", "test"]
"""Which images indices count in: those of pool and validation, or those that are measured."""


class Elsewhere(Protocol):
    """Makes what is kept of theta^0 on other machines, a file at a time; all of it is there when it ends."""

    def descriptors(self, files: Sequence[Path]) -> Generator[Progress, None, None]: ...

    def embeddings(self, part: Part, indices: Tensor, first: int) -> Generator[Progress, None, None]:
        """Those of images of the part, KEPT_ROWS in each file, the files being numbered from `first` on."""
        ...


class Loadable(NamedTuple):
    """A model, its weights, and some inputs of it on the CPU."""

    model: nn.Module
    weights: Weights
    examples: Tensor


@dataclass(frozen=True)
class Experiment:
    """One (dataset, bias, method, seed), checked and ready to run.

    `name` is for people (`mnist-ir100-pfk_joint-s0`), `fingerprint` for finding it again: the
    digest of configuration, data, split and algorithm version. `model` is the task model (or the
    ensemble), worked on in place; `first_weights` are those that it was built with. `weights_paths`
    has the file of pretrained weights of each member, `descriptors_path` is the folder of kept descriptors.
    `backbone` is the pretrained model, if there is one; where it is frozen, the task model is a head on its embeddings.
    Rows of the pool beyond the `bound` of memory are in files, with the same result.
    `over_parts` goes through the parts of a pool, where a choice is made in parts.
    Several `processes` run it together. The first one reads and writes files; of a frozen run it does all but the
    embedding.
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
    say: Notify
    backbone: Backbone | None = None
    bound: MemoryBound = UNBOUNDED
    elsewhere: Elsewhere | None = None
    over_parts: MapParts = one_by_one
    processes: Processes = field(default_factory=current_processes)
    _embedded: list[Embedded] = field(default_factory=list, repr=False)

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
    def shown_name(self) -> str:
        """With the method's alias, for messages."""
        return shown_name(self.config)

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
    def data_digest(self) -> str:
        """Of the images that the split was drawn from."""
        return self.split.data_digest

    @property
    def rounds(self) -> int:
        return self.config.acquisition.rounds if self._acquisition.has_schedule else 1

    @property
    def budget(self) -> int:
        """Images labeled per round."""
        if self._acquisition.validation_only:
            return 0
        return len(self.split.pool) if self._acquisition.whole_pool else self.config.acquisition.budget

    @property
    def trains_on_validation(self) -> bool:
        return self.config.train.on_validation or self._acquisition.validation_only

    @property
    def _acquisition(self) -> Acquisition:
        return acquisition_of(self.config.acquisition)

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
            "dataset": dataset_name(self.config.data),
            "bias": self.bias,
            "method": self.method,
            "protocol": self.protocol,
            "model": self.config.model.name,
            "algorithm": algorithm(self.config),
            **({} if self.backbone is None else {"weights": self.backbone.digest, "license": self.backbone.license}),
            **({} if self.processes.count == 1 else {"processes": str(self.processes.count)}),
        }

    @cached_property
    def problem(self) -> Problem:
        """Which images are pool, validation and measured; with a holdout, the test set is no part of it.

        Where there is no test set, validation images are measured.
        """
        whole = Problem(
            train=self.dataset.train,
            test_images=self.dataset.test,
            pool=self.split.pool,
            validation=self.split.validation,
            test=self.split.test,
            minority=self.split.cut,
            groups=self.dataset.groups,
        )
        if not self.config.holdout and not len(whole.test):
            return replace(whole, test_images=whole.train, test=whole.validation, measured=VALIDATION)
        if not self.config.holdout:
            return whole
        draws = stream(self.seed, "tune", "holdout")
        rest, held_out = hold_out(whole.validation, self.dataset, self.config.holdout, draws)
        return replace(whole, test_images=whole.train, validation=rest, test=held_out, measured="holdout")

    def events(
        self, finished: Sequence[Round] = (), unfinished: UnfinishedRounds | None = None
    ) -> Iterator[Progress | Round]:
        """Runs the experiment: progress, and one `Round` per batch of labels. Pretrains first if need be.

        Args:
            finished: Rounds that are done already; the run continues after them.
            unfinished: Keeps the state of a round within its training, from which the round goes on.

        Yields:
            `Progress` while work goes on, and a `Round` as soon as one is finished.
        """
        yield from reproducibly(self.config.threads, self._events(finished, unfinished))

    def _events(
        self, finished: Sequence[Round], unfinished: UnfinishedRounds | None
    ) -> Generator[Progress | Round, None, None]:
        if self.config.is_frozen and not self.processes.leads:
            yield from self._share_embedding()
            return
        loop = yield from self._loop()
        yield from replace(loop, unfinished=unfinished).rounds(finished)

    def _share_embedding(self) -> Generator[Progress, None, None]:
        """What another process than the first one does of a frozen run."""
        embedding, problem = self._embedding(self.processes), self.problem
        yield from embedding.rows(problem.train, torch.cat([problem.pool, problem.validation]), what="")
        yield from embedding.rows(problem.test_images, problem.test, what="")

    def loop(self) -> Generator[Progress, None, ActiveLearning]:
        """Algorithm 1 of this experiment, once what it starts from is made. Run its steps by `reproducibly`."""
        return (yield from reproducibly(self.config.threads, self._loop()))

    def _loop(self) -> Generator[Progress, None, ActiveLearning]:
        theta_0 = yield from self._theta_0()
        if self.config.is_frozen:
            seen = yield from self.embedded()
            _say_once([self._feature_check_line(seen.problem)], self.say)
            return self._learning(theta_0, seen.problem, ahead=seen.ahead)
        return self._learning(theta_0, self.problem, self.descriptor_files(theta_0))

    def first_descriptors(self) -> Generator[Progress, None, list[Path]]:
        """Make the descriptors of theta^0 that the first round reads, and keep them; returns their folders.

        Where they are, `events` reads them; a method whose first round is random has none. A frozen experiment has
        embeddings instead, whatever its method.
        """
        return (yield from reproducibly(self.config.threads, self._first_descriptors()))

    def _first_descriptors(self) -> Generator[Progress, None, list[Path]]:
        if self.config.is_frozen:
            yield from self.embedded()
            return [] if self.backbone is None else [self.embedding_files().path]
        theta_0 = yield from self._theta_0()
        kept = self.descriptor_files(theta_0, makes=True)
        yield from self._learning(theta_0, self.problem, kept).first_evidence()
        return kept.used

    def descriptor_shard(self, file: Path) -> Generator[Progress, None, None]:
        """Make this file of `first_descriptors` unless it is there, and of the others what it depends on."""
        yield from reproducibly(self.config.threads, self._descriptor_shard(file))

    def _descriptor_shard(self, file: Path) -> Generator[Progress, None, None]:
        theta_0 = yield from self._theta_0()
        kept = replace(self.descriptor_files(theta_0, makes=True), only=file)
        with suppress(ShardMade):
            yield from self._learning(theta_0, self.problem, kept).first_evidence()

    def embedding_shard(self, part: Part, indices: Tensor, number: int) -> Generator[Progress, None, None]:
        """Embed these images and keep them as the file of this number."""
        images = self.problem.train if part == "train" else self.problem.test_images
        yield from reproducibly(self.config.threads, self._embedding().keep(images, indices, number))

    def embedding_files(self) -> EmbeddingFiles:
        """The cache of embeddings by this backbone."""
        assert self.backbone is not None
        about = about_embeddings(
            self.config, self.dataset.train.shape, self.backbone.view, self.backbone.digest, self.device
        )
        return EmbeddingFiles(self.descriptors_path, about, self.say)

    def embedded(self) -> Generator[Progress, None, Embedded]:
        """Each image of the experiment by its embedding, read where it is kept, else made and kept; once."""
        if self._embedded:
            return self._embedded[0]
        assert isinstance(self.model, LinearHead)
        pca = None if self.config.features.pca is None else self.model.head.in_features
        seen = yield from embedded_problem(self.problem, self._embedding(self.processes), pca)
        self._embedded.append(seen)
        return seen

    @property
    def standardising(self) -> Standardising | None:
        """The map behind `embedded`; None before that, and of a model that is not frozen."""
        return self._embedded[0].standardising if self._embedded else None

    def feature_check(self, seen: Problem) -> FeatureCheck:
        """What a head on the validation images alone says of the features. `seen` is of `embedded`."""
        images, indices = seen.train, seen.validation
        assert isinstance(images, EmbeddedImages)
        rows = LabeledRows(images.rows(indices), images.labels[indices])
        groups = None if self.dataset.groups is None else self.dataset.groups[indices]
        return _checked_once(rows, self.seed, groups)

    def _feature_check_line(self, seen: Problem) -> str:
        of = f"{dataset_name(self.config.data)} seed {self.seed}"
        return feature_check_line(self.feature_check(seen), of, len(seen.validation))

    def _embedding(self, processes: Processes = ALONE) -> Embedding:
        if self.backbone is None:  # own embeddings
            return Embedding(None, Meter(self.device), bound=self.bound)
        embedder, precision = self.backbone.embedder, self.config.features.precision
        assert embedder is not None
        return Embedding(
            embedder,
            Meter(self.device),
            self.embedding_files(),
            bound=self.bound,
            precision=precision,
            compiles=self._compiles(embedder, learns=False, precision=precision),
            elsewhere=None if self.elsewhere is None else partial(self._embed_elsewhere, self.elsewhere),
            processes=processes,
        )

    def _embed_elsewhere(
        self, elsewhere: Elsewhere, images: ImageSet, indices: Tensor, first: int
    ) -> Generator[Progress, None, None]:
        part: Part = "train" if images is self.problem.train else "test"
        yield from elsewhere.embeddings(part, indices, first)

    def _compiles(self, model: nn.Module, *, learns: bool, precision: Precision | None) -> bool:
        """Whether it is asked for and can be; if it is asked for and cannot be, a message says why."""
        if not self.config.model.compile:
            return False
        if learns and self._parts.are_shared:
            why: str | None = "processes share its batches"
        else:
            why = why_not(model, self.dataset.train.shape, self.device, learns=learns, precision=precision)
        if why is not None:
            _say_once([f"model.compile: {self.config.model.name} passes as it is, uncompiled: {why}"], self.say)
        return why is None

    @property
    def _parts(self) -> BatchParts:
        """Those of training, which one process does alone where a head is all that learns from embeddings."""
        return BatchParts() if self.config.is_frozen else BatchParts(self.config.batch_parts, self.processes)

    def descriptor_files(self, theta_0: Weights, *, makes: bool = False) -> DescriptorFiles:
        """The cache of descriptors of these weights; with `makes` it keeps what is not kept yet."""
        return DescriptorFiles(
            folder=self.descriptors_path,
            about={**about_descriptors(self.config, self.dataset.digest, self.device), "weights": checksum(theta_0)},
            labeling=about_labels(self.config, self.problem.validation),
            say=self.say,
            makes=makes,
            elsewhere=None if self.elsewhere is None else self.elsewhere.descriptors,
        )

    def loadable(self, weights: Weights, n: int) -> Loadable:
        """The trained model as others can load it, and n inputs of it.

        The model of a frozen run takes embeddings, as the backbone makes them: standardising and head are one layer.
        """
        some = self.split.validation[:n].repeat(n)[:n]
        if not self.config.is_frozen:
            (examples,) = self.dataset.train.batches([some], device="cpu")
            return Loadable(self.model, weights, examples)
        with reproducible(self.config.threads):
            seen = _result(self.embedded())
            rows = _result(self._embedding().rows(self.dataset.train, some, what="examples"))
        weight, bias = seen.standardising.folded(weights["head.weight"], weights["head.bias"])
        return Loadable(nn.Linear(rows.shape[1], len(bias)), {"weight": weight, "bias": bias}, rows)

    def theta_0(self) -> Generator[Progress, None, Weights]:
        """The weights before the first label: pretrained by rotation, the head random; each member has its own."""
        return (yield from reproducibly(self.config.threads, self._theta_0()))

    def _theta_0(self) -> Generator[Progress, None, Weights]:
        if not self.config.pretrains:
            return self.first_weights
        self.model.load_state_dict(self.first_weights)
        for e, member in enumerate(members_of(self.model)):
            body = yield from self._pretrained(e, member)
            member.load_state_dict({**member.state_dict(), **body})
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _pretrained(self, e: int, member: nn.Module) -> Generator[Progress, None, dict[str, Tensor]]:
        """As the first process finds or makes them; it says to the others which of both it does."""
        processes, nothing = self.processes, dict[str, Tensor]()
        if not processes.leads:
            return processes.from_first(nothing) or (yield from self._pretrain(e, member))
        made: list[dict[str, Tensor]] = []

        def make() -> Generator[Progress, None, dict[str, Tensor]]:
            made.append(processes.from_first(nothing))
            return (yield from self._pretrain(e, member))

        body = yield from shared_tensors(self.weights_paths[e], make, self.say)
        return body if made else processes.from_first(body)

    def _pretrain(self, e: int, member: nn.Module) -> Generator[Progress, None, dict[str, Tensor]]:
        return pretrain(
            member,
            self.dataset.train,
            self.split.pool,
            config=self.config.pretrain,
            generator=stream(self.seed, "pretrain", *member_name(e)),
            meter=Meter(self.device),
            compiles=self._compiles(member, learns=True, precision=self.config.pretrain.precision),
            parts=self._parts,
        )

    def _learning(
        self, theta_0: Weights, problem: Problem, cache: DescriptorCache | None = None, ahead: Meter | None = None
    ) -> ActiveLearning:
        """The oracle knows the labels of the dataset; there is none where pool images have none."""
        config, entry = self.config.acquisition, self._acquisition
        options = {name: getattr(config, name) for name in entry.options}
        if config.parts is not None:
            options["parts"] = Parts(config.parts, self.over_parts)
        labels = self.dataset.train.labels
        is_known = not bool((labels[self.split.pool] < 0).any())
        learner, precision = members_of(self.model)[0], self.config.train.precision
        return ActiveLearning(
            problem=problem,
            method=Method(
                needs=entry.needs.record,
                select=partial(entry.select, **options),
                config=EvidenceConfig(
                    config,
                    self.config.vaal,
                    self.config.features.tokens,
                    None if self.config.is_frozen else self.config.features.precision,
                ),
                budget=self.budget,
                rounds=self.rounds,
                random_first=entry.random_first,
                on_validation=self.trains_on_validation,
            ),
            model=self.model.to(self.device),
            theta_0=theta_0,
            oracle=(lambda indices: labels[indices]) if is_known else None,
            training=self.config.train,
            epoch=self.config.epoch,
            seed=self.seed,
            device=self.device,
            cache=cache,
            ahead=ahead,
            bound=self.bound,
            compiles=not self.config.is_frozen and self._compiles(learner, learns=True, precision=precision),
            parts=self._parts,
        )


def prepare(config: Config, out: Path, say: Notify, *, looks_only: bool = False) -> Experiment:
    """An experiment that is checked and ready to run; nothing is trained yet.

    Args:
        config: The settings.
        out: Folder of splits and weights, which experiments share.
        say: Called with each message for people, such as `print`.
        looks_only: Download nothing and write nothing; the experiment is there to be looked at.

    Returns:
        The experiment; iterate over its `events()` to run it.

    Raises:
        ConfigError: Something cannot work: a budget beyond the pool, a tap that the model lacks, no such device.
        MissingData: The dataset is not there and cannot be downloaded.
        MissingWeights: The same of pretrained weights.

    Example:
        >>> from tempfile import mkdtemp
        >>> from fkal.config.layers import load, preset
        >>> experiment = prepare(load(preset("digits"), environment={}), Path(mkdtemp()), print)
        >>> experiment.name, experiment.budget, experiment.rounds
        ('digits-ir20-pfk_joint-s0', 20, 6)
    """
    configured("acquisition.name", lambda _: acquisition_of(config.acquisition), config.acquisition.name)
    refuse_unable_in_parts(config.acquisition)
    device = device_named(config.device)
    if looks_only and not names_own_file(config.model) and not weights_are_here(config.model):
        raise MissingWeights(f"the weights of {config.model.name} are not here; fkal run downloads them")
    backbone = backbone_of(config)
    dataset = seen_dataset(config, backbone, partial(_dataset, device=device, download=not looks_only))
    split, path = _drawn_split(config, dataset, out)
    if not looks_only:
        ensure_split(path, split, say)
    _say_once(dataset.notes, say)
    if acquisition_of(config.acquisition).has_schedule:
        refuse_beyond_pool(config.acquisition, len(split.pool))
    return assembled(config, dataset, split, path, backbone=backbone, out=out, say=say)


def assembled(
    config: Config,
    dataset: Dataset,
    split: Split,
    path: Path,
    *,
    backbone: Backbone | None,
    out: Path,
    say: Notify,
) -> Experiment:
    """The same of data at hand, as the model takes them, and of a split, kept at `path`.

    Raises ConfigError for what cannot work.
    """
    device = device_named(config.device)
    refuse_unfit_for_frozen(config)
    model = configured("model.name", lambda _: _model(config, dataset, split, backbone), config.model.name)
    refuse_infeasible(config, dataset, split, model, device)
    if backbone is not None:
        _say_once([about_weights(backbone)], say)
    _say_once(doubts(config), say)
    return Experiment(
        config=config,
        dataset=dataset,
        split=split,
        split_path=path,
        weights_paths=tuple(
            below(out, f"pretrained/{pretraining_key(config, split, device, e)}.safetensors")
            for e in range(ensemble_size(config))
        ),
        descriptors_path=below(out, "descriptors"),
        model=model,
        first_weights={name: value.detach().clone() for name, value in model.state_dict().items()},
        device=device,
        fingerprint=fingerprint(config, split, device, "" if backbone is None else backbone.digest),
        say=say,
        backbone=backbone,
        bound=MemoryBound(memory_gb(), below(out, "descriptors")),
    )


class PreparedSplit(NamedTuple):
    """A split, the file `<out>/splits/mnist-ir100-s0-1a2b3c4d.json` that holds it, the names of its classes."""

    split: Split
    path: Path
    classes: tuple[str, ...]


def prepare_split(config: Config, out: Path, say: Notify) -> PreparedSplit:
    """The split of an experiment, drawn and written to a file.

    Args:
        config: The settings.
        out: Folder below which the file is kept.
        say: Called with each message for people, such as `print`.

    Returns:
        The split, its file `<out>/splits/mnist-ir100-s0-1a2b3c4d.json`, and the names of its classes.

    Raises:
        ConfigError: The dataset has too few images for these settings.
        MissingData: The dataset is not there and cannot be downloaded.

    Example:
        >>> from tempfile import mkdtemp
        >>> from fkal.config.layers import load, preset
        >>> split, *_ = prepare_split(load(preset("digits"), environment={}), Path(mkdtemp()), print)
        >>> len(split.validation)
        300
    """
    load_data = partial(_dataset, device=device_named(config.device))
    dataset = seen_dataset(config, backbone_of(config), load_data)
    split, path = _drawn_split(config, dataset, out)
    _say_once(dataset.notes, say)
    ensure_split(path, split, say)
    return PreparedSplit(split, path, dataset.classes)


def _drawn_split(config: Config, dataset: Dataset, out: Path) -> tuple[Split, Path]:
    """The split, and where its file belongs."""
    path = below(out, f"splits/{split_file_name(config, dataset.digest)}")
    try:
        return draw_split(dataset, config.data, config.bias, config.seed), path
    except ValueError as error:
        raise ConfigError(f"split {path.name.rpartition('-')[0]}: {error}") from error


def _result(work: Generator[Progress, None, R]) -> R:
    """What the work returns, its progress being shown nowhere."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: R = end.value
            return result


FEATURES_CHECKED: dict[str, FeatureCheck] = {}
"""By content, so that the methods of a grid, which share it, check it once."""


def _checked_once(rows: LabeledRows, seed: int, groups: Tensor | None) -> FeatureCheck:
    parts = [rows.z, rows.y, *([] if groups is None else [groups])]
    key = bytes_digest([str(seed).encode(), *(part.cpu().contiguous().numpy().tobytes() for part in parts)])
    if key not in FEATURES_CHECKED:
        FEATURES_CHECKED[key] = feature_check(rows, stream(seed, "feature_check"), groups)
    return FEATURES_CHECKED[key]


NOTES_SAID: set[str] = set()
"""What this process has said of its data, so that a grid says it once."""


def _say_once(notes: Sequence[str], say: Notify) -> None:
    for note in notes:
        if note not in NOTES_SAID:
            NOTES_SAID.add(note)
            say(note)


def _dataset(data: DataConfig, device: torch.device, download: bool = True) -> Dataset:
    """Loaded once for all experiments of a process, as long as none of its files changes."""
    return _loaded(data, device, download, source_stamp(data))


@lru_cache(maxsize=2)
def _loaded(data: DataConfig, device: torch.device, download: bool, stamp: str) -> Dataset:
    """`stamp` is that of the files."""
    try:
        return load(data, device=device, download=download)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error


def _model(config: Config, dataset: Dataset, split: Split, backbone: Backbone | None) -> nn.Module:
    if config.is_frozen:
        return _head(config, dataset, split, backbone)
    return _seeded_model(config, dataset, ensemble_size(config), backbone)


def _head(config: Config, dataset: Dataset, split: Split, backbone: Backbone | None) -> nn.Module:
    """At zero, for embeddings as wide as the backbone makes them, or for their principal components."""
    shape = dataset.train.shape
    width = shape[0] if backbone is None or backbone.embedder is None else backbone.embedder.width(shape)
    return LinearHead(components(width, len(split.pool), config.features.pca), len(dataset.classes))


def _seeded_model(config: Config, dataset: Dataset, n_members: int, backbone: Backbone | None) -> nn.Module:
    """Weights from the stream `init`; torch's initialisers know only the global generator."""
    members = []
    for e in range(n_members):
        with reproducible(config.threads), torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(config.seed, "init", *member_name(e)).initial_seed())
            if backbone is None:
                members.append(build(config.model.name, dataset.train.shape, len(dataset.classes)))
            else:
                members.append(backbone.pretrained.with_head(len(dataset.classes)))
                refuse_unless_it_takes(dataset.train.shape, members[-1], config.model.name)
    return members[0] if n_members == 1 else Ensemble(members)
