"""The files about one round: what was picked as parquet, CSV and PNG, figures as JSON, the weights."""

import json
from pathlib import Path

import pandas as pd
from safetensors.torch import save
from torch import Tensor

from fkal.data.images import ImageSet
from fkal.engine.rounds import Round, Selection
from fkal.escaping import storable
from fkal.results.csv_files import csv_bytes
from fkal.tracking.contact_sheet import contact_sheet
from fkal.tracking.metrics import summary


def selected_frame(selection: Selection, images: ImageSet) -> pd.DataFrame:
    """One row per pick, in the order of picking; what the method does not know is missing.

    Parquet holds UTF-8 alone, so a name that is not is escaped.
    """
    indices, labels = selection.indices.tolist(), selection.labels.tolist()
    return pd.DataFrame(
        {
            "pick": pd.Series(range(1, len(indices) + 1), dtype="int64"),
            "index": pd.Series(indices, dtype="int64"),
            "name": pd.Series([storable(images.names[i]) for i in indices], dtype="str"),
            "rank": _integers(selection.ranks),
            "score": _numbers(selection.scores),
            "matched_validation_index": _integers(selection.matches),
            "pseudo_label": _integers(selection.pseudo_labels),
            "label": pd.Series(labels, dtype="int64"),
            "label_name": pd.Series([storable(images.classes[k]) for k in labels], dtype="str"),
        }
    )


def write_round_files(folder: Path, finished: Round, images: ImageSet, title: str) -> None:
    """selected.parquet, selected.csv, selected.png, summary.json, weights.safetensors."""
    frame = selected_frame(finished.selection, images)
    frame.to_parquet(folder / "selected.parquet", index=False)
    (folder / "selected.csv").write_bytes(csv_bytes(frame))
    contact_sheet(images, finished.selection, title).save(folder / "selected.png", compress_level=3)
    (folder / "summary.json").write_text(json.dumps(summary(finished), indent=1) + "\n")
    weights = {name: tensor.contiguous().clone() for name, tensor in finished.weights.items()}
    (folder / "weights.safetensors").write_bytes(save(weights))  # whose error, unlike save_file's, is an OSError


def _integers(values: Tensor | None) -> pd.Series:
    return pd.Series(None if values is None else values.tolist(), dtype="Int64")


def _numbers(values: Tensor | None) -> pd.Series:
    return pd.Series(None if values is None else values.tolist(), dtype="Float64")
