"""The two halves of a project's round on its images: what to ask people for, and training on what they answered.

People and a simulated oracle go through the same functions: both have a `Known`, and nothing else goes in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fkal.acquisition.registry import acquisition
from fkal.config.schema import Config, ConfigError, digest_of
from fkal.core.calibration import bias_corrected
from fkal.core.label_shift import estimated_prior
from fkal.core.pool import Pool
from fkal.core.randomness import stream
from fkal.core.standardising import Standardising
from fkal.data.datasets import Dataset
from fkal.data.errors import MissingData
from fkal.data.settings import DataConfig
from fkal.data.splits import Split
from fkal.engine.loop import ActiveLearning, LoopState, Weights
from fkal.engine.metering import Meter
from fkal.engine.outputs import outputs
from fkal.engine.progress import Progress
from fkal.engine.rounds import Request, Round
from fkal.experiment.backbone import Backbone, backbone_of, seen_dataset
from fkal.experiment.device import reproducibly
from fkal.experiment.experiment import Experiment, assembled
from fkal.experiment.names import PRETRAINING_IGNORES
from fkal.experiment.versions import ALGO_VERSION
from fkal.folders import below
from fkal.labeling.candidates import (
    Representatives,
    Turn,
    representatives,
    strays,
    suggested_similarity,
    turns_by_group,
)
from fkal.labeling.checking import held_out
from fkal.labeling.project import STATE, Project
from fkal.labeling.project_dataset import ProjectDataset
from fkal.models.ensemble import members_of
from fkal.notify import Display

MIX_IMAGES = 2000
"""Open images that the class mix is estimated from; twice as many would tell shares of a percent apart no better."""
LEAST_SHARE = 1e-12
"""Posteriors that round to zero would exclude a class for good."""
NO_ROWS: Int[Tensor, " n"] = torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class Known:
    """What is known when a half of a round begins; images by their row in the pool.

    `b` is the last finished round and `weights` are its weights, None before the first. `labels` has the class of each
    labeled image. `closed` are images that are neither asked for nor trained on: skipped, of no class, or asked for in
    a batch that waits. `strays` are those of no class.
    """

    b: int = 0
    weights: Weights | None = None
    labels: Mapping[int, int] = field(default_factory=dict)
    closed: frozenset[int] = frozenset()
    strays: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Selecting:
    """How many images to ask for, by which similarity near-copies collapse, and which rows are left out."""

    n: int
    dedup: float | None = None
    excluded: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Selected:
    """The request; guesses with their probabilities where a model was trained before; rows behind each pick.

    `near` has, for each pick that stands for near-copies, their rows.
    """

    request: Request
    guesses: Int[Tensor, " p"] | None
    probabilities: Float[Tensor, " p"] | None
    near: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def refuse_beyond_open(n: int, left: int) -> None:
    """Raises ConfigError where `n` images cannot be asked for."""
    if not 1 <= n <= left:
        way_out = f"ask for 1 to {left}" if left else "add some: fkal pool add PATH"
        raise ConfigError(f"-n {n}: {left} images of the pool are open; {way_out}")


def refuse_unsuited(config: Config) -> None:
    """Raises ConfigError for a method or a setting that no project can have."""
    name, entry = config.acquisition.name, acquisition(config.acquisition.name)
    reads_truth = config.acquisition.pseudo_label == "true" and "pseudo_label" in entry.reads("true")
    if entry.needs.sees_oracle or reads_truth:
        raise ConfigError(f"method {name!r}: it needs the labels of the pool, which nobody knows; take another")
    if entry.validation_only:
        raise ConfigError(f"method {name!r}: it asks for no label; take another method")
    if entry.whole_pool:
        raise ConfigError(
            f"method {name!r}: it labels the whole pool at once; take another method, "
            "or random with -n as large as the pool"
        )
    if config.epoch != "last" or config.holdout:
        raise ConfigError("a project keeps the last epoch and measures all its images; leave epoch and holdout")


@dataclass(frozen=True, eq=False)
class Learner:
    """The loop of a project on its images as they are now.

    `cross_fitted` has the logits of the validation images of each round that was learned here, where they were trained
    on as well.
    """

    experiment: Experiment
    dataset: ProjectDataset
    loop: ActiveLearning
    cross_fitted: dict[int, Float[Tensor, "m d"]] = field(default_factory=dict)

    @classmethod
    def ready(cls, project: Project, config: Config, display: Display) -> Generator[Progress, None, Learner]:
        """Reads the images and makes what the loop starts from. Hold the project's lock.

        Raises MissingData where nothing steers the selection, ConfigError for what cannot work.
        """
        refuse_unsuited(config)
        backbone = backbone_of(_of_own_images(config))
        dataset = _seen(project, config, backbone, display)
        _refuse_unsteered(project, dataset)
        _refuse_without_pool(project, dataset)
        split = _split(dataset)
        path = project.state_path / "split.json"
        experiment = assembled(
            config, dataset, split, path, backbone=backbone, out=project.folder / STATE, say=display.notify
        )
        experiment = replace(experiment, weights_paths=_weights_paths(project, experiment))
        return cls(experiment, dataset, (yield from experiment.loop()))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def standardising(self) -> Standardising | None:
        """The map that embeddings went through; None where the model is not frozen."""
        return self.experiment.standardising

    def select(self, known: Known, wish: Selecting) -> Generator[Progress, None, Selected]:
        """The first half of the next round. Raises ConfigError where the pool has fewer open images."""
        return (yield from reproducibly(self.experiment.config.threads, self._select(known, wish)))

    def _select(self, known: Known, wish: Selecting) -> Generator[Progress, None, Selected]:
        state = self.state(known)
        rows = state.pool.open[~torch.isin(state.pool.open, _rows(wish.excluded))]
        refuse_beyond_open(wish.n, len(rows))
        rows, found = yield from self._without_near_copies(state, known, rows, wish)
        rows = yield from self._without_strays(state, known, rows, wish.n)
        requests = []
        for turn in self._turns(state, known, rows, wish.n):
            requests.append((yield from self._turn(state, turn)))
        request = joined(requests)
        guesses, probabilities = yield from self._guessed(state, request.indices)
        return Selected(request, guesses, probabilities, _near(request, found))

    def learn(self, known: Known, request: Request, labels: Int[Tensor, " p"]) -> Generator[Progress, None, Round]:
        """The second half: training on the answers to the request and on all labels before them."""
        work = self.loop.learn(self.state(known), request, labels)
        finished = yield from reproducibly(self.experiment.config.threads, work)
        if finished.cross_fitted is not None:
            self.cross_fitted[finished.b] = finished.cross_fitted
        return finished

    def probabilities(self, weights: Weights, rows: Int[Tensor, " n"]) -> Generator[Progress, None, Tensor]:
        """Class probabilities of images under these weights, the mean over an ensemble's members. (n d)"""
        return (yield from reproducibly(self.experiment.config.threads, self._probabilities(weights, rows)))

    def _probabilities(self, weights: Weights, rows: Int[Tensor, " n"]) -> Generator[Progress, None, Tensor]:
        self._load(weights)
        parts = []
        for member in members_of(self.loop.model):
            found = yield from outputs(
                member,
                self.loop.problem.train,
                rows,
                batch_size=self.loop.method.config.acquisition.batch_size,
                meter=Meter(self.loop.device),
                what="images",
            )
            parts.append(found.logits.double().softmax(dim=1).cpu())
        return torch.stack(parts).mean(dim=0)

    def by_validation_alone(self) -> float | None:
        """Cross-validated balanced accuracy of a head on the validation images alone.

        None where the model is not frozen, or where a class has a single image or a single group.
        """
        experiment = self.experiment
        return experiment.feature_check(self.loop.problem).balanced_accuracy if experiment.config.is_frozen else None

    def class_mix(self, known: Known) -> Generator[Progress, None, dict[str, float]]:
        """Estimated shares of the classes among open images, by a drawn part of them; empty where none is open.

        The model's posteriors are taken off the class frequencies of what it was trained on, unless its loss weighs
        classes alike, and calibrated on the validation images. A class that it was not trained on has no share. The
        shares are those under which the images are most likely (`fkal.core.label_shift`).
        """
        assert known.weights is not None
        state = self.state(known)
        rows = state.pool.open
        if not len(rows) or not len(state.y):
            return {}
        drawn = torch.randperm(len(rows), generator=stream(self.loop.seed, "mix", known.b))[:MIX_IMAGES]
        p = yield from self.probabilities(known.weights, rows[drawn.sort().values])
        problem, y = self.loop.problem, state.y
        y_v = problem.train.labels[problem.validation].to(y)
        if self.experiment.trains_on_validation:
            y = torch.cat([y, y_v])
        counts = y.bincount(minlength=len(self.classes)).double()
        seen = counts > 0
        prior = counts if self.loop.training.loss == "plain" else torch.ones_like(counts)
        p_v = yield from self._validated(known)
        taught = seen[y_v]
        number = (seen.cumsum(dim=0) - 1)[y_v[taught]]
        calibrated = bias_corrected(_log_equal(p_v[taught], prior, seen), number)
        shares = torch.zeros(len(self.classes), dtype=torch.float64)
        shares[seen] = estimated_prior(calibrated(_log_equal(p, prior, seen)).clamp(min=LEAST_SHARE))
        return dict(zip(self.classes, shares.tolist(), strict=True))

    def _validated(self, known: Known) -> Generator[Progress, None, Float[Tensor, "m d"]]:
        """Class probabilities of the validation images, by models that were not trained on the image."""
        assert known.weights is not None
        logits = self.cross_fitted.get(known.b)
        if logits is not None:
            return logits.double().softmax(dim=1).cpu()
        return (yield from self.probabilities(known.weights, self.loop.problem.validation))

    def near_copies(self, known: Known) -> Generator[Progress, None, dict[str, float] | None]:
        """A similarity for `--dedup` by labeled and validation images, and the share of open images it leaves out."""
        assert known.weights is not None
        state, train = self.state(known), self.loop.problem.train
        rows = torch.cat([state.pool.labeled, self.loop.problem.validation])
        y = torch.cat([state.y, train.labels[self.loop.problem.validation]])
        kept = torch.randperm(len(rows), generator=stream(self.loop.seed, "near-copies", known.b))[:MIX_IMAGES]
        features = yield from self.features(known.weights, rows[kept], "labeled images")
        least = suggested_similarity(features, y[kept])
        if least is None or not len(state.pool.open):
            return None
        some = torch.randperm(len(state.pool.open), generator=stream(self.loop.seed, "open", known.b))[:MIX_IMAGES]
        opened = yield from self.features(known.weights, state.pool.open[some.sort().values], "pool")
        stays = representatives(opened, features[:0], least).stays
        return {"similarity": least, "left_out": float((~stays).double().mean())}

    def state(self, known: Known) -> LoopState:
        """Where the loop is; labels of images that cannot be read any more are left out."""
        rows = self.dataset.pool
        rows = rows[~torch.isin(rows, _rows(known.closed))]
        labels = torch.full_like(self.loop.problem.train.labels, -1)
        given = torch.tensor(list(known.labels), dtype=torch.long)
        labels[given] = torch.tensor(list(known.labels.values()), dtype=labels.dtype)
        weights = self.loop.theta_0 if known.weights is None else grown(known.weights, self.loop.theta_0)
        return LoopState(known.b, Pool(rows, torch.isin(rows, given)), labels, weights)

    def features(self, weights: Weights, rows: Int[Tensor, " n"], what: str) -> Generator[Progress, None, Tensor]:
        """What enters the last layer of the first member, on the CPU. (n l)"""
        return (yield from reproducibly(self.experiment.config.threads, self._features(weights, rows, what)))

    def _features(self, weights: Weights, rows: Int[Tensor, " n"], what: str) -> Generator[Progress, None, Tensor]:
        self._load(weights)
        if not len(rows):
            return torch.empty(0, 1)
        found = yield from outputs(
            members_of(self.loop.model)[0],
            self.loop.problem.train,
            rows,
            batch_size=self.loop.method.config.acquisition.batch_size,
            meter=Meter(self.loop.device),
            what=what,
        )
        return found.features.float().cpu()

    def _load(self, weights: Weights) -> None:
        self.loop.model.load_state_dict(grown(weights, self.loop.theta_0))

    def _turn(self, state: LoopState, turn: Turn) -> Generator[Progress, None, Request]:
        """A method sees the candidates of its turn and the labeled images."""
        seen = torch.isin(state.pool.indices, turn.rows) | state.pool.is_labeled
        pool = Pool(state.pool.indices[seen], state.pool.is_labeled[seen])
        loop = replace(self.loop, method=replace(self.loop.method, budget=turn.n))
        return (yield from loop.select(replace(state, pool=pool)))

    def _turns(self, state: LoopState, known: Known, rows: Int[Tensor, " u"], n: int) -> list[Turn]:
        listing = self.dataset.pool_listing
        assert listing is not None
        groups = [listing.groups[row] for row in rows.tolist()]
        if not any(group is not None for group in groups):
            return [Turn(rows, n)]
        asked = Counter(group for row in self._asked(known) if (group := listing.groups[row]) is not None)
        return turns_by_group(rows, groups, asked, n, stream(self.loop.seed, "groups", known.b + 1))

    def _asked(self, known: Known) -> set[int]:
        return {*known.labels, *known.closed}

    def _without_near_copies(
        self, state: LoopState, known: Known, rows: Int[Tensor, " u"], wish: Selecting
    ) -> Generator[Progress, None, tuple[Tensor, tuple[Tensor, Representatives] | None]]:
        if wish.dedup is None:
            return rows, None
        before = _rows(self._asked(known) & set(self.dataset.pool.tolist()))
        features = yield from self.features(state.weights, rows, "near-copies")
        asked = yield from self.features(state.weights, before, "images asked for before")
        found = representatives(features, asked if len(before) else features[:0], wish.dedup)
        kept = rows[found.stays]
        if len(kept) < wish.n:
            raise ConfigError(
                f"--dedup {wish.dedup:g}: {len(kept)} of {len(rows)} open images are left, and -n is {wish.n}; "
                "give a similarity nearer to 1, or ask for fewer"
            )
        return kept, (rows, found)

    def _without_strays(
        self, state: LoopState, known: Known, rows: Int[Tensor, " u"], n: int
    ) -> Generator[Progress, None, Tensor]:
        """Images that are most like one of no class come only where too few others are left."""
        none = _rows(known.strays & set(self.dataset.pool.tolist()))
        if not len(none):
            return rows
        others = torch.cat([state.pool.labeled, self.loop.problem.validation])
        features = yield from self.features(state.weights, rows, "pool")
        of_none = yield from self.features(state.weights, none, "images of no class")
        of_class = yield from self.features(state.weights, others, "labeled images")
        is_stray = strays(features, of_none, of_class)
        kept = rows[~is_stray]
        return kept if len(kept) >= n else torch.cat([kept, rows[is_stray][: n - len(kept)]]).sort().values

    def _guessed(
        self, state: LoopState, rows: Int[Tensor, " p"]
    ) -> Generator[Progress, None, tuple[Tensor | None, Tensor | None]]:
        """What the trained model takes the picks for; before the first training nobody guesses."""
        if not state.b:
            return None, None
        p = yield from self.probabilities(state.weights, rows)
        best = p.max(dim=1)
        return best.indices, best.values


