"""Splits: which images are pool, validation and test, drawn once and written down."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from fkal.atomic_files import write_whole
from fkal.core.randomness import stream
from fkal.data.bias import biased_pool, cut_classes, rank_in_class, rare_classes
from fkal.data.datasets import Dataset
from fkal.data.digest import DIGEST_LENGTH, bytes_digest
from fkal.data.errors import CorruptSplit, ForeignSplit, excerpt, printable
from fkal.data.groups import HOLDOUT_SHARE, VALIDATION_SHARE, drawn_by_group, whole_groups
from fkal.data.regular_files import read_regular
from fkal.data.settings import BIAS_KINDS, OWN_VALIDATION, BiasConfig, DataConfig
from fkal.errors import did_you_mean, listed, shortened

__all__ = ["CorruptSplit", "ForeignSplit", "Split", "check_split", "draw_split", "read_split", "write_split"]

FORMAT = "fkal-split-1"
PARTS = ("pool", "validation", "test")
LARGEST_FILE = 2**28  # bytes; a split of ImageNet has a twentieth of them
MOST_CLASSES = 2**31


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted indices: of pool and validation into dataset.train, of test into dataset.test."""

    pool: Int64[Tensor, " n"]
    validation: Int64[Tensor, " m"]
    test: Int64[Tensor, " t"]
    recipe: Mapping[str, Any]  # as JSON holds it: the keys of RECIPE
    cut: tuple[int, ...]  # under-represented classes
    data_digest: str
    class_counts: Mapping[str, list[int]]  # of each part

    @cached_property
    def digest(self) -> str:
        """Of the file's bytes; equal recipes on equal data have equal ones."""
        return bytes_digest([split_bytes(self)])


def draw_split(dataset: Dataset, data: DataConfig, bias: BiasConfig, seed: int) -> Split:
    """Which images are pool, validation and test.

    The same arguments give the same split. Validation is drawn before the bias and does not depend on it.

    Args:
        dataset: The images and their labels.
        data: How many validation images each class has.
        bias: How the pool is made biased.
        seed: Seed of every random choice.

    Returns:
        The split with its recipe and the digest of the images.

    Raises:
        ValueError: A class has too few images, or the bias leaves no pool.

    Example:
        >>> from fkal.data.datasets import load
        >>> data = DataConfig(name="digits", validation_per_class=30)
        >>> split = draw_split(load(data), data, BiasConfig(ratio=20.0), seed=0)
        >>> len(split.validation), split.cut
        (300, (5, 6, 7, 8, 9))
    """
    labels, n_classes = dataset.train.labels, len(dataset.classes)
    cut = _cut(bias, n_classes, dataset.cut_rule, seed)
    validation = dataset.validation
    if validation is None:
        validation = _drawn(dataset, data.validation_per_class, stream(seed, "split", "validation"))
    taken = validation if dataset.groups is None else whole_groups(validation, dataset.groups)
    rest = _complement(taken, len(labels))
    kept = biased_pool(
        labels[rest], bias, cut, stream(seed, "split", "pool"), n_classes=n_classes, per_class=data.per_class
    )
    parts = {"pool": rest[kept], "validation": validation, "test": torch.arange(len(dataset.test))}
    counts = _class_counts(parts, dataset)
    return Split(
        **parts,
        recipe=_recipe(dataset.name, data, bias, cut, seed),
        cut=_named(data.rare, dataset.classes) or rare_classes(bias, cut, counts["pool"], counts["validation"]),
        data_digest=dataset.digest,
        class_counts=counts,
    )


def _named(rare: Sequence[str | int] | None, classes: tuple[str, ...]) -> tuple[int, ...]:
    """The classes of these names, sorted; none where none are named. A number is the name that it reads as."""
    unknown = [name for name in map(str, rare or ()) if name not in classes]
    if unknown:
        raise ValueError(
            f"rare: {shortened(unknown[0])}: no class has this name; {did_you_mean(unknown[0], classes)}"
            f"classes: {listed(classes)}"
        )
    return tuple(sorted(classes.index(str(name)) for name in rare or ()))


