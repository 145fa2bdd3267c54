"""How long `fkal report` takes on a full grid of MNIST experiments.

    python benchmarks/report.py --data-root ~/datasets [--seeds 5] [--rounds 10]

The experiments (six methods, ratios 1 and 100) are not run: their picks, confusions and weights are drawn at random,
and everything is written as `fkal run` leaves it, so that the report reads, draws and describes as much as it would
of real ones. Prints the seconds of the whole command by the clock and of the processor.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drawing import keep_drawn

from fkal.config.layers import Layer, from_file, merged, preset
from fkal.config.method_spec import method_layer
from fkal.experiment.experiment import prepare

METHODS = ("random", "varr", "coreset@fc1", "pcc", "pfk_joint", "fisher_coverage")
RATIOS = (1, 100)
REPORT = "from fkal.cli.main import app; app()"


def keep_grid(out: Path, seeds: int, rounds: int, data_root: Path) -> int:
    base = from_file(preset("mnist"), "mnist")
    for ratio in RATIOS:
        for place, method in enumerate(METHODS):
            for seed in range(seeds):
                own = {"seed": seed, "bias": {"ratio": ratio}, "data": {"root": str(data_root)}}
                own |= {"acquisition": {"rounds": rounds}}
                layers = [base, method_layer(method), Layer("benchmark", own)]
                experiment = prepare(merged(layers), out, print)
                keep_drawn(experiment, out, 0.005 * place)
    return len(RATIOS) * len(METHODS) * seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out, to = Path(folder) / "runs", Path(folder) / "report"
        n = keep_grid(out, given.seeds, given.rounds, given.data_root.resolve())
        start, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-c", REPORT, "report", "--out", str(out), "--to", str(to)], check=True)
        wall, after = time.perf_counter() - start, os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        page = (to / "index.html").stat().st_size / 2**20
    print(f"{n} experiments: {wall:.0f} s by the clock, {spent:.0f} s of the processor, a page of {page:.1f} MiB")


if __name__ == "__main__":
    main()