def joined(requests: Sequence[Request]) -> Request:
    """Requests of one round as one, in their order; a column that one of them lacks is left out."""
    if len(requests) == 1:
        return requests[0]

    def column(name: str) -> Tensor | None:
        parts = [getattr(each, name) for each in requests]
        return None if any(part is None for part in parts) else torch.cat(parts)

    indices = column("indices")
    assert indices is not None
    metrics = {name: value for each in reversed(requests) for name, value in each.metrics.items()}
    memory = [each.peak_memory_mb for each in requests if each.peak_memory_mb is not None]
    return Request(
        b=requests[0].b,
        indices=indices,
        ranks=column("ranks"),
        scores=column("scores"),
        matches=column("matches"),
        pseudo_labels=column("pseudo_labels"),
        metrics=metrics,
        forward_images=dict(_summed([each.forward_images for each in requests])),
        backward_images=dict(_summed([each.backward_images for each in requests])),
        seconds=dict(_summed([each.seconds for each in requests])),
        peak_memory_mb=max(memory, default=None),
    )


def answered(request: Request, rows: Sequence[int]) -> Request:
    """The request without the picks that nobody labeled; `rows` are those that were."""
    kept = torch.isin(request.indices, torch.tensor(rows, dtype=torch.long))
    pick = partial(_picked, kept=kept)
    return replace(
        request,
        indices=request.indices[kept],
        ranks=pick(request.ranks),
        scores=pick(request.scores),
        matches=pick(request.matches),
        pseudo_labels=pick(request.pseudo_labels),
    )


