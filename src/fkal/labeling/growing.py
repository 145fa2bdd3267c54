"""A pool that grows: images of a further place, or new ones in a place that is known, join behind the others."""

from __future__ import annotations

from collections.abc import Sequence

from fkal.labeling.params_text import restored_on_failure, with_place
from fkal.labeling.places import Looker, portable, scan_places
from fkal.labeling.project import Project
from fkal.labeling.scan import PartSummary
from fkal.labeling.sources import source_at
from fkal.notify import Display


def add_to_pool(
    project: Project, places: Sequence[str], display: Display, *, drop_leaks: bool, workers: int
) -> PartSummary:
    """Hold the lock. The same call again adds what is new there, or nothing.

    Raises Leak for images that are validated or tested on, unless they are to be dropped; the params file then is as
    it was.
    """
    for place in places:
        source_at(place, labeled=False, groups=project.groups)  # what is no source is refused before anything changes
    with restored_on_failure(project.params_path):
        roots = [with_place(project.params_path, "pool", portable(project.folder, place)) for place in places]
        with Looker(project.facts_path, display, workers=workers, drop_leaks=drop_leaks) as looker:
            return scan_places(Project.open(project.folder), "pool", list(dict.fromkeys(roots)), looker)
