"""The verbs of a project that go on with its rounds: select, train, audit, relabel.

Each holds the project's lock. A batch is there once its request.json is, a training once its trained.json is: what a
kill interrupts is made again by the same command, with the same picks and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from fkal.atomic_files import write_whole
from fkal.config.documents import file_bytes
from fkal.config.method_spec import long_method_name, short_method_name
from fkal.config.schema import Config, digest_of, flattened
from fkal.core.randomness import stream
from fkal.engine.loop import Weights
from fkal.engine.progress import Progress
from fkal.engine.rounds import Request, Round
from fkal.engine.settings import PretrainConfig, TrainConfig
from fkal.errors import MOST_NAMES, ConfigError, LabelsMissing, UserError, listed, shortened
from fkal.experiment.names import ensemble_size, method_name
from fkal.experiment.versions import ALGO_VERSION
from fkal.folders import in_place
from fkal.labeling.batch import Batch, BatchImage, BatchRequest, Kind, batch_id, next_folder
from fkal.labeling.books import Books
from fkal.labeling.contact_sheet import write_batch
from fkal.labeling.heads import keep_standardising, weights_today
from fkal.labeling.label_store import now
from fkal.labeling.learner import (
    Known,
    Learner,
    Selected,
    Selecting,
    answered,
    empty_request,
    joined,
    reading_settings,
    refuse_beyond_open,
    training_settings,
)
from fkal.labeling.listing import Listing
from fkal.labeling.project import Project
from fkal.labeling.spreadsheets import decoded, parse_sheet
from fkal.labeling.trainings import Training, read_round, refuse_other_classes, write_training
from fkal.labeling.validation import with_validation
from fkal.models.settings import FROZEN_TAP
from fkal.notify import PLAIN, Display
from fkal.results.request_io import UnusableRequest, load_request, request_bytes

LARGEST_EXCLUDED = 2**30
"""Bytes of a file of images to leave out."""
AUDIT_IMAGES, RELABEL_IMAGES = 100, 50
WORDS = {"select": "selection", "relabel": "check"}
ENSEMBLE = "acquisition.ensemble"
T = TypeVar("T")


@dataclass(frozen=True)
class SelectOptions:
    """What `fkal select` was given. Without `n` the batch has `acquisition.budget` images."""

    n: int | None = None
    method: str | None = None
    dedup: float | None = None
    exclude: Path | None = None
    more: bool = False
    share_labels: bool = False
    assignments: Sequence[str] = ()


class Asked(NamedTuple):
    """A batch, and whether it was made just now."""

    batch: Batch
    is_new: bool


class Trained(NamedTuple):
    """A training, whether it was made just now, and what made it."""

    training: Training
    is_new: bool
    learner: Learner | None = None


def select(project: Project, options: SelectOptions = SelectOptions(), display: Display = PLAIN) -> Asked:
    """The next batch of images to label.

    While a batch is open, the same call returns it; another one needs `more`. Raises ConfigError where a batch is open
    or a round is labeled and not trained yet, or where fewer images are open than asked for.
    """
    with project.lock(display.notify):
        project = with_validation(project)
        config = project.config(options.assignments, method=options.method)
        books = Books.of(project)
        wish = _wish(project, options, config)
        if not options.more:
            again = _open_again(books, options, wish)
            if again is not None:
                return Asked(again, is_new=False)
        if books.last is not None:
            refuse_other_settings(books.last, config)
        elif not any(batch.request.kind == "select" for batch in books.batches) and (n := len(books.given())):
            display.notify(f"{n:,} images have labels, and no model is trained on them: fkal next does it first")
        learner = watched(Learner.ready(project, config, display), display, project.name)
        known = known_now(books, learner, waits=True)
        _refuse_lost(known)
        selecting = Selecting(wish["n"], options.dedup, excluded=_rows_of(wish["excluded"], learner))
        selected = watched(learner.select(known, selecting), display, f"{project.name}: round {known.b + 1}")
        return Asked(_written(project, learner, selected, known.b + 1, wish), is_new=True)


def cancel(project: Project, display: Display = PLAIN, *, kind: Kind = "select") -> Batch:
    """Withdraws the open batch of a kind; its labels stay. Raises ConfigError where none is open."""
    with project.lock(display.notify):
        opened = Books.of(Project.open(project.folder)).open_of(kind)
        if not opened:
            raise ConfigError(f"no {WORDS.get(kind, kind)} is open; fkal {kind} opens one")
        return opened[-1].withdraw()


def train(project: Project, assignments: Sequence[str] = (), display: Display = PLAIN) -> Trained:
    """Trains on what is labeled: the next round where its batches are done, else the last one again if labels changed.

    Raises LabelsMissing where a batch of the round waits for labels, or where nothing is labeled.
    """
    with project.lock(display.notify):
        project = with_validation(project)
        config = project.config(assignments)
        books = Books.of(project)
        labels = books.labels()
        _refuse_open(books)
        if not labels:
            raise LabelsMissing("nothing is labeled; choose images by fkal select, and label them by fkal label")
        due = _due(books)
        made_of = _made_of(books, config, labels, due)
        before = next((each for each in books.trainings if each.b == due), None)
        if before is not None and before.made_of == made_of and read_round(project, before) is not None:
            return Trained(before, is_new=False)
        if before is not None:
            _say_other_settings(before, config, display)
        learner = watched(Learner.ready(project, config, display), display, project.name)
        finished, facts = _trained(books, learner, due, display)
        facts["settings"] = _kept_settings(config)
        facts |= keep_standardising(project, learner)
        training = write_training(project, finished, made_of=made_of, time=now(), classes=learner.classes, facts=facts)
        return Trained(training, is_new=True, learner=learner)


def next_(
    project: Project,
    options: SelectOptions = SelectOptions(),
    display: Display = PLAIN,
    *,
    when_refused: Callable[[Trained], None] = lambda trained: None,
) -> tuple[Trained, Asked]:
    """Trains, then selects; `when_refused` gets the training where nothing can be selected, say from an empty pool.

    Raises LabelsMissing while the batch of the round waits for labels.
    """
    trained = train(project, options.assignments, display)
    try:
        return trained, select(project, options, display)
    except UserError:
        when_refused(trained)
        raise


def audit(project: Project, n: int = AUDIT_IMAGES, display: Display = PLAIN) -> Asked:
    """A random sample of the images that nobody labeled, for an unbiased estimate of accuracy on them.

    What the model takes them for is kept in request.json and shown to nobody before they are labeled.
    """
    with project.lock(display.notify):
        project = with_validation(project)
        books = Books.of(project)
        opened = books.open_of("audit")
        if opened:
            return Asked(opened[-1], is_new=False)
        learner, known = _learned(project, books, display)
        rows = learner.state(known).pool.open
        refuse_beyond_open(n, len(rows))
        audits = sum(batch.request.kind == "audit" for batch in books.batches)
        drawn = rows[torch.randperm(len(rows), generator=stream(learner.loop.seed, "audit", audits))[:n]]
        assert known.weights is not None
        p = watched(learner.probabilities(known.weights, drawn), display, f"{project.name}: audit")
        images = [_image(learner, row, rank) for rank, row in enumerate(drawn.tolist())]
        guesses = [learner.classes[label] for label in p.argmax(dim=1).tolist()]
        facts = {
            "guesses": {image.digest: guess for image, guess in zip(images, guesses, strict=True)},
            "of": len(rows),
        }
        return Asked(_batch(project, learner, "audit", max(1, books.b), images, "random", facts), is_new=True)


def relabel(project: Project, n: int = RELABEL_IMAGES, display: Display = PLAIN) -> Asked | None:
    """The labeled images whose label the model finds least probable, to be checked.

    A label that is the answer of such a check is not asked for again. None where there is no other in doubt.
    """
    with project.lock(display.notify):
        project = with_validation(project)
        books = Books.of(project)
        opened = books.open_of("relabel")
        if opened:
            return Asked(opened[-1], is_new=False)
        if n < 1:
            raise ConfigError(f"-n {n}: ask for 1 image or more")
        learner, known = _learned(project, books, display)
        state = learner.state(known)
        assert known.weights is not None
        p = watched(learner.probabilities(known.weights, state.pool.labeled), display, f"{project.name}: relabel")
        of_label = p.gather(1, state.y[:, None])[:, 0]
        best = p.max(dim=1)
        rows = torch.tensor(_confirmed(books, learner), dtype=torch.long, device=state.pool.labeled.device)
        open_to_doubt = ~torch.isin(state.pool.labeled, rows)
        doubtful = ((best.indices != state.y) & open_to_doubt).nonzero()[:, 0]
        chosen = doubtful[of_label[doubtful].argsort(stable=True)[:n]]
        if not len(chosen):
            return None
        images = [
            replace(
                _image(learner, int(state.pool.labeled[at]), rank),
                score=1 - float(of_label[at]),
                guess=learner.classes[int(best.indices[at])],
                guess_probability=float(best.values[at]),
            )
            for rank, at in enumerate(chosen.tolist())
        ]
        return Asked(_batch(project, learner, "relabel", max(1, books.b), images, "relabel", {}), is_new=True)


def _confirmed(books: Books, learner: Learner) -> list[int]:
    """Rows of the pool whose label is the answer of a check."""
    checks = {batch.name for batch in books.batches if batch.request.kind == "relabel"}
    digests = [digest for digest, row in books.answers.rows.items() if row.batch in checks]
    return list(rows_by_digest(learner, digests).values())


def watched(work: Generator[Progress, None, T], display: Display, name: str) -> T:
    """What the work returns; its progress is shown meanwhile."""
    with display.one(name) as shown:
        while True:
            try:
                shown.show(next(work))
            except StopIteration as end:
                result: T = end.value
                return result


def known_now(
    books: Books, learner: Learner, *, waits: bool, without: Iterable[str] = (), b: int | None = None
) -> Known:
    """What the files say, by rows of the pool.

    With `waits` images that open batches ask for are closed, and near-copies that have a label from another
    (`--share-labels`). `without` are digests whose labels are left out, `b` the
    round to go on from, else the last one.
    """
    at = books.b if b is None else b
    labels = books.labels()
    left_out = set(without)
    closed = books.with_status("skipped") | books.with_status("none_of_these")
    if waits:
        closed |= books.waiting | set(_shared(books, labels))
    numbers = {name: label for label, name in enumerate(learner.classes)}
    rows = rows_by_digest(learner, [*labels, *closed])
    return Known(
        b=at,
        weights=weights_after(books, at, learner),
        labels={rows[d]: numbers[name] for d, name in labels.items() if d in rows and d not in left_out},
        closed=frozenset(rows[d] for d in closed if d in rows and d not in labels),
        strays=frozenset(rows[d] for d in books.with_status("none_of_these") if d in rows),
    )


def weights_after(books: Books, b: int, learner: Learner) -> Weights | None:
    """The weights of a finished round; None before the first. Says so where they are lost."""
    training = next((each for each in books.trainings if each.b == b), None)
    if training is None:
        return None
    refuse_other_classes(training, learner.classes)
    finished = read_round(books.project, training)
    if finished is None:
        learner.experiment.say(
            f"the weights of round {b} are not in {books.project.state_path}; the next training starts from those "
            "before the first label"
        )
        return None
    weights = weights_today(books.project, training, finished, learner)
    if weights is None:
        learner.experiment.say(
            f"the images have changed since round {b}, and {books.project.state_path} does not have how its embeddings "
            "were centred; the next training starts from the weights before the first label"
        )
    return weights


def _learned(project: Project, books: Books, display: Display) -> tuple[Learner, Known]:
    """For what needs a trained model. Raises LabelsMissing where none is trained, or its weights are lost."""
    if books.last is None:
        raise LabelsMissing("no model is trained yet; label the images of fkal select, then run fkal train")
    refuse_other_settings(books.last, project.config())
    learner = watched(Learner.ready(project, project.config(), display), display, project.name)
    known = known_now(books, learner, waits=True)
    _refuse_lost(known)
    return learner, known


def _refuse_lost(known: Known) -> None:
    """Raises LabelsMissing where a round was trained and its weights are lost, or its embeddings' map."""
    if known.b and known.weights is None:
        raise LabelsMissing(f"the weights of round {known.b} cannot be used any more; fkal train makes them again")


