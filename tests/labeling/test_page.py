"""The labeling page: what it shows and takes, who may use it, and what is on disk when it answers."""

import http.client
import io
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from fkal.errors import ConfigError
from fkal.labeling.answers import label_rows
from fkal.labeling.batch import Batch
from fkal.labeling.label_store import current_rows
from fkal.labeling.page_access import Invitations, is_allowed_host, is_loopback, is_same_origin, names_of
from fkal.labeling.page_images import BatchImages, VanishedImage, browser_picture
from fkal.labeling.page_server import PageServer, page_html
from fkal.labeling.page_session import LabelingSession, shares
from fkal.labeling.project import Project
from fkal.redaction import redacted


@pytest.fixture
def project(labeling_project) -> Project:
    return labeling_project


def session_of(project: Project, *annotators: str, batch: str = "01", **options: Any) -> LabelingSession:
    return LabelingSession(project, Batch.read(project.rounds_path / batch), annotators or ("Ann",), **options)


def labeled(row: int, label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"row": row, "status": "labeled", "label": label, "seconds": 1.234, **more}


def test_the_view_has_guesses_matches_and_answers(project):
    session = session_of(project)
    session.answer("Ann", [labeled(1, "owl")])
    view = session.view("Ann")
    assert (view["project"], view["batch"], view["answered"], view["total"]) == ("pets", "01", 1, 6)
    assert view["next"] == "fkal next"
    assert view["classes"] == ["cat", "dog", "owl"] and not view["newClasses"]
    first, second = view["items"][:2]
    assert (first["name"], first["guess"], first["probability"], first["match"]) == ("a.png", "cat", 0.9, "cat")
    assert first["answer"] is None and second["match"] is None
    assert second["answer"] == {"status": "labeled", "label": "owl", "reason": "", "seconds": 1.23}


def test_an_answer_is_a_row_of_the_batch(project):
    session_of(project).answer("Ann", [labeled(2, "dog")])
    (row,) = label_rows(project)
    assert (row.path, row.digest, row.label, row.status) == ("d&e%.png", project.pool.digests[2], "dog", "labeled")
    assert (row.round, row.batch, row.source, row.annotator, row.seconds) == ("1", "r01", "page", "Ann", 1.23)


