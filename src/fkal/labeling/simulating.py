"""`fkal run --project`: the rounds of a project with an oracle in the place of people.

The same functions run as behind `fkal select` and `fkal train`, on the same images, in the same order, with the same
seed; only the labels come from a table. Nothing is written but finished rounds below `.fkal/simulated`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

import torch

from fkal.config.schema import Config, digest_of
from fkal.engine.measured import part_word
from fkal.engine.rounds import Round
from fkal.errors import MOST_NAMES, ConfigError, did_you_mean, shortened
from fkal.experiment.checks import refuse_beyond_pool
from fkal.experiment.versions import ALGO_VERSION
from fkal.labeling.answers import digest_finder
from fkal.labeling.books import Books
from fkal.labeling.given_labels import NONE_OF_THESE, GivenLabel, read_given_labels
from fkal.labeling.learner import (
    Known,
    Learner,
    Selecting,
    acquisition_settings,
    answered,
    empty_request,
    refuse_unsuited,
    training_settings,
)
from fkal.labeling.listing import Listing
from fkal.labeling.project import STATE, Project
from fkal.labeling.rounds import method_in_keys, method_of, rows_by_digest, watched
from fkal.labeling.validation import with_validation
from fkal.notify import PLAIN, Display
from fkal.results.checkpoint import Checkpoint

SIMULATED = "simulated"
SKIPPED = "skipped"


@dataclass(frozen=True)
class Simulated:
    """The rounds of one method and seed, without weights, which stay below `folder`."""

    method: str
    seed: int
    folder: Path
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class Oracle:
    """Answers by digest: the name of a class, `none_of_these`, or `skipped`."""

    answers: Mapping[str, str]
    origin: str

    @classmethod
    def read(cls, path: Path, project: Project) -> Oracle:
        """The table, as `fkal label import` reads it. Raises ConfigError for unknown classes and images."""
        if path.exists() and project.labels_path.exists() and path.samefile(project.labels_path):
            return cls._of_books(Books.of(project), path)
        pool = project.pool
        given = read_given_labels(path)
        digests = _digests(given, pool)
        unknown = [each.path for each, digest in zip(given, digests, strict=True) if not digest]
        if unknown and len(unknown) == len(given):
            raise ConfigError(f"--truth {path}: no image of it is in the pool, say {shortened(unknown[0])}")
        answers: dict[str, str] = {}
        for each, digest in zip(given, digests, strict=True):
            if digest and answers.setdefault(digest, _answer(each)) != _answer(each):
                raise ConfigError(
                    f"--truth {each.where}: {shortened(each.path)} is {shortened(_answer(each))} here and "
                    f"{shortened(answers[digest])} before; keep one of the two"
                )
        classes = project.classes
        for name in answers.values():
            if not name:
                raise ConfigError(f"--truth {path}: an image has an empty label; give its class, or leave its row out")
            if name not in (*classes, NONE_OF_THESE, SKIPPED):
                raise ConfigError(
                    f"--truth {path}: class {shortened(name)} is not in classes.txt; {did_you_mean(name, classes)}"
                    "correct it, or add the class there"
                )
        return cls(answers, str(path))

    @classmethod
    def _of_books(cls, books: Books, path: Path) -> Oracle:
        """The project's own labels.csv: what counts of its rows, some of which take others back or correct them."""
        books.labels()  # refuses what people disagree on, and unknown classes
        rows = books.answers.rows.items()
        return cls({digest: row.label if row.status == "labeled" else row.status for digest, row in rows}, str(path))

    def names_classes_alone(self, classes: Sequence[str]) -> bool:
        """Whether nothing is skipped and every image has a class."""
        return set(self.answers.values()) <= set(classes)

    def of(self, digests: Sequence[str], paths: Sequence[str]) -> list[str]:
        """The answers for some images. Raises ConfigError for one that the table lacks."""
        lacking = [path for path, digest in zip(paths, digests, strict=True) if digest not in self.answers]
        if lacking:
            more = f" and {len(lacking) - MOST_NAMES} more" if len(lacking) > MOST_NAMES else ""
            shown = ", ".join(map(shortened, lacking[:MOST_NAMES]))
            raise ConfigError(f"--truth {self.origin}: has no label of {shown}{more}, which were asked for; add them")
        return [self.answers[digest] for digest in digests]


@dataclass(frozen=True)
class SimulationOptions:
    """Which methods and seeds; None: those of the params file."""

    methods: Sequence[str | None] = (None,)
    seeds: Sequence[int | None] = (None,)
    dedup: float | None = None
    assignments: Sequence[str] = field(default=())


def simulate(
    project: Project, truth: Path, options: SimulationOptions = SimulationOptions(), display: Display = PLAIN
) -> list[Simulated]:
    """Runs `acquisition.rounds` rounds of `acquisition.budget` images for each method and seed.

    Labels that were there before any batch make a round before them, as `fkal next` trains on them first.
    Finished rounds are kept: the same call goes on where it was stopped, and one with more rounds goes on after them.
    So does one whose table has more labels, or other ones: it repeats what follows the first label that changed.
    Raises ConfigError for a table that lacks what is asked for and, before any round, for a method that no project
    can have and for more labels than the pool has images.
    """
    with project.lock(display.notify):
        project = with_validation(project)
        oracle = Oracle.read(truth, project)
        configs = [
            project.config([*options.assignments, *([] if seed is None else [f"seed={seed}"])], method=method)
            for method in options.methods
            for seed in options.seeds
        ]
        for config in configs:
            refuse_unsuited(config)
            refuse_beyond_pool(config.acquisition, len(project.pool))
        return [_simulated(project, config, oracle, options.dedup, display) for config in configs]