def refuse_other_settings(training: Training, config: Config) -> None:
    """Raises ConfigError where the trained model would read images by other settings than it was trained with."""
    then = reading_settings(training.facts.get("settings", {}))
    now_ = reading_settings(dict(flattened(training_settings(config))))
    other = [name for name in sorted({*then, *now_}) if then.get(name) != now_.get(name)]
    if then and other:
        name, before, after = other[0], then.get(other[0]), now_.get(other[0])
        more = f" and {len(other) - 1} more settings" if other[1:] else ""
        raise ConfigError(
            f"{name} = {_shown(after)}, and was {_shown(before)} when round "
            f"{training.b} was trained{more}; set it back in params.yaml, or run fkal train"
        )


def _say_other_settings(before: Training, config: Config, display: Display) -> None:
    """Says which settings are others than before, as after a `--set` that is not given again."""
    then, now_ = before.facts.get("settings", {}), _kept_settings(config)
    other = [name for name in sorted({*then, *now_}) if then.get(name) != now_.get(name)] if then else []
    if other:
        changes = [f"{name} is {_shown(now_.get(name))}, and was {_shown(then.get(name))}" for name in other]
        display.notify(
            f"round {before.b} is trained again: {listed(changes)}; a --set is for one command, params.yaml for all"
        )


