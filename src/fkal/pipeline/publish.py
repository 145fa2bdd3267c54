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
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from fkal.atomic_files import link_whole, write_whole
from fkal.config.documents import json_of_file
from fkal.config.layers import Layer, merged
from fkal.config.machine import as_planned, heard
from fkal.config.schema import Config, ConfigError
from fkal.experiment.names import bias_name, dataset_name
from fkal.folders import below, own_folder, remove_folder
from fkal.identifiers import GRID_NAME, ROUND, SEED_FOLDER, SHARD_FILE, SPLIT_FILE, WEIGHTS_FILE, digest, fingerprint
from fkal.results.checkpoint import StateDirectory
from fkal.results.class_names import checked_names
from fkal.results.round_facts import CHECKS, split_timings

if TYPE_CHECKING:
    import pandas as pd

    from fkal.results.outcome import Outcome

SPLITS, PRETRAINED, DESCRIPTORS, EXPERIMENTS = "splits", "pretrained", "descriptors", "experiments"
METRICS, CURVES, TIMINGS = "metrics", "curves", "timings"
ABOUT = "about.json"
FORMAT = "fkal-experiment-1"
MADE_WITH = "made_with"

FILES = {SPLITS: SPLIT_FILE, PRETRAINED: WEIGHTS_FILE, DESCRIPTORS: SHARD_FILE}
"""Names of the files that experiments share, relative to the folder that they are published in."""
_ABOUT = re.escape(ABOUT)
LAYOUTS = {
    SPLITS: rf"{_ABOUT}|{SPLIT_FILE}",
    PRETRAINED: rf"({GRID_NAME}/)?({_ABOUT}|{WEIGHTS_FILE})",
    DESCRIPTORS: rf"({GRID_NAME}/)?({_ABOUT}|{SHARD_FILE})",
    EXPERIMENTS: rf"{SEED_FOLDER}/({_ABOUT}|{ROUND}\.(json|safetensors))",
}
"""Names of all files below a published folder, which is removed only if it has no others."""
SUFFIXES = {METRICS: ".json", CURVES: ".csv", TIMINGS: ".json"}
"""Of the files, one per cell."""


class Published(NamedTuple):
    """One experiment as it was published: cell and folder, configuration, fingerprint, data and classes.

    The digest of the images is empty where an earlier version did not publish it.
    """

    cell: str
    folder: Path
    config: Config
    fingerprint: str
    split_digest: str
    data_digest: str = ""
    classes: tuple[str, ...] = ()


def publish_files(files: Sequence[Path], kind: str, *, cell: str, root: Path, out: Path) -> None:
    """Link files under `out` into an emptied folder, as they lie there, with a list of their names."""
    remove_published(root, kind, cell)
    folder = below(root, f"{kind}/{cell}")
    folder.mkdir(parents=True)
    names = [path.relative_to(out / kind).as_posix() for path in files]
    for path, name in zip(files, names, strict=True):
        link_whole(path, folder / name)
    write_whole(folder / ABOUT, (json.dumps({"files": names}, indent=1) + "\n").encode())


def remove_published(root: Path, kind: str, cell: str) -> None:
    """Remove a published folder, if it is there. Raises UnsafeName if it holds what fkal did not write."""
    remove_folder(root, f"{kind}/{cell}", LAYOUTS[kind])


def refuse_foreign(root: Path, kind: str, cell: str) -> None:
    """Raises UnsafeName where `remove_published` would."""
    own_folder(root, f"{kind}/{cell}", LAYOUTS[kind])


def cell_file(root: Path, kind: str, cell: str) -> Path:
    """Metrics, curves or timings of a cell. Raises UnsafeName where a link leads out of `root`."""
    return below(root, f"{kind}/{cell}{SUFFIXES[kind]}")


