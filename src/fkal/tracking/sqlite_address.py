"""The address of an SQLite file, whatever characters are in its path."""

from pathlib import Path
from urllib.parse import unquote

SQLITE = "sqlite:///"
QUOTED = "sqlite+pysqlite:///"
"""For a path that must be quoted. MLflow makes the folder of a `sqlite:///` address as the address writes it, so a
folder with the quoted name would appear beside the right one."""


def is_sqlite(uri: str) -> bool:
    return uri.startswith((SQLITE, QUOTED))


def sqlite_address(path: Path) -> str:
    """As SQLAlchemy and MLflow read it: `%` begins an escape in an address, and `?` begins its options.

    Raises UnicodeEncodeError for a path that is not UTF-8: MLflow keeps it as text.
    """
    plain = str(path)
    plain.encode()
    quoted = plain.replace("%", "%25").replace("?", "%3F")
    return f"{SQLITE}{plain}" if quoted == plain else f"{QUOTED}{quoted}"


def absolute_address(uri: str, folder: Path) -> str:
    """The same file by its absolute path; a relative path starts in `folder`."""
    written, mark, options = _written(uri)
    return f"{sqlite_address((folder / unquote(written)).absolute())}{mark}{options}"


def database_path(uri: str) -> Path:
    """The file itself."""
    return Path(unquote(_written(uri)[0]))


def _written(uri: str) -> tuple[str, str, str]:
    return uri.partition(":///")[2].partition("?")
