"""What the files of a project say at one moment: its labels, batches and trainings, and what follows from them.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fkal.errors import ConfigError
from fkal.labeling.answers import label_rows
from fkal.labeling.batch import Batch, all_batches
from fkal.labeling.label_store import INIT, LabelRow, Resolved, current_rows, live_rows, resolved, unknown_classes
from fkal.labeling.project import Project
from fkal.labeling.trainings import Training, trainings


@dataclass(frozen=True, eq=False)
class Books:
    """The rows of labels.csv, all batches, all trainings."""

    project: Project
    rows: Sequence[LabelRow]
    batches: Sequence[Batch]
    trainings: Sequence[Training]

    @classmethod
    def of(cls, project: Project) -> Books:
        """Reads the files. Raises ConfigError for a file that cannot be read."""
        return cls(project, label_rows(project), all_batches(project.rounds_path), trainings(project))

    @cached_property
    def live(self) -> list[LabelRow]:
        """The rows that nobody took back."""
        return live_rows(self.rows)

    @cached_property
    def answers(self) -> Resolved:
        """One answer per image; where an image was checked again (`fkal relabel`), the answer of that check.

        A label that came with `fkal init --labeled` counts until somebody who is named answers.
        """
        rows = _last_checks(_without_corrected(self.rows), self.live, self.batches)
        return resolved(rows, self.project.label_settings.resolve)

    @property
    def last(self) -> Training | None:
        """The last finished training."""
        return self.trainings[-1] if self.trainings else None

    @property
    def b(self) -> int:
        """The number of the last finished round."""
        return self.trainings[-1].b if self.trainings else 0

    def open_of(self, kind: str) -> list[Batch]:
        """Batches of a kind that wait for labels."""
        return [each for each in self.batches if each.request.kind == kind and each.state(self.live) == "open"]

    def selected_in(self, b: int) -> list[Batch]:
        """The selections of round b that were not withdrawn."""
        return [
            batch
            for batch in self.batches
            if batch.request.kind == "select" and batch.request.round == b and not batch.request.withdrawn
        ]

    @property
    def waiting(self) -> set[str]:
        """Digests of images that open batches ask for and nobody has answered."""
        return {
            image.digest
            for batch in self.batches
            if batch.state(self.live) == "open"
            for image in batch.missing(self.live)
        }

    def given(self) -> dict[str, str]:
        """Labels by digest that no batch asked for: those that a project begins with. Raises as `labels` does."""
        asked = {image.digest for batch in self.batches for image in batch.images}
        return {digest: name for digest, name in self.labels().items() if digest not in asked}

    def with_status(self, status: str) -> set[str]:
        """Digests of images whose answer has this status."""
        return {digest for digest, row in self.answers.rows.items() if row.status == status}

    def labels(self) -> dict[str, str]:
        """The class of each labeled image by digest. Raises ConfigError for conflicts and for unknown classes."""
        self.answers.refuse_conflicts()
        wrong = unknown_classes(self.rows, self.project.classes)
        if wrong:
            raise ConfigError("\n".join(wrong))
        return self.answers.labels


def _without_corrected(rows: Sequence[LabelRow]) -> Sequence[LabelRow]:
    """Rows without those of `fkal init` whose image has the answer of a named person."""
    answered = {row.digest for row in current_rows(rows) if row.annotator and row.status != "skipped"}
    return [row for row in rows if row.source != INIT or row.annotator or row.digest not in answered]


def _last_checks(rows: Sequence[LabelRow], live: Sequence[LabelRow], batches: Iterable[Batch]) -> Sequence[LabelRow]:
    """Rows without those that came before the last check of their image (`fkal relabel`)."""
    checked: dict[str, str] = {}
    for batch in batches:
        if batch.request.kind == "relabel" and not batch.request.withdrawn:
            checked |= dict.fromkeys(batch.answers(live), batch.name)
    kept = []
    for row in rows:
        if checked.get(row.digest) == row.batch:
            del checked[row.digest]  # from here on each row counts
        if row.digest not in checked:
            kept.append(row)
    return kept
