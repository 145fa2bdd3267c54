"""What the pipeline's stages leave for DVC to version, and how it comes back into the scratch folder.

Stages work in the scratch folder (`runs`), which DVC does not know, so a killed one goes on where it was; what is
whole is then linked to where DVC looks:

    <root>/splits/mnist-100/*.json, pretrained/mnist-100/*.safetensors,
    <root>/descriptors/mnist-100/pfk_joint/<digest>/0000.safetensors, ...
    <root>/experiments/mnist-100-pfk_joint/s0/about.json, round-01.json, round-01.safetensors, ...
    <root>/metrics/mnist-100-pfk_joint.json, curves/mnist-100-pfk_joint.csv, timings/mnist-100-pfk_joint.json

Seconds and memory, which differ each time, stand in the timings alone.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import pandas as pd

from fkal.config import Config, ConfigError, Layer, merged
from fkal.edge.curves import ACCURACY, area_under_budget_curve, curve_frame
from fkal.edge.outcomes import Outcome
from fkal.edge.round_files import UnusableRound, round_of, timed, untimed
from fkal.edge.state import StateDirectory
from fkal.files import write_whole
from fkal.identity import bias_name
from fkal.made_once import Say

SPLITS, PRETRAINED, DESCRIPTORS, EXPERIMENTS = "splits", "pretrained", "descriptors", "experiments"
METRICS, CURVES, TIMINGS = "metrics", "curves", "timings"
SHARED = {
    SPLITS: ("*", "*.json"),
    PRETRAINED: ("*", "*.safetensors"),
    DESCRIPTORS: ("*/*", "*/*.safetensors"),
}
"""Published folders, and the files in them that go back into the scratch folder's folder of that kind."""
ABOUT = "about.json"
FORMAT = "fkal-experiment-1"


class Published(NamedTuple):
    """One experiment as it was published: the cell and folder, its configuration, its fingerprint."""

    cell: str
    folder: Path
    config: Config
    fingerprint: str
    split_digest: str


def publish_files(files: Sequence[Path], base: Path, folder: Path) -> None:
    """Link files under `base` into an emptied folder, as they lie there, with a list of their names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [path.relative_to(base).as_posix() for path in files]
    for path, name in zip(files, names, strict=True):
        _link(path, folder / name)
    write_whole(folder / ABOUT, (json.dumps({"files": names}, indent=1) + "\n").encode())


def publish_cell(outcomes: Sequence[Outcome], cell: str, root: Path, out: Path) -> None:
    """A cell's finished experiments, a folder a seed, with their metrics, curves and timings."""
    folder = root / EXPERIMENTS / cell
    shutil.rmtree(folder, ignore_errors=True)
    timings = {f"s{o.config.seed}": _publish_one(o, folder / f"s{o.config.seed}", out) for o in outcomes}
    _write(root / TIMINGS / f"{cell}.json", json.dumps(timings, indent=1) + "\n")
    _write(root / METRICS / f"{cell}.json", json.dumps(_metrics(outcomes), indent=1) + "\n")
    _write(root / CURVES / f"{cell}.csv", curves_of(outcomes).to_csv(index=False))


def published(root: Path, cells: Sequence[str] | None = None) -> Iterator[Published]:
    """The experiments that lie under `root`, of some cells or of all. Raises ConfigError for one that is none."""
    names = [path.name for path in sorted((root / EXPERIMENTS).glob("*"))] if cells is None else cells
    for cell in names:
        for path in sorted((root / EXPERIMENTS / cell).glob(f"s*/{ABOUT}")):
            try:
                about = json.loads(path.read_bytes())
                if about["format"] != FORMAT:
                    raise ValueError(f"format {about['format']!r}")
                config = merged([Layer(str(path), about["config"])])
                yield Published(cell, path.parent, config, str(about["fingerprint"]), str(about["split_digest"]))
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"{path}: not a published experiment ({error}); bring it back: dvc checkout"
                ) from None


