"""The scratch directory of one experiment: what is finished, so that a killed run goes on from there.

torch is imported where a round's tensors are read or written, and not before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fkal.atomic_files import write_whole
from fkal.data.regular_files import IrregularFile, regular_bytes
from fkal.errors import first_line
from fkal.folders import TEMPORARY_FILE, below, own_folder, remove_folder
from fkal.identifiers import ROUND, checked_fingerprint
from fkal.locks import LockHeld, NamedLock
from fkal.notify import Notify
from fkal.results.round_facts import PassCounts, UnusableRound, load_pass_counts

if TYPE_CHECKING:
    from fkal.engine.rounds import Round
    from fkal.results.unfinished_io import UnfinishedFile

ROUND_FILE = re.compile(r"round-(\d+)\.(safetensors|json)")
UNUSABLE = ".unusable"
ABOUT = "about.json"
UNFINISHED = "unfinished.safetensors"
LAYOUT = (
    rf"notes\.json|{re.escape(UNFINISHED)}|lock(\.holder)?"
    rf"|(about\.json|{ROUND}\.(json|safetensors))({re.escape(UNUSABLE)})?"
)
"""Names of the files in it."""


TRIAL = "trial"
"""The note of a folder that a trial of `fkal tune` made."""


class StateInUse(LockHeld):
    """Another process works on the same experiment."""


class Checkpoint:
    """Holds `<out>/state/<fingerprint>/`, for itself alone while open.

    A round is `round-03.safetensors` and `round-03.json`, the latter written last: it is
    the mark that the round is finished. `notes.json` keeps the run ids of the tracking store,
    `about.json` what the experiment is.
    """

    def __init__(self, out: Path, name: str, waiting: Notify | None = None) -> None:
        """`name` is the experiment's fingerprint. Raises UnsafeName for any other, and for a link out of `out`."""
        self._out = Path(out)
        self._name = f"state/{checked_fingerprint(name, 'state directory')}"
        self.path = below(self._out, self._name)
        self._lock = NamedLock(self.path / "lock", waiting)

    def __enter__(self) -> Self:
        """Waits, with a word once a minute, if another process has it open; without `waiting` raises StateInUse."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.__enter__()
        except LockHeld as held:
            raise StateInUse(
                f"{held}: one process at a time works on an "
                "experiment; wait for it or end it (the lock goes with its process)"
            ) from None
        for leftover in list(self.path.iterdir()):
            if TEMPORARY_FILE.fullmatch(leftover.name):
                leftover.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    @property
    def exists(self) -> bool:
        return self.path.is_dir()

    def remove(self) -> None:
        """For good: the experiment runs from its start again. Raises UnsafeName as `refuse_foreign` does."""
        self._check_open()
        remove_folder(self._out, self._name, LAYOUT)

    def refuse_foreign(self) -> None:
        """Raises UnsafeName if the directory holds what fkal did not write, so that it is not removed."""
        own_folder(self._out, self._name, LAYOUT)

    def rounds(self, say: Notify) -> list[Round]:
        """The finished rounds 1, 2, ... n.

        One whose files are not whole is reported, and it and the later ones are set aside.
        """
        self._check_open()
        finished: list[Round] = []
        for b in range(1, self._last_marked() + 1):
            try:
                finished.append(self._read(b))
            except UnusableRound as flaw:
                why = first_line(flaw)
                say(f"{self._file(b, 'json')}: round {b} is unusable, {why}; it and later ones are run again")
                break
        self.set_aside_after(len(finished))
        return finished

    def set_aside(self, name: str) -> None:
        """A file that cannot be used is kept under another name."""
        self._check_open()
        (self.path / name).replace(self.path / (name + UNUSABLE))

    def set_aside_after(self, last: int) -> None:
        """Files of later rounds no longer count; a tensors file alone is what a kill leaves."""
        self._check_open()
        later = [p for p in self.path.iterdir() if (match := ROUND_FILE.fullmatch(p.name)) and int(match[1]) > last]
        if later and self.is_finished:  # first, since a kill may come in between
            self._note(finished=False)
        for path in later:
            path.replace(path.with_name(path.name + UNUSABLE))

    def describe(self, about: bytes) -> None:
        """Keep what the first process that worked on the experiment says of it."""
        self._check_open()
        if not (self.path / ABOUT).exists():
            write_whole(self.path / ABOUT, about)

    def add(self, finished: Round) -> None:
        """Raises ValueError for a figure that is not finite."""
        from fkal.results.round_io import round_bytes

        self._check_open()
        tensors, facts = round_bytes(finished)
        write_whole(self._file(finished.b, "safetensors"), tensors)
        write_whole(self._file(finished.b, "json"), facts)
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def unfinished(self, minutes: float, say: Notify) -> UnfinishedFile:
        """Where the state of a round within its training is kept, once every so many minutes."""
        from fkal.results.unfinished_io import UnfinishedFile

        self._check_open()
        return UnfinishedFile(self.path / UNFINISHED, minutes, say)

    def run_ids(self) -> dict[str, str]:
        """Run ids in the tracking store by name: `parent`, `b03`."""
        ids = self._notes().get("run_ids")
        return {name: each for name, each in ids.items() if isinstance(each, str)} if isinstance(ids, dict) else {}

    def remember(self, parent: str, children: Mapping[int, str] | None = None) -> None:
        """A new parent makes the old one's children forgotten."""
        known = self.run_ids()
        kept = known if known.get("parent") == parent else {}
        new = {f"b{b:02d}": run_id for b, run_id in (children or {}).items()}
        self._note(run_ids={**kept, "parent": parent, **new})

    @property
    def finished_count(self) -> int:
        """How many rounds are marked as finished; needs no lock and checks no file."""
        return self._last_marked() if self.exists else 0

    def counted(self, say: Notify) -> list[PassCounts]:
        """The passes of the finished rounds 1, 2, ... n; needs no lock and changes nothing."""
        counted: list[PassCounts] = []
        for b in range(1, self.finished_count + 1):
            try:
                counted.append(self._counted(b))
            except (UnusableRound, OSError) as flaw:
                why = first_line(flaw)
                say(f"{self._file(b, 'json')}: round {b} is unusable, {why}; it and later ones are left out")
                break
        return counted

    @property
    def is_finished(self) -> bool:
        """Whether `finish` was called: nothing is left to run or to track."""
        return self._notes().get("finished") is True

    def finish(self) -> None:
        self._note(finished=True)

    def belongs_to_trial(self) -> None:
        """A trial of `fkal tune` made it: no experiment that reports and tracking count, until `describe` says so."""
        if not ((self.path / ABOUT).exists() or self.finished_count or self.run_ids()):
            self._note(**{TRIAL: True})

    def _read(self, b: int) -> Round:
        from fkal.results.round_io import load_round

        tensors, facts = self._file(b, "safetensors"), self._file(b, "json")
        missing = [path.name for path in (tensors, facts) if not path.exists()]
        if missing:
            raise UnusableRound(f"{' and '.join(missing)} is missing")
        try:
            finished = load_round(regular_bytes(tensors), regular_bytes(facts))
        except IrregularFile as error:
            raise UnusableRound(first_line(error)) from error
        if finished.b != b:
            raise UnusableRound(f"its files are those of round {finished.b}")
        return finished

    def _counted(self, b: int) -> PassCounts:
        counted = load_pass_counts(regular_bytes(self._file(b, "json")))
        if counted.b != b:
            raise UnusableRound(f"its file is that of round {counted.b}")
        return counted

    def _last_marked(self) -> int:
        matches = (ROUND_FILE.fullmatch(path.name) for path in self.path.iterdir())
        return max((int(match[1]) for match in matches if match and match[2] == "json"), default=0)

    def _file(self, b: int, kind: str) -> Path:
        return self.path / f"round-{b:02d}.{kind}"

    def _notes(self) -> dict[str, Any]:
        """What cannot be read is forgotten: the store knows its runs by tag as well."""
        return _notes_of(self.path)

    def _note(self, **entries: Any) -> None:
        self._check_open()
        known = self._notes()
        if all(name in known and known[name] == entry for name, entry in entries.items()):
            return
        content = json.dumps({**known, **entries}, indent=1) + "\n"
        write_whole(self.path / "notes.json", content.encode())

    def _check_open(self) -> None:
        assert self._lock.is_held, "the state directory is used outside of its with block"


def is_of_trial(folder: Path) -> bool:
    """Whether only trials of `fkal tune` worked on the experiment of this state folder."""
    try:
        return not (folder / ABOUT).exists() and _notes_of(folder).get(TRIAL) is True
    except OSError:  # a folder that cannot be read is named by whoever reads on
        return False


def _notes_of(folder: Path) -> dict[str, Any]:
    try:
        notes = json.loads(regular_bytes(folder / "notes.json"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}
