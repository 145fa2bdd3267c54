"""A real Label Studio: push, labels given there, all three exports and pull. `make test-label-studio` makes its place.

FKAL_LABEL_STUDIO names the program `label-studio` of an environment of its own; without it this is skipped. Its first
start migrates a database and takes minutes.
"""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.labeling.answers import label_rows
from fkal.labeling.label_store import current_rows
from fkal.labeling.project import Project

PROGRAM = os.environ.get("FKAL_LABEL_STUDIO", "")
LONGEST_START = 1500
SKIPPED, NONE = 3, 4
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(LONGEST_START + 300),
    pytest.mark.skipif(not Path(PROGRAM).is_file(), reason="there is no Label Studio; run: make test-label-studio"),
]


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[str, str]]:
    """Its address and a legacy token; images are served from tmp_path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, home = secrets.token_hex(20), tmp_path / "label-studio"
    home.mkdir()
    environment = {
        "PATH": f"{Path(PROGRAM).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "LABEL_STUDIO_BASE_DATA_DIR": str(home),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(tmp_path),
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
        yield url, token
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


def annotate(session: requests.Session, url: str, task: dict[str, Any], place: int) -> str:
    """As its page sends what a person chose; returns what labels.csv should have."""
    label = ("cat", "dog", "owl")[place % 3] if place != NONE else "none_of_these"
    choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
    body = {"result": [] if place == SKIPPED else [choice], "was_cancelled": place == SKIPPED, "lead_time": 1.5}
    session.post(f"{url}/api/tasks/{task['id']}/annotations/", json=body, timeout=60).raise_for_status()
    return "skipped" if place == SKIPPED else label


def fkal(*arguments: str) -> str:
    told = CliRunner().invoke(app, ["label", *arguments])
    assert told.exit_code == 0, told.output
    return told.output


def labels(project: Project) -> dict[str, str]:
    return {row.path: row.label or row.status for row in current_rows(label_rows(project))}


def test_labels_go_to_label_studio_and_come_back(labeling_project, server, tmp_path, monkeypatch):
    project, (url, token) = labeling_project, server
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
    session = requests.Session()
    session.headers["Authorization"] = f"Token {token}"
    number = str(session.post(f"{url}/api/projects/", json={"title": "pets"}, timeout=60).json()["id"])
    there = ["--url", url, "--project-id", number]
    assert "added 6 tasks" in fkal("push", *there, "--document-root", str(tmp_path))
    assert "added 0 tasks" in fkal("push", *there, "--document-root", str(tmp_path))
    query = {"project": number, "fields": "all", "page_size": 100}
    tasks = session.get(f"{url}/api/tasks", params=query, timeout=60).json()["tasks"]
    tasks.sort(key=lambda task: task["data"]["fkal_rank"])
    assert [task["data"]["fkal_path"] for task in tasks] == list(project.pool.paths[:6])
    for task in tasks:
        image = session.get(url + task["data"]["image"], timeout=60)
        assert image.content == (tmp_path / "images" / task["data"]["fkal_path"]).read_bytes()
    expected = {task["data"]["fkal_path"]: annotate(session, url, task, i) for i, task in enumerate(tasks)}
    fkal("pull", *there)
    assert labels(project) == expected
    assert "0 labels, 6 known before" in fkal("pull", *there)
    fkal("undo")
    for kind, count in (("JSON", 6), ("JSON_MIN", 5), ("CSV", 5)):
        text = session.get(f"{url}/api/projects/{number}/export", params={"exportType": kind}, timeout=60).content
        (tmp_path / kind).write_bytes(text)
        fkal("import", str(tmp_path / kind), "--partial")
        assert len(labels(project)) == count and labels(project).items() <= expected.items()
        fkal("undo")
    assert labels(project) == {}
