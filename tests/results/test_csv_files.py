"""Cells that a spreadsheet would compute, and those that it should."""

import io

import pandas as pd
import pytest

from fkal.results.csv_files import csv_bytes, csv_safe, plain_text

FORMULAS = ('=HYPERLINK("x")', "+cmd", "-cmd", "@sum", "\tx", "\nx", "＝1", "-1+2", "--5", "'=1", "''@x", "-", "=")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe_and_loses_it_when_read(text):
    table = pd.DataFrame({"name": [text, "cat"], "value": [-0.5, 1.0]})
    written = csv_bytes(table)
    back = pd.read_csv(io.BytesIO(written))
    assert back["name"].tolist() == [f"'{text}", "cat"]
    pd.testing.assert_frame_equal(plain_text(back), table, check_dtype=False)


@pytest.mark.parametrize("cell", ["cat", "'cat", "-0.5", "+1e-3", "-inf", "a=b", "", 1, -0.5, None, True])
def test_other_cells_stay_as_they_are(cell):
    assert csv_safe(cell) == cell


def test_a_carriage_return_and_what_no_file_can_hold_are_escaped():
    assert csv_safe("\r=1") == r"\x0d=1"
    assert csv_safe("=\udcff\x1b") == r"'=\udcff\x1b"


@pytest.mark.parametrize("dtype", [object, "str", "string", "category"])
def test_every_kind_of_text_column_is_seen_and_gaps_stay_empty(dtype):
    table = pd.DataFrame({"name": pd.Series(["=1", None, "cat"], dtype=dtype)})
    assert csv_bytes(table) == b'name\n\'=1\n""\ncat\n'
    assert table["name"].tolist()[0] == "=1"


def test_names_of_columns_are_cells_too():
    assert csv_bytes(pd.DataFrame([[1, 2, 3]], columns=["=a", 7, "b"])) == b"'=a,7,b\n1,2,3\n"


def test_numbers_are_written_as_pandas_writes_them():
    table = pd.DataFrame({"a": [-0.5, 1 / 3], "b": pd.Series([1, None], dtype="Int64"), "c": [True, False]})
    assert csv_bytes(table) == table.to_csv(index=False).encode()
