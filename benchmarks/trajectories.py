"""Whether a change of the code left every pick and every accuracy as it was.

    python benchmarks/trajectories.py record before.json --data-root ~/datasets   # on the version before
    python benchmarks/trajectories.py record after.json --data-root ~/datasets    # on the version after
    python benchmarks/trajectories.py compare before.json after.json              # exit code 1 where they differ

Both records must come from one machine: sums on a CPU depend on it. A record has the picked images of each round in
their order, its accuracies and its losses, for six methods and two seeds on digits and MNIST, read from the files that
`fkal run` leaves. A run that was stopped goes on from --out.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

METHODS = "random,pfk_joint,fisher_coverage,badge,coreset,bait"
GRIDS = {
    "digits": [],
    "mnist": ["--set", "acquisition.rounds=3"],  # minutes instead of an hour; three rounds see warm starts
}
COMMAND = (
    "from importlib.metadata import entry_points; "
    "next(iter(entry_points(group='console_scripts', name='fkal'))).load()()"
)
ACCURACIES = {
    "test/accuracy": "test",
    "accuracy/test": "test",
    "val/accuracy": "validation",
    "accuracy/validation": "validation",
}


def record(path: Path, data_root: Path, out: Path) -> None:
    """Run both grids in --out and write what they picked."""
    out.mkdir(parents=True, exist_ok=True)
    for preset, changes in GRIDS.items():
        options = ["run", "--preset", preset, "--method", METHODS, "--seeds", "0-1", "--out", str(out), *changes]
        environment = {**os.environ, "FKAL_DATA_ROOT": str(data_root.resolve()), "FKAL_THREADS": "1"}
        store = f"sqlite:///{(out / 'mlflow.db').resolve()}"
        subprocess.run([sys.executable, "-c", COMMAND, *options, "--tracking-uri", store], env=environment, check=True)
    path.write_text(json.dumps(trajectories(out), indent=1, sort_keys=True) + "\n")
    print(f"{path}: {len(trajectories(out))} experiments")


def trajectories(out: Path) -> dict[str, Any]:
    """Picks and metrics by experiment, of every finished experiment under `out`."""
    return {
        json.loads(about.read_bytes())["name"]: [_round(facts) for facts in sorted(about.parent.glob("round-*.json"))]
        for about in out.glob("state/*/about.json")
    }


def _round(facts: Path) -> dict[str, Any]:
    told = json.loads(facts.read_bytes())
    picks = load_file(facts.with_suffix(".safetensors"))["selection.indices"].tolist()
    accuracies = {ACCURACIES[name]: value for name, value in told["metrics"].items() if name in ACCURACIES}
    return {"picks": picks, "accuracy": accuracies, "loss": told["train_loss"], "labels_used": told["labels_used"]}


def compare(before: Path, after: Path) -> int:
    """0 where both records are equal; each difference is printed."""
    old, new = json.loads(before.read_text()), json.loads(after.read_text())
    differing = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    for name in differing:
        print(f"differs: {name}: {_first_difference(old.get(name), new.get(name))}")
    print(f"{len(old) - len(differing)} of {len(old)} experiments are equal to the last pick and digit")
    return 1 if differing else 0


def _first_difference(old: Any, new: Any) -> str:
    if old is None or new is None:
        return "it is in one record alone"
    for b, (was, now) in enumerate(zip(old, new, strict=False), 1):
        if was["picks"] != now["picks"]:
            return f"round {b} picks other images ({len(set(was['picks']) & set(now['picks']))} in common)"
        if was != now:
            return f"round {b} has other accuracies or losses"
    return f"{len(old)} rounds before, {len(new)} after"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    recording = commands.add_parser("record")
    recording.add_argument("path", type=Path)
    recording.add_argument("--data-root", type=Path, required=True)
    recording.add_argument("--out", type=Path, help="where the runs are; default: beside the record")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "compare":
        return compare(options.before, options.after)
    record(options.path, options.data_root, options.out or options.path.with_suffix(".runs"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
