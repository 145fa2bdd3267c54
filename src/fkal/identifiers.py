"""Names and digests that are read from files, plans and stores, matched against their grammar.

Each of them becomes a part of a path somewhere, so none may hold a separator, begin with a dot or be empty.
`where` says in an error message where the value was read, say `data/plan/mnist-100/split.yaml: cell`.
"""

import re
from typing import Any

from fkal.errors import UserError

DIGEST = r"[0-9a-f]{32}"
FILE_DIGEST = re.compile(r"[0-9a-f]{64}")
"""SHA-256 of the bytes of one image."""
GRID_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,99}"
CELL = r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,229}"
DATASET = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}"
SEED_FOLDER = r"s\d{1,19}"
ROUND = r"round-\d{2,6}"
SPLIT_FILE = rf"{DATASET}-[A-Za-z0-9_.+-]{{1,60}}-s\d{{1,19}}-[0-9a-f]{{8}}\.json"
WEIGHTS_FILE = rf"{DIGEST}\.safetensors"
SHARD_FILE = rf"{DIGEST}/\d{{4,9}}\.safetensors"
JSON_ARTIFACT = r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,199}\.json"
SCHEMA_REVISION = r"[0-9a-f]{12}"

LETTERS = "letters, digits and _ . : + -, none of . : + - in the first place"
LONGEST_SHOWN = 80


class UnsafeName(UserError, ValueError):
    """A name or a path that was read somewhere and that fkal does not use, in one line."""


def checked_fingerprint(value: Any, where: str) -> str:
    """Of an experiment: `0123456789abcdef0123456789abcdef`."""
    return _matched(DIGEST, value, where, "a fingerprint has 32 hexadecimal digits")


def digest(value: Any, where: str) -> str:
    """Of a split, of data or of weights."""
    return _matched(DIGEST, value, where, "a digest has 32 hexadecimal digits")


def dataset_name(value: Any, where: str) -> str:
    """`mnist`; the registry decides whether there is such a dataset."""
    rule = "the name of a dataset has up to 100 letters, digits and _ . + -, none of . + - in the first place"
    return _matched(DATASET, value, where, f"{rule}; say, for example, digits")


def cell_name(value: Any, where: str) -> str:
    """`mnist-100` or `mnist-100-pfk_joint`: the name of one folder."""
    return _matched(CELL, value, where, f"a cell is the name of one folder, of {LETTERS}; run: fkal plan")


def method_cell_name(value: Any, where: str) -> str:
    """`mnist-100/pfk_joint`: a folder per method, in that of the dataset and ratio."""
    rule = f"a cell is PAIR/METHOD here, each of {LETTERS}; run: fkal plan"
    return _matched(rf"{CELL}/{GRID_NAME}", value, where, rule)


def schema_revision(value: Any, where: str) -> str:
    """Of the tables of an MLflow store."""
    return _matched(SCHEMA_REVISION, value, where, "a revision has 12 hexadecimal digits; move the file away")


def _matched(pattern: str, value: Any, where: str, rule: str) -> str:
    if isinstance(value, str) and re.fullmatch(pattern, value):
        return value
    shown = repr(value)
    if len(shown) > LONGEST_SHOWN:
        shown = f"{shown[:LONGEST_SHOWN]}... ({len(shown)} characters)"
    raise UnsafeName(f"{where}: {shown}: {rule}")
