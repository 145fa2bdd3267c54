"""What a run found of each experiment before its work, remembered, so that a dry run says it again without torch.

`<folder>/<key>.json` is one experiment. The key holds all that the answer depends on: settings, stamps of the image
files and of this program's own, versions of libraries, and what of the machine decides on device and threads.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from fkal.acquisition.registry import ACQUISITIONS
from fkal.atomic_files import write_whole
from fkal.config.schema import Config, digest_of
from fkal.data.file_digests import forget_oldest
from fkal.data.registry import DATASETS
from fkal.data.regular_files import read_regular
from fkal.data.settings import DataConfig
from fkal.data.sources import settled_stamp
from fkal.folders import below
from fkal.identifiers import DIGEST
from fkal.models.settings import MODELS

FORMAT = "fkal-plan-1"
MOST_PLANS = 4096
"""Experiments that are remembered; the longest unused go first."""
LARGEST = 2**20
"""Bytes of a file that is read."""
LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "pillow")
VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OMP_DYNAMIC",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "MKL_NUM_THREADS",
    "MKL_DYNAMIC",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)
"""Of the environment, what decides on threads and accelerators. Libraries set others of theirs as they are imported."""
ACCELERATORS = ("nvidia*", "kfd", "dri/*", "accel*")
"""Devices of the system, by which torch finds accelerators."""


class RememberedPlan(NamedTuple):
    """What `prepare` found of an experiment: its fingerprint, how many rounds of how many labels, notes on its data."""

    fingerprint: str
    rounds: int
    budget: int
    notes: tuple[str, ...]


class PlanMemory:
    """Plans in a folder. A memory that cannot be read or written is as good as none.

    Files and machine are looked at once, so make a new one for each call.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._around = {
            "program": _program(),
            "libraries": {name: _version(name) for name in LIBRARIES},
            "machine": _machine(),
        }
        self._images: dict[DataConfig, str] = {}

    def of(self, config: Config) -> RememberedPlan | None:
        """The plan of these settings, images and this machine; None where there is none."""
        key = self.key(config)
        return None if key is None else _read(below(self._folder, f"{key}.json"))

    def keep(self, plans: Iterable[tuple[Config, RememberedPlan]]) -> None:
        """Remember plans for the next time, apart from those that depend on something that cannot be seen."""
        by_key = {self.key(config): plan for config, plan in plans}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for key, plan in by_key.items():
                if key is not None:
                    write_whole(below(self._folder, f"{key}.json"), _written(plan))
            forget_oldest(self._folder, MOST_PLANS)
        except OSError:
            return  # whoever wants a plan prepares its experiment instead

    def key(self, config: Config) -> str | None:
        """Digest of all that a plan depends on.

        None where that cannot be seen without torch: pretrained weights, what another package offers, images that
        are not here or that were changed a moment ago.
        """
        is_ours = (
            config.model.name in MODELS and config.acquisition.name in ACQUISITIONS and config.data.name in DATASETS
        )
        if not is_ours or config.model.is_pretrained:
            return None
        if config.data not in self._images:
            self._images[config.data] = settled_stamp(config.data)
        images = self._images[config.data]
        return digest_of({"config": config.tree, "images": images, **self._around}) if images else None


def _program() -> list[list[Any]]:
    """Name, size and time of each file of this package."""
    root = Path(__file__).parents[1]
    stats = [(path, path.stat()) for path in sorted(root.rglob("*.py"))]
    return [[str(path), found.st_size, found.st_mtime_ns] for path, found in stats]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _machine() -> dict[str, Any]:
    """What decides on the device and on the number of threads, and so on a fingerprint."""
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": sys.version,
        "system": sys.platform,
        "processors": processors,
        "variables": {name: os.environ.get(name) for name in VARIABLES},
        "accelerators": sorted(str(path) for pattern in ACCELERATORS for path in Path("/dev").glob(pattern)),
    }


def _written(plan: RememberedPlan) -> bytes:
    content = {"format": FORMAT, **plan._asdict()}
    return json.dumps({**content, "digest": digest_of(content)}).encode("ascii")


def _read(path: Path) -> RememberedPlan | None:
    """What is not as it was written is as good as nothing."""
    try:
        content = json.loads(read_regular(path, limit=LARGEST))
        digest = content.pop("digest")
        if digest != digest_of(content) or content.pop("format") != FORMAT:
            return None
        plan = RememberedPlan(**{**content, "notes": tuple(content["notes"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    is_whole = re.fullmatch(DIGEST, str(plan.fingerprint)) and isinstance(plan.rounds, int)
    return plan if is_whole and isinstance(plan.budget, int) else None
