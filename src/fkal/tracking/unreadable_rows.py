"""Runs of a store of which a row was changed by hand: MLflow then reads no page that this row is on."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fkal.errors import ConfigError, first_line
from fkal.redaction import redacted

if TYPE_CHECKING:
    from mlflow.entities import Run

DIGITS = "0123456789abcdef"
ID_LENGTH = 32
PAGE = 500
MOST_FAILURES = 1000
"""Searches that fail before the store is given up as a whole: some 30 for each row."""


class UnreadableStore(ConfigError):
    """A row of the store was changed by hand, so that MLflow cannot read it."""


def unreadable_store(name: str, error: Exception) -> UnreadableStore:
    """`name` is the store's address for people to read, or empty."""
    name = name and f" {name}"
    return UnreadableStore(
        f"the MLflow store{name} cannot be read ({redacted(first_line(error))}): a row of it was changed by hand; "
        "put a sound copy in its place, or name another one by --tracking-uri or MLFLOW_TRACKING_URI"
    )


class Rows(NamedTuple):
    """Runs that can be read, and the ids of those that cannot."""

    runs: list["Run"]
    unreadable: list[str]


def pages(search: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """All that the search finds. Raises UnreadableStore where one of it cannot be read."""
    from mlflow.exceptions import MlflowException

    token = None
    while True:
        try:
            page = search(max_results=PAGE, page_token=token, **query)
        except MlflowException as error:
            raise unreadable_store("", error) from error
        yield from page
        token = page.token
        if not token:
            return


def rows(search: Callable[..., Any], experiment_ids: Sequence[str], query: str) -> Rows:
    """The runs that the query finds, newest first, and what stands beside them but cannot be read.

    A search that fails is made again for each first digit of a run's id, then for each second one, and so on, until
    the rows that make it fail are known.
    """
    if not experiment_ids:
        return Rows([], [])
    newest = ["attributes.start_time DESC"]
    try:
        return Rows(list(pages(search, experiment_ids=experiment_ids, filter_string=query, order_by=newest)), [])
    except UnreadableStore as error:
        return _by_first_digits(search, experiment_ids, query, error)


def _by_first_digits(search: Callable[..., Any], experiment_ids: Sequence[str], query: str, why: ConfigError) -> Rows:
    runs, unreadable, failures = [], [], 0
    waiting = list(DIGITS)
    while waiting:
        begins = waiting.pop()
        narrowed = f"{query} AND attributes.run_id LIKE '{begins}%'"
        try:
            runs += list(pages(search, experiment_ids=experiment_ids, filter_string=narrowed))  # all of it or none
        except UnreadableStore:
            failures += 1
            if failures > MOST_FAILURES:
                raise why from why.__cause__
            if len(begins) == ID_LENGTH:
                unreadable.append(begins)
            else:
                waiting += [begins + digit for digit in DIGITS]
    if not unreadable:
        raise why from why.__cause__
    return Rows(sorted(runs, key=lambda run: -run.info.start_time), sorted(unreadable))