def empty_request(b: int) -> Request:
    """A round that asked for nothing: its labels came from elsewhere."""
    return Request(b, NO_ROWS, None, None, None, None, {}, {}, {}, {}, None)


def grown(weights: Weights, theta_0: Weights) -> Weights:
    """Weights that fit a model with more classes: the rows of new classes are those of `theta_0`.

    Raises ConfigError for weights of another model.
    """
    if weights.keys() != theta_0.keys():
        raise ConfigError(
            "the last round trained another model, or another number of networks; set model.name and "
            "acquisition.ensemble as they were, or train again: fkal train"
        )
    return {name: _grown(name, weights[name], theta_0[name]) for name in theta_0}


def training_settings(config: Config) -> dict[str, object]:
    """The settings that a training depends on, whatever chooses the images."""
    tree = _without_later(config.tree)
    read = {key: tree[key] for key in ("data", "model", "features", "pretrain", "train", "seed", "threads", "device")}
    return {
        **read,
        **({} if config.batch_parts == 1 else {"batch_parts": config.batch_parts}),
        "data": {k: v for k, v in tree["data"].items() if k not in ("root", "workers")},
        "train": {k: v for k, v in tree["train"].items() if k != "checkpoint_minutes"},
    }


def reading_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the flattened settings of a training those by which its model reads images; files by their name alone."""
    read = {k: v for k, v in settings.items() if k.startswith(("model.", "features.")) or k in READ}
    return {k: PurePath(v).name if k in FILES and isinstance(v, str) else v for k, v in read.items()}


def acquisition_settings(config: Config) -> dict[str, object]:
    """The settings that choose the images."""
    found: dict[str, object] = _without_later(config.tree)["acquisition"]
    return found


READ = frozenset({"data.image_size", "data.mean", "data.std", "data.interpolation", "data.decoding", "train.layers"})
FILES = frozenset({"model.name", "model.weights"})
LATER_THAN_PROJECTS: Mapping[str, tuple[str, Any]] = MappingProxyType(
    {
        "data.interpolation": ("interpolation", None),
        "data.decoding": ("decoding", None),
        "model.compile": ("compile", False),
        "features.precision": ("precision", None),
        "pretrain.precision": ("precision", None),
        "train.precision": ("precision", None),
        "acquisition.parts": ("parts", None),
    }
)
"""Settings that came after the first projects, by section and key, and what each is where nobody set it."""


def _without_later(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree without the later settings that nobody set, as the first projects have it in their keys."""
    found = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    for place, (name, unset) in LATER_THAN_PROJECTS.items():
        section = found[place.partition(".")[0]]
        if section[name] == unset:
            del section[name]
    if found["batch_parts"] == 1:
        del found["batch_parts"]
    return found


