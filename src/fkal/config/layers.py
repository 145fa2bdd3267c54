"""The layers that a configuration is merged from.

The later over the earlier: a params file or preset, environment variables
(`FKAL_TRAIN__LR=0.1`), `--set train.lr=0.1`. Both spell the same dotted keys and read their
values as YAML.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fkal.config.documents import yaml_of, yaml_of_file, yaml_reason
from fkal.config.schema import (
    CONTROL,
    DEEPEST_KEY,
    LONGEST_LIST,
    LONGEST_PATH,
    LONGEST_TEXT,
    MOST_PROBLEMS,
    PATHS,
    PROTOCOL,
    SET,
    Config,
    ConfigError,
    flattened,
    with_new_names,
)
from fkal.data.places import is_folder
from fkal.data.settings import DataConfig
from fkal.errors import did_you_mean, shortened
from fkal.models.settings import ModelConfig, usual_taps

ENVIRONMENT = "FKAL_"
DATA_ROOT = "FKAL_DATA_ROOT"
JOBS = "FKAL_JOBS"
MEMORY = "FKAL_MEMORY_GB"
MAY_BE_TRUE = frozenset(
    {"acquisition.pseudo_label", *(key for key, value in Config().flat.items() if isinstance(value, bool))}
)
"""Flags, and the pseudo-label `true`."""
MODEL = "model.name"
LAYERS = "train.layers"
TAPS = "acquisition.taps"
TREES = ("data.folder", "data.validation")
"""Settings that name a tree of images."""
SECTIONS = frozenset(key for key, value in Config().tree.items() if isinstance(value, Mapping))
NOT_CONFIGURATION = frozenset({DATA_ROOT, JOBS, MEMORY})

RULES = {
    "dataclass_type": "give a section, keys with values",
    "tuple_type": "give a list, say [conv1, conv2]",
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "dict_type": "give a mapping, say {5: 0.1}",
    "string_pattern_mismatch": "give auto, cpu, cuda, cuda:1 or mps",  # of device, the only pattern there is
}
"""What is wanted, where pydantic would speak of Python's types."""
CHOICES = {"bias.cut": "give a list of classes, say [5, 6], or random_half"}
"""The same of settings that take values of different kinds, for each of which pydantic has a problem."""


@dataclass(frozen=True)
class Layer:
    """Some values and where they come from, for messages.

    `beside` is the folder of the params file, which relative paths in it start from. `keeps_taps` says that the
    layer's taps belong to a method (`pcc@conv2`): a later layer that names another model leaves them.
    """

    origin: str
    values: Mapping[str, Any]
    beside: Path | None = None
    keeps_taps: bool = False


