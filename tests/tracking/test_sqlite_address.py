"""Addresses of SQLite files with odd paths, as SQLAlchemy reads them."""

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from fkal.tracking.sqlite_address import absolute_address, database_path, is_sqlite, sqlite_address

ODD = [
    "a?b",
    "a%20b",
    "a%b",
    "%3F",
    "a'b",
    'a"b',
    "a#b",
    "a&b",
    "a b",
    "aéb",
    "a+b",
    "a;b",
    "a\nb",
    ":b",
    "a@b:c",
    "a\\b",
]


@pytest.mark.parametrize("name", ODD)
def test_an_address_names_the_file_that_it_was_made_of(name):
    path = Path("/home") / name / "mlflow.db"
    address = sqlite_address(path)
    assert is_sqlite(address)
    assert make_url(address).database == str(path)
    assert database_path(address) == path
    assert absolute_address(address, Path("/else")) == address
    assert absolute_address(f"{address}?timeout=60", Path("/else")) == f"{address}?timeout=60"


@pytest.mark.parametrize("name", ODD)
def test_a_relative_address_starts_in_the_folder_whatever_its_name(name):
    assert database_path(absolute_address("sqlite:///runs/my%20own.db", Path("/home") / name)) == (
        Path("/home") / name / "runs" / "my own.db"
    )


def test_a_plain_path_stays_as_it_is():
    assert sqlite_address(Path("/home/me/mlflow.db")) == "sqlite:////home/me/mlflow.db"


def test_a_path_that_is_not_utf_8_has_no_address():
    with pytest.raises(UnicodeEncodeError):
        sqlite_address(Path("/home/a\udcff/mlflow.db"))
