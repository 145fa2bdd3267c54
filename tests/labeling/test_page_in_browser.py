"""The labeling page in a real browser: 30 labels by keyboard, the grid, undo, a phone. `make test-browser` runs it.

It needs playwright, which is no dependency of fkal, and an installed Chromium; playwright's own is not fetched.
"""

import csv
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fkal.labeling.answers import label_rows
from fkal.labeling.batch import Batch
from fkal.labeling.label_store import LabelRow, current_rows
from fkal.labeling.listing import ListedImage, write_listing
from fkal.labeling.page_server import PageServer
from fkal.labeling.page_session import LabelingSession
from fkal.labeling.project import Project, write_classes

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; run: make test-browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # playwright's closed pipes
]
FEW, MANY = tuple(f"class_{i}" for i in range(14)), tuple(f"sign number {i:03d}" for i in range(300))
KEYS = "1234567890abcdefghijklmnopqrstuvwxyz"
N = 40


def made_project(folder: Path, classes: tuple[str, ...], make_batch: Any) -> Project:
    (folder / ".fkal").mkdir(parents=True)
    (folder / "images").mkdir()
    (folder / "params.yaml").write_text("project: {name: shapes, pools: [images]}\n")
    listed = []
    for i in range(N):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        listed.append(ListedImage(f"{i}.png", f"{i:064x}"))
    write_listing(folder / "pool.parquet", [replace(each, digest=digest_of(folder, each)) for each in listed])
    write_classes(folder / "classes.txt", classes)
    project = Project.open(folder)
    batch = make_batch(project, "01", range(N))
    images = (replace(image, guess=truth(image.path, classes) if image.rank % 3 else "") for image in batch.images)
    Batch.write(batch.folder, batch.request, images)
    return project


def digest_of(folder: Path, image: ListedImage) -> str:
    from fkal.labeling.given_labels import digest_of as of_file

    return of_file(folder / "images" / image.path)