def presets() -> dict[str, Path]:
    """The packaged params files by name.

    Returns:
        The path of each preset.

    Example:
        >>> list(presets())
        ['cifar10', 'cifar10-frozen', 'digits', 'folder', 'gtsrb', 'gtsrb-resnet10', 'imagenet', 'mnist', 'svhn',
        'tinyimagenet', 'tinyimagenet-frozen']
    """
    folder = Path(str(files("fkal") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def preset(name: str) -> Path:
    """The params file of a preset.

    Args:
        name: A name of `fkal list presets`.

    Returns:
        The path of its file.

    Raises:
        ConfigError: There is no preset of this name.

    Example:
        >>> preset("digits").name
        'digits.yaml'
    """
    known = presets()
    if name not in known:
        raise ConfigError(
            f"preset {shortened(name)} is unknown; {did_you_mean(name, known)}presets: {', '.join(known)}"
        )
    return known[name]


def load(
    path: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    assignments: Sequence[str] = (),
    origin: str | None = None,
) -> Config:
    """The settings of a params file, changed by environment variables and by assignments.

    Args:
        path: The params file, with the settings of one experiment.
        environment: Variables such as `FKAL_TRAIN__LR`; they override the file.
        assignments: Texts such as `train.lr=0.1`; they override both.
        origin: What messages call the file; its path unless given.

    Returns:
        The settings, checked.

    Raises:
        ConfigError: There is no such file, or a setting is unknown or wrong.

    Example:
        >>> settings = load(preset("digits"), environment={}, assignments=["train.lr=0.1", "seed=3"])
        >>> settings.train.lr, settings.seed
        (0.1, 3)
    """
    return merged(
        [
            from_file(path, origin or str(path)),
            from_environment(environment),
            from_assignments(assignments),
        ]
    )


def merged(layers: Iterable[Layer]) -> Config:
    """The configuration of some layers, later ones over earlier ones, key by key.

    Taps follow the model: a layer that names another model and no taps has that model's usual ones.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    trees: dict[str, Path | None] = {}
    are_kept = False
    for given in layers:
        _refuse_unreadable(given)
        layer = _with_new_names(given)
        before = _tapped(values)
        _update(values, layer.values, origins, layer.origin, ())
        names_taps = _value(layer.values, TAPS) is not None
        are_kept = layer.keeps_taps if names_taps else are_kept
        if not names_taps and not are_kept and _tapped(values) != before:
            _follow_model(values, origins)
        trees |= {key: layer.beside for key in TREES if _value(layer.values, key) is not None}
    for key, beside in trees.items():
        _start_beside(values, key, beside)
    flags = [key for key, value in flattened(values) if isinstance(value, bool) and key not in MAY_BE_TRUE]
    if flags:
        raise ConfigError(
            _lines([f"{key}: true or false; this setting is no flag, give a number or a name" for key in flags])
        )
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_lines([_problem(e, origins) for e in _each_choice_once(error.errors())])) from None


def _with_new_names(layer: Layer) -> Layer:
    try:
        return replace(layer, values=with_new_names(layer.values))
    except ValueError as error:
        raise ConfigError(f"{layer.origin}: {error}") from None


def _each_choice_once(errors: Sequence[Any]) -> list[Any]:
    """The problems, of a setting in CHOICES the last: it is of the whole value."""
    last = {".".join(map(str, e["loc"][:2])): e for e in errors}
    return [e for e in errors if (key := ".".join(map(str, e["loc"][:2]))) not in CHOICES or last[key] is e]


def _value(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    section, _, name = key.partition(".")
    held = values.get(section)
    return held.get(name) if isinstance(held, Mapping) else None


def _tapped(values: Mapping[str, Any]) -> tuple[Any, bool]:
    """What usual taps depend on: the model, and whether it is frozen."""
    return _value(values, MODEL) or ModelConfig.name, _value(values, LAYERS) == "frozen"


def _follow_model(values: dict[str, Any], origins: dict[str, str]) -> None:
    """The usual taps of the model, where both are known."""
    (name, is_frozen), section = _tapped(values), values.setdefault("acquisition", {})
    taps = usual_taps(name, "frozen" if is_frozen else "all") if isinstance(name, str) else ()
    if taps and isinstance(section, dict):
        section["taps"] = list(taps)
        origins[TAPS] = f"the usual taps of {name}"


def _start_beside(values: dict[str, Any], key: str, beside: Path | None) -> None:
    """A relative path of a params file in another folder starts from there; the data root is the second place."""
    path, root = _value(values, key), _value(values, "data.root") or DataConfig.root
    if beside is None or not isinstance(path, str) or not isinstance(root, str) or path.startswith(("/", "~")):
        return
    if is_folder(beside / path) or not is_folder(Path(root) / path):
        values["data"][key.removeprefix("data.")] = str(beside / path)
    elif is_folder(Path(path)):
        values["data"][key.removeprefix("data.")] = str(Path(root) / path)


def _lines(problems: Sequence[str]) -> str:
    """A line per problem, each once; of very many the first."""
    each = list(dict.fromkeys(problems))
    more = [f"and {len(each) - MOST_PROBLEMS:,} more; correct these first"] if len(each) > MOST_PROBLEMS else []
    return "\n".join([*each[:MOST_PROBLEMS], *more])


def from_file(path: Path, origin: str) -> Layer:
    """The settings of a YAML file. Raises ConfigError for a file that has none."""
    try:
        values = yaml_of_file(path, origin)
    except FileNotFoundError:
        raise ConfigError(f"{origin}: there is no such file; name a params file") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{origin}: {_kind(values)}; give a mapping of sections")
    return Layer(origin, values, beside=path.parent)


def _kind(values: Any) -> str:
    """What a document has in place of a mapping."""
    if values is None:
        return "is empty"
    return f"holds {'a list' if isinstance(values, list) else shortened(values)}"


def _refuse_unreadable(layer: Layer) -> None:
    """Raises ConfigError for settings that are no sections with keys, and for texts and lists of no sensible length."""
    if not isinstance(layer.values, Mapping):
        raise ConfigError(f"{layer.origin}: {shortened(layer.values)} is no mapping; give sections with keys")
    for section, values in layer.values.items():
        keys = [section, *(values if isinstance(values, Mapping) else ())]
        for key in keys:
            if not isinstance(key, str):
                raise ConfigError(f"{layer.origin}: the key {shortened(key)} is no name; sections and keys have names")
        if section in SECTIONS and not isinstance(values, Mapping):  # a later layer would take its place unseen
            raise ConfigError(f"{section} = {shortened(values)}: {RULES['dataclass_type']} (in {layer.origin})")
    for key, value in flattened_leaves(layer.values):
        _refuse_boundless(key, value, layer.origin)


def flattened_leaves(values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Dotted keys of sections with their values as they are."""
    for section, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{section}.{key}", each) for key, each in value.items())
        else:
            yield section, value


def _refuse_boundless(key: str, value: Any, origin: str) -> None:
    shown = key if len(key) <= LONGEST_TEXT else shortened(key)
    for part in _parts(value):
        most = LONGEST_PATH if key in PATHS else LONGEST_TEXT
        if isinstance(part, str) and len(part) > most:
            raise ConfigError(f"{shown} = {shortened(part)}: give at most {most} characters (in {origin})")
        if isinstance(part, str) and CONTROL.search(part):
            raise ConfigError(f"{shown} = {shortened(part)}: has control characters; leave them out (in {origin})")
        if isinstance(part, list | dict) and len(part) > LONGEST_LIST:
            raise ConfigError(f"{shown}: lists {len(part):,} values; give at most {LONGEST_LIST:,} (in {origin})")


def _parts(value: Any) -> Iterable[Any]:
    """The value, and what is in it; nesting is bounded where files are read."""
    yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for each in inner:
        yield from _parts(each)


def from_environment(environment: Mapping[str, str]) -> Layer:
    """`FKAL_SECTION__KEY` variables; `FKAL_DATA_ROOT` is short for `FKAL_DATA__ROOT`."""
    values: dict[str, Any] = {}
    said: dict[Key, tuple[Any, str]] = {}
    if DATA_ROOT in environment:
        _assign(values, ["data", "root"], environment[DATA_ROOT], DATA_ROOT, said)
    for name in sorted(known_variables(environment)):
        path = name.removeprefix(ENVIRONMENT).lower().split("__")
        _assign(values, path, yaml_value(environment[name], name), name, said)
    return Layer("environment", values)


def known_variables(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that set a key of the tree."""
    return [
        name
        for name in environment
        if name.startswith(ENVIRONMENT)
        and name not in NOT_CONFIGURATION
        and name.removeprefix(ENVIRONMENT).lower().split("__")[0] in {*Config.model_fields, PROTOCOL}
    ]


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Names of `FKAL_` variables that mean nothing, most likely misspelt."""
    known = {*known_variables(environment), *NOT_CONFIGURATION}
    return sorted(n for n in environment if n.startswith(ENVIRONMENT) and n not in known)


def from_assignments(assignments: Sequence[str], *, once: bool = False) -> Layer:
    """`section.key=value`, each value read as YAML; of two for one key the later counts.

    With `once`, as a command has it, two that differ are refused. Raises ConfigError.
    """
    values: dict[str, Any] = {}
    together: dict[str, Any] = {}
    said: dict[Key, tuple[Any, str]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise ConfigError(f"--set {shortened(assignment)}: give section.key=value, say train.lr=0.1")
        where = f"--set {key if len(key) <= LONGEST_TEXT else shortened(key)}"
        path, value, own = key.strip().split("."), yaml_value(text, where), dict[str, Any]()
        _assign(own, path, value, f"--set {assignment}", {})
        if once:
            _assign(together, path, value, f"--set {assignment}", said)
        _update(values, own, {}, "", ())
    return Layer(SET, values)


def yaml_value(text: str, where: str) -> Any:
    """The value of an assignment or a variable. Raises ConfigError for what is none."""
    try:
        return yaml_of(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {shortened(text)} is not a YAML value: {yaml_reason(error)}") from None


Key = tuple[str, ...]


def _assign(
    values: dict[str, Any], path: Sequence[str], value: Any, origin: str, said: dict[Key, tuple[Any, str]]
) -> None:
    """Set a value, or those of a whole section; `said` has each with where it was given.

    Raises ConfigError for a value that contradicts one given before, and for keys that no setting can have.
    """
    if len(path) > DEEPEST_KEY:
        raise ConfigError(f"{shortened(origin)}: {shortened('.'.join(path))} is too deep; give section.key=value")
    for where, each in _leaves(tuple(path), value):
        _refuse_contradiction(values, where, each, origin, said)
        place = values
        for key in where[:-1]:
            place = place.setdefault(key, {})
        place[where[-1]] = each
        said[where] = each, origin


def _leaves(path: Key, value: Any) -> Iterable[tuple[Key, Any]]:
    if len(path) == 1 and isinstance(value, dict):
        yield from (((*path, key), each) for key, each in value.items())
    else:
        yield path, value


def _refuse_contradiction(
    values: Mapping[str, Any], where: Key, value: Any, origin: str, said: Mapping[Key, tuple[Any, str]]
) -> None:
    if where in said:
        before, first = said[where]
        if not same_value(before, value):
            raise ConfigError(f"{shortened(first)} and {shortened(origin)} contradict each other; give one of them")
        return
    there: Any = values
    for key in where:
        if not isinstance(there, Mapping):
            break
        if key not in there:
            return
        there = there[key]
    raise ConfigError(f"{shortened(origin)}: {where[0]} has a value already; set the section or its keys, not both")


def same_value(one: Any, other: Any) -> bool:
    """Whether two values of one setting mean the same, however they are written: 100 and 100.0, or `true`."""
    if one == other or str(one).lower() == str(other).lower():
        return True
    try:
        return float(one) == float(other)
    except (TypeError, ValueError, OverflowError):
        return False


def _update(
    values: dict[str, Any],
    over: Mapping[str, Any],
    origins: dict[str, str],
    origin: str,
    path: tuple[str, ...],
) -> None:
    for key, value in over.items():
        here = (*path, str(key))  # classes are numbers
        origins[".".join(here)] = origin
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _update(values[key], value, origins, origin, here)
        elif isinstance(value, Mapping) and len(here) == 1:
            values[key] = {}
            _update(values[key], value, origins, origin, here)
        else:
            values[key] = value


def _problem(error: Any, origins: Mapping[str, str]) -> str:
    """One line: the key, the value, what is allowed, where it was given."""
    path = [str(part) for part in error["loc"]]
    choice = ".".join(path[:2])
    if choice in CHOICES:
        given = f" (in {origins[choice]})" if choice in origins else ""
        return f"{choice} = {shortened(error['input'])}: {CHOICES[choice]}{given}"
    key = ".".join(part if len(part) <= LONGEST_TEXT else shortened(part) for part in path) or "configuration"
    origin = next((origins[k] for k in _ancestors(path) if k in origins), None)
    where = f" (in {origin})" if origin else ""
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys_at(path[:-1])
        return f"{key}: unknown key; {did_you_mean(path[-1], known)}known here: {', '.join(known)}{where}"
    if error["type"] == "value_error":
        section = f"{key}." if path else ""
        return f"{section}{error['ctx']['error']}{_origin_of(str(error['ctx']['error']), key, origins) or where}"
    rule = RULES.get(error["type"]) or error["msg"].lower()
    return f"{key} = {shortened(error['input'])}: {rule}{where}"


def _origin_of(message: str, section: str, origins: Mapping[str, str]) -> str:
    """A dataclass's own message starts with its key; where that was given is known more closely."""
    key = message.replace(":", " ").split(" ")[0]
    origin = origins.get(f"{section}.{key}")
    return f" (in {origin})" if origin else ""


def _ancestors(path: Sequence[str]) -> list[str]:
    return [".".join(path[:n]) for n in range(len(path), 0, -1)]


def _keys_at(path: Sequence[str]) -> list[str]:
    if not path:
        return list(Config.model_fields)
    section = Config.model_fields[path[0]].annotation
    return [field.name for field in fields(section)] if is_dataclass(section) else []
