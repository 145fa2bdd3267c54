"""What a server that calls itself Label Studio answers: read within bounds, and checked before it is believed."""

import json
import time
from typing import Any, NamedTuple

import requests
from pydantic import BaseModel, ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from fkal.errors import EndsAll, shortened
from fkal.labeling.given_labels import DIGEST_FIELD, check_of

SECONDS = 120
"""A server may be silent for so long."""
SECONDS_OF_ANSWER = 1800
"""An answer may take so long from its first byte to its last."""
MOST_BYTES = 1 << 31
"""As of a file of labels."""
CHUNK = 1 << 16
SUCCESS = range(200, 300)


class LabelStudioFailed(EndsAll):
    """The server does not answer, or answers with an error or with nonsense."""


class Answer(NamedTuple):
    """A status and a whole body."""

    status: int
    content: bytes

    @property
    def is_success(self) -> bool:
        """A redirect is none: a token goes to the named server alone."""
        return self.status in SUCCESS

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", errors="replace")


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class ProjectAnswer(_Told):
    """One project; without a labeling interface it has null or empty text."""

    label_config: str | None


class AskedFor(NamedTuple):
    """The digest of a task's image, and the batch of its check if it is a second look."""

    digest: str
    check: str


class Folder(_Told):
    path: str | None = None


class Folders(_Told):
    """A page of registered folders, as some versions answer; others answer the list."""

    results: list[Folder]


class Task(_Told):
    id: int
    data: dict[str, Any]

    @property
    def asked_for(self) -> AskedFor:
        """Empty for a task that did not come from fkal."""
        return AskedFor(str(self.data.get(DIGEST_FIELD, "")), check_of(self.data) or "")


class TaskPage(_Told):
    tasks: list[Task]
    total: NonNegativeInt


class Access(_Told):
    """A token that lasts some minutes."""

    access: str


def answer_of(session: requests.Session, method: str, url: str, **options: Any) -> Answer:
    """Sends one request and reads its whole answer.

    Raises requests.RequestException where none comes, or none within the bounds of time and size.
    """
    response = session.request(method, url, timeout=SECONDS, allow_redirects=False, stream=True, **options)
    with response:
        return Answer(response.status_code, _body(response))


def _body(response: requests.Response) -> bytes:
    content, began = bytearray(), time.monotonic()
    for chunk in response.iter_content(CHUNK):
        content += chunk
        if len(content) > MOST_BYTES:
            raise requests.exceptions.ContentDecodingError(f"an answer of more than {MOST_BYTES:,} bytes")
        if time.monotonic() - began > SECONDS_OF_ANSWER:
            raise requests.exceptions.ReadTimeout(f"an answer that takes more than {SECONDS_OF_ANSWER:,} s")
    return bytes(content)


def read_as(form: Any, answer: Answer, where: str) -> Any:
    """The answer's JSON as the form has it. Raises LabelStudioFailed for any other."""
    try:
        value = json.loads(answer.content)
    except (ValueError, RecursionError):  # the latter of lists that are nested without end
        raise LabelStudioFailed(f"{where} answered no JSON; is it Label Studio? check --url") from None
    try:
        return TypeAdapter(form).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]["input"]
        raise LabelStudioFailed(
            f"{where}: answers {shortened(first)}, which Label Studio does not; check --url, and the server's version"
        ) from None
