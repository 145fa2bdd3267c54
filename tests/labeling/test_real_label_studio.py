"""A real Label Studio: four rounds of labels given there, and its exports. `make test-label-studio` makes its place.

FKAL_LABEL_STUDIO names the program `label-studio` of an environment of its own; without it this is skipped. Its first
start migrates a database and takes minutes.
"""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.labeling.answers import label_rows
from fkal.labeling.batch import all_batches
from fkal.labeling.label_store import current_rows
from fkal.labeling.project import Project
from fkal.labeling.simulating import SimulationOptions, simulate
from fkal.labeling.trainings import trainings

PROGRAM = os.environ.get("FKAL_LABEL_STUDIO", "")
LONGEST_START = 1500
SKIPPED, NONE = 3, 4
ROUNDS = 4
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(LONGEST_START + 900),
    pytest.mark.skipif(not Path(PROGRAM).is_file(), reason="there is no Label Studio; run: make test-label-studio"),
]


class Server(NamedTuple):
    """Its address, a legacy token, and the folder that it serves images from."""

    url: str
    token: str
    root: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """Images of all tests are below its root."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, root, home = secrets.token_hex(20), tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("label-studio")
    environment = {
        "PATH": f"{Path(PROGRAM).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(root),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    options = ["--no-browser", "--internal-host", "127.0.0.1", "--port", str(port), "--username", "ann@example.org"]
    options += ["--password", secrets.token_hex(8), "--user-token", token, "--enable-legacy-api-token"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "start", *options], env=environment, cwd=home, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(url, process, home / "log")
        yield Server(url, token, root)
    finally:
        process.terminate()
        process.wait()


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    last = time.monotonic() + LONGEST_START
    while time.monotonic() < last:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(2)
    pytest.fail(f"Label Studio did not start in {LONGEST_START} seconds: {log.read_text(errors='replace')[-2000:]}")


def new_project(server: Server, title: str) -> tuple[requests.Session, str]:
    """A session that is logged in, and the number of an empty project."""
    session = requests.Session()
    session.headers["Authorization"] = f"Token {server.token}"
    answer = session.post(f"{server.url}/api/projects/", json={"title": title}, timeout=60)
    return session, str(answer.json()["id"])


def tasks_of(session: requests.Session, url: str, number: str) -> list[dict[str, Any]]:
    query = {"project": number, "fields": "all", "page_size": 100}
    tasks: list[dict[str, Any]] = session.get(f"{url}/api/tasks", params=query, timeout=60).json()["tasks"]
    return sorted(tasks, key=lambda task: task["id"])


def send(session: requests.Session, url: str, task: dict[str, Any], label: str | None) -> None:
    """As its page sends what a person chose; None is a skip."""
    choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
    body = {"result": [choice] if label else [], "was_cancelled": label is None, "lead_time": 1.5}
    session.post(f"{url}/api/tasks/{task['id']}/annotations/", json=body, timeout=60).raise_for_status()


def annotate(session: requests.Session, url: str, task: dict[str, Any], place: int) -> str:
    """Returns what labels.csv should have."""
    label = ("cat", "dog", "owl")[place % 3] if place != NONE else "none_of_these"
    send(session, url, task, None if place == SKIPPED else label)
    return "skipped" if place == SKIPPED else label


def fkal(*arguments: str) -> str:
    told = CliRunner().invoke(app, list(arguments))
    assert told.exit_code == 0, told.output
    return told.output


def labels(project: Project) -> dict[str, str]:
    return {row.path: row.label or row.status for row in current_rows(label_rows(project))}


def test_labels_go_to_label_studio_and_come_back(labeling_project, server, tmp_path, monkeypatch):
    project, url = labeling_project, server.url
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    session, number = new_project(server, "pets")
    there = ["--url", url, "--project-id", number]
    push = ["label", "push", *there, "--document-root", str(server.root)]
    assert "added 6 tasks" in fkal(*push)
    assert "added 0 tasks" in fkal(*push)
    tasks = sorted(tasks_of(session, url, number), key=lambda task: task["data"]["fkal_rank"])
    assert [task["data"]["fkal_path"] for task in tasks] == list(project.pool.paths[:6])
    for task in tasks:
        image = session.get(url + task["data"]["image"], timeout=60)
        assert image.content == (tmp_path / "images" / task["data"]["fkal_path"]).read_bytes()
    expected = {task["data"]["fkal_path"]: annotate(session, url, task, i) for i, task in enumerate(tasks)}
    fkal("label", "pull", *there)
    assert labels(project) == expected
    assert "0 labels, 6 known before" in fkal("label", "pull", *there)
    fkal("label", "undo")
    for kind, count in (("JSON", 6), ("JSON_MIN", 5), ("CSV", 5)):
        text = session.get(f"{url}/api/projects/{number}/export", params={"exportType": kind}, timeout=60).content
        (tmp_path / kind).write_bytes(text)
        fkal("label", "import", str(tmp_path / kind), "--partial")
        assert len(labels(project)) == count and labels(project).items() <= expected.items()
        fkal("label", "undo")
    assert labels(project) == {}


def test_four_rounds_through_label_studio_pick_what_a_table_of_labels_picks(
    signs, weights, server, tmp_path, monkeypatch
):
    made = signs(backbone=weights, settings="")
    monkeypatch.chdir(made.project.folder)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    session, number = new_project(server, "signs")
    there = ["--url", server.url, "--project-id", number]
    push = ["label", "push", *there, "--document-root", str(server.root)]
    fkal("select")
    for b in range(ROUNDS):
        assert "added 6 tasks" in fkal(*push)
        assert "added 0 tasks" in fkal(*push)
        for task in tasks_of(session, server.url, number)[6 * b :]:
            send(session, server.url, task, made.truth[task["data"]["fkal_path"]])
        assert "6 labels" in fkal("label", "pull", *there)
        assert f"0 labels, {6 * (b + 1)} known before" in fkal("label", "pull", *there)
        fkal("next" if b + 1 < ROUNDS else "train")
    picks = [[image.path for image in batch.images] for batch in all_batches(made.project.rounds_path)]
    trained = [each.round["sha256"] for each in trainings(made.again())]
    table = tmp_path / "truth.csv"
    table.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in made.truth.items()))
    (simulated,) = simulate(made.again(), table, SimulationOptions(assignments=(f"acquisition.rounds={ROUNDS}",)))
    assert picks == [[made.project.pool.paths[row] for row in each.selection.indices] for each in simulated.rounds]
    kept = [json.loads(path.read_text())["sha256"] for path in sorted(simulated.folder.glob("round-*.json"))]
    assert trained == kept
