"""What kept descriptors save the first round: its descriptors read from files, against computed again.

    python benchmarks/first_iteration.py [--preset mnist] [--data-root ~/datasets] [--method pfk_joint] [--repeats 3]

Weights and files are made before the clock starts. The figure is the ratio of seconds of the phase `descriptors` in
this run, the two taking turns; both must pick the same images.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from fkal.cli.terminal import say
from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.config.method_spec import method_layer
from fkal.config.schema import Config
from fkal.engine.rounds import Round
from fkal.experiment.experiment import prepare


def first_round(settings: Config, out: Path) -> Round:
    return next(event for event in prepare(settings, out, say).events() if isinstance(event, Round))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mnist")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--method", default="pfk_joint")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    layers = [
        from_file(preset(given.preset), f"preset {given.preset}"),
        method_layer(given.method),
        from_assignments([f"data.root={given.data_root}", "train.epochs=1", "train.decay_epochs=[]"]),
    ]
    settings = merged(layers)
    with tempfile.TemporaryDirectory() as folder:
        sides = {"described": Path(folder) / "described", "read": Path(folder) / "read"}
        for out in sides.values():
            for _ in prepare(settings, out, say).theta_0():
                pass
        for _ in prepare(settings, sides["read"], say).first_descriptors():
            pass
        seconds, picks = dict.fromkeys(sides, 0.0), {}
        for _ in range(given.repeats):
            for name, out in sides.items():
                found = first_round(settings, out)
                seconds[name] += found.seconds["descriptors"] / given.repeats
                picks[name] = found.selection.indices
        assert torch.equal(picks["read"], picks["described"]), "the picks differ"
        size = sum(path.stat().st_size for path in sides["read"].rglob("descriptors/**/*.safetensors"))
    print(f"read / described: {seconds['read'] / seconds['described']:.2f} of the time")
    print(f"described: {seconds['described']:.2f} s; read: {seconds['read']:.2f} s, {size / 1e6:.0f} MB of files")


if __name__ == "__main__":
    main()
