"""How what was published comes back into the scratch folder: after `dvc pull`, on another machine.

DVC clears a stage's outputs before it runs the stage again, so every stage begins with this.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fkal.atomic_files import link_whole, naming, write_whole
from fkal.config.schema import ConfigError
from fkal.data.regular_files import refuse_irregular, regular_bytes
from fkal.errors import first_line
from fkal.folders import below
from fkal.identifiers import ROUND, UnsafeName
from fkal.notify import Notify
from fkal.pipeline.published import (
    ABOUT,
    DESCRIPTORS,
    FILES,
    MADE_WITH,
    PRETRAINED,
    SPLITS,
    TIMINGS,
    Published,
    published_folders,
    read_published,
    read_timings,
)
from fkal.results.checkpoint import Checkpoint, StateInUse
from fkal.results.round_facts import UnusableRound, join_timings, round_files, same_facts

SHARED = {
    SPLITS: ("*", "*.json"),
    PRETRAINED: ("*/*", "*.safetensors"),
    DESCRIPTORS: ("*/*", "*/*.safetensors"),
}
"""Published folders, and the files in them that go back into the scratch folder's folder of that kind.

Their names are those of `FILES`.
"""


def restore(root: Path, out: Path, say: Notify) -> None:
    """Take into the scratch folder what was published and is not there.

    What cannot be taken is reported and left out; the stages go on.
    """
    for kind, (folders, files) in SHARED.items():
        for folder in (root / kind).glob(folders):
            for path in folder.glob(files):
                if path.name != ABOUT:
                    _adopt_file(path, path.relative_to(folder).as_posix(), kind, out=out, say=say)
    for folder in published_folders(root):
        try:
            adopt_experiment(read_published(folder), root, out, say)
        except PermissionError as error:
            say(f"{first_line(error)}; let this user read and write there; its published rounds are not taken over")
        except (ConfigError, UnsafeName, StateInUse) as error:
            say(f"{error}; its published rounds are not taken over")


def _adopt_file(path: Path, name: str, kind: str, *, out: Path, say: Notify) -> None:
    if not re.fullmatch(FILES[kind], name):
        say(f"{path}: fkal writes no file of this name there; it is not taken over")
        return
    try:
        there = below(out, f"{kind}/{name}")
        if not there.exists() and _is_file(path, say):
            link_whole(path, there)
    except UnsafeName as error:
        say(f"{error}; until then {path} is not taken over")


def _is_file(path: Path, say: Notify) -> bool:
    try:
        refuse_irregular(path)
    except OSError as error:  # also a link that leads nowhere, as DVC's do once its cache is cleared
        say(f"{path}: {error.strerror}; it is not taken over; bring it back: dvc checkout --force")
        return False
    return True


def adopt_experiment(one: Published, root: Path, out: Path, say: Notify) -> None:
    """Its rounds, or those that follow the scratch folder's own, where these are the same.

    Raises StateInUse where some are missing while another process works on them, ConfigError for files that are none.
    """
    facts = [path for path in round_files(one.folder) if re.fullmatch(ROUND, path.stem)]
    state = Checkpoint(out, one.fingerprint)
    if state.finished_count >= len(facts):
        return
    timings = _timings(root / TIMINGS / f"{one.cell}.json", say).get(one.folder.name, {})
    with state:
        known = len(state.rounds(say))
        try:
            if not _are_same(state.path, facts[:known]):
                say(f"{state.path}: came out otherwise than {one.folder}, and is kept")
                return
            for path in facts[known:]:
                _take(path, state.path, timings.get(path.stem, {}))
        except (OSError, UnusableRound) as error:
            raise ConfigError(f"{one.folder}: {first_line(error)}; bring it back: dvc checkout --force") from None
        if MADE_WITH in timings:
            state.describe(_about_bytes(one, timings[MADE_WITH]))


def _are_same(state: Path, facts: Sequence[Path]) -> bool:
    """Whether the state's first rounds are those published; their files' digests stand in the facts.

    Raises UnusableRound for published facts that are none.
    """
    return all(same_facts(regular_bytes(state / path.name), regular_bytes(path)) for path in facts)


def _take(facts: Path, state: Path, timings: Mapping[str, Any]) -> None:
    """The mark of a finished round comes last."""
    tensors = facts.with_suffix(".safetensors")
    with naming(tensors):
        refuse_irregular(tensors)
    link_whole(tensors, state / tensors.name)
    write_whole(state / facts.name, join_timings(regular_bytes(facts), timings))


def _about_bytes(one: Published, made_with: Mapping[str, str]) -> bytes:
    """Who made the rounds is who made them, not who took them over."""
    from fkal.results.manifest import FORMAT  # imports torch, which a plan that takes nothing over does without

    told = json.loads(regular_bytes(one.folder / ABOUT))
    return (json.dumps({**told, "format": FORMAT, MADE_WITH: made_with}, indent=1) + "\n").encode()


def _timings(path: Path, say: Notify) -> Mapping[str, Any]:
    try:
        return read_timings(path)
    except ConfigError as error:
        say(f"{error}; until then the seconds of its rounds are left out")
        return {}
