"""The labeling page's server: the page, its images by row, and answers that are on disk before it says so."""

import json
import re
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fkal.data.errors import CorruptImage
from fkal.errors import UserError, first_line
from fkal.escaping import json_text, printable
from fkal.labeling.page_access import ANY_ADDRESS, Invitations, is_allowed_host, is_same_origin, names_of
from fkal.labeling.page_images import LARGE, SMALL, VanishedImage
from fkal.labeling.page_session import LabelingSession
from fkal.labeling.pages import rendered
from fkal.locks import LockHeld
from fkal.notify import Notify

LARGEST_BODY = 200_000
IDLE_SECONDS = 60
IMAGE = re.compile(r"/(?P<kind>image|match)/(?P<run>[0-9a-f]{16})/(?P<row>\d{1,7})(?P<small>/small)?")
COOKIE = "fkal_session"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Refused(Exception):
    """A request that is answered with an error: its status and one line for people."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class PageServer(ThreadingHTTPServer):
    """Serves one session. Without `invitations` its one annotator needs no link."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        session: LabelingSession,
        *,
        host: str,
        port: int,
        invitations: Invitations | None = None,
        say: Notify,
    ) -> None:
        self.session = session
        self.invitations = invitations
        self.names = names_of(host)
        self._host = host
        self.say = say
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def address(self, annotator: str | None = None) -> str:
        """The page's address; with the token in its fragment, which no server and no log ever gets.

        It is called `join`, since the terminal masks what is called a token, and this one is to be handed on.
        """
        host = socket.gethostname() if self._host in ANY_ADDRESS else self._host
        base = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"
        token = self.invitations.token(annotator) if self.invitations and annotator is not None else ""
        return f"{base}#join={token}" if token else base

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no fault; anything else is said in one line."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.say(f"a request failed: {type(error).__name__}: {first_line(error)}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: PageServer

    def version_string(self) -> str:
        return "fkal"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: the terminal is for people."""

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def _answered(self, work: Callable[[], None]) -> None:
        """Runs it; what a user can set right, and what is refused, becomes one line of JSON."""
        try:
            if not is_allowed_host(self.headers.get("Host"), self.server.names):
                raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server is not called by that name")
            work()
        except Refused as error:
            self._fail(error.status, str(error))
        except (VanishedImage, CorruptImage) as error:
            self._fail(HTTPStatus.GONE, str(error))
        except (UserError, LockHeld) as error:
            self._fail(HTTPStatus.CONFLICT, str(error))
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            name = f"{error.filename}: " if error.filename else ""
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, f"{name}{error.strerror or error}; nothing was written")

    def _get(self) -> None:
        if self.path == "/":
            nonce = secrets.token_urlsafe(16)
            self._send(page_html(nonce).encode(), "text/html; charset=utf-8", csp=content_policy(nonce))
        elif self.path == "/state":
            self._send_json(self.server.session.view(self._annotator()))
        elif found := IMAGE.fullmatch(self.path):
            self._annotator()
            self._send_image(found)
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self) -> None:
        body = self._body()
        session = self.server.session
        if self.path == "/join":
            self._join(body)
            return
        if self.path not in ("/answer", "/undo"):
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        annotator = self._annotator()
        self._check_run(body.get("run"))
        is_answer = self.path == "/answer"
        self._send_json(session.answer(annotator, body.get("answers")) if is_answer else session.undo(annotator))

    def _join(self, body: Mapping[str, Any]) -> None:
        invitations, token = self.server.invitations, body.get("token")
        session = invitations.session(token) if invitations and isinstance(token, str) else None
        if session is None:
            raise Refused(HTTPStatus.FORBIDDEN, "this link was used already or is wrong; ask for another one")
        cookie = f"{COOKIE}_{self.server.port}={session}; HttpOnly; SameSite=Strict; Path=/"
        self._send_json({}, cookie=cookie)

    def _annotator(self) -> str:
        """Who asks. Raises Refused for a browser without a session."""
        invitations = self.server.invitations
        if invitations is None:
            return self.server.session.annotators[0]
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        morsel = cookies.get(f"{COOKIE}_{self.server.port}")
        annotator = invitations.annotator(morsel.value) if morsel else None
        if annotator is None:
            raise Refused(HTTPStatus.FORBIDDEN, "open the link that you were given; it works once")
        return annotator

    def _check_run(self, run: Any) -> None:
        """A page that was left open shows another batch than a server that was started since."""
        if run != self.server.session.run:
            raise Refused(HTTPStatus.CONFLICT, "the server was started again; reload this page")

    def _send_image(self, found: re.Match[str]) -> None:
        self._check_run(found["run"])
        row, longest = int(found["row"]), SMALL if found["small"] else LARGE
        session = self.server.session
        if row >= len(session.batch.images):
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such image")
        images = session.images
        picture = images.picked(row, longest) if found["kind"] == "image" else images.matched(row, longest)
        self._send(picture.content, picture.media_type, cached=True)

    def _body(self) -> Mapping[str, Any]:
        """The JSON object that a page of this server sent. Raises Refused for anything else."""
        if not is_same_origin(self.headers.get("Origin"), self.headers.get("Host")):
            raise Refused(HTTPStatus.FORBIDDEN, "a page of another server may not write here")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "give JSON")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length) or int(length) > LARGEST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"give at most {LARGEST_BODY:,} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused(HTTPStatus.BAD_REQUEST, "not valid JSON") from None
        if not isinstance(body, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "give a JSON object")
        return body

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True  # its body may be unread
        self._send_json({"error": printable(message)}, status=status)

    def _send_json(self, value: Any, *, status: HTTPStatus = HTTPStatus.OK, cookie: str = "") -> None:
        self._send(json_text(value).encode(), "application/json", status=status, cookie=cookie)

    def _send(
        self,
        content: bytes,
        media_type: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        csp: str = "default-src 'none'; sandbox",
        cached: bool = False,
        cookie: str = "",
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": media_type,
            "Content-Length": str(len(content)),
            "Cache-Control": "private, max-age=3600" if cached else "no-store",
            "Content-Security-Policy": csp,
            **HEADERS,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if cookie:
            self.send_header("Set-Cookie", cookie)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def serving(server: PageServer) -> threading.Thread:
    """A thread that serves until `server.shutdown()`."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    return thread


def content_policy(nonce: str) -> str:
    """The page may run its own script and load images of this server, and nothing else."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page_html(nonce: str) -> str:
    """The page: one file with its style and script. It has no data; it asks for them."""
    return rendered("label.html", "label.css", "label.js", nonce=nonce)
