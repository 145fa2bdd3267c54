"""YAML and JSON of unknown origin, read within bounds: bytes, nodes, depth, digits. Imports nothing heavy.

Aliases count as what they stand for, so a few lines of YAML cannot grow without end in memory.
"""

import json
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from fkal.errors import ConfigError, shortened

MOST_BYTES = 10_000_000
"""Of a file with settings; the largest preset has 3,000."""
MOST_NODES = 100_000
MOST_DEPTH = 50
MOST_DIGITS = 40
MESSAGE = 200

STR_TAG = "tag:yaml.org,2002:str"
MERGE_TAG = "tag:yaml.org,2002:merge"


def file_bytes(path: Path, where: str, *, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises ConfigError for a folder, a pipe, a device, a larger file or one that cannot be read, and
    FileNotFoundError where there is none.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise ConfigError(f"{where}: cannot be read: it is {kind}; name a regular file")
        if status.st_size > most:
            raise ConfigError(f"{where}: has {status.st_size:,} bytes; give a file of at most {most:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}; name another file") from None


def file_there(path: Path, where: str) -> bool:
    """Whether there is anything of this path. Raises ConfigError where the system cannot tell."""
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: cannot be read: {_reason(error)}; name another file") from None


def yaml_of_file(path: Path, where: str) -> Any:
    """Raises ConfigError as `file_bytes` does, and for what is not valid YAML."""
    try:
        text = file_bytes(path, where).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not valid YAML: {error.reason} at byte {error.start}; save it as UTF-8") from None
    try:
        return yaml_of(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {yaml_reason(error)}") from None


def yaml_of(text: str) -> Any:
    """The value of some YAML: null, texts, numbers, booleans, lists and mappings. Raises YAMLError for any other."""
    return yaml.load(text, Loader=_BoundedLoader)


def yaml_reason(error: yaml.YAMLError) -> str:
    """Why it is none, in one line of a readable length."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = place + ", ".join(part for part in (error.context, error.problem) if part)
    else:
        reason = " ".join(str(error).split())
    return reason if len(reason) <= MESSAGE else f"{reason[:MESSAGE]}..."


def json_of_file(path: Path, where: str) -> Any:
    """Raises ConfigError as `file_bytes` does, FileNotFoundError for none, ValueError for what is not valid JSON."""
    try:
        return json.loads(file_bytes(path, where), parse_int=_int, parse_constant=_constant)
    except RecursionError:
        raise ValueError("lists and mappings are nested too deep") from None


def _int(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits; at most {MOST_DIGITS} are read")
    return int(digits)


def _constant(name: str) -> float:
    raise ValueError(f"{name}: give a finite number")


def _reason(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


class _BoundedLoader(yaml.SafeLoader):
    """Plain values only, within bounds, and no key twice: of two the safe loader silently takes the latter.

    What looks like a date is text.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if self.check_event(yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise _marked(f"*{event.anchor} is part of what it stands for", event)
            self._count(self._sizes.get(event.anchor, 1), event)
            return super().compose_node(parent, index)
        before = self._nodes
        self._count(1, event)
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _marked(f"more than {MOST_DEPTH} lists and mappings inside each other", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._nodes - before
        return node

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise _marked(f"more than {MOST_NODES:,} values, what aliases stand for included", event)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _marked(f"{shortened(node.value)} is no {kind} ({error})", node) from None

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MOST_DIGITS:
            raise _marked(f"{shortened(node.value)}: give a number of at most {MOST_DIGITS} digits", node)
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == MERGE_TAG:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _marked("a key is a list or a mapping; give a name", key_node)
            key = self.construct_object(key_node)
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise _marked(f"the key {shortened(key_node.value)} is no name; put it in quotes", key_node)
            if key in names:
                raise _marked(f"key {shortened(key)} stands twice; give it once", key_node)
            names.add(key)
        return super().construct_mapping(node, deep)


def _marked(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


_PLAIN = ("null", "bool", "float", "seq", "map", "str")
_BoundedLoader.yaml_constructors = {
    **{f"tag:yaml.org,2002:{kind}": yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{kind}"] for kind in _PLAIN},
    "tag:yaml.org,2002:int": _BoundedLoader.construct_yaml_int,
    "tag:yaml.org,2002:timestamp": yaml.SafeLoader.yaml_constructors[STR_TAG],
    None: yaml.SafeLoader.yaml_constructors[None],
}