def _kept_settings(config: Config) -> dict[str, Any]:
    """What trained.json has of the settings; the number of networks where it is not one."""
    networks = ensemble_size(config)
    return {**dict(flattened(training_settings(config))), **({ENSEMBLE: networks} if networks > 1 else {})}


def _shown(value: object) -> str:
    return shortened(value) if isinstance(value, str) else "unset" if value is None else str(value)


def _wish(project: Project, options: SelectOptions, config: Config) -> dict[str, Any]:
    """What is asked for, as request.json keeps it, so that the same call is known again."""
    if options.dedup is not None and not 0 < options.dedup <= 1:
        raise ConfigError(f"--dedup {options.dedup:g}: a cosine similarity above 0 and up to 1; near-copies have 0.99")
    if options.share_labels and options.dedup is None:
        raise ConfigError("--share-labels copies labels to near-copies; give --dedup as well")
    excluded = [] if options.exclude is None else _excluded(options.exclude, project.pool)
    return {
        "n": config.acquisition.budget if options.n is None else options.n,
        "method": method_of(config),
        "dedup": options.dedup,
        "share_labels": options.share_labels,
        "excluded": excluded,
    }


def method_of(config: Config) -> str:
    """The method as `--method` takes it. Pretraining and training are the project's, not the method's."""
    return _method_under(config, TrainConfig(layers="frozen") if config.is_frozen else TrainConfig())


