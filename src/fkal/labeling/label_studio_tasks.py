"""Tasks and the labeling interface as Label Studio reads them. Imports no torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from fkal.data.addresses import is_url
from fkal.errors import ConfigError
from fkal.labeling.batch import BatchImage
from fkal.labeling.given_labels import CHECK_FIELD, CONTROL, DIGEST_FIELD, NONE_OF_THESE, PATH_FIELD

MARK = "made by fkal"
FEW_CLASSES = 20
"""Up to so many choices are shown in a row with a key each; above, people find them by typing."""
HOTKEYS = "1234567890qwertyuiopasdfghjklzxcvbnm"
LOCAL_FILES = "/data/local-files/?d="


def labeling_config(classes: Sequence[str]) -> str:
    """The labeling interface: one choice among the classes, or none of these."""
    is_short = len(classes) < FEW_CLASSES
    names = [*classes, NONE_OF_THESE]
    keys = [f' hotkey="{HOTKEYS[place]}"' if is_short else "" for place in range(len(names))]
    choices = "\n".join(f"    <Choice value={quoteattr(name)}{key}/>" for name, key in zip(names, keys, strict=True))
    shown = ' showInline="true"' if is_short else ""
    find = "" if is_short else f'  <Filter name="filter" toName="{CONTROL}" hotkey="shift+f" minlength="0"/>\n'
    return (
        f"<View>\n  <!-- {MARK} -->\n"
        '  <Image name="image" value="$image" zoom="true"/>\n'
        f'{find}  <Choices name="{CONTROL}" toName="image" choice="single" required="true"{shown}>\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def task_of(image: BatchImage, location: str, *, document_root: Path | None, check: str = "") -> dict[str, Any]:
    """One task. Our own fields come back in each export; labels are joined by them alone.

    A second look at an image (`check` names its batch) is a task of its own, so that it begins without the first label.
    """
    data: dict[str, Any] = {
        "image": location if is_url(location) else local_address(location, document_root),
        PATH_FIELD: image.path,
        DIGEST_FIELD: image.digest,
        "fkal_rank": image.rank,
        **({CHECK_FIELD: check} if check else {}),
    }
    if not image.guess:
        return {"data": data}
    result = {"from_name": CONTROL, "to_name": "image", "type": "choices", "value": {"choices": [image.guess]}}
    prediction: dict[str, Any] = {"model_version": "fkal", "result": [result]}
    if image.guess_probability is not None:
        prediction["score"] = image.guess_probability
    return {"data": data, "predictions": [prediction]}


def local_address(location: str, document_root: Path | None) -> str:
    """Where Label Studio serves a file below its document root. Raises ConfigError for a file elsewhere."""
    if document_root is None:
        raise ConfigError(
            "--document-root: not given; name the folder that Label Studio was started with as "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
        )
    for path, base in _pairs(Path(location), document_root):
        if path.is_relative_to(base):
            return LOCAL_FILES + quote(path.relative_to(base).as_posix())
    raise ConfigError(f"--document-root {document_root}: {location} is not below it; name a folder above the images")


def served_folder(folder: Path, document_root: Path) -> Path:
    """The folder to register with Label Studio: strictly below its document root. Raises ConfigError for another."""
    for path, base in _pairs(folder, document_root):
        if path.is_relative_to(base) and path != base:
            return path
    raise ConfigError(
        f"--document-root {document_root}: {folder} is not a folder below it; start Label Studio with the folder above"
    )


def _pairs(path: Path, root: Path) -> tuple[tuple[Path, Path], ...]:
    """Both as they are named, without `..`, then with their links resolved."""
    named = Path(os.path.normpath(path.absolute())), Path(os.path.normpath(root.absolute()))
    return named, (path.resolve(), root.resolve())