def _simulated(project: Project, config: Config, oracle: Oracle, dedup: float | None, display: Display) -> Simulated:
    method, budget, n_rounds = method_of(config), config.acquisition.budget, config.acquisition.rounds
    learner = watched(Learner.ready(project, config, display), display, project.name)
    books = Books.of(project)
    given = books.given()
    n_rounds += bool(given)
    compares = oracle.names_classes_alone(learner.classes)  # a round does not say what was skipped
    key = digest_of(
        {
            "settings": training_settings(config),
            "method": method_in_keys(config),
            "acquisition": {k: v for k, v in acquisition_settings(config).items() if k != "rounds"},
            "dedup": dedup,
            "truth": None if compares else digest_of(sorted(oracle.answers.items())),
            "given": sorted(given.items()),
            "images": learner.dataset.digest,
            "usable": learner.dataset.pool.tolist(),
            "algorithm": ALGO_VERSION,
        }
    )
    out = project.folder / STATE / SIMULATED
    with Checkpoint(out, key, display.notify) as state:
        walk = _Walk(learner, oracle, Selecting(budget, dedup), given, display)
        finished = walk.still_true(state.rounds(display.notify)) if compares else []
        state.set_aside_after(len(finished))
        finished = finished[:n_rounds]
        for this in walk.after(finished, n_rounds):
            state.add(this)
            finished.append(this)
            display.notify(f"{method} s{config.seed}: round {this.b} of {n_rounds}, {about_round(this)}")
        return Simulated(method, config.seed, state.path, tuple(replace(each, weights={}) for each in finished))


def about_round(this: Round) -> str:
    """Its labels and its accuracy, for people."""
    accuracy = 100 * this.metrics[f"{this.measured}/accuracy"]
    return f"{this.labels_used:,} labels, {part_word(this.measured)} accuracy {accuracy:.1f} %"


@dataclass(frozen=True, eq=False)
class _Walk:
    """The rounds, one after another; each is `Learner.select`, the oracle, `Learner.learn`."""

    learner: Learner
    oracle: Oracle
    wish: Selecting
    given: Mapping[str, str]
    display: Display

    def after(self, finished: Sequence[Round], n_rounds: int) -> Iterator[Round]:
        """The rounds that follow the finished ones. Labels that were there before make a round of their own."""
        known = self._first()
        if known.labels and not finished and n_rounds:
            request = empty_request(1)
            empty = torch.empty(0, dtype=torch.long)
            first = watched(self.learner.learn(known, request, empty), self.display, self._name(1))
            yield first
            finished = [first]
        for past in finished:
            known = self._known_after(known, past)
        while known.b < n_rounds:
            selected = watched(self.learner.select(known, self.wish), self.display, self._name(known.b + 1))
            said = self._said(selected.request.indices.tolist())
            closed, strays = self._closed(known, said)
            labeled = {row: self._number(name) for row, name in said.items() if self._is_class(name)}
            request = answered(selected.request, list(labeled))
            y = torch.tensor([labeled[row] for row in request.indices.tolist()], dtype=torch.long)
            before = replace(known, closed=closed, strays=strays)
            this = watched(self.learner.learn(before, request, y), self.display, self._name(known.b + 1))
            yield this
            known = replace(before, b=this.b, weights=this.weights, labels={**known.labels, **labeled})

    def still_true(self, finished: Sequence[Round]) -> list[Round]:
        """The finished rounds up to the first one with a label that the table gives otherwise now, or not at all."""
        return list(takewhile(self._has_labels_of_table, finished))

    def _has_labels_of_table(self, past: Round) -> bool:
        rows, labels = past.selection.indices.tolist(), past.selection.labels.tolist()
        said = (self.oracle.answers.get(self._listing.digests[row] or "") for row in rows)
        return all(name == self.learner.classes[label] for name, label in zip(said, labels, strict=True))

    def _first(self) -> Known:
        rows = rows_by_digest(self.learner, self.given)
        return Known(labels={row: self._number(self.given[digest]) for digest, row in rows.items()})

    def _known_after(self, known: Known, past: Round) -> Known:
        """What was known after a finished round, whose labeled picks it names; the others were asked for as well."""
        labels = dict(zip(past.selection.indices.tolist(), past.selection.labels.tolist(), strict=True))
        return replace(known, b=past.b, weights=past.weights, labels={**known.labels, **labels})

    @property
    def _listing(self) -> Listing:
        listing = self.learner.dataset.pool_listing
        assert listing is not None
        return listing

    def _said(self, rows: Sequence[int]) -> dict[int, str]:
        listing = self._listing
        digests, paths = [listing.digests[row] or "" for row in rows], [listing.paths[row] for row in rows]
        return dict(zip(rows, self.oracle.of(digests, paths), strict=True))

    def _closed(self, known: Known, said: Mapping[int, str]) -> tuple[frozenset[int], frozenset[int]]:
        strays = {row for row, name in said.items() if not self._is_class(name) and name == NONE_OF_THESE}
        closed = {row for row, name in said.items() if not self._is_class(name)}
        return known.closed | closed, known.strays | strays

    def _is_class(self, name: str) -> bool:
        return name in self.learner.classes

    def _number(self, name: str) -> int:
        return self.learner.classes.index(name)

    def _name(self, b: int) -> str:
        return f"{self.learner.experiment.dataset.name}: round {b}"


def _digests(given: Sequence[GivenLabel], pool: Listing) -> list[str]:
    """Of each row of the table, by its digest or by its path; empty for an image that is not in the pool."""
    by_path = digest_finder(pool)
    known = pool.positions([each.digest for each in given])
    return [each.digest if row is not None else by_path(each.path) for each, row in zip(given, known, strict=True)]


def _answer(each: GivenLabel) -> str:
    """Its class, or its status."""
    return each.status if each.status in (SKIPPED, NONE_OF_THESE) else each.label