def outcome_of(one: Published) -> Outcome:
    """A published experiment's iterations, without weights and without timings. Raises UnusableRound."""
    pairs = [(path, path.with_suffix(".safetensors")) for path in sorted(one.folder.glob("round-*.json"))]
    try:
        rounds = [round_of(tensors.read_bytes(), timed(facts.read_bytes(), {})) for facts, tensors in pairs]
    except (OSError, UnusableRound) as error:
        raise ConfigError(f"{one.folder}: {error}; bring it back: dvc checkout") from None
    return Outcome(one.config, one.fingerprint, one.split_digest, tuple(rounds), run_id="", tracking_uri="")


def adopt(root: Path, out: Path, say: Say) -> None:
    """Take into the scratch folder what was published and is not there: after `dvc pull`, on another machine.

    DVC clears a stage's outputs before it runs the stage again, so this comes first.
    """
    for kind, (folders, files) in SHARED.items():
        for folder in (root / kind).glob(folders):
            for path in folder.glob(files):
                there = out / kind / path.relative_to(folder)
                if path.name != ABOUT and not there.exists():
                    _link(path, there)
    for one in published(root):
        adopt_experiment(one, root, out, say)


def adopt_experiment(one: Published, root: Path, out: Path, say: Say) -> None:
    """Its iterations, unless the scratch folder has some already."""
    timings = _timings(root / TIMINGS / f"{one.cell}.json", say).get(one.folder.name, {})
    with StateDirectory(out, one.fingerprint) as state:
        if state.finished_count:
            return
        for facts in sorted(one.folder.glob("round-*.json")):
            _link(facts.with_suffix(".safetensors"), state.path / facts.with_suffix(".safetensors").name)
            write_whole(state.path / facts.name, timed(facts.read_bytes(), timings.get(facts.stem, {})))


def curves_of(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a seed and iteration."""
    frames = []
    for outcome in outcomes:
        about = {
            "dataset": outcome.config.data.name,
            "bias": bias_name(outcome.config.bias),
            "protocol": outcome.config.protocol,
            "method": outcome.method,
            "seed": outcome.config.seed,
        }
        frame = curve_frame(outcome.rounds)
        for place, (name, value) in enumerate(about.items()):
            frame.insert(place, name, value)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _publish_one(outcome: Outcome, folder: Path, out: Path) -> dict[str, Any]:
    """The timings of its iterations; everything else goes into the folder."""
    state = StateDirectory(out, outcome.fingerprint).path
    folder.mkdir(parents=True)
    timings = {}
    for b in range(1, len(outcome.rounds) + 1):
        name = f"round-{b:02d}"
        facts, timings[name] = untimed((state / f"{name}.json").read_bytes())
        write_whole(folder / f"{name}.json", facts)
        _link(state / f"{name}.safetensors", folder / f"{name}.safetensors")
    about = {
        "format": FORMAT,
        "name": outcome.name,
        "fingerprint": outcome.fingerprint,
        "split_digest": outcome.split_digest,
        "config": {k: v for k, v in outcome.config.tree.items() if k != "device"},
    }
    write_whole(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())
    return timings


def _metrics(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Mean and spread over seeds, for `dvc metrics`."""
    figures: dict[str, list[float]] = {"aubc": [], "final_accuracy": [], "final_minority_accuracy": []}
    for outcome in outcomes:
        accuracies = [r.metrics[ACCURACY] for r in outcome.rounds]
        figures["aubc"].append(area_under_budget_curve([r.labels_used for r in outcome.rounds], accuracies))
        figures["final_accuracy"].append(accuracies[-1])
        minority = outcome.rounds[-1].metrics.get("test/minority_accuracy")
        figures["final_minority_accuracy"] += [] if minority is None else [minority]
    spreads = {
        name: {"mean": mean(values), **({"std": stdev(values)} if len(values) > 1 else {})}
        for name, values in figures.items()
        if values
    }
    return {"seeds": len(outcomes), "labels": outcomes[0].rounds[-1].labels_used, **spreads}


def _timings(path: Path, say: Say) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_bytes())
        return values if isinstance(values, dict) else {}
    except FileNotFoundError:
        return {}
    except ValueError as error:
        say(f"{path}: not JSON ({error}); the seconds of its iterations are left out")
        return {}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none. The files are never written to, only replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