def _grown(name: str, value: Tensor, first: Tensor) -> Tensor:
    if value.shape == first.shape:
        return value
    if value.dim() and value.shape[1:] == first.shape[1:] and len(value) < len(first):
        return torch.cat([value, first[len(value) :].to(value)])
    raise ConfigError(
        f"the last round's {name} has the shape {tuple(value.shape)}, and the model's is {tuple(first.shape)}; "
        "set model, data.image_size and classes.txt as they were, or train again: fkal train"
    )


def _log_equal(p: Float[Tensor, "n d"], prior: Float[Tensor, " d"], seen: Bool[Tensor, " d"]) -> Float[Tensor, "n s"]:
    """Log posteriors of the seen classes under equal frequencies, up to a term for each row."""
    return p[:, seen].clamp(min=torch.finfo(torch.float64).tiny).log() - prior[seen].log()


def _picked(column: Tensor | None, *, kept: Tensor) -> Tensor | None:
    return None if column is None else column[kept]


def _near(request: Request, found: tuple[Tensor, Representatives] | None) -> dict[int, tuple[int, ...]]:
    """The near-copies behind each pick."""
    if found is None:
        return {}
    rows, (_, by) = found
    behind: dict[int, list[int]] = {}
    for place, stands_for in enumerate(by.tolist()):
        if stands_for >= 0 and stands_for != place:
            behind.setdefault(int(rows[stands_for]), []).append(int(rows[place]))
    return {row: tuple(behind[row]) for row in request.indices.tolist() if row in behind}