def truth(path: str, classes: tuple[str, ...]) -> str:
    return classes[7 * int(path.removesuffix(".png")) % len(classes)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page_of(browser, tmp_path, batch_maker) -> Iterator[Any]:
    servers, contexts, errors = [], [], []

    def opened(classes: tuple[str, ...], **options: Any) -> tuple[Any, Project]:
        project = made_project(tmp_path / "shapes", classes, batch_maker)
        session = LabelingSession(project, Batch.read(project.rounds_path / "01"), ("Ann",))
        server = PageServer(session, host="127.0.0.1", port=0, say=errors.append)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.on("request", lambda request: request.url.startswith(server.address()) or errors.append(request.url))
        page.goto(server.address())
        page.wait_for_selector("#main:not([hidden])")
        return page, project

    yield opened
    for context in contexts:
        context.close()
    for server in servers:
        server.shutdown()
        server.server_close()
    assert [error for error in errors if not error.startswith(("data:", "Failed to load resource"))] == []


def shown(page: Any, name: str) -> None:
    """Wait until this image is there to be seen."""
    page.wait_for_function(
        "name => document.getElementById('name').textContent === name && document.getElementById('image').complete"
        " && document.getElementById('image').naturalWidth > 0",
        arg=name,
    )
    page.wait_for_timeout(50)


def rows(project: Project) -> list[LabelRow]:
    return current_rows(label_rows(project))


def wait_for_rows(page: Any, project: Project, n: int) -> None:
    for _ in range(100):
        if len(rows(project)) == n:
            return
        page.wait_for_timeout(50)
    assert len(rows(project)) == n


@pytest.mark.parametrize("classes", [FEW, MANY], ids=["keys", "type to filter"])
def test_thirty_labels_by_keyboard_are_on_disk_one_by_one(page_of, classes):
    page, project = page_of(classes)
    for i in range(30):
        shown(page, f"{i}.png")
        wanted = truth(f"{i}.png", classes)
        assert len(rows(project)) == i
        if page.text_content("#guess") and i % 3:
            page.keyboard.press("Enter")
        elif classes is FEW:
            page.keyboard.press(KEYS[classes.index(wanted)])
        else:
            page.keyboard.type(wanted[5:])
            page.keyboard.press("Enter")
    shown(page, "30.png")
    found = list(csv.DictReader(project.labels_path.read_text().splitlines()))
    assert [(row["path"], row["label"]) for row in found] == [
        (f"{i}.png", truth(f"{i}.png", classes)) for i in range(30)
    ]
    assert {row["source"] for row in found} == {"page"} and all(float(row["seconds"]) > 0 for row in found)
    assert "30 of 40" in page.text_content("#facts") and "s per label" in page.text_content("#facts")


def test_undo_skip_none_and_browsing_by_keyboard(page_of):
    page, project = page_of(FEW)
    shown(page, "0.png")
    page.keyboard.press("a")
    shown(page, "1.png")
    page.keyboard.press("Backspace")
    shown(page, "0.png")
    assert rows(project) == []
    page.keyboard.press(".")
    shown(page, "1.png")
    page.keyboard.press("-")
    page.keyboard.press("2")
    shown(page, "2.png")
    page.keyboard.press("-")
    page.locator("#reason").fill("my own reason")
    page.keyboard.press("Enter")
    shown(page, "3.png")
    assert [(row.status, row.reason) for row in rows(project)] == [
        ("none_of_these", ""), ("skipped", "more than one class"), ("skipped", "my own reason"),
    ]  # fmt: skip
    page.keyboard.press("ArrowLeft")
    shown(page, "2.png")
    assert page.text_content("#given") == "answer: skipped (my own reason)"
    page.keyboard.press("1")
    shown(page, "3.png")
    assert rows(project)[-1].label == "class_0"


def test_twenty_guesses_are_confirmed_corrected_or_left_out_at_once(page_of):
    page, project = page_of(FEW)
    page.keyboard.press(",")
    page.wait_for_selector(".cell:nth-child(20)")
    assert page.locator(".cell").count() == 20 and page.locator(".cell.out").count() == 7
    for _ in range(7):
        page.keyboard.press("ArrowRight")  # images without a guess are first
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("d")
    assert page.text_content("#confirm-all span") == "Confirm 12 answers"
    page.keyboard.press("Enter")
    wait_for_rows(page, project, 12)
    assert len({row.time for row in rows(project)}) == 1
    corrected = [row for row in rows(project) if row.label != truth(row.path, FEW)]
    assert len(corrected) <= 1 and "class_13" in {row.label for row in rows(project)}
    page.keyboard.press("Backspace")
    wait_for_rows(page, project, 0)


def test_a_whole_batch_ends_with_what_to_do_next(page_of):
    page, project = page_of(FEW)
    for i in range(N):
        shown(page, f"{i}.png")
        page.keyboard.press("1")
    page.wait_for_selector("#end:not([hidden])")
    assert "40 labeled" in page.text_content("#end-text") and "fkal next" in page.text_content("#end-next")
    page.keyboard.press("Backspace")
    shown(page, "39.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_within_its_width_and_is_used_by_touch(page_of, scheme):
    page, project = page_of(FEW, viewport={"width": 360, "height": 740}, has_touch=True, color_scheme=scheme)
    shown(page, "0.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("option", name="class_3").tap()
    shown(page, "1.png")
    page.locator("#undo").tap()
    shown(page, "0.png")
    page.locator("#view").tap()
    page.wait_for_selector(".cell:nth-child(20)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128")
    assert light == (scheme == "light")


def test_the_server_that_is_gone_is_said_and_nothing_is_lost(page_of):
    page, project = page_of(FEW)
    shown(page, "0.png")
    page.route("**/answer", lambda route: route.abort())
    page.keyboard.press("1")
    page.wait_for_selector("#banner:not([hidden])")
    assert "does not answer" in page.text_content("#banner") and page.text_content("#name") == "0.png"
    page.unroute("**/answer")
    page.route("**/answer", lambda route: route.fulfill(status=409, body=json.dumps({"error": "no <b>room</b>"})))
    page.keyboard.press("1")
    page.wait_for_function("() => document.getElementById('banner').textContent === 'no <b>room</b>'")
    assert rows(project) == []
