"""What the pipeline's stages leave for DVC to version.

Stages work in the scratch folder (`runs`), which DVC does not know, so a killed one goes on where it was; what is
whole is then linked to where DVC looks:

    <root>/splits/mnist-100/*.json, pretrained/mnist-100/pfk_joint/*.safetensors,
    <root>/descriptors/mnist-100/pfk_joint/<digest>/0000.safetensors, ...
    <root>/experiments/mnist-100-pfk_joint/s0/about.json, round-01.json, round-01.safetensors, ...
    <root>/metrics/mnist-100-pfk_joint.json, curves/mnist-100-pfk_joint.csv, timings/mnist-100-pfk_joint.json

Seconds and memory, which differ each time, stand in the timings alone, and so does what they were made with.
torch and pandas are imported where something is published: `fkal plan` always runs, and publishes nothing.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd

from fkal.atomic_files import link_whole, write_whole
from fkal.config.machine import as_planned
from fkal.data.regular_files import regular_bytes
from fkal.experiment.names import bias_name, dataset_name
from fkal.folders import below
from fkal.pipeline.published import (
    ABOUT,
    CURVES,
    EXPERIMENTS,
    FORMAT,
    MADE_WITH,
    METRICS,
    TIMINGS,
    cell_file,
    remove_published,
)
from fkal.results.checkpoint import Checkpoint
from fkal.results.csv_files import csv_text
from fkal.results.curves import area_under_budget_curve, curve_frame
from fkal.results.manifest import read_about
from fkal.results.outcome import Outcome
from fkal.results.round_facts import split_timings


def publish_files(files: Sequence[Path], kind: str, *, cell: str, root: Path, out: Path) -> None:
    """Link files under `out` into an emptied folder, as they are there, with a list of their names."""
    remove_published(root, kind, cell)
    folder = below(root, f"{kind}/{cell}")
    folder.mkdir(parents=True)
    names = [path.relative_to(out / kind).as_posix() for path in files]
    for path, name in zip(files, names, strict=True):
        link_whole(path, folder / name)
    write_whole(folder / ABOUT, (json.dumps({"files": names}, indent=1) + "\n").encode())


def publish_cell(outcomes: Sequence[Outcome], cell: str, root: Path, out: Path, *, data: Mapping[str, Any]) -> None:
    """A cell's finished experiments, a folder a seed, with their metrics, curves and timings.

    `data` is that section of the plan, so that timings alone depend on the machine.
    """

    remove_published(root, EXPERIMENTS, cell)
    folder = below(root, f"{EXPERIMENTS}/{cell}")
    timings = {f"s{o.config.seed}": _publish_one(o, folder / f"s{o.config.seed}", out, data) for o in outcomes}
    _write(cell_file(root, TIMINGS, cell), json.dumps(timings, indent=1) + "\n")
    _write(cell_file(root, METRICS, cell), json.dumps(_metrics(outcomes), indent=1) + "\n")
    _write(cell_file(root, CURVES, cell), csv_text(curves_of(outcomes)))


def curves_of(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per seed and round."""
    frames = []
    for outcome in outcomes:
        about = {
            "dataset": dataset_name(outcome.config.data),
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


def _publish_one(outcome: "Outcome", folder: Path, out: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """The timings of its rounds, and what made them; everything else goes into the folder."""
    state = Checkpoint(out, outcome.fingerprint).path
    folder.mkdir(parents=True)
    timings: dict[str, Any] = {}
    for b in range(1, len(outcome.rounds) + 1):
        name = f"round-{b:02d}"
        facts, timings[name] = split_timings(regular_bytes(state / f"{name}.json"))
        write_whole(folder / f"{name}.json", facts)
        link_whole(state / f"{name}.safetensors", folder / f"{name}.safetensors")
    made = read_about(state)
    about = {
        "format": FORMAT,
        "name": outcome.name,
        "fingerprint": outcome.fingerprint,
        "split_digest": outcome.split_digest,
        **({"data_digest": outcome.data_digest} if outcome.data_digest else {}),
        "config": as_planned(outcome.config.tree, data),
        **({"classes": list(made.classes)} if made and made.classes else {}),
    }
    write_whole(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())
    return timings if made is None else {**timings, MADE_WITH: dict(made.made_with)}


def _metrics(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, in %, for `dvc metrics`."""
    scores = {"accuracy": "aubc", "macro_accuracy": "aubc_macro"}
    names = [*scores.values(), *(f"final_{score}" for score in scores), "final_minority_accuracy"]
    figures: dict[str, list[float]] = {name: [] for name in names}
    for outcome in outcomes:
        measured = outcome.rounds[-1].measured
        labels = [r.labels_used for r in outcome.rounds]
        for score, area in scores.items():
            curve = [r.metrics[f"{measured}/{score}"] for r in outcome.rounds if f"{measured}/{score}" in r.metrics]
            if len(curve) == len(labels):
                figures[area].append(area_under_budget_curve(labels, curve))
                figures[f"final_{score}"].append(curve[-1])
        minority = outcome.rounds[-1].metrics.get(f"{measured}/minority_accuracy")
        figures["final_minority_accuracy"] += [] if minority is None else [minority]
    spreads = {
        name: {"mean": _percent(mean(values)), **({"std": _percent(stdev(values))} if len(values) > 1 else {})}
        for name, values in figures.items()
        if values
    }
    return {"seeds": len(outcomes), "labels": outcomes[0].rounds[-1].labels_used, **spreads}


def _percent(part: float) -> float:
    return round(100 * part, 3)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
