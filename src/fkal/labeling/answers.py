"""The labels of a project: its labels.csv, with the digests of images that people named by path. Imports no torch."""

from collections.abc import Callable
from functools import cache

from fkal.errors import ConfigError, shortened
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
    """Gives the digest of a path, which is read when one is first asked for.

    It is empty for a path that is not in the pool. Raises ConfigError for one that images of several places have.
    """

    @cache
    def known() -> tuple[dict[str, str], set[str]]:
        paths, listed = list(pool.paths), list(pool.digests)
        pairs = [(paths[row], listed[row] or "") for row in pool.last_rows if listed[row]]
        digests: dict[str, str] = {}
        several = {path for path, digest in pairs if digests.setdefault(path, digest) != digest}
        return digests, several

    def find(path: str) -> str:
        digests, several = known()
        if path in several:
            raise ConfigError(f"path {shortened(path)}: images of several places have it; give the digest beside it")
        return digests.get(path, "")

    return find
