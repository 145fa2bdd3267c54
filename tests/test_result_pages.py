"""Printed tables are those of their CSV files."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "results").glob("*.md")), ids=lambda page: page.stem)
def test_each_table_of_balanced_accuracy_is_that_of_its_file(page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    balanced_tables = importlib.import_module("balanced_tables")
    text = page.read_text(encoding="utf-8")
    found = list(balanced_tables.MARKED.finditer(text))
    assert found
    for match in found:
        assert balanced_tables.filled(match) == match.group()
