"""What facility location loses where each part of the pool picks for itself first, on real descriptors.

    python benchmarks/partitioned_cover.py --data-root data --set pretrain.epochs=5

The pool of a preset is described by its theta^0. Its validation images are the targets. For each number of parts and
seed the objective of two stages is held against that of one, with parts drawn at random and with parts that have as
few classes as can be.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean, pstdev

import torch
from safetensors.torch import load_file
from torch import Tensor

from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.core.descriptors import Descriptors
from fkal.core.facility_location import facility_location
from fkal.core.kernels import r_z
from fkal.core.partitioned_cover import objective, partitioned_cover
from fkal.core.picks import Picks
from fkal.core.pool_parts import Parts
from fkal.core.randomness import stream
from fkal.experiment.experiment import Experiment, prepare

PARTS = (2, 8, 32)
SEEDS = range(5)
PICKS = (50, 500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mnist")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    chosen = [f"data.root={options.data_root}", "acquisition.name=pcc", *options.set]
    experiment = prepare(
        merged([from_file(preset(options.preset), options.preset), from_assignments(chosen)]), options.out, print
    )
    targets, pool = described(experiment)
    classes = experiment.dataset.train.labels[experiment.split.pool]
    width = sum(block.shape[1] for block in pool.z.values())
    print(f"{options.preset}: {len(pool):,} images, {len(targets)} targets, {width} features")
    print("| parts | picks | drawn at random | by class | worst |\n| --- | --- | --- | --- | --- |")
    for p in PICKS:
        measure(targets, pool, classes, p)


def described(experiment: Experiment) -> tuple[Descriptors, Descriptors]:
    """Of the validation images and of the pool."""
    steps = experiment.first_descriptors()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            folders: list[Path] = end.value
            break
    found = []
    for folder in folders:
        shards = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
        names = [name for name in shards[0] if name.startswith("z.")]
        found.append(Descriptors({name[2:]: torch.cat([shard[name] for shard in shards]) for name in names}, {}))
    by_length = {len(each): each for each in found}
    return by_length[len(experiment.split.validation)], by_length[len(experiment.split.pool)]


def measure(targets: Descriptors, pool: Descriptors, classes: Tensor, p: int) -> None:
    """Prints a row for each number of parts."""
    weights, covered, n = torch.ones(len(targets)), torch.zeros(len(targets)), len(classes)

    def similarity(rows: Descriptors) -> Tensor:
        return r_z(targets, rows).T.contiguous()

    def reached(picks: Picks, candidates: Descriptors) -> float:
        looked_up = partial(looked_up_similarity, candidates)
        return objective(looked_up, picks.positions, weights=weights, covered=covered)

    def looked_up_similarity(candidates: Descriptors, rows: Tensor) -> Tensor:
        return similarity(candidates[rows])

    def one_stage(seed: int) -> float:
        draws = stream(seed)
        looked_up = partial(looked_up_similarity, pool)
        return reached(facility_location(looked_up, n, p, weights=weights, covered=covered, generator=draws), pool)

    def two_stages(order: Tensor, parts: int, seed: int) -> float:
        candidates = pool[order]
        picks = partitioned_cover(
            candidates,
            p,
            similarity=similarity,
            weights=weights,
            covered=covered,
            generator=stream(seed),
            parts=Parts(parts),
        )
        return reached(picks, candidates)

    began = time.perf_counter()
    alone = [one_stage(seed) for seed in SEEDS]
    seconds = (time.perf_counter() - began) / len(SEEDS)
    by_class = classes.argsort(stable=True)
    for parts in PARTS:
        drawn = [two_stages(torch.randperm(n, generator=stream(s)), parts, s) / alone[s] for s in SEEDS]
        sorted_ = [two_stages(by_class, parts, s) / alone[s] for s in SEEDS]
        print(f"| {parts} | {p} | {spread(drawn)} | {spread(sorted_)} | {min(drawn + sorted_):.4f} |", flush=True)
    print(f"<!-- one stage with {p} picks: {seconds:.1f} s -->", flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4f} ± {pstdev(values):.4f}"


if __name__ == "__main__":
    main()