def method_in_keys(config: Config) -> str:
    """The same in the keys of simulated rounds: that of a frozen model has its one tap, as it had at first."""
    return _method_under(config, TrainConfig())


def _method_under(config: Config, train: TrainConfig) -> str:
    return short_method_name(method_name(config.model_copy(update={"pretrain": PretrainConfig(), "train": train})))


def _open_again(books: Books, options: SelectOptions, wish: Mapping[str, Any]) -> Batch | None:
    """The open batch that the same call made. Raises ConfigError where another call is refused."""
    opened = books.open_of("select")
    is_bare = options == SelectOptions()
    for batch in reversed(opened):
        if is_bare or _is_same_wish(batch.request.facts.get("wish"), _as_kept(wish)):
            return batch
    if opened:
        batch, left = opened[-1], len(opened[-1].missing(books.live))
        raise ConfigError(
            f"{batch.folder}: this batch is open ({len(batch.images)} images by {batch.request.method}, {left} without "
            "a label); label it, withdraw it by --cancel, or open a further one by --more"
        )
    done = books.selected_in(books.b + 1)
    if done:
        raise ConfigError(
            f"{done[-1].folder}: round {books.b + 1} is labeled and not trained yet; run fkal next, which trains and "
            "selects, or select with the model as it is by --more"
        )
    return None


