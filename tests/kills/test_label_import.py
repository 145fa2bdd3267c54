"""`kill -9` at a random moment of an import, then the same import again: labels.csv is that of an undisturbed one."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.labeling.label_store import LabelRow, LabelStore
from fkal.labeling.listing import ListedImage, write_listing
from fkal.labeling.project import write_classes

KILLS = int(os.environ.get("FKAL_KILLS", "1"))
IMAGES = 20_000
LONGEST_WAIT = 120
MOMENTS = 0.7
"""Seconds from the beginning of the import in which the kill comes; it takes about half of them."""

pytestmark = [pytest.mark.kills, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pets")
    (folder / ".fkal").mkdir()
    (folder / "params.yaml").write_text("project: {name: pets, pools: [images]}\n")
    write_listing(folder / "pool.parquet", [ListedImage(f"{i}.png", f"{i:064x}") for i in range(IMAGES)])
    write_classes(folder / "classes.txt", ("cat", "dog"))
    rows = "".join(f"{i}.png,{('cat', 'dog', 'new')[i % 3]}\n" for i in range(IMAGES))
    (folder / "mine.csv").write_text(f"path,label\n{rows}")
    return folder


def command(folder: Path) -> list[str]:
    flags = ["--accept-extra", "--allow-new-class", "--annotator", "Ann", "--project", str(folder)]
    return ["label", "import", str(folder / "mine.csv"), *flags]


def labels(folder: Path) -> list[list[str]]:
    """All cells but the time."""
    return [row[:-1] for row in csv.reader((folder / "labels.csv").read_text().splitlines())]


@pytest.fixture(scope="module")
def whole(project) -> list[list[str]]:
    begin(project)
    assert CliRunner().invoke(app, command(project)).exit_code == 0
    return labels(project)


def begin(project: Path) -> None:
    """One label from before."""
    (project / "labels.csv").unlink(missing_ok=True)
    write_classes(project / "classes.txt", ("cat", "dog"))
    LabelStore(project).append([LabelRow("0.png", f"{0:064x}", "dog", time="2026-11-26T20:00:00.000+00:00")])


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_import_leaves_none_or_all_and_is_made_up_for(project, whole, seed):
    begin(project)
    before = labels(project)
    process = subprocess.Popen(
        [sys.executable, "-m", "fkal.cli.main", *command(project)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    holder, last = project / ".fkal" / "lock.holder", time.monotonic() + LONGEST_WAIT
    while not holder.exists() and process.poll() is None and time.monotonic() < last:
        time.sleep(0.002)
    time.sleep(random.Random(seed).uniform(0.0, MOMENTS))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert labels(project) in (before, whole)
    assert CliRunner().invoke(app, command(project)).exit_code == 0
    assert labels(project) == whole
    assert list(project.glob(".labels.csv*")) == []
