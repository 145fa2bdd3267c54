"""A project from Python: `fkal.Project(path)` with the verbs of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fkal.labeling import importing, predicting, rounds, simulating
from fkal.labeling import status as status_of
from fkal.labeling.batch import Batch
from fkal.labeling.given_labels import GivenLabel
from fkal.labeling.importing import Imported, ImportRules
from fkal.labeling.label_store import login
from fkal.labeling.learner import Learner
from fkal.labeling.predicting import Predicted
from fkal.labeling.project import Project as Folder
from fkal.labeling.rounds import SelectOptions
from fkal.labeling.simulating import Simulated, SimulationOptions
from fkal.labeling.status import Status
from fkal.labeling.trainings import Training
from fkal.notify import PLAIN, Display


class Project:
    """A folder made by `fkal init`, with the verbs of the command line.

    Args:
        path: The folder of the project, or one below it.
        tracking_uri: The MLflow store; None: `MLFLOW_TRACKING_URI`, else `mlflow.db` in the project.
        tracked: Whether selections and trainings go to MLflow at all.
        display: Where messages and progress go.

    Raises:
        NoProject: There is no project in this folder or above it.

    Example:
        >>> project = Project("my-project")  # doctest: +SKIP
        >>> batch = project.select(500)  # doctest: +SKIP
        >>> project.label({image.path: ask_somebody(image) for image in batch.images})  # doctest: +SKIP
        >>> project.train().metrics["val/accuracy"]  # doctest: +SKIP
        0.91
    """

    def __init__(
        self, path: Path | str, *, tracking_uri: str | None = None, tracked: bool = True, display: Display = PLAIN
    ) -> None:
        self._folder = Folder.find(Path(path))
        self._tracking_uri, self._tracked, self._display = tracking_uri, tracked, display

    @property
    def path(self) -> Path:
        return self._folder.folder

    @property
    def name(self) -> str:
        return self._folder.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in classes.txt."""
        return self._folder.classes

    def select(
        self,
        n: int | None = None,
        *,
        method: str | None = None,
        dedup: float | None = None,
        share_labels: bool = False,
        exclude: Path | None = None,
        more: bool = False,
    ) -> Batch:
        """The next batch of images to label; while one is open, the same call returns it.

        Args:
            n: How many images; None: `acquisition.budget`.
            method: A method as `fkal run --method` takes it.
            dedup: Of images with at least this cosine similarity ask for one.
            share_labels: With `dedup`, near-copies get the label of the image that stands for them.
            exclude: A file with paths of images to leave out.
            more: Open a further batch while one is open.

        Raises:
            ConfigError: Another batch is open, or the pool has fewer open images.
        """
        options = SelectOptions(n, method, dedup, exclude, more, share_labels)
        batch = rounds.select(self._folder, options, self._display).batch
        self._mirror()
        return batch

    def cancel(self) -> Batch:
        """Withdraws the open selection; its labels stay."""
        batch = rounds.cancel(self._folder, self._display)
        self._mirror()
        return batch

    def label(
        self,
        labels: Mapping[str, str],
        *,
        annotator: str | None = None,
        partial: bool = False,
        allow_new_class: bool = False,
    ) -> Imported:
        """Labels by path, or by digest: all of them, or none and a line per problem.

        Args:
            labels: A class for each image, or `none_of_these`.
            annotator: Who labeled; None: your login, as on the labeling page.
            partial: Accept that images of a batch have no label yet.
            allow_new_class: Accept classes that classes.txt lacks.

        Raises:
            ConfigError: An image or a class is unknown.
            LabelsMissing: Images of the batch have no label.
        """
        author = login() if annotator is None else annotator
        rules = ImportRules(partial=partial, allow_new_class=allow_new_class, annotator=author)
        given = [GivenLabel(f"labels[{key!r}]", key, digest=key, label=label) for key, label in labels.items()]
        return importing.import_given(Folder.open(self.path), given, rules, source="python", say=self._display.notify)

    def train(self, **settings: object) -> Training:
        """Trains on what is labeled; `settings` are those of `--set`, say `train={"epochs": 20}` as `train.epochs=20`.

        Raises:
            LabelsMissing: Images of the open batch have no label.
        """
        trained = rounds.train(self._folder, _assignments(settings), self._display)
        self._mirror(trained.learner)
        return trained.training

    def next(self, n: int | None = None, *, method: str | None = None) -> Batch:
        """Trains, then selects."""
        trained, asked = rounds.next_(
            self._folder,
            SelectOptions(n, method),
            self._display,
            when_refused=lambda trained: self._mirror(trained.learner),
        )
        self._mirror(trained.learner)
        return asked.batch

    def status(self) -> Status:
        """What was labeled, how good the model is and how sure that is, and whether to go on."""
        return status_of.status(Folder.open(self.path))

    def audit(self, n: int = rounds.AUDIT_IMAGES) -> Batch:
        """A random sample of the unlabeled images; once labeled, `status().audit` is the accuracy on such images."""
        return rounds.audit(self._folder, n, self._display).batch

    def relabel(self, n: int = rounds.RELABEL_IMAGES) -> Batch | None:
        """The labeled images whose label the model finds least probable; None where no unchecked one is in doubt."""
        asked = rounds.relabel(self._folder, n, self._display)
        return None if asked is None else asked.batch

    def predict(self, place: Path | str, out: Path | str) -> Predicted:
        """The class of each image of a folder or manifest, in a Parquet or CSV file."""
        return predicting.predict(self._folder, str(place), Path(out), self._display)

    def export_model(self, out: Path | str, *, format: str = "safetensors") -> Path:
        """The trained model as a file, `safetensors` or `onnx`, with its classes and preprocessing."""
        return predicting.export_model(self._folder, Path(out), predicting.known_format(format), self._display)

    def simulate(
        self, truth: Path | str, *, methods: Sequence[str | None] = (None,), seeds: Sequence[int | None] = (None,)
    ) -> list[Simulated]:
        """The rounds with labels of a table in the place of people; nothing is written to labels.csv."""
        options = SimulationOptions(methods, seeds)
        return simulating.simulate(self._folder, Path(truth), options, self._display)

    def _mirror(self, learner: Learner | None = None) -> None:
        if self._tracked:
            from fkal.labeling.tracking import mirror

            mirror(self._folder, self._display, uri=self._tracking_uri, learner=learner)


def _assignments(settings: Mapping[str, object]) -> list[str]:
    """`train={"epochs": 20}` and `seed=3` as `--set` has them."""
    found = []
    for section, value in settings.items():
        if isinstance(value, Mapping):
            found += [f"{section}.{key}={_as_text(each)}" for key, each in value.items()]
        else:
            found.append(f"{section}={_as_text(value)}")
    return found


def _as_text(value: object) -> str:
    """None, lists and tuples as YAML has them; texts, paths and numbers as they are."""
    return json.dumps(value, default=str) if value is None or isinstance(value, list | tuple | Mapping) else str(value)