def _summed(parts: Sequence[Mapping[str, float]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return total


def _rows(rows: frozenset[int] | set[int]) -> Int[Tensor, " n"]:
    return torch.tensor(sorted(rows), dtype=torch.long)


def _of_own_images(config: Config) -> Config:
    """The settings without the project's name, which may be that of a registered dataset with images of one size."""
    return config.model_copy(update={"data": replace(config.data, name="folder", folder=".")})


def _seen(project: Project, config: Config, backbone: Backbone | None, display: Display) -> ProjectDataset:
    """The project's images as the model takes them."""

    def load(data: DataConfig) -> Dataset:
        named = replace(data, name=project.name, folder=None)
        return project.dataset(display, config=config.model_copy(update={"data": named}))

    dataset = seen_dataset(_of_own_images(config), backbone, load)
    assert isinstance(dataset, ProjectDataset)
    return replace(dataset, groups=_group_numbers(dataset))


def _group_numbers(dataset: ProjectDataset) -> Int[Tensor, " n"] | None:
    """A number for each group, as pool and validation have them; an image by itself has one of its own."""
    assert dataset.pool_listing is not None and dataset.validation_listing is not None
    names = [*dataset.pool_listing.groups, *dataset.validation_listing.groups]
    if not any(name is not None for name in names):
        return None
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    return torch.tensor([len(numbers) + place if name is None else numbers[name] for place, name in enumerate(names)])


def _refuse_unsteered(project: Project, dataset: ProjectDataset) -> None:
    assert dataset.validation is not None
    if not len(dataset.validation):
        raise MissingData(
            f"{project.name} has no validation images, which steer the selection and measure it; label some of the "
            "pool: fkal val start -n 200, or give some: fkal val add PATH"
        )


def _refuse_without_pool(project: Project, dataset: ProjectDataset) -> None:
    assert dataset.pool_listing is not None
    if len(dataset.pool):
        return
    fresh = project.reread()
    held = sum(held_out(dataset.pool_listing, fresh.validation, fresh.test))
    more = f", {held:,} of them held out, because they or images of their group validate or test" if held else ""
    groups = f"correct data.groups = {project.groups!r}, or " if held and project.groups else ""
    raise ConfigError(
        f"{project.params_path}: no image of the pool can be used: {len(dataset.pool_listing):,} are listed{more}; "
        f"{groups}add others: fkal pool add PATH"
    )


def _split(dataset: ProjectDataset) -> Split:
    """Which images are pool, validation and test, as experiments have it. Nothing is drawn."""
    assert dataset.validation is not None
    parts = {"validation": dataset.train.labels[dataset.validation], "test": dataset.test.labels[dataset.tested]}
    counts = {part: labels.bincount(minlength=len(dataset.classes)).tolist() for part, labels in parts.items()}
    return Split(
        pool=dataset.pool,
        validation=dataset.validation,
        test=dataset.tested,
        recipe={"project": dataset.name},
        cut=(),
        data_digest=dataset.digest,
        class_counts=counts,
    )


def _weights_paths(project: Project, experiment: Experiment) -> tuple[Path, ...]:
    """Pretraining is done once, with the pool as it is then; a pool that grows keeps its weights."""
    config = experiment.config
    tree = _without_later(config.tree)
    read = {k: v for k, v in tree.items() if k not in PRETRAINING_IGNORES and k not in ("device", "threads")}
    key = digest_of({**read, "data": _about_pixels(config), "device": experiment.device.type, "version": ALGO_VERSION})
    names = [f"{key[:16]}-{e}" for e in range(len(members_of(experiment.model)))]
    return tuple(below(project.weights_path, f"theta_0-{name}.safetensors") for name in names)


def _about_pixels(config: Config) -> dict[str, object]:
    data = _without_later(config.tree)["data"]
    how = ("name", "image_size", "mean", "std", "interpolation", "decoding")
    return {name: data[name] for name in how if name in data}
