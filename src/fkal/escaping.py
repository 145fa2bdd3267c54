"""Text that is not ours (names of classes, files, runs), made safe to show, to store and to name files by.

What cannot pass a boundary is replaced by a visible escape such as `\\x1b` or `\\udcff`; the rest stays as it is.
"""

import hashlib
import json
import re
from typing import Any

CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0 and C1 without tab and line feed, and DEL: terminals act on them, XML forbids most of them."""
REORDERING = r"\u202a-\u202e\u2066-\u2069"
"""Embeddings, overrides and isolates: text that looks like other text."""
NO_TEXT = r"\u2028\u2029\ufff9-\ufffb\ufffe\uffff"
"""Separators that break lines, and what XML forbids."""
SURROGATES = r"\ud800-\udfff"
"""Bytes of a file name that are not UTF-8 (PEP 383): no encoder takes them."""

UNPRINTABLE = re.compile(f"[{CONTROLS}{REORDERING}{NO_TEXT}{SURROGATES}]")
UNSTORABLE = re.compile(rf"[\x00{SURROGATES}]")
NOT_ASCII = re.compile(r"[^\x00-\x7e]")
NO_FILE_NAME = re.compile(r"[^\w.+=,~-]+")
LONGEST_STEM = 100


def printable(text: str) -> str:
    """Without what acts on a terminal, ends an SVG, reorders letters or cannot be encoded; lines stay lines."""
    return UNPRINTABLE.sub(_escape, text)


def one_line(text: str) -> str:
    """`printable`, and without line feeds and tabs."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def storable(text: str) -> str:
    """Without NUL and surrogates, which databases, Parquet and UTF-8 cannot hold."""
    return UNSTORABLE.sub(_escape, text)


def file_stem(text: str) -> str:
    """A name that is one part of a path: what file systems or addresses of pages could misread becomes `-`.

    Where anything is replaced or cut off, a digest keeps two names apart.
    """
    stem = NO_FILE_NAME.sub("-", text)[:LONGEST_STEM]
    stem = f"-{stem[1:]}" if stem.startswith(".") else stem
    if stem == text:
        return text
    return f"{stem[: LONGEST_STEM - 7]}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:6]}"


def json_text(value: Any) -> str:
    """JSON on one line, in ASCII. A surrogate becomes the six letters of its escape: half a pair is no character."""
    return NOT_ASCII.sub(_json_escape, json.dumps(value, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _json_escape(match: re.Match[str]) -> str:
    is_half = "\ud800" <= match[0] <= "\udfff"
    return json.dumps(storable(match[0]) if is_half else match[0])[1:-1]
