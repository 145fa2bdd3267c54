"""Label Studio over HTTP, against a stand-in that answers as version 1.23.2 does; the real one has its own test."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fkal.errors import ConfigError
from fkal.labeling.answers import label_rows
from fkal.labeling.batch import Batch
from fkal.labeling.books import Books
from fkal.labeling.exporting import batch_items
from fkal.labeling.importing import ImportRules, import_given
from fkal.labeling.label_studio import LabelStudio, LabelStudioFailed, push, token_from_environment
from fkal.labeling.label_studio_tasks import labeling_config
from fkal.labeling.project import Project

LEGACY, PERSONAL = "legacy-token-0123", "head.refresh-token.sign"


class StandIn(ThreadingHTTPServer):
    """Tasks of project 1, pages of two, and access tokens that end after some requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.config, self.tasks, self.storages = "<View></View>", [], []  # type: ignore[var-annotated]
        self.imports: list[int] = []
        self.access, self.refreshed, self.moved = "access-1", 0, ""
        self.nonsense: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        parts, place = urlsplit(self.path), self.server
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if not self._may():
            return
        if parts.path in place.nonsense:
            self._send(200, place.nonsense[parts.path])
        elif parts.path == "/api/projects/1/":
            self._say(200, {"id": 1, "label_config": place.config})
        elif parts.path == "/api/storages/localfiles":
            self._say(200, place.storages)
        elif parts.path == "/api/tasks":
            start = 2 * (int(query["page"]) - 1)
            self._say(200, {"tasks": place.tasks[start : start + 2], "total": len(place.tasks)})
        elif parts.path == "/api/projects/1/export" and query == {"exportType": "JSON"}:
            self._say(200, [task for task in place.tasks if task["annotations"]])
        else:
            self._say(404, {"detail": "Not found."})

    def do_POST(self) -> None:
        place, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/token/refresh/":
            place.refreshed += 1
            place.access = f"access-{place.refreshed}"
            is_good = body == {"refresh": PERSONAL}
            if self.path in place.nonsense:
                self._send(200, place.nonsense[self.path])
                return
            self._say(200 if is_good else 401, {"access": place.access} if is_good else {"detail": "no"})
        elif not self._may():
            return
        elif self.path.startswith("/api/projects/1/import"):
            place.imports.append(len(body))
            place.tasks += [{"id": len(place.tasks) + i, "annotations": [], **task} for i, task in enumerate(body)]
            self._say(201, {"task_count": len(body)})
        elif self.path == "/api/storages/localfiles":
            place.storages.append(body)
            self._say(201, body)
        else:
            self._say(500, {"detail": f"broken; {self.headers['Authorization']}"})

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body.pop("sampling") == "Sequential sampling"
        self.server.config = body["label_config"]
        self._say(200, body)

    def _may(self) -> bool:
        if self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved)
            self.end_headers()
            return False
        if self.headers["Authorization"] in (f"Token {LEGACY}", f"Bearer {self.server.access}"):
            return True
        self._say(401, {"detail": "Invalid token."})
        return False

    def _say(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def there() -> Iterator[StandIn]:
    server = StandIn()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def project(labeling_project) -> Project:
    return labeling_project


def pushed(project: Project, there: StandIn, root: Path, token: str = LEGACY) -> int:
    items = batch_items(project, Batch.read(project.rounds_path / "01"))
    return push(project, LabelStudio(there.url, 1, token), items, root)


def test_a_push_adds_tasks_in_order_of_rank_and_a_second_one_nothing(project, there, tmp_path):
    assert pushed(project, there, tmp_path) == 6
    assert [task["data"]["fkal_rank"] for task in there.tasks] == list(range(6))
    assert there.config == labeling_config(project.classes)
    assert [each["path"] for each in there.storages] == [str(tmp_path / "images")]
    assert pushed(project, there, tmp_path) == 0
    assert (len(there.tasks), len(there.storages)) == (6, 1)


def test_a_pull_brings_labels_and_skips_and_twice_nothing_new(project, there, tmp_path):
    pushed(project, there, tmp_path)
    choice = {"type": "choices", "value": {"choices": ["dog"]}}
    there.tasks[1]["annotations"] = [{"result": [choice], "was_cancelled": False, "completed_by": 1, "lead_time": 2.0}]
    there.tasks[2]["annotations"] = [{"result": [], "was_cancelled": True, "completed_by": 1}]
    given = LabelStudio(there.url, 1, LEGACY).labels()
    for expected in (2, 0):
        found = import_given(project, given, ImportRules(partial=True), source="label studio 1", say=print)
        assert len(found.rows) == expected
    rows = label_rows(project)
    assert [(row.path, row.label or row.status, row.seconds) for row in rows] == [
        ("b c.png", "dog", 2.0), ("d&e%.png", "skipped", None),
    ]  # fmt: skip


def labeled_there(task: dict[str, Any], label: str) -> None:
    choice = {"type": "choices", "value": {"choices": [label]}}
    task["annotations"] = [{"result": [choice], "was_cancelled": False, "completed_by": 1}]


def test_a_check_is_a_second_task_of_its_images_whose_label_answers_it(project, there, tmp_path, batch_maker):
    pushed(project, there, tmp_path)
    for task in there.tasks:
        labeled_there(task, "cat")

    def pulled() -> list[tuple[str, str]]:
        given = LabelStudio(there.url, 1, LEGACY).labels()
        rules = ImportRules(partial=True)
        rows = import_given(project, given, rules, source="label studio 1", say=print).rows
        return [(row.label, row.batch) for row in rows]

    assert len(pulled()) == 6
    check = batch_maker(project, "01-2", range(6), kind="relabel")
    items = batch_items(project, check)
    assert push(project, LabelStudio(there.url, 1, LEGACY), items, tmp_path) == 6
    assert push(project, LabelStudio(there.url, 1, LEGACY), items, tmp_path) == 0
    labeled_there(there.tasks[7], "dog")
    assert pulled() == [("dog", check.request.batch)]
    assert check.state(Books.of(project).live) == "open"
    assert Books.of(project).labels() == {
        **dict.fromkeys(project.pool.digests[:6], "cat"),
        project.pool.digests[1]: "dog",
    }
    assert pulled() == []


def test_a_done_check_keeps_its_answer_however_often_all_is_pulled(project, there, tmp_path, batch_maker):
    pushed(project, there, tmp_path)
    for task in there.tasks:
        labeled_there(task, "cat")
    said: list[str] = []

    def pulled() -> int:
        given = LabelStudio(there.url, 1, LEGACY).labels()
        return len(import_given(project, given, ImportRules(), source="label studio 1", say=said.append).rows)

    assert pulled() == 6
    check = batch_maker(project, "01-2", range(2), kind="relabel")
    assert pulled() == 0, "nobody has looked again"
    push(project, LabelStudio(there.url, 1, LEGACY), batch_items(project, check), tmp_path)
    for task in there.tasks[6:]:
        labeled_there(task, "dog")
    assert [pulled(), pulled(), pulled()] == [2, 0, 0]
    answers = Books.of(project).labels()
    assert [answers[digest] for digest in project.pool.digests[:3]] == ["dog", "dog", "cat"]
    there.tasks[6]["data"]["fkal_check"] = "r09-9"
    assert pulled() == 0
    assert said == ["labels of checks that are not open or done here are left out: 'r09-9'"]
    labeled_there(there.tasks[1], "owl")
    assert pulled() == 0 and Books.of(project).labels()[project.pool.digests[1]] == "dog"
    assert "a label of an image that a check has answered is left out ('b c.png'); correct it on the page" in said[-1]


def test_labels_of_before_that_come_in_beside_a_check_do_not_answer_it(project, there, tmp_path, batch_maker):
    pushed(project, there, tmp_path)
    for task in there.tasks:
        labeled_there(task, "cat")
    check = batch_maker(project, "01-2", range(6), kind="relabel")
    push(project, LabelStudio(there.url, 1, LEGACY), batch_items(project, check), tmp_path)
    labeled_there(there.tasks[6], "owl")
    given = LabelStudio(there.url, 1, LEGACY).labels()
    import_given(project, given, ImportRules(partial=True), source="label studio 1", say=print)
    assert len(check.missing(Books.of(project).live)) == 5


def test_a_personal_token_is_exchanged_and_again_once_it_has_ended(project, there, tmp_path):
    server = LabelStudio(there.url, 1, PERSONAL)
    there.access = "another"
    assert server.config() == "<View></View>"
    assert there.refreshed == 2
    assert pushed(project, there, tmp_path, PERSONAL) == 6


def test_a_new_class_reaches_an_interface_of_ours_and_another_ones_must_have_all(project, there, tmp_path):
    pushed(project, there, tmp_path)
    project.add_classes(["lynx"])
    pushed(project, there, tmp_path)
    assert there.config == labeling_config(project.classes)
    there.config = there.config.replace("made by fkal", "mine").replace('"lynx"', '"lion"')
    with pytest.raises(ConfigError, match=r"has no Choices 'label' with lynx; add them there"):
        pushed(project, there, tmp_path)


@pytest.mark.parametrize("token", ["wrong", "a.b.c"])
def test_a_refused_token_is_named_by_its_variable_alone(there, token):
    with pytest.raises(ConfigError, match=r"LABEL_STUDIO_API_KEY: .* refuses this") as error:
        LabelStudio(there.url, 1, token).config()
    assert token not in str(error.value).split("refuses")[1]


def test_what_is_wrong_with_the_server_is_one_line_without_the_token(there):
    server = LabelStudio(there.url, 2, LEGACY)
    with pytest.raises(ConfigError, match=r"--project-id 2: .* has no such project"):
        server.config()
    with pytest.raises(LabelStudioFailed, match=r"POST /api/projects/2/import failed with 500: .*broken") as error:
        server.add_tasks([{}])
    assert LEGACY not in str(error.value)


def test_a_token_does_not_follow_to_another_server(there):
    there.moved = "http://127.0.0.1:9/elsewhere"
    with pytest.raises(LabelStudioFailed, match="failed with 302"):
        LabelStudio(there.url, 1, LEGACY).config()


NONSENSE = (b"null", b"5", b'"x"', b"[1]", b"[null]", b'{"results": 5}', b"NaN", b"", b"[" * 100_000, b"\xff\xfe{")


@pytest.mark.parametrize("answer", NONSENSE)
@pytest.mark.parametrize("path", ["/api/projects/1/", "/api/storages/localfiles", "/api/tasks"])
def test_a_server_that_answers_nonsense_is_named_and_gets_no_task(project, there, tmp_path, path, answer):
    there.nonsense[path] = answer
    with pytest.raises(LabelStudioFailed, match=rf"{path}.*(answered no JSON|which Label Studio does not).* --url"):
        pushed(project, there, tmp_path)
    assert there.tasks == []


@pytest.mark.parametrize(
    "page",
    [
        b'{"tasks": 5, "total": 1}',
        b'{"tasks": [5], "total": 1}',
        b'{"tasks": [{"id": 1, "data": []}], "total": 1}',
        b'{"tasks": [{"id": 1, "data": {}}], "total": null}',
        b'{"tasks": [{"id": 1, "data": {}}], "total": "x"}',
        b'{"tasks": [{"id": 1, "data": {}}], "total": -1}',
    ],
)
def test_a_page_of_tasks_that_is_none_is_refused(there, page):
    there.nonsense["/api/tasks"] = page
    with pytest.raises(LabelStudioFailed, match="which Label Studio does not"):
        list(LabelStudio(there.url, 1, LEGACY).images())


def test_a_server_that_repeats_a_page_without_end_is_left(there):
    there.nonsense["/api/tasks"] = b'{"tasks": [{"id": 1, "data": {"fkal_digest": "a"}}], "total": 1000000000000}'
    with pytest.raises(LabelStudioFailed, match="page 2 of /api/tasks repeats earlier ones"):
        list(LabelStudio(there.url, 1, LEGACY).images())


NO_TOKENS = (b"", b"null", b"[]", b'{"access": 5}', b'{"access": "a\\nb"}', b'{"access": "\\u20ac"}')


@pytest.mark.parametrize("answer", NO_TOKENS)
def test_a_token_that_is_none_is_refused(there, answer):
    there.nonsense["/api/token/refresh/"] = answer
    with pytest.raises(LabelStudioFailed, match=r"/api/token/refresh/.* --url"):
        LabelStudio(there.url, 1, PERSONAL)


@pytest.mark.parametrize("token", ["a\nb", "\u20ac", "a b", "\x1b[2J"])
def test_a_token_that_no_header_can_carry_is_refused_without_its_value(there, token):
    with pytest.raises(ConfigError, match=r"LABEL_STUDIO_API_KEY: .*letters, digits and signs") as error:
        LabelStudio(there.url, 1, token)
    assert token not in str(error.value)


def test_an_answer_without_end_is_cut_off(there, monkeypatch):
    monkeypatch.setattr("fkal.labeling.label_studio_answers.MOST_BYTES", 1000)
    there.nonsense["/api/projects/1/"] = b" " * 1001
    with pytest.raises(LabelStudioFailed, match="does not answer"):
        LabelStudio(there.url, 1, LEGACY).config()


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a:99999", "http://a:x", "ftp://a", "", "http://a b"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match=r"--url .*: give an address such as"):
        LabelStudio(url, 1, LEGACY)


def test_a_host_that_no_name_can_have_does_not_answer():
    with pytest.raises(LabelStudioFailed, match=r"does not answer .*check --url"):
        LabelStudio(f"http://{'a' * 300}.x", 1, LEGACY).config()


def test_many_tasks_go_in_parts(there):
    LabelStudio(there.url, 1, LEGACY).add_tasks([{"data": {"fkal_digest": str(i)}} for i in range(501)])
    assert there.imports == [250, 250, 1]
    assert len(set(LabelStudio(there.url, 1, LEGACY).images())) == 501


def test_the_token_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", " x ")
    assert token_from_environment() == "x"
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    with pytest.raises(ConfigError, match="not set"):
        token_from_environment()
