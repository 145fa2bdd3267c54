"""What tracking and state cost, as a share of an experiment's time.

    python benchmarks/tracking.py --data-root ~/datasets

Runs the paper's MNIST experiment (ir = 100, joint labels, ten rounds) on weights that were
pretrained before the clock starts. Everything that is not the engine's own phases counts as
overhead: the MLflow store and its runs, artifacts, model, state files, system metrics.
"""

import argparse
import tempfile
import time
from pathlib import Path

from fkal.cli.terminal import say
from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.experiment.experiment import prepare
from fkal.runner.single import run_one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    start = time.perf_counter()
    import fkal.tracking.experiment_run  # noqa: F401  imported here to be timed

    importing = time.perf_counter() - start
    layers = [
        from_file(preset("mnist"), "preset mnist"),
        from_assignments([f"data.root={arguments.data_root}", f"acquisition.rounds={arguments.rounds}"]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        experiment = prepare(merged(layers), out, say)
        for _ in experiment.theta_0():
            pass
        start, cpu = time.perf_counter(), time.process_time()
        outcome = run_one(experiment, out, f"sqlite:///{out / 'mlflow.db'}")
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    engine = sum(sum(r.seconds.values()) for r in outcome.rounds)
    print(f"experiment: {wall:.1f} s, {cpu:.1f} CPU-seconds; its own phases: {engine:.1f} s")
    print(f"tracking and state: {(wall - engine) / wall:.1%} of the time; importing MLflow took {importing:.1f} s once")


if __name__ == "__main__":
    main()
