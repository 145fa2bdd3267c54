"""Groups of images that belong together (a track, a video, a patient): their keys, and draws that never split one.

Near-copies in pool, validation and test would leak labels from one to the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from fkal.data.errors import CorruptData, excerpt
from fkal.errors import shortened

IMAGES_PER_GROUP = 5
"""Of n validation images of a class, about so many come from one group."""
VALIDATION_SHARE = 3
"""At most one in so many groups of a class validates."""
HOLDOUT_SHARE = 2
"""The same of the groups of validation images that are held out."""


NUMBERED = re.compile(r"(.*/)?([^/]*)[_-][^/_-]*\d[^/_-]*\.\w+")
"""A path whose file name ends with a number: its folder, and the beginning of the name."""
BY_NAME, BY_PATH = "([^/]+)[_-][^/_-]*$", "(.+)[_-][^/_-]*$"
"""What captures that beginning, without the folder and with it."""
FEWEST_GROUPS = 10
FEWEST_PER_GROUP = 3
MOST_ELSEWHERE = 0.1
"""At most such a share of the names is of another form where names seem to say groups."""


class SeemingGroups(NamedTuple):
    """Beginnings of file names that several images have in common."""

    n: int
    example: str
    pattern: str


def seeming_groups(names: Iterable[str], n_classes: int) -> SeemingGroups | None:
    """What names like `00012_00003.jpg` seem to say: frames of tracks or videos. None where they say nothing.

    Names that differ in their last number alone, or that begin with the name of their class, say nothing.
    """
    n, paths, beginnings = 0, Counter[tuple[str, str]](), set[str]()
    for name in names:
        n += 1
        if (found := NUMBERED.fullmatch(name)) and found[2]:
            paths[found[1] or "", found[2]] += 1
            beginnings.add(found[2])
    numbered = paths.total()
    if numbered < (1 - MOST_ELSEWHERE) * n or len(paths) < max(FEWEST_GROUPS, 2 * n_classes):
        return None
    if numbered < FEWEST_PER_GROUP * len(paths):
        return None
    (_, example), _ = paths.most_common(1)[0]
    return SeemingGroups(len(paths), example, BY_NAME if len(beginnings) == len(paths) else BY_PATH)


def group_key(name: str, pattern: str) -> str | None:
    """What the captures of the regular expression find in the name, together; None where it finds nothing."""
    found = re.search(pattern, name)
    return None if found is None else "\0".join(part or "" for part in found.groups())


def group_numbers(names: Sequence[str], pattern: str) -> tuple[Int64[Tensor, " n"], dict[str, int]]:
    """The group of each image, counted from 0, and the number of each key.

    Raises ValueError for a name that the expression does not find: its group is not known.
    """
    numbers: dict[str, int] = {}
    found = []
    for name in names:
        key = group_key(name, pattern)
        if key is None:
            raise ValueError(
                f"groups: {shortened(pattern)}: does not match {excerpt(name)}; "
                "give an expression that matches the path of each training image"
            )
        found.append(numbers.setdefault(key, len(numbers)))
    return torch.tensor(found, dtype=torch.int64), numbers


def refuse_shared(known: dict[str, int], names: Sequence[str], pattern: str) -> None:
    """Raises CorruptData where a test image is of a group that training images have.

    Test images that the expression does not match are in no group.
    """
    for name in names:
        key = group_key(name, pattern)
        if key is not None and key in known:
            raise CorruptData(
                f"groups: {shortened(pattern)}: {excerpt(name)} is of a group that has training images, too; move the "
                "group's images to one part, or capture (train|test) as well if the numbers start again in each part"
            )


def whole_groups(indices: Int64[Tensor, " m"], groups: Int64[Tensor, " n"]) -> Int64[Tensor, " k"]:
    """All images of the groups that these images are of, sorted."""
    return torch.isin(groups, groups[indices]).nonzero().flatten()


def drawn_by_group(
    labels: Int64[Tensor, " n"],
    groups: Int64[Tensor, " n"],
    per_class: int,
    generator: torch.Generator,
    *,
    classes: Sequence[str],
    share: int,
    setting: str,
) -> Int64[Tensor, " m"]:
    """Sorted positions of `per_class` images of each class, from few of its groups.

    Of a class ceil(per_class / 5) groups are drawn, more where these have too few images, at most one in `share` and
    at least one. Its images are taken from them in turn. A group that is drawn for one class counts as drawn for
    every class that it has images of. Classes with few groups come first.

    Raises ValueError where a class has a single group, or too few images in its share of groups.
    """
    group_order = torch.randperm(int(groups.max()) + 1, generator=generator)
    image_order = torch.randperm(len(labels), generator=generator)
    by_class = [_Class.of(c, labels, groups, group_order) for c in range(len(classes))]
    drawn: set[int] = set()
    for each in sorted(by_class, key=lambda each: (len(each.groups), each.label)):
        drawn |= each.wanted(per_class, drawn, share, name=classes[each.label], setting=setting)
    for each in by_class:
        each.refuse_unless_some_stay(drawn, classes[each.label], setting)
    taken = [_in_turn(each, drawn, labels, groups, image_order)[:per_class] for each in by_class]
    return torch.cat(taken).sort().values


class _Class:
    """The groups of one class in the order of drawing, and how many of its images each has."""

    def __init__(self, label: int, groups: list[int], images: list[int]) -> None:
        self.label, self.groups, self.images = label, groups, dict(zip(groups, images, strict=True))

    @classmethod
    def of(
        cls, label: int, labels: Int64[Tensor, " n"], groups: Int64[Tensor, " n"], order: Int64[Tensor, " g"]
    ) -> _Class:
        counts = groups[labels == label].bincount(minlength=len(order))[order]
        present = counts > 0
        return cls(label, order[present].tolist(), counts[present].tolist())

    def wanted(self, per_class: int, drawn: set[int], share: int, *, name: str, setting: str) -> set[int]:
        """The groups to draw beside those that are drawn already."""
        most = max(1, len(self.groups) // share)
        wanted = min(most, -(-per_class // IMAGES_PER_GROUP))
        found = [group for group in self.groups if group in drawn]
        for group in self.groups:
            enough = len(found) >= wanted and sum(self.images[g] for g in found) >= per_class
            if enough or len(found) >= most:
                break
            if group not in drawn:
                found.append(group)
        here = sum(self.images[g] for g in found)
        if here < per_class:
            raise ValueError(
                f"{setting}: {per_class}: class {name!r} has {len(self.groups)} groups, of which at most {most} may "
                f"be drawn, and these have {here} images; give {here or 1} or less, or bring images of more groups"
            )
        return set(found)

    def refuse_unless_some_stay(self, drawn: set[int], name: str, setting: str) -> None:
        if set(self.groups) <= drawn:
            raise ValueError(
                f"{setting}: class {name!r} has {len(self.groups)} group{'s' * (len(self.groups) != 1)}, and no image "
                "of it would stay on the other side; bring images of another group, or leave data.groups unset"
            )


def _in_turn(
    each: _Class,
    drawn: set[int],
    labels: Int64[Tensor, " n"],
    groups: Int64[Tensor, " n"],
    image_order: Int64[Tensor, " n"],
) -> Int64[Tensor, " k"]:
    """The images of a class in its drawn groups: the first of each group, then the second of each, and so on."""
    mine = image_order[labels[image_order] == each.label]
    by_group = [mine[groups[mine] == group] for group in each.groups if group in drawn]
    turns = torch.cat([torch.arange(len(some)) for some in by_group])
    return torch.cat(by_group)[turns.argsort(stable=True)]
