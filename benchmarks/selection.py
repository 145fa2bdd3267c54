"""Streamed selection against the full kernel matrix, in time and memory, on made-up descriptors.

    python benchmarks/selection.py [--pool 100000] [--targets 1000] [--width 80] [--k 32]

The baseline builds the whole (m, n) matrix and sorts its rows. Each side runs in a process of
its own, so that peaks of memory are its own; figures are ratios to the baseline of this run.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import r_zg_product, top_matches


def descriptors(n: int, width: int, seed: int) -> Descriptors:
    generator = torch.Generator().manual_seed(seed)
    z, g = torch.randn(2, n, width, generator=generator)
    return Descriptors.of({"tap": z}, {"tap": g})


def dense(targets: Descriptors, pool: Descriptors, k: int) -> torch.Tensor:
    return r_zg_product(targets, pool).sort(dim=1, descending=True, stable=True).indices[:, :k]


def streamed(targets: Descriptors, pool: Descriptors, k: int) -> torch.Tensor:
    return top_matches(targets, pool, k, kernel=r_zg_product).positions


def measure(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(1)
    pool = descriptors(arguments.pool, arguments.width, 0)
    targets = descriptors(arguments.targets, arguments.width, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    picks = {"dense": dense, "streamed": streamed}[side](targets, pool, arguments.k)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "extra_mb": (peak - before) / 1024, "checksum": int(picks.sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("pool", 100_000), ("targets", 1_000), ("width", 80), ("k", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--side", choices=("dense", "streamed"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments)))
        return
    told = {}
    for side in ("dense", "streamed"):
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        told[side] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{side:>8}: {told[side]['seconds']:.2f} s, {told[side]['extra_mb']:.0f} MB above its inputs")
    if told["dense"]["checksum"] != told["streamed"]["checksum"]:
        sys.exit("the two sides picked different images")
    print(
        f"streamed / dense: {told['streamed']['seconds'] / told['dense']['seconds']:.2f} of the time, "
        f"{told['streamed']['extra_mb'] / told['dense']['extra_mb']:.2f} of the memory"
    )


if __name__ == "__main__":
    main()
