"""Every figure of benchmarks/README.md: what a part of the platform takes, as a ratio to its floor or to a peer.

    make bench                                                    # all rows but those of full size: minutes
    python benchmarks/bench.py --rows coreset,typiclust           # some rows; the others are kept as they were
    python benchmarks/bench.py --device cuda                      # by events of the GPU
    python benchmarks/bench.py --full                             # also the recorded run at full size: hours

Both sides of a row take turns in one process, on one thread, and count CPU-seconds, which other work on the machine
hardly lengthens. A row whose peer is not installed is left as it was, and names the machine and the versions that it
was measured with where they are others. The figures go into benchmarks/bench.json, those of a GPU into bench-cuda.json,
the tables between the markers of benchmarks/README.md.
"""

import argparse
import importlib.metadata
import json
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bench_rows import ROWS, Row, Sides

HERE = Path(__file__).resolve().parent
PAGE = HERE / "README.md"
PACKAGES = ("torch", "numpy", "scikit-learn", "scikit-activeml", "submodlib-py", "apricot-select")
MEBI = 1 << 10
"""Kibibytes, the system's unit for memory, in a mebibyte."""


@dataclass(frozen=True)
class Clock:
    """Seconds that a function takes: of the CPU, all threads together, or of a GPU between two events."""

    device: torch.device

    def __call__(self, function: Callable[[], object]) -> float:
        if self.device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end) / 1000
        before = time.process_time()
        function()
        return time.process_time() - before


def measured(row: Row, sides: Sides, clock: Clock, alternations: int) -> dict[str, Any]:
    """The row's ratios, smallest, median and largest, and the seconds of both sides."""
    memory = peak_of(sides.ours) if row.memory and clock.device.type == "cpu" else None
    if not (row.full_size or sides.seconds):  # what is made at first use is no part of it
        if memory is None:
            sides.ours()
        sides.other()
    seconds = sides.seconds or (lambda: (clock(sides.ours), clock(sides.other)))
    pairs = [seconds() for _ in range(alternations)]
    ratios = sorted(ours / max(other, 1e-9) for ours, other in pairs)
    return {
        "beside": row.beside,
        "target": row.target,
        "ratio": [ratios[0], ratios[len(ratios) // 2], ratios[-1]],
        "ours_s": sum(ours for ours, _ in pairs) / alternations,
        "other_s": sum(other for _, other in pairs) / alternations,
        "extra_mb": memory,
        "note": sides.note() if sides.note else "",
    }


def peak_of(function: Callable[[], object]) -> float:
    """Megabytes above what the process has had so far."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    function()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEBI


def machine(device: torch.device) -> dict[str, str]:
    """The processor or card, Python, and the packages that are installed, with their versions."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
    return {"machine": name, "Python": platform.python_version(), **versions}


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def figures_of(device: torch.device) -> Path:
    """Each type of device has figures of its own."""
    return HERE / ("bench.json" if device.type == "cpu" else f"bench-{device.type}.json")


def page_with(page: str, figures: dict[str, dict[str, Any]], device: str) -> str:
    """The page, with the table of a device between its markers."""
    start, end = f"<!-- bench {device} -->", f"<!-- end {device} -->"
    before, rest = page.split(start)
    after = rest.split(end)[1]
    return "\n".join([before + start, *table(figures, device), end]) + after


def table(figures: dict[str, dict[str, Any]], device: str) -> Iterator[str]:
    """The lines of a device's table; its heading names the machine and the versions of most rows."""
    usual = most_common([found["by"] for found in figures.values()])
    how = "`make bench`" if device == "cpu" else f"`bench.py --device {device}`"
    yield f"{how} on {in_words(usual)}; one thread."
    yield ""
    yield "| what | beside | ratio: median (smallest to largest) | target | seconds | |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, found in figures.items():
        low, median, high = found["ratio"]
        memory = "" if found["extra_mb"] is None else f"{found['extra_mb']:.0f} MB of temporaries"
        others = {key: version for key, version in found["by"].items() if usual.get(key) != version}
        elsewhere = f"measured with {in_words(others)}" if others else ""
        notes = "; ".join(filter(None, (memory, str(found["note"]), elsewhere)))
        yield (
            f"| {ROWS[name].what} | {found['beside']} | {median:.2f} ({low:.2f} to {high:.2f}) | {found['target']} "
            f"| {found['ours_s']:.2f} | {notes} |"
        )


def most_common(machines: list[dict[str, str]]) -> dict[str, str]:
    return max(machines, key=machines.count)


def in_words(by: dict[str, str]) -> str:
    return ", ".join(words if name == "machine" else f"{name} {words}" for name, words in by.items())


def write(figures: dict[str, dict[str, Any]], device: torch.device) -> None:
    figures_of(device).write_text(json.dumps(figures, indent=1) + "\n")
    PAGE.write_text(page_with(PAGE.read_text(), figures, device.type))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(name for name, row in ROWS.items() if not row.full_size))
    parser.add_argument("--alternations", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch; the seconds are those of all threads")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    path = figures_of(device)
    figures = json.loads(path.read_text()) if path.exists() else {}
    names = [*given.rows.split(","), *(name for name, row in ROWS.items() if row.full_size and given.full)]
    for name in names:
        row = ROWS[name]
        try:
            sides = row.make(device, given.data_root)
            torch.set_num_threads(given.threads)  # an import of numba sets the threads of OpenMP to all cores
        except (ModuleNotFoundError, FileNotFoundError) as error:
            print(f"{name}: left out, {error}")
            continue
        figures[name] = measured(row, sides, Clock(device), 1 if row.full_size else given.alternations)
        figures[name]["by"] = machine(device)
        if given.threads > 1:
            figures[name]["note"] += f"; {given.threads} threads"
        low, median, high = figures[name]["ratio"]
        print(f"{name}: {median:.2f} ({low:.2f} to {high:.2f}) of {row.beside} {figures[name]['note']}", flush=True)
        write({name: figures[name] for name in ROWS if name in figures}, device)


if __name__ == "__main__":
    main()
