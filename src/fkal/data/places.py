"""Where a tree of own images is. Imports no torch."""

from pathlib import Path

from fkal.data.errors import IncompleteData, printable

CONTENT = {"folder": "PATH/train/CLASS/* and PATH/test/CLASS/*", "validation": "PATH/CLASS/*"}


def tree_at(root: str, path: str, key: str) -> Path:
    """The folder at `path` as it is typed, else below the data root.

    Raises IncompleteData that names both places if neither is a folder.
    """
    typed, below_root = Path(path), Path(root) / path
    for place in (typed, below_root):
        if is_folder(place):
            return place
    places = f"neither {printable(typed)} nor {printable(below_root)}" if below_root != typed else printable(typed)
    verb = "is a folder" if below_root != typed else "is no folder"
    raise IncompleteData(
        f"data.{key}: {places} {verb}; put {CONTENT[key].replace('PATH', printable(path))} there, or give the path of "
        "the images: as seen from here with --set, as seen from the params file in a params file, or below data.root"
    )


def is_folder(path: Path) -> bool:
    """A name that no file system can hold is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
