"""Label Studio over HTTP: images of a batch as tasks, and annotations as labels. Its SDK is not needed.

Label Studio checks little: it takes unknown classes, the same task twice, and an interface that lacks classes in use.
So all of that is checked here. Tokens are read from the environment and are masked in every message.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import requests
from urllib3.exceptions import LocationParseError

from fkal.data.addresses import is_url
from fkal.errors import ConfigError, listed, shortened
from fkal.labeling.exporting import ExportItem
from fkal.labeling.given_labels import CHECK_FIELD, CONTROL, DIGEST_FIELD, GivenLabel, from_json
from fkal.labeling.label_studio_answers import (
    Access,
    Answer,
    AskedFor,
    Folder,
    Folders,
    LabelStudioFailed,
    ProjectAnswer,
    TaskPage,
    answer_of,
    read_as,
)
from fkal.labeling.label_studio_tasks import MARK, labeling_config, served_folder, task_of
from fkal.labeling.project import Project
from fkal.redaction import redacted, remember_address, remember_secret

TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"
TASKS_PER_REQUEST = 250
TASKS_PER_PAGE = 100
LONGEST_REASON = 300
HEADER_TOKEN = re.compile(r"[\w.~+/=-]+", re.ASCII)
HOST = re.compile(r"[^\s\x00-\x1f\x7f]+")
EMPTY_CONFIG = ("", "<View></View>", "<View/>")


class LabelStudio:
    """One project of a server."""

    def __init__(self, url: str, project_id: int, token: str) -> None:
        if not _is_address(url):
            raise ConfigError(f"--url {shortened(redacted(url))}: give an address such as http://localhost:8080")
        remember_address(url)
        remember_secret(token)
        if not HEADER_TOKEN.fullmatch(token):
            raise ConfigError(f"{TOKEN_VARIABLE}: tokens are letters, digits and signs such as . or -; copy it again")
        self._url = url.rstrip("/")
        self._project = project_id
        self._token = token
        self._authorization = ""
        self._session = requests.Session()
        self._session.auth = self._signed
        self._log_in()

    def config(self) -> str:
        """The labeling interface of the project. Raises ConfigError if there is no such project."""
        missing = f"--project-id {self._project}"
        found: ProjectAnswer = self._ask("GET", f"/api/projects/{self._project}/", ProjectAnswer, missing=missing)
        return found.label_config or ""

    def write_config(self, config: str) -> None:
        """Tasks are shown in order, which is that of their ranks."""
        body = {"label_config": config, "sampling": "Sequential sampling"}
        self._ask("PATCH", f"/api/projects/{self._project}/", json=body)

    def register_folder(self, folder: Path) -> None:
        """Label Studio serves local files only below a registered folder, which is below its document root."""
        form = list[Folder] | Folders
        known = self._ask("GET", "/api/storages/localfiles", form, params={"project": self._project})
        entries: list[Folder] = known.results if isinstance(known, Folders) else known
        if any(each.path == str(folder) for each in entries):
            return
        body = {"project": self._project, "path": str(folder), "title": "fkal", "use_blob_urls": True}
        self._ask("POST", "/api/storages/localfiles", json=body)

    def images(self) -> Iterator[AskedFor]:
        """Of every task that came from fkal. Raises LabelStudioFailed where a page has no task that is new."""
        seen: set[int] = set()
        n_seen = 0
        for page in count(1):
            params = {"project": self._project, "fields": "all", "page": page, "page_size": TASKS_PER_PAGE}
            found: TaskPage = self._ask("GET", "/api/tasks", TaskPage, params=params)
            if not found.tasks:
                return
            if seen.issuperset(task.id for task in found.tasks):
                raise LabelStudioFailed(f"{self._shown}: page {page} of /api/tasks repeats earlier ones; check --url")
            seen.update(task.id for task in found.tasks)
            yield from (task.asked_for for task in found.tasks)
            n_seen += len(found.tasks)
            if n_seen >= found.total:
                return

    def add_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """In order, some hundred at a time."""
        for start in range(0, len(tasks), TASKS_PER_REQUEST):
            self._ask(
                "POST",
                f"/api/projects/{self._project}/import",
                params={"return_task_ids": "true"},
                json=list(tasks[start : start + TASKS_PER_REQUEST]),
            )

    def labels(self) -> list[GivenLabel]:
        """Those of annotated and of skipped tasks. A task that names no check is of none: `push` names them."""
        params = {"exportType": "JSON"}
        path = f"/api/projects/{self._project}/export"
        text = self._answer("GET", path, missing=f"--project-id {self._project}", params=params).text
        found = from_json(text, f"{self._shown}/projects/{self._project}")
        return [replace(each, check=each.check or "") for each in found]

    @property
    def _shown(self) -> str:
        return redacted(self._url)

    def _log_in(self) -> None:
        """A personal access token is exchanged for one that lasts some minutes; a legacy token is used as it is."""
        if not self._is_personal:
            self._authorization = f"Token {self._token}"
            return
        self._authorization = ""
        path = "/api/token/refresh/"
        answer = self._sent("POST", path, json={"refresh": self._token})
        if not answer.is_success:
            raise ConfigError(
                f"{TOKEN_VARIABLE}: {self._shown} refuses this personal access token; make a new one there"
            )
        found: Access = read_as(Access, answer, f"{self._shown}: {path}")
        remember_secret(found.access)
        if not HEADER_TOKEN.fullmatch(found.access):
            raise LabelStudioFailed(f"{self._shown}: {path} answers a token that no header can carry; check --url")
        self._authorization = f"Bearer {found.access}"

    @property
    def _is_personal(self) -> bool:
        """A JSON web token has three parts."""
        return self._token.count(".") == 2

    def _signed(self, request: Any) -> Any:
        """As the session's `auth`, so that no login of a .netrc file takes the token's place."""
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        return request

    def _ask(self, method: str, path: str, form: Any = Any, *, missing: str = "", **options: Any) -> Any:
        """What the server answers, as a value of the form."""
        return read_as(form, self._answer(method, path, missing=missing, **options), f"{self._shown}: {path}")

    def _answer(self, method: str, path: str, *, missing: str = "", **options: Any) -> Answer:
        answer = self._sent(method, path, **options)
        if answer.status == requests.codes.unauthorized and self._is_personal:
            self._log_in()
            answer = self._sent(method, path, **options)
        if answer.is_success:
            return answer
        if answer.status in (requests.codes.unauthorized, requests.codes.forbidden):
            raise ConfigError(
                f"{TOKEN_VARIABLE}: {self._shown} refuses this token; take it from Account & Settings there, and see "
                "that tokens of its kind are enabled"
            )
        if answer.status == requests.codes.not_found and missing:
            raise ConfigError(f"{missing}: {self._shown} has no such project; its number is in the project's address")
        reason = redacted(" ".join(answer.text.split()))[:LONGEST_REASON]
        raise LabelStudioFailed(
            f"{self._shown}: {method} {path} failed with {answer.status}: {reason}; check --url, and the server's log"
        )

    def _sent(self, method: str, path: str, **options: Any) -> Answer:
        try:
            return answer_of(self._session, method, f"{self._url}{path}", **options)
        except (requests.RequestException, LocationParseError) as error:
            reason = type(error).__name__
            raise LabelStudioFailed(f"{self._shown}: does not answer ({reason}); start it, or check --url") from None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = HOST.fullmatch(parts.hostname or "") is not None
        return parts.scheme in ("http", "https") and has_host and parts.port != 0
    except ValueError:  # a port that is none, an open bracket
        return False


def token_from_environment() -> str:
    """Raises ConfigError where none is set."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise ConfigError(f"{TOKEN_VARIABLE}: not set; set it to the token in Account & Settings of Label Studio")
    return token


