"""The labels of a project: its labels.csv, with the digests of images that people named by path. Imports no torch."""

from collections.abc import Callable
from functools import cache

from fkal.labeling.label_store import LabelRow, LabelStore
from fkal.labeling.listing import Listing
from fkal.labeling.project import Project


def label_store(project: Project) -> LabelStore:
    """Reads and appends to its labels.csv."""
    return LabelStore(project.folder, digest_finder(project.pool))


def label_rows(project: Project) -> list[LabelRow]:
    """All rows of labels.csv, in order. Raises ConfigError with a line per row that cannot be read."""
    return label_store(project).rows()


def digest_finder(pool: Listing) -> Callable[[str], str]:
    """Gives the digest of a path, empty for one that is not in the pool, which is read when it is first asked for."""

    @cache
    def known() -> dict[str, str]:
        pairs = zip(pool.paths, pool.digests, strict=True)
        return {path: digest for path, digest in pairs if digest}

    return lambda path: known().get(path, "")
