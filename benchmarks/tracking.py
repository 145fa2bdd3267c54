"""What tracking and state cost beside an experiment's computing, in CPU-seconds and as a share of its time.

    python benchmarks/tracking.py --data-root ~/datasets [--rounds 4] [--profile] [--json FILE]

Runs the paper's MNIST experiment (ir = 100, joint labels) on weights that were pretrained before the clock starts.
Everything that is not the engine's own phases counts as overhead: the MLflow store and its runs, artifacts, model,
state files, system metrics. What a start and tracking take on their own is the process's CPU-seconds without those of
the engine and of a process that imports torch, torchvision and mlflow and nothing else. `--profile` says where they
go; a profile makes them half as long again.
"""

import argparse
import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fkal.cli.terminal import say
from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.engine.progress import Progress
from fkal.engine.rounds import Round
from fkal.experiment.experiment import Experiment, prepare
from fkal.results.outcome import Outcome
from fkal.runner.single import run_one

LIBRARIES = "import mlflow, torch, torchvision"


class Engine:
    """CPU-seconds within `Experiment.events`, in which all passes and choices of an experiment happen."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._events = Experiment.events

    def events(self, *given: Any) -> Iterator[Round | Progress]:
        events = self._events(*given)
        while True:
            before = time.process_time()
            event = next(events, None)
            self.seconds += time.process_time() - before
            if event is None:
                return
            yield event

    def watch(self) -> None:
        Experiment.events = lambda *given: self.events(*given)  # type: ignore[method-assign]


def cpu_of_imports() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def tell(outcome: Outcome, *, wall: float, cpu: float, importing: float) -> None:
    engine = sum(sum(r.seconds.values()) for r in outcome.rounds)
    print(f"experiment: {wall:.1f} s, {cpu:.1f} CPU-seconds; its own phases: {engine:.1f} s")
    print(f"tracking and state: {(wall - engine) / wall:.1%} of the time; importing MLflow took {importing:.1f} s once")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, as make bench reads them")
    parser.add_argument("--profile", action="store_true", help="the functions in which tracking and the start pass")
    arguments = parser.parse_args()
    start = time.perf_counter()
    import fkal.tracking.experiment_run  # noqa: F401  imported here to be timed

    importing = time.perf_counter() - start
    layers = [
        from_file(preset("mnist"), "preset mnist"),
        from_assignments(
            [
                f"data.root={arguments.data_root}",
                f"acquisition.rounds={arguments.rounds}",
                "pretrain.epochs=1",
                "pretrain.decay_epochs=[]",
            ]
        ),
    ]
    profiler, engine = cProfile.Profile(time.process_time), Engine()
    engine.watch()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        experiment = prepare(merged(layers), out, say)
        started = time.process_time()
        for _ in experiment.theta_0():
            pass
        start, cpu = time.perf_counter(), time.process_time()
        run = partial(run_one, experiment, out, f"sqlite:///{out / 'mlflow.db'}")
        outcome = profiler.runcall(run) if arguments.profile else run()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    tell(outcome, wall=wall, cpu=cpu, importing=importing)
    libraries, tracking = cpu_of_imports(), cpu - engine.seconds
    print(
        f"CPU-seconds: start {started:.1f} and tracking {tracking:.1f}, of which {libraries:.1f} import torch, "
        f"torchvision and mlflow: {started + tracking - libraries:.1f} of its own"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"own": started + tracking - libraries, "libraries": libraries}))
    if arguments.profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(
            "fkal/(tracking|results|runner|metrics)|mlflow|importlib", 60
        )


if __name__ == "__main__":
    main()
