"""Label Studio over HTTP: images of a batch as tasks, and annotations as labels. Its SDK is not needed.

Label Studio checks little: it takes unknown classes, the same task twice, and an interface that lacks classes in use.
So all of that is checked here. Tokens are read from the environment and are masked in every message.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import requests

from fkal.data.addresses import is_url
from fkal.errors import ConfigError, EndsAll, listed, shortened
from fkal.labeling.exporting import ExportItem
from fkal.labeling.given_labels import CONTROL, DIGEST_FIELD, GivenLabel, from_json
from fkal.labeling.label_studio_tasks import MARK, labeling_config, served_folder, task_of
from fkal.labeling.project import Project
from fkal.redaction import redacted, remember_address, remember_secret

TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"
TASKS_PER_REQUEST = 250
TASKS_PER_PAGE = 100
SECONDS = 120
LONGEST_REASON = 300
EMPTY_CONFIG = ("", "<View></View>", "<View/>")


class LabelStudioFailed(EndsAll):
    """The server does not answer, or answers with an error."""


class LabelStudio:
    """One project of a server."""

    def __init__(self, url: str, project_id: int, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--url {shortened(redacted(url))}: give an address such as http://localhost:8080")
        remember_address(url)
        remember_secret(token)
        self._url = url.rstrip("/")
        self._project = project_id
        self._token = token
        self._authorization = ""
        self._session = requests.Session()
        self._session.auth = self._signed
        self._log_in()

    def config(self) -> str:
        """The labeling interface of the project. Raises ConfigError if there is no such project."""
        found = self._ask("GET", f"/api/projects/{self._project}/", missing=f"--project-id {self._project}")
        return str(found.get("label_config", ""))

    def write_config(self, config: str) -> None:
        """Tasks are shown in order, which is that of their ranks."""
        body = {"label_config": config, "sampling": "Sequential sampling"}
        self._ask("PATCH", f"/api/projects/{self._project}/", json=body)

    def register_folder(self, folder: Path) -> None:
        """Label Studio serves local files only below a registered folder, which is below its document root."""
        known = self._ask("GET", "/api/storages/localfiles", params={"project": self._project})
        entries = known.get("results", []) if isinstance(known, dict) else known
        if any(str(each.get("path")) == str(folder) for each in entries):
            return
        body = {"project": self._project, "path": str(folder), "title": "fkal", "use_blob_urls": True}
        self._ask("POST", "/api/storages/localfiles", json=body)

    def digests(self) -> Iterator[str]:
        """Of every task that came from fkal."""
        page, total, seen = 1, 1, 0
        while seen < total:
            params = {"project": self._project, "fields": "all", "page": page, "page_size": TASKS_PER_PAGE}
            found = self._ask("GET", "/api/tasks", params=params)
            tasks, total = found.get("tasks", []), int(found.get("total", 0))
            if not tasks:
                return
            yield from (str(task.get("data", {}).get(DIGEST_FIELD, "")) for task in tasks)
            seen, page = seen + len(tasks), page + 1

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
        """Those of annotated and of skipped tasks."""
        params = {"exportType": "JSON"}
        path = f"/api/projects/{self._project}/export"
        text = self._response("GET", path, missing=f"--project-id {self._project}", params=params).text
        return from_json(text, f"{self._shown}/projects/{self._project}")

    @property
    def _shown(self) -> str:
        return redacted(self._url)

    def _log_in(self) -> None:
        """A personal access token is exchanged for one that lasts some minutes; a legacy token is used as it is."""
        if not self._is_personal:
            self._authorization = f"Token {self._token}"
            return
        self._authorization = ""
        response = self._sent("POST", "/api/token/refresh/", json={"refresh": self._token})
        access = response.json().get("access") if response.ok else None
        if not isinstance(access, str):
            raise ConfigError(
                f"{TOKEN_VARIABLE}: {self._shown} refuses this personal access token; make a new one there"
            )
        remember_secret(access)
        self._authorization = f"Bearer {access}"

    @property
    def _is_personal(self) -> bool:
        """A JSON web token has three parts."""
        return self._token.count(".") == 2

    def _signed(self, request: Any) -> Any:
        """As the session's `auth`, so that no login of a .netrc file takes the token's place."""
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        return request

    def _ask(self, method: str, path: str, *, missing: str = "", **options: Any) -> Any:
        response = self._response(method, path, missing=missing, **options)
        try:
            return response.json()
        except ValueError:
            raise LabelStudioFailed(f"{self._shown}: {path} answered no JSON; is it Label Studio?") from None

    def _response(self, method: str, path: str, *, missing: str = "", **options: Any) -> requests.Response:
        response = self._sent(method, path, **options)
        if response.status_code == requests.codes.unauthorized and self._is_personal:
            self._log_in()
            response = self._sent(method, path, **options)
        if response.ok and not response.is_redirect:
            return response
        if response.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
            raise ConfigError(
                f"{TOKEN_VARIABLE}: {self._shown} refuses this token; take it from Account & Settings there, and see "
                "that tokens of its kind are enabled"
            )
        if response.status_code == requests.codes.not_found and missing:
            raise ConfigError(f"{missing}: {self._shown} has no such project; its number is in the project's address")
        reason = redacted(" ".join(response.text.split()))[:LONGEST_REASON]
        raise LabelStudioFailed(f"{self._shown}: {method} {path} failed with {response.status_code}: {reason}")

    def _sent(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            options["allow_redirects"] = False  # a token goes to the named server alone
            return self._session.request(method, f"{self._url}{path}", timeout=SECONDS, **options)
        except requests.RequestException as error:
            reason = type(error).__name__
            raise LabelStudioFailed(f"{self._shown}: does not answer ({reason}); start it, or check --url") from None


def token_from_environment() -> str:
    """Raises ConfigError where none is set."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise ConfigError(f"{TOKEN_VARIABLE}: not set; set it to the token in Account & Settings of Label Studio")
    return token


def push(project: Project, server: LabelStudio, items: Sequence[ExportItem], document_root: Path | None) -> int:
    """Add a task for each image that has none, in order of rank; returns how many."""
    positions = project.pool.positions([item.image.digest for item in items])
    locations = [project.location("pool", project.pool[position]) for position in positions if position is not None]
    tasks = [
        task_of(item.image, location, document_root=document_root)
        for item, location in zip(items, locations, strict=True)
    ]
    _bring_config(server, project.classes)
    if document_root is not None:
        for folder in sorted({_folder_of(project, position) for position in positions if position is not None}):
            if not is_url(folder):
                server.register_folder(served_folder(Path(folder), document_root))
    known = set(server.digests())
    new = [task for task in tasks if task["data"][DIGEST_FIELD] not in known]
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