def _is_same_wish(kept: Any, wish: Mapping[str, Any]) -> bool:
    """A method may have got a short name since, and that of a frozen model had its one tap."""
    if not isinstance(kept, dict) or not isinstance(kept.get("method"), str):
        return False
    method = long_method_name(kept["method"].removesuffix(f"@{FROZEN_TAP}"))
    return {**kept, "method": method} == {**wish, "method": long_method_name(wish["method"])}


def _as_kept(wish: Mapping[str, Any]) -> dict[str, Any]:
    return {**wish, "excluded": digest_of(sorted(wish["excluded"])) if wish["excluded"] else None}


def _written(project: Project, learner: Learner, selected: Selected, b: int, wish: Mapping[str, Any]) -> Batch:
    """Keeps the request with its figures, then the batch for people."""
    request, listing = selected.request, learner.dataset.pool_listing
    assert listing is not None
    folder = next_folder(project.rounds_path, b)
    project.state_path.mkdir(parents=True, exist_ok=True)
    write_whole(_request_path(project, batch_id(folder.name)), request_bytes(request))
    images = [_picked(learner, selected, place) for place in range(len(request.indices))]
    near = {listing.digests[row]: [listing.digests[other] for other in others] for row, others in selected.near.items()}
    facts = {
        "wish": _as_kept(wish),
        "pool_images": len(listing),
        "model_round": b - 1,
        **({"near": near} if near else {}),
    }
    return _batch(project, learner, "select", b, images, wish["method"], facts)


def _batch(
    project: Project,
    learner: Learner,
    kind: Kind,
    b: int,
    images: Sequence[BatchImage],
    method: str,
    facts: Mapping[str, Any],
) -> Batch:
    dataset = learner.dataset
    assert dataset.pool_listing is not None and dataset.validation_listing is not None
    folder = next_folder(project.rounds_path, b)
    request = BatchRequest(
        kind=kind,
        round=b,
        batch=batch_id(folder.name),
        method=method,
        seed=learner.loop.seed,
        pool_digest=dataset.pool_listing.digest,
        validation_digest=dataset.validation_listing.digest,
        time=now(),
        facts=facts,
    )
    return write_batch(project, folder, request, images)


def _picked(learner: Learner, selected: Selected, place: int) -> BatchImage:
    """One pick as people see it: the trained model's guess, or before the first training the assumed label."""
    request = selected.request
    image = _image(learner, int(request.indices[place]), place)
    guess, probability = "", None
    if selected.guesses is not None and selected.probabilities is not None:
        guess = learner.classes[int(selected.guesses[place])]
        probability = float(selected.probabilities[place])
    elif request.pseudo_labels is not None:
        guess = learner.classes[int(request.pseudo_labels[place])]
    validation, listing = learner.dataset.validation_listing, learner.dataset.pool_listing
    assert validation is not None and listing is not None
    matched = "" if request.matches is None else validation.paths[int(request.matches[place]) - len(listing)]
    score = None if request.scores is None else float(request.scores[place])
    return replace(image, score=score, guess=guess, guess_probability=probability, matched_validation=matched)


