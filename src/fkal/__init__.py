"""fkal finds the images worth labeling when the unlabeled pool is biased.

Start on the command line:

    fkal run --preset digits --method random,pfk_joint    runs two methods and prints their accuracies
    fkal list acquisitions                                names the methods
    fkal report --out runs                                makes a page of what was run
    fkal --help                                           names all commands

In Python, from the inside out:

    fkal.select         picks rows of your own arrays; no model is run
    fkal.Project        an own pool that people label, with the verbs of the command line
    fkal.core           the mathematics: pure functions of tensors (kernels, pseudo-labels, picks)
    fkal.acquisition    the methods; `registry.ACQUISITIONS` names them
    fkal.data           datasets, biased splits; `datasets.load` reads one
    fkal.engine         Algorithm 1: `loop.ActiveLearning` yields a `rounds.Round` per batch of labels
    fkal.experiment     an experiment from its settings: `experiment.prepare`
    fkal.config         settings: `layers`, `schema.Config`

`fkal.results`, `fkal.tracking`, `fkal.report` and `fkal.tuning` keep, track, show and tune what was run.
"""

from typing import TYPE_CHECKING, Any

from fkal.object_references import resolved
from fkal.version import __version__

if TYPE_CHECKING:
    from fkal.labeling.api import Project
    from fkal.labeling.arrays import select

__all__ = ["Project", "__version__", "select"]

LATE = {"Project": "fkal.labeling.api:Project", "select": "fkal.labeling.arrays:select"}
"""What importing fkal alone does not import, since it needs torch."""


def __getattr__(name: str) -> Any:
    if name in LATE:
        return resolved(LATE[name])
    raise AttributeError(f"module 'fkal' has no attribute {name!r}")