def hold_out(
    validation: Int64[Tensor, " m"], dataset: Dataset, per_class: int, generator: torch.Generator
) -> tuple[Int64[Tensor, " r"], Int64[Tensor, " h"]]:
    """What stays of the validation indices, and the `per_class` of each class held out.

    Of a dataset with groups whole groups are held out, and what is not measured of them does not stay either. Raises
    ValueError where a class has too few groups for both.
    """
    labels, groups = dataset.train.labels, dataset.groups
    if groups is not None:
        held_out = drawn_by_group(
            labels[validation],
            groups[validation],
            per_class,
            generator,
            classes=dataset.classes,
            share=HOLDOUT_SHARE,
            setting="holdout",
        )
        stays = ~torch.isin(groups[validation], groups[validation[held_out]])
        return validation[stays], validation[held_out]
    order = validation[torch.randperm(len(validation), generator=generator)]
    held = rank_in_class(labels[order]) < per_class
    return order[~held].sort().values, order[held].sort().values


def split_bytes(split: Split) -> bytes:
    """The file: JSON with sorted keys, one line an entry."""
    entries = {
        "format": FORMAT,
        "recipe": dict(split.recipe),
        "cut": list(split.cut),
        "data_digest": split.data_digest,
        "class_counts": dict(split.class_counts),
        **{part: getattr(split, part).tolist() for part in PARTS},
    }
    lines = (f"{json.dumps(key)}: {json.dumps(entries[key], sort_keys=True)}" for key in sorted(entries))
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def write_split(split: Split, path: Path | str) -> None:
    """Writes a split to a file, whole or not at all.

    Args:
        split: The split.
        path: The file; its folder is made if it is absent.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, split_bytes(split))


def read_split(path: Path | str) -> Split:
    """A split from its file, with every field checked.

    Args:
        path: A file of `write_split`.

    Returns:
        The split.

    Raises:
        CorruptSplit: The file is absent or is no split.
    """
    path = Path(path)
    try:
        return _split_of(_parsed(read_regular(path, limit=LARGEST_FILE)))
    except OSError as error:
        raise CorruptSplit(f"{printable(path)}: {error.strerror or error}; draw the split again") from error
    except CorruptSplit as error:
        raise CorruptSplit(f"{printable(path)}: {error}; draw the split again") from error


def check_split(split: Split, dataset: Dataset) -> None:
    """Raises ForeignSplit unless the split was drawn from these very images."""
    if split.data_digest != dataset.digest:
        raise ForeignSplit(
            f"split of {excerpt(split.recipe['dataset'])} with data digest {split.data_digest}: the images of "
            f"{dataset.name} here have {dataset.digest}; draw the split again from them, "
            "or bring the images it was drawn from"
        )
    parts = {part: getattr(split, part) for part in PARTS}
    bounds = {"pool": len(dataset.train), "validation": len(dataset.train), "test": len(dataset.test)}
    for part, indices in parts.items():
        if len(indices) and int(indices[-1]) >= bounds[part]:
            raise ForeignSplit(
                f"split's {part} index {int(indices[-1])}: there are {bounds[part]} images; draw the split again"
            )
    if _class_counts(parts, dataset) != dict(split.class_counts):
        raise ForeignSplit("split's class counts differ from its images' labels; draw the split again")


def _cut(bias: BiasConfig, n_classes: int, rule: str, seed: int) -> tuple[int, ...]:
    """The classes that are set, else those that a rule draws."""
    if bias.cut is None or isinstance(bias.cut, str):
        return cut_classes(n_classes, bias.cut or rule, stream(seed, "split", "cut"))
    return bias.cut


def _drawn(dataset: Dataset, per_class: int, generator: torch.Generator) -> Int64[Tensor, " m"]:
    """The same number of validation images of each class, from a few whole groups where there are groups."""
    labels, classes = dataset.train.labels, dataset.classes
    if dataset.groups is None:
        return _balanced(labels, classes, per_class, generator)
    return drawn_by_group(
        labels,
        dataset.groups,
        per_class,
        generator,
        classes=classes,
        share=VALIDATION_SHARE,
        setting="validation_per_class",
    )


def _balanced(
    labels: Int64[Tensor, " n"], classes: tuple[str, ...], per_class: int, generator: torch.Generator
) -> Int64[Tensor, " m"]:
    counts = labels.bincount(minlength=len(classes))
    rarest = int(counts.argmin())
    images = int(counts[rarest])
    if images < per_class:
        way_out = f"give {images} or less" if images else "bring some, or leave the class out"
        raise ValueError(
            f"validation_per_class: {per_class}: class {classes[rarest]!r} has only {images} images; {way_out}"
        )
    order = torch.randperm(len(labels), generator=generator)
    return order[rank_in_class(labels[order]) < per_class].sort().values


def _complement(indices: Int64[Tensor, " m"], n: int) -> Int64[Tensor, " r"]:
    left = torch.ones(n, dtype=torch.bool)
    left[indices] = False
    return left.nonzero().flatten()


def _recipe(name: str, data: DataConfig, bias: BiasConfig, cut: tuple[int, ...], seed: int) -> dict[str, Any]:
    fractions = bias.fractions
    drawn = {"validation_per_class": data.validation_per_class}
    return {
        "dataset": name,
        "kind": bias.kind,
        "ratio": float(bias.ratio),
        "cut": sorted(cut) if bias.kind == "imbalance" else [],
        "fractions": None if fractions is None else {str(c): float(fractions[c]) for c in sorted(fractions)},
        "seed": seed,
        **(drawn if data.validation is None else {"validation": OWN_VALIDATION}),
        **{key: getattr(data, key) for key in OPTIONAL if getattr(data, key) is not None},
    }


def _class_counts(parts: Mapping[str, Tensor], dataset: Dataset) -> dict[str, list[int]]:
    labels = {"pool": dataset.train.labels, "validation": dataset.train.labels, "test": dataset.test.labels}
    return {
        part: labels[part][indices].bincount(minlength=len(dataset.classes)).tolist() for part, indices in parts.items()
    }


def _parsed(content: bytes) -> Any:
    """JSON with each key once and finite numbers."""
    try:
        return json.loads(content, object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
    except CorruptSplit:
        raise
    except RecursionError as error:
        raise CorruptSplit("lists within lists too deep to read") from error
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise CorruptSplit(printable(str(error))) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        twice = [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]
        raise CorruptSplit(f"entry {excerpt(twice[0])} is there twice")
    return entries


def _refuse_constant(name: str) -> None:
    raise CorruptSplit(f"{name} is no number of a split")


def _split_of(entries: Any) -> Split:
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise CorruptSplit(f"not a split file of format {FORMAT}")
    wanted = {"format", "recipe", "cut", "data_digest", "class_counts", *PARTS}
    if set(entries) != wanted:
        raise CorruptSplit(f"entries {excerpt(sorted(set(entries) ^ wanted))} are absent or not known")
    _refuse_recipe(entries["recipe"])
    _refuse_digest(entries["data_digest"])
    parts = {part: _indices(part, entries[part]) for part in PARTS}
    if torch.isin(parts["pool"], parts["validation"]).any():
        raise CorruptSplit("pool and validation share images")
    n_classes = _refuse_counts(entries["class_counts"], parts)
    _refuse_recipes_classes(entries["recipe"], n_classes)
    cut = _indices("cut", entries["cut"]).tolist()
    if cut and cut[-1] >= n_classes:
        raise CorruptSplit(f"cut names class {cut[-1]}; there are {n_classes}")
    return Split(
        **parts,
        recipe=entries["recipe"],
        cut=tuple(cut),
        data_digest=entries["data_digest"],
        class_counts=entries["class_counts"],
    )


def _indices(field: str, values: Any) -> Int64[Tensor, " n"]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise CorruptSplit(f"{field} is not a list of whole numbers")
    if values and not 0 <= min(values) <= max(values) < 2**63:
        raise CorruptSplit(f"{field} has numbers below 0 or beyond 2^63")
    indices = torch.tensor(values, dtype=torch.int64)
    if not (indices[1:] > indices[:-1]).all():
        raise CorruptSplit(f"{field} is not sorted or has numbers twice")
    return indices


def _refuse_recipe(recipe: Any) -> None:
    there = recipe if isinstance(recipe, dict) else {}
    rules = RECIPE_OF_OWN_VALIDATION if "validation" in there else RECIPE
    rules = {**rules, **{key: rule for key, rule in OPTIONAL.items() if key in there}}
    if not isinstance(recipe, dict) or set(recipe) != set(rules):
        raise CorruptSplit(f"recipe does not have just {', '.join(rules)}")
    for key, (kind, is_right, rule) in rules.items():
        value = recipe[key]
        if not isinstance(value, kind) or isinstance(value, bool) or not is_right(value):
            raise CorruptSplit(f"recipe's {key} is {excerpt(value)}, not {rule}")


def _refuse_recipes_classes(recipe: Mapping[str, Any], n_classes: int) -> None:
    named = [*recipe["cut"], *map(int, recipe["fractions"] or {})]
    beyond = [c for c in named if c >= n_classes]
    if beyond:
        raise CorruptSplit(f"recipe names class {excerpt(beyond[0])}; there are {n_classes}")


def _are_classes(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value < MOST_CLASSES for value in values) and len(set(values)) == len(values)


def _are_fractions(values: dict[str, Any] | None) -> bool:
    """Class -> the part that stays, as JSON holds it."""
    return values is None or all(
        re.fullmatch("[0-9]{1,9}", key) and type(value) in (int, float) and 0 <= value <= 1
        for key, value in values.items()
    )


Rule = tuple[type | tuple[type, ...], Callable[[Any], bool], str]

RECIPE: dict[str, Rule] = {
    "dataset": (str, bool, "a name"),
    "kind": (str, lambda kind: kind in BIAS_KINDS, f"one of {', '.join(BIAS_KINDS)}"),
    "ratio": (float, lambda ratio: 1 <= ratio < math.inf, "a number of 1 or more, with a decimal point"),
    "cut": (list, _are_classes, "a list of classes, each once"),
    "fractions": ((dict, type(None)), _are_fractions, "null, or classes with a part of 0 to 1 each"),
    "seed": (int, lambda seed: seed >= 0, "a whole number of 0 or more"),
    "validation_per_class": (int, lambda n: n >= 1, "a whole number of 1 or more"),
}
"""What each entry of a recipe must be: its type, its rule, and the rule in words."""

RECIPE_OF_OWN_VALIDATION: dict[str, Rule] = {
    **{key: rule for key, rule in RECIPE.items() if key != "validation_per_class"},
    "validation": (str, lambda name: name == OWN_VALIDATION, f"{OWN_VALIDATION!r}"),
}

OPTIONAL: dict[str, Rule] = {
    "per_class": (int, lambda n: n >= 1, "a whole number of 1 or more"),
    "groups": (str, bool, "an expression"),
}
"""Entries of a recipe that are there where they are set."""


def _refuse_digest(digest: Any) -> None:
    if not isinstance(digest, str) or len(digest) != DIGEST_LENGTH or set(digest) - set("0123456789abcdef"):
        raise CorruptSplit(f"data_digest {excerpt(digest)} is not {DIGEST_LENGTH} hexadecimal digits")


def _refuse_counts(counts: Any, parts: Mapping[str, Tensor]) -> int:
    """The number of classes."""
    if not isinstance(counts, dict) or set(counts) != set(PARTS):
        raise CorruptSplit(f"class_counts does not have just {', '.join(PARTS)}")
    for part, values in counts.items():
        if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
            raise CorruptSplit(f"class_counts of {part} are not whole numbers")
        if sum(values) != len(parts[part]):
            raise CorruptSplit(f"class_counts of {part} add up to {sum(values)}, not {len(parts[part])}")
    if len({len(values) for values in counts.values()}) != 1:
        raise CorruptSplit("class_counts differ in their number of classes")
    return len(counts["pool"])
