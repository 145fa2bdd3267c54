"""The committed rows of a page: `docs/results/<page>/rows.csv`, and beside it what they took in `costs.csv`.

A row is a round. It says the grid, method and seed, and the fingerprint and recipe of its experiment, which name the
versions of all that its numbers depend on; nothing of the machine. Rows are sorted, so that another experiment changes
only its own lines.
"""

import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fkal.atomic_files import write_whole
from fkal.data.regular_files import regular_bytes
from fkal.engine.rounds import Round
from fkal.identifiers import digest
from fkal.locks import NamedLock
from fkal.notify import on_standard_error
from fkal.results.csv_files import csv_bytes
from fkal.results.curves import curve_frame
from fkal.results.manifest import read_about
from fkal.results.round_facts import round_files
from fkal.results.round_io import load_round
from result_pages.grids import ROOT, Job

RUN = ["grid", "method", "seed"]
IDENTITY = ["fingerprint", "recipe"]
COUNTS = ["b", "labels_used"]
COSTS = [*RUN, "seconds", "date", "cpu", "threads", "torch"]
TEXT = dict.fromkeys(("grid", "method", *IDENTITY, "date", "cpu", "torch"), str)
LOCK = "rows.lock"
"""Below --out: one process at a time changes the rows."""


class Measured(NamedTuple):
    """A finished experiment of a grid, and what it was measured with."""

    job: Job
    fingerprint: str
    rounds: Sequence[Round]
    torch: str
    day: date
    cpu: str

    def rows(self) -> pd.DataFrame:
        """A row per round; a metric that the method does not have is empty."""
        frame = curve_frame(self.rounds).reindex(columns=[*COUNTS, *self.job.grid.columns])
        values = [*self.job.key, self.fingerprint, self.job.recipe]
        named = frame.assign(**dict(zip([*RUN, *IDENTITY], values, strict=True)))
        return named[[*RUN, *IDENTITY, *COUNTS, *self.job.grid.columns]]

    def costs(self) -> pd.DataFrame:
        """One row: the seconds of its rounds, without those of pretraining, which methods share."""
        seconds = round(sum(sum(each.seconds.values()) for each in self.rounds))
        threads = self.job.config.threads
        entry = [*self.job.key, seconds, self.day.isoformat(), self.cpu, threads, self.torch]
        return pd.DataFrame([entry], columns=COSTS)


def measured_in(folder: Path, job: Job, cpu: str) -> Measured:
    """The finished experiment of a state folder. Raises UnusableRound or ConfigError where it is not whole."""
    facts = round_files(folder)
    rounds = [load_round(regular_bytes(path.with_suffix(".safetensors")), regular_bytes(path)) for path in facts]
    about = read_about(folder)
    made_with = {} if about is None else about.made_with
    return Measured(
        job=job,
        fingerprint=digest(folder.name, "state folder"),
        rounds=rounds,
        torch=made_with.get("torch", ""),
        day=date.fromtimestamp(facts[-1].stat().st_mtime),
        cpu=cpu,
    )


class Recorded(NamedTuple):
    """What the rows say of an experiment."""

    fingerprint: str
    recipe: str


class Pages(NamedTuple):
    """The folders of rows below one folder, a page each."""

    root: Path = ROOT / "docs" / "results"

    def folder(self, page: str) -> Path:
        return self.root / page

    def rows(self, page: str) -> pd.DataFrame:
        return _read(self.folder(page) / "rows.csv", [*RUN, *IDENTITY, *COUNTS])

    def costs(self, page: str) -> pd.DataFrame:
        return _read(self.folder(page) / "costs.csv", COSTS)

    def recorded(self, page: str) -> dict[tuple[str, str, int], Recorded]:
        """By grid, method and seed."""
        first = self.rows(page).drop_duplicates(RUN)
        keys = zip(first["grid"], first["method"], first["seed"].astype(int), strict=True)
        return dict(zip(keys, map(Recorded, first["fingerprint"], first["recipe"]), strict=True))

    def add(self, measured: Sequence[Measured], out: Path) -> None:
        """Put the rows of these experiments, all of one page, in place of those that they had before."""
        page = measured[0].job.grid.page
        folder = self.folder(page)
        folder.mkdir(parents=True, exist_ok=True)
        with NamedLock(out / LOCK, on_standard_error):
            costs = _replaced(self.costs(page), pd.concat([each.costs() for each in measured]), RUN)
            rows = _replaced(self.rows(page), pd.concat([each.rows() for each in measured]), [*RUN, "b"])
            write_whole(folder / "costs.csv", csv_bytes(costs))
            write_whole(folder / "rows.csv", csv_bytes(as_written(rows)))


def as_written(rows: pd.DataFrame) -> pd.DataFrame:
    """Metrics as texts of six digits, so that what is read and written again is the same."""
    metrics = [name for name in rows if name not in (*RUN, *IDENTITY, *COUNTS)]
    texts = {name: ["" if pd.isna(x) else f"{x:.6g}" for x in rows[name].astype(float)] for name in metrics}
    return rows.assign(**texts)


def cpu_model() -> str:
    """The processor as the system calls it, with its family and model numbers, since several share a name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{name} {found[name]}" for name in ("cpu family", "model") if name in found]
    return ", ".join([found.get("model name", platform.machine()), *numbers])


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    return pd.read_csv(path, dtype=TEXT) if path.exists() else pd.DataFrame(columns=list(columns))


def _replaced(before: pd.DataFrame, new: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """`before` without the experiments of `new`, and `new`; sorted."""
    known = set(new[RUN].itertuples(index=False, name=None))
    kept = before[[key not in known for key in before[RUN].itertuples(index=False, name=None)]]
    whole = pd.concat([kept, new]) if len(kept) else new
    return whole.sort_values(list(order), ignore_index=True)