def test_skips_and_images_of_no_class_are_answers(project):
    session = session_of(project)
    session.answer(
        "Ann", [{"row": 0, "status": "skipped", "reason": " blurred "}, {"row": 1, "status": "none_of_these"}]
    )
    assert [(row.status, row.reason) for row in label_rows(project)] == [("skipped", "blurred"), ("none_of_these", "")]
    assert len(session.batch.missing(label_rows(project))) == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "give a list"),
        ([], "give a list"),
        ([1], "give a row"),
        ([labeled(6)], "row 6"),
        ([labeled(-1)], "row -1"),
        ([labeled(True)], "row True"),
        ([{"row": "../../etc/passwd", "status": "labeled"}], "row '../../etc"),
        ([labeled(0, "catt")], "did you mean 'cat'"),
        ([labeled(0, 5)], "are texts"),
        ([labeled(0, status="undone")], "status 'undone'"),
        ([{"row": 0, "status": "skipped"}], "needs a reason"),
        ([labeled(0, seconds=float("nan"))], "seconds nan"),
        ([labeled(0), labeled(0, "dog")], "answered twice"),
        ([labeled(0), labeled(9)], "row 9"),
    ],
)
def test_answers_that_cannot_be_are_refused_and_none_is_written(project, given, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        session_of(project).answer("Ann", given)
    assert not project.labels_path.exists()


def test_undo_takes_back_the_last_answer_and_those_that_were_confirmed_together(project):
    session = session_of(project)
    session.answer("Ann", [labeled(0)])
    session.answer("Ann", [labeled(1), labeled(2)])
    assert session.undo("Ann") == {"rows": [1, 2]}
    assert session.undo("Ann") == {"rows": [0]}
    assert session.undo("Ann") == {"rows": []}
    assert current_rows(label_rows(project)) == []


def test_undo_leaves_other_annotators_alone(project):
    session = session_of(project, "Ann", "Bo")
    session.answer("Bo", [labeled(1)])
    assert session.undo("Ann") == {"rows": []}
    assert len(current_rows(label_rows(project))) == 1


def test_a_new_class_joins_only_where_it_is_allowed(project):
    session = session_of(project, allows_new_classes=True)
    assert session.answer("Ann", [labeled(0, "lynx")]) == {"classes": ["cat", "dog", "owl", "lynx"]}
    assert project.classes[-1] == "lynx"
    with pytest.raises(ConfigError, match="one line"):
        session.answer("Ann", [labeled(1, "a\x1bb")])
    with pytest.raises(ConfigError, match="'skipped': is the name of a status"):
        session.answer("Ann", [labeled(1, "skipped")])


def test_hidden_guesses_are_not_sent(project):
    for item in session_of(project, shows_guesses=False).view("Ann")["items"]:
        assert (item["guess"], item["probability"], item["match"]) == ("", None, None)


def test_a_batch_is_split_among_annotators_and_overlap_is_seen_by_all(project):
    session = session_of(project, "Ann", "Bo", overlap=2)
    rows = {name: {item["row"] for item in session.view(name)["items"]} for name in ("Ann", "Bo")}
    assert rows["Ann"] & rows["Bo"] == {0, 3} and rows["Ann"] | rows["Bo"] == set(range(6))
    session.answer("Ann", [labeled(0)])
    assert session.view("Bo")["items"][0]["answer"] is None
    assert session.view("Ann")["items"][0]["answer"]["label"] == "cat"


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("overlap", [0, 1, 7, 50])
def test_shares_cover_all_images_evenly(n, overlap):
    found = shares(40, n, overlap)
    assert sum(len(share) == n for share in found) >= min(overlap, 40) and all(found)
    if n > 1:
        assert sum(len(share) > 1 for share in found) == min(overlap, 40)
    loads = [sum(who in share for share in found) for who in range(n)]
    assert max(loads) - min(loads) <= 1


# ---- images


def png(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    ("data", "is_same"),
    [
        (png(Image.new("RGB", (30, 20), "red")), True),
        (png(Image.new("RGB", (30, 20), "red"), "JPEG"), True),
        (png(Image.new("RGB", (3000, 20), "red")), False),
        (png(Image.new("RGBA", (30, 20), (255, 0, 0, 0))), False),
        (png(Image.new("CMYK", (30, 20)), "JPEG"), False),
        (png(Image.new("RGB", (30, 20)), "PPM"), False),
        (png(Image.new("RGB", (30, 20)), "TIFF"), False),
        (png(Image.new("I;16", (30, 20))), False),
        (png(Image.new("RGB", (30, 20)), "GIF"), False),
    ],
)
def test_a_browser_gets_files_that_it_shows_as_the_model_sees_them(data, is_same):
    found = browser_picture(data, "x", 2400)
    assert (found.content == data) == is_same
    shown = Image.open(io.BytesIO(found.content))
    assert found.media_type in ("image/png", "image/jpeg") and shown.mode in ("RGB", "L") and max(shown.size) <= 2400


def test_a_turned_photograph_is_shown_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    found = browser_picture(png(Image.new("RGB", (30, 20)), "JPEG", exif=exif), "x", 2400)
    assert Image.open(io.BytesIO(found.content)).size == (20, 30)


def test_a_file_that_changed_or_vanished_is_not_shown(project, tmp_path):
    images = BatchImages(project, Batch.read(project.rounds_path / "01"))
    assert images.picked(0, 320).content == (tmp_path / "images" / "a.png").read_bytes()
    (tmp_path / "images" / "a.png").write_bytes(png(Image.new("RGB", (9, 9))))
    (tmp_path / "images" / "b c.png").unlink()
    with pytest.raises(VanishedImage, match=r"a.png: its content has changed"):
        images.picked(0, 320)
    with pytest.raises(VanishedImage, match=r"b c.png: .*skip it, or bring the file back"):
        images.picked(1, 320)


# ---- the server


@pytest.fixture
def serve(project) -> Iterator[Any]:
    running: list[PageServer] = []

    def started(*annotators: str, tokens: bool = False, **options: Any) -> "Client":
        session = session_of(project, *annotators, **options)
        used: list[str] = []
        invitations = Invitations(session.annotators, used.append) if tokens else None
        server = PageServer(session, host="127.0.0.1", port=0, invitations=invitations, say=used.append)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(server)
        return Client(server)

    yield started
    for server in running:
        server.shutdown()
        server.server_close()


class Client:
    def __init__(self, server: PageServer) -> None:
        self.server = server
        self.run = server.session.run

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, content and headers; a body is posted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection.request("GET" if body is None else "POST", path, body=body, headers=sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(content) if is_json else content, answer.headers

    def answer(self, *answers: dict[str, Any], **headers: str) -> tuple[int, Any, Any]:
        return self.ask("/answer", {"run": self.run, "answers": list(answers)}, **headers)


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(serve):
    status, content, headers = serve().ask("/")
    text = content.decode()
    assert status == 200 and not re.search(r"https?://|//cdn|@import|url\(", text)
    assert re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"([^\"]*)", text) == ["data:,"]
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    nonce = re.search(r"script-src 'nonce-([^']+)'", headers["Content-Security-Policy"])
    assert nonce and f'<script nonce="{nonce[1]}">' in text
    assert page_html("n").count("innerHTML") == 0


def test_an_answer_is_on_disk_when_the_server_says_so(serve, project):
    client = serve()
    status, told, _ = client.answer(labeled(0), labeled(1, "dog"))
    assert (status, told) == (200, {"classes": None})
    assert [row.label for row in label_rows(project)] == ["cat", "dog"]
    assert client.ask("/undo", {"run": client.run})[1] == {"rows": [0, 1]}
    assert client.ask("/state")[1]["answered"] == 0


def test_images_are_served_by_row_alone(serve, tmp_path):
    client = serve()
    status, content, headers = client.ask(f"/image/{client.run}/0")
    assert (status, content) == (200, (tmp_path / "images" / "a.png").read_bytes())
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert client.ask(f"/match/{client.run}/0/small")[1] == (tmp_path / "checked" / "cat" / "1.png").read_bytes()
    for path in (
        f"/image/{client.run}/6", f"/image/{client.run}/-1", f"/image/{client.run}/a.png", "/image/../params.yaml",
        "/params.yaml", f"/image/{client.run}/%2e%2e/labels.csv", "/static/x",
    ):  # fmt: skip
        assert client.ask(path)[0] == 404
    assert client.ask(f"/match/{client.run}/1")[0] == 410


def test_a_page_of_an_earlier_server_can_neither_see_nor_write(serve, project):
    client = serve()
    assert client.ask("/answer", {"run": "0" * 16, "answers": [labeled(0)]})[:2] == (
        409, {"error": "the server was started again; reload this page"},
    )  # fmt: skip
    assert client.ask(f"/image/{'0' * 16}/0")[0] == 409
    assert not project.labels_path.exists()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::"])
def test_a_request_by_another_name_is_refused(serve, host):
    client = serve()
    assert client.ask("/state", Host=host)[0] == 421
    assert client.answer(labeled(0), Host=host)[0] == 421


def test_only_pages_of_this_server_write(serve, project):
    client = serve()
    host = f"localhost:{client.server.port}"
    for origin in ("http://evil.example", "null", f"https://{host}", "http://localhost:1"):
        assert client.answer(labeled(0), Host=host, Origin=origin)[0] == 403
    assert client.answer(labeled(0), Content_Type="text/plain")[0] == 415
    assert not project.labels_path.exists()
    assert client.answer(labeled(0), Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[]", 400), (b"[" * 100_000, 400), (b"x" * 200_001, 413)])
def test_odd_bodies_are_refused_in_one_line(serve, body, status):
    found, told, _ = serve().ask("/answer", body, Content_Type="application/json")
    assert found == status and "\n" not in told["error"]


def test_what_is_wrong_with_an_answer_is_said(serve):
    status, told, _ = serve().answer(labeled(0, "catt"))
    assert status == 409 and "did you mean 'cat'" in told["error"]


def test_a_link_opens_once_for_its_annotator(serve, project):
    client = serve("Ann", "Bo", tokens=True)
    assert client.ask("/")[0] == 200
    for path in ("/state", f"/image/{client.run}/0"):
        assert client.ask(path)[0] == 403
    assert client.answer(labeled(0))[0] == 403
    token = client.server.invitations.token("Bo")
    assert client.server.address("Bo") == f"http://127.0.0.1:{client.server.port}/#join={token}"
    assert redacted(client.server.address("Bo")) == client.server.address("Bo")  # the terminal shows it whole
    status, _, headers = client.ask("/join", {"token": token})
    cookie = headers["Set-Cookie"]
    assert status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert client.ask("/join", {"token": token})[0] == 403
    assert client.server.invitations.token("Bo") != token
    sent = cookie.split(";")[0]
    assert client.ask("/state", Cookie=sent)[1]["annotator"] == "Bo"
    assert client.answer(labeled(1), Cookie=sent)[0] == 200
    assert label_rows(project)[0].annotator == "Bo"
    for wrong in (f"{sent}x", "a=\x01", sent.replace(str(client.server.port), "1")):
        assert client.ask("/state", Cookie=wrong)[0] == 403
    for wrong in ("", "x", "é", None, 5, ["x"]):
        assert client.ask("/join", {"token": wrong})[0] == 403


def test_a_class_and_a_file_cannot_become_a_part_of_the_page(serve, project):
    project.add_classes(["<script>alert(1)</script>", "</script>"])
    client = serve()
    assert b"alert(1)" not in client.ask("/")[1]
    assert "<script>alert(1)</script>" in client.ask("/state")[1]["classes"]


def test_names_of_a_server():
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("example.org")
    names = names_of("192.168.1.5")
    assert is_allowed_host("192.168.1.5:8100", names) and is_allowed_host("LOCALHOST", names)
    assert not is_allowed_host("192.168.1.6", names) and not is_allowed_host(None, names)
    assert is_allowed_host("[::1]:8100", names_of("::"))
    assert is_same_origin(None, None) and not is_same_origin("http://a", None)