def push(project: Project, server: LabelStudio, items: Sequence[ExportItem], document_root: Path | None) -> int:
    """Add a task for each image that has none, in order of rank; returns how many.

    An image that is to be checked again gets a second task.
    """
    positions = project.pool.positions([item.image.digest for item in items])
    locations = [project.location("pool", project.pool[position]) for position in positions if position is not None]
    tasks = [
        task_of(item.image, location, document_root=document_root, check=item.check)
        for item, location in zip(items, locations, strict=True)
    ]
    _bring_config(server, project.classes)
    if document_root is not None:
        for folder in sorted({_folder_of(project, position) for position in positions if position is not None}):
            if not is_url(folder):
                server.register_folder(served_folder(Path(folder), document_root))
    known = set(server.images())
    new = [task for task in tasks if (task["data"][DIGEST_FIELD], task["data"].get(CHECK_FIELD, "")) not in known]
    server.add_tasks(new)
    return len(new)


def _bring_config(server: LabelStudio, classes: Sequence[str]) -> None:
    """Write the interface where there is none or one of ours; another one must have all classes."""
    config = server.config()
    wanted = labeling_config(classes)
    if config.strip() in EMPTY_CONFIG or MARK in config:
        if config != wanted:
            server.write_config(wanted)
        return
    missing = [name for name in classes if name not in _choices(config)]
    if missing:
        raise ConfigError(
            f"the project's labeling interface has no Choices {CONTROL!r} with {listed(missing)}; add them there, or "
            "push to a new project, which gets an interface from fkal"
        )


def _choices(config: str) -> set[str]:
    """Values of the choice that fkal reads labels from."""
    try:
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError:
        return set()
    found = [each for each in root.iter("Choices") if each.get("name") == CONTROL]
    return {str(choice.get("value")) for each in found for choice in each.iter("Choice")}


def _folder_of(project: Project, position: int) -> str:
    return project.source("pool", project.pool[position].root)