def _image(learner: Learner, row: int, rank: int) -> BatchImage:
    assert learner.dataset.pool_listing is not None
    listed = learner.dataset.pool_listing[row]
    return BatchImage(listed.path, listed.digest or "", rank, duplicates=listed.duplicates)


def _refuse_open(books: Books) -> None:
    """Raises LabelsMissing where a selection waits for labels."""
    opened = [batch for batch in books.open_of("select") if batch.request.round > books.b]
    if opened:
        lines = [
            f"{batch.folder}: {len(batch.missing(books.live))} of {len(batch.images)} images have no label"
            for batch in opened
        ]
        raise LabelsMissing("\n".join([*lines, "label them: fkal label; or withdraw the batch: fkal select --cancel"]))


def _due(books: Books) -> int:
    """The round to train: the next one where it was selected, else the last one again, or the first."""
    return books.b + 1 if books.selected_in(books.b + 1) or not books.b else books.b


def _made_of(books: Books, config: Config, labels: Mapping[str, str], b: int) -> str:
    """Digest of all that a training depends on."""
    before = next((each for each in books.trainings if each.b == b - 1), None)
    networks = ensemble_size(config)
    return digest_of(
        {
            "settings": training_settings(config),
            "labels": sorted(labels.items()),
            "left_out": sorted(books.with_status("skipped") | books.with_status("none_of_these")),
            "shared": sorted(_shared(books, labels).items()),
            "classes": list(books.project.classes),
            "validation": books.project.validation.digest,
            "test": books.project.test.digest,
            "before": None if before is None else before.round["sha256"],
            "batches": [batch.name for batch in books.selected_in(b)],
            "algorithm": ALGO_VERSION,
            **({"ensemble": networks} if networks > 1 else {}),
            **({"pool": books.project.pool.digest} if config.is_frozen else {}),  # embeddings are centred by its mean
        }
    )


def _trained(books: Books, learner: Learner, b: int, display: Display) -> tuple[Round, dict[str, Any]]:
    """Round b on the labels as they are, and what else trained.json keeps of it."""
    batches = books.selected_in(b)
    asked = {image.digest for batch in batches for image in batch.images}
    known = known_now(books, learner, waits=False, without=asked, b=b - 1)
    everything = known_now(books, learner, waits=False, b=b - 1)
    shared = rows_by_digest(learner, _shared(books, books.labels()))
    numbers = {name: label for label, name in enumerate(learner.classes)}
    copies = {shared[d]: numbers[name] for d, name in _shared(books, books.labels()).items() if d in shared}
    known = replace(known, labels={**copies, **known.labels})
    readable = set(learner.dataset.pool.tolist())
    request = joined([_request(books, batch, learner) for batch in batches]) if batches else empty_request(b)
    request = answered(replace(request, b=b), [row for row in everything.labels if row in readable])
    labels = torch.tensor([everything.labels[row] for row in request.indices.tolist()], dtype=torch.long)
    if not len(request.indices) and not any(row in readable for row in known.labels):
        raise LabelsMissing("no image that can be trained on has a label; choose some by fkal select, and label them")
    finished = watched(learner.learn(known, request, labels), display, f"{books.project.name}: round {b}")
    return finished, _facts(books, learner, finished, display)


