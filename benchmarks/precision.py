"""What the precision of passes saves and changes: the same experiment in each, side by side, as a table.

    python benchmarks/precision.py --preset mnist --rounds 3 --set device=cuda
    python benchmarks/precision.py --preset digits --variants none,mixed --seeds 0-2

Seconds are of the wall clock, so nothing else may run. `picks` are those in common with the first variant in the first
round, in which nothing but the precision differs; later rounds go on from other labels. The first variant runs twice,
and its first run, in which libraries load, is not shown.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch

from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.config.method_spec import method_layer
from fkal.config.params_file import seed_numbers
from fkal.config.schema import Config
from fkal.engine.progress import Progress
from fkal.engine.rounds import Round
from fkal.experiment.device import device_named
from fkal.experiment.experiment import prepare

VARIANTS = {
    "none": (),
    "float32": ("float32",),
    "tf32": ("tf32",),
    "mixed": ("mixed",),
    "bfloat16": ("bfloat16",),
    "float16": ("float16",),
    "compile": (),
    "mixed+compile": ("mixed",),
}
"""By name, the precision of all passes, if it is set; with `compile` in the name the model is compiled as well."""

PHASES = ("descriptors", "select", "train", "evaluate")


@dataclass(frozen=True)
class Measured:
    """One experiment: seconds before the first round and by phase, and its rounds."""

    before: float
    rounds: Sequence[Round]

    def seconds(self, phase: str) -> float:
        return sum(this.seconds.get(phase, 0.0) for this in self.rounds)

    @property
    def picks(self) -> set[int]:
        return set(self.rounds[0].selection.indices.tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mnist")
    parser.add_argument("--method", default="fisher_coverage")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", default="none,float32,tf32,mixed", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    variants = arguments.variants.split(",")
    configs = {
        name: [
            config_of(arguments.preset, arguments.method, seed, name, [f"acquisition.rounds={arguments.rounds}", *sets])
            for sets in [arguments.set]
            for seed in seed_numbers(arguments.seeds)
        ]
        for name in variants
    }
    measured(configs[variants[0]][0])
    results = {name: [measured(config) for config in configs[name]] for name in variants}
    print(f"{arguments.preset}, {arguments.method}, seeds {arguments.seeds}, {arguments.rounds} rounds, ", end="")
    print(f"{device_title(configs[variants[0]][0])}, torch {torch.__version__}\n")
    print(table(results))


def config_of(name: str, method: str, seed: int, variant: str, assignments: Sequence[str]) -> Config:
    precisions = [
        f"{part}.precision={word}" for word in VARIANTS[variant] for part in ("features", "train", "pretrain")
    ]
    given = [f"seed={seed}", f"model.compile={str('compile' in variant).lower()}", *precisions, *assignments]
    return merged([from_file(preset(name), name), method_layer(method), from_assignments(given)])


def measured(config: Config) -> Measured:
    """The experiment in a folder of its own, so that nothing is read that another one has made."""
    with tempfile.TemporaryDirectory() as out:
        experiment = prepare(config, Path(out), lambda message: print(f"  {message}", flush=True))
        start, before, rounds = time.perf_counter(), 0.0, list[Round]()
        for event in experiment.events():
            if isinstance(event, Progress) and event.phase.startswith(("pretraining", "embedding")):
                before = time.perf_counter() - start
            if isinstance(event, Round):
                rounds.append(event)
    return Measured(before, rounds)


def table(results: dict[str, list[Measured]]) -> str:
    """Markdown: means over seeds."""
    first = next(iter(results.values()))
    lines = [
        f"| variant | before | {' | '.join(PHASES)} | all, s | picks | again | accuracy, % |",
        "| --- " * (len(PHASES) + 6) + "|",
    ]
    for name, found in results.items():
        phases = [mean(each.seconds(phase) for each in found) for phase in PHASES]
        before = mean(each.before for each in found)
        common = mean(len(one.picks & other.picks) / len(one.picks) for one, other in zip(found, first, strict=True))
        again = mean(this.metrics.get("select/ranked_again", 0.0) for each in found for this in each.rounds)
        accuracy = [100 * each.rounds[-1].metrics[f"{measured_part(each)}/accuracy"] for each in found]
        cells = [f"{seconds:.1f}" for seconds in (before, *phases, before + sum(phases))]
        lines.append(f"| {name} | {' | '.join(cells)} | {common:.2f} | {again:.0f} | {mean(accuracy):.1f} |")
    return "\n".join(lines)


def measured_part(found: Measured) -> str:
    return "test" if "test/accuracy" in found.rounds[-1].metrics else "val"


def device_title(config: Config) -> str:
    device = device_named(config.device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