def publish_cell(outcomes: "Sequence[Outcome]", cell: str, root: Path, out: Path, *, data: Mapping[str, Any]) -> None:
    """A cell's finished experiments, a folder a seed, with their metrics, curves and timings.

    `data` is that section of the plan, so that nothing but timings tells of the machine.
    """
    from fkal.results.csv_files import csv_text

    remove_published(root, EXPERIMENTS, cell)
    folder = below(root, f"{EXPERIMENTS}/{cell}")
    timings = {f"s{o.config.seed}": _publish_one(o, folder / f"s{o.config.seed}", out, data) for o in outcomes}
    _write(cell_file(root, TIMINGS, cell), json.dumps(timings, indent=1) + "\n")
    _write(cell_file(root, METRICS, cell), json.dumps(_metrics(outcomes), indent=1) + "\n")
    _write(cell_file(root, CURVES, cell), csv_text(curves_of(outcomes)))


def published_folders(root: Path, cells: Sequence[str] | None = None) -> Iterator[Path]:
    names = [path.name for path in sorted((root / EXPERIMENTS).glob("*"))] if cells is None else cells
    for cell in names:
        yield from (path.parent for path in sorted((root / EXPERIMENTS / cell).glob(f"s*/{ABOUT}")))


def read_published(folder: Path) -> Published:
    """Its data lie where the environment says, else where the plan said. Raises ConfigError for what is none."""
    path = folder / ABOUT
    try:
        about = json_of_file(path, str(path))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}")
        config = merged([Layer(str(path), about["config"]), heard()])
        return Published(
            cell=folder.parent.name,
            folder=folder,
            config=config,
            fingerprint=fingerprint(about["fingerprint"], "fingerprint"),
            split_digest=digest(about["split_digest"], "split_digest"),
            classes=checked_names(about.get("classes", [])),
            data_digest=digest(about["data_digest"], "data_digest") if "data_digest" in about else "",
        )
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: not a published experiment ({error}); bring it back: dvc checkout --force"
        ) from None


def read_timings(path: Path) -> Mapping[str, Any]:
    """Seconds and memory of a cell's iterations by seed, and what made them; empty where none were published.

    Raises ConfigError for a file that is not what was written.
    """
    try:
        values = json_of_file(path, str(path))
        if not isinstance(values, dict) or not all(map(_is_timed, values.values())):
            raise ValueError("no timings by seed and iteration")
        return values
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path}: not what was written ({error}); bring it back: dvc checkout --force") from None


def _is_timed(seed: Any) -> bool:
    return isinstance(seed, dict) and all(
        isinstance(each, dict) and CHECKS["seconds"](each.get("seconds", {})) for each in seed.values()
    )


def curves_of(outcomes: "Sequence[Outcome]") -> "pd.DataFrame":
    """One row a seed and iteration."""
    import pandas as pd

    from fkal.results.curves import curve_frame

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
    """The timings of its iterations, and what made them; everything else goes into the folder."""
    from fkal.results.manifest import read_about

    state = StateDirectory(out, outcome.fingerprint).path
    folder.mkdir(parents=True)
    timings: dict[str, Any] = {}
    for b in range(1, len(outcome.rounds) + 1):
        name = f"round-{b:02d}"
        facts, timings[name] = split_timings((state / f"{name}.json").read_bytes())
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


def _metrics(outcomes: "Sequence[Outcome]") -> dict[str, Any]:
    """Mean and spread over seeds, for `dvc metrics`."""
    from fkal.results.curves import area_under_budget_curve

    figures: dict[str, list[float]] = {"aubc": [], "final_accuracy": [], "final_minority_accuracy": []}
    for outcome in outcomes:
        measured = outcome.rounds[-1].measured
        accuracies = [r.metrics[f"{measured}/accuracy"] for r in outcome.rounds]
        figures["aubc"].append(area_under_budget_curve([r.labels_used for r in outcome.rounds], accuracies))
        figures["final_accuracy"].append(accuracies[-1])
        minority = outcome.rounds[-1].metrics.get(f"{measured}/minority_accuracy")
        figures["final_minority_accuracy"] += [] if minority is None else [minority]
    spreads = {
        name: {"mean": mean(values), **({"std": stdev(values)} if len(values) > 1 else {})}
        for name, values in figures.items()
        if values
    }
    return {"seeds": len(outcomes), "labels": outcomes[0].rounds[-1].labels_used, **spreads}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