def _facts(books: Books, learner: Learner, finished: Round, display: Display) -> dict[str, Any]:
    """What `fkal status` reads of a training besides its figures."""
    dataset = learner.dataset
    assert dataset.pool_listing is not None and dataset.validation_listing is not None
    validation = learner.loop.problem.validation
    seen = finished.cross_fitted  # by models that did not train on the image
    if seen is None:
        name = f"{books.project.name}: validation"
        seen = watched(learner.probabilities(finished.weights, validation), display, name)
    right = seen.argmax(dim=1).cpu() == learner.loop.problem.train.labels[validation].cpu()
    known = replace(known_now(books, learner, waits=False), b=finished.b, weights=finished.weights)
    mix = watched(learner.class_mix(known), display, f"{books.project.name}: pool")
    near = watched(learner.near_copies(known), display, f"{books.project.name}: near-copies")
    return {
        "mix": mix,
        "dedup": near,
        "test_images": len(dataset.tested),
        "pool_digest": dataset.pool_listing.digest,
        "validation_digest": dataset.validation_listing.digest,
        "pool_images": len(dataset.pool),
        "validation_right": "".join("1" if each else "0" for each in right.tolist()),
        "validation_alone": learner.by_validation_alone(),
        "skipped": len(books.with_status("skipped")),
        "none_of_these": len(books.with_status("none_of_these")),
    }


def _shared(books: Books, labels: Mapping[str, str]) -> dict[str, str]:
    """Labels that near-copies have from the image that stands for them, where a selection asked for that."""
    found: dict[str, str] = {}
    for batch in books.batches:
        facts = batch.request.facts
        if facts.get("wish", {}).get("share_labels") and not batch.request.withdrawn:
            for digest, copies in facts.get("near", {}).items():
                if digest in labels:
                    found |= {copy: labels[digest] for copy in copies if copy not in labels}
    return found


def _request(books: Books, batch: Batch, learner: Learner) -> Request:
    """The request behind a batch; validation images may be further back now, as a pool grows in front of them."""
    listing = learner.dataset.pool_listing
    assert listing is not None
    try:
        request = load_request(_request_path(books.project, batch.name).read_bytes())
    except (FileNotFoundError, UnusableRequest):
        return _request_of_batch(batch, learner)
    moved = len(listing) - int(batch.request.facts.get("pool_images", len(listing)))
    return replace(request, matches=None if request.matches is None else request.matches + moved)


def _request_of_batch(batch: Batch, learner: Learner) -> Request:
    """The same of request.json alone, as a clone of the project has it: without what the selection cost."""
    rows = rows_by_digest(learner, [image.digest for image in batch.images])
    images = [image for image in batch.images if image.digest in rows]
    scores = [image.score for image in images if image.score is not None]
    return replace(
        empty_request(batch.request.round),
        indices=torch.tensor([rows[image.digest] for image in images], dtype=torch.long),
        scores=torch.tensor(scores) if len(scores) == len(images) else None,
    )


def _request_path(project: Project, batch: str) -> Path:
    return in_place(project.state_path, f"request-{batch}.safetensors")


def rows_by_digest(learner: Learner, digests: Iterable[str]) -> dict[str, int]:
    """Rows of the pool; a digest that is not in it is left out."""
    listing = learner.dataset.pool_listing
    assert listing is not None
    known = list(digests)
    found = listing.positions(known)
    return {digest: row for digest, row in zip(known, found, strict=True) if row is not None}


def _rows_of(paths: Sequence[str], learner: Learner) -> frozenset[int]:
    listing = learner.dataset.pool_listing
    assert listing is not None
    return frozenset(listing.rows_of_paths(paths))


def _excluded(path: Path, pool: Listing) -> list[str]:
    """The paths in a file: a line each, or the column `path` of a table. Raises ConfigError for unknown ones.

    A path that images of several places have leaves all of them out.
    """
    try:
        text = decoded(file_bytes(path, str(path), most=LARGEST_EXCLUDED), str(path))
    except FileNotFoundError:
        raise ConfigError(f"--exclude {path}: there is no such file; give one with a path a line") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and "path" in lines[0].replace(";", ",").replace("\t", ",").replace('"', "").split(","):
        names = [row.cells["path"] for row in parse_sheet(text, required=("path",), where=str(path)).rows]
    else:
        names = lines
    known = pool.listed_paths(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        shown = ", ".join(map(shortened, unknown[:MOST_NAMES]))
        raise ConfigError(f"--exclude {path}: {len(unknown)} are no images of the pool: {shown}; correct the paths")
    return list(dict.fromkeys(names))
