"""The JSON half of a Round: its own digest, and what each of its values may be."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

FORMAT = "fkal-round-1"
DIGEST = "digest"
"""Of everything else in the file. Files of fkal 0.1 before it was added have none, and are read all the same."""
TIMINGS = ("seconds", "peak_memory_mb")
"""What differs each time that the same round is run."""
SHA256 = re.compile("[0-9a-f]{64}")
LARGEST_COUNT = 10**15


class UnusableRound(ValueError):
    """What is on disk is not a whole Round."""


class PassCounts(NamedTuple):
    """What a round's JSON says of its cost: images by phase."""

    b: int
    forward_images: Mapping[str, int]
    backward_images: Mapping[str, int]


def load_pass_counts(json_bytes: bytes) -> PassCounts:
    """The passes of a round by its JSON file alone. Raises UnusableRound if it has none."""
    facts = read_facts(json_bytes)
    return PassCounts(facts["b"], facts["forward_images"], facts["backward_images"])


def facts_bytes(facts: Mapping[str, Any]) -> bytes:
    """As a file, with its digest as the last entry."""
    content = {name: value for name, value in facts.items() if name != DIGEST}
    return _as_file({**content, DIGEST: facts_digest(content)})


def facts_digest(facts: Mapping[str, Any]) -> str:
    """Of the canonical content: names sorted, no spaces, the digest itself left out."""
    content = {name: value for name, value in facts.items() if name != DIGEST}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_facts(json_bytes: bytes) -> Mapping[str, Any]:
    """What the file says. Raises UnusableRound if it is not what was written, or says what no Round can."""
    try:
        facts = json.loads(json_bytes)
    except (ValueError, RecursionError) as error:
        raise UnusableRound(f"its JSON file is corrupt ({error})") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise UnusableRound(f"its JSON file is not of format {FORMAT}")
    if DIGEST in facts and (not _is_finite_throughout(facts) or facts[DIGEST] != facts_digest(facts)):
        raise UnusableRound("its JSON file was changed after it was written: its digest does not fit")
    unknown = sorted(set(facts) - {"format", DIGEST, *CHECKS})
    if unknown:
        raise UnusableRound(f"its JSON file has an unknown entry {unknown[0][:40]!a}")
    check_facts(facts, [name for name in CHECKS if name in facts or name not in TIMINGS])
    return facts


def check_facts(facts: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises UnusableRound if a value is absent or none that a round can have."""
    for name in names:
        if name not in facts:
            raise UnusableRound(f"its JSON file has no {name!r}")
        if not CHECKS[name](facts[name]):
            raise UnusableRound(f"its JSON file has {name} = {_shortened(facts[name])}, which no round can have")
    if sum(facts["labeled_counts"]) != facts["labels_used"]:
        raise UnusableRound(
            f"its JSON file has {facts['labels_used']} labels used, and {sum(facts['labeled_counts'])} in its classes"
        )


def split_timings(json_bytes: bytes) -> tuple[bytes, dict[str, Any]]:
    """A round's JSON without its timings, and these."""
    facts = dict(read_facts(json_bytes))
    return _written_again(facts, without=TIMINGS), {name: facts[name] for name in TIMINGS if name in facts}


def join_timings(json_bytes: bytes, timings: Mapping[str, Any]) -> bytes:
    """What `split_timings` took apart; timings that are lost or are none are empty."""
    known = {"seconds": timings.get("seconds", {}), "peak_memory_mb": timings.get("peak_memory_mb")}
    sound = {name: value if CHECKS[name](value) else EMPTY[name] for name, value in known.items()}
    return _written_again({**read_facts(json_bytes), **sound})


def same_facts(first: bytes, second: bytes) -> bool:
    """Whether two files say the same of a round, timings and digests apart."""
    facts = (dict(read_facts(content)) for content in (first, second))
    one, other = ({k: v for k, v in each.items() if k not in (*TIMINGS, DIGEST)} for each in facts)
    return one == other


def _written_again(facts: Mapping[str, Any], without: tuple[str, ...] = ()) -> bytes:
    """A file that came without a digest stays so: what was published before has the same bytes."""
    kept = {name: value for name, value in facts.items() if name not in without}
    return facts_bytes(kept) if DIGEST in facts else _as_file(kept)


def _as_file(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode()


def _is_finite_throughout(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite_throughout, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite_throughout, value))
    return not isinstance(value, float) or math.isfinite(value)


def _is_number(value: Any) -> bool:
    """Finite; JSON's true is an int to Python."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def _is_positive_count(value: Any) -> bool:
    return _is_count(value) and value > 0


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _are_metrics(value: Any) -> bool:
    """One of the measured accuracies is there; what is called accuracy is a fraction."""
    if not isinstance(value, dict) or not all(map(_is_number, value.values())):
        return False
    fractions = [number for name, number in value.items() if name.endswith("accuracy")]
    measured = any(f"{part}/accuracy" in value for part in ("test", "holdout", "val"))
    return measured and all(0 <= each <= 1 for each in fractions)


def _are_seconds(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_number(each) and each >= 0 for each in value.values())


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value) and len(set(value)) == len(value)


CHECKS: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "sha256": lambda value: isinstance(value, str) and SHA256.fullmatch(value) is not None,
        "weights": _are_names,
        "b": _is_positive_count,
        "labels_used": _is_count,
        "epoch": _is_positive_count,
        "metrics": _are_metrics,
        "train_loss": lambda value: isinstance(value, list) and all(map(_is_number, value)),
        "labeled_counts": lambda value: isinstance(value, list) and all(map(_is_count, value)),
        "forward_images": _are_counts,
        "backward_images": _are_counts,
        "seconds": _are_seconds,
        "peak_memory_mb": lambda value: value is None or (_is_number(value) and value >= 0),
    }
)
"""What each value may be."""
EMPTY: Mapping[str, Any] = MappingProxyType({"seconds": {}, "peak_memory_mb": None})


def _shortened(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def round_files(folder: Path) -> list[Path]:
    """The facts of a folder's rounds in their order, which is not that of their names from round 100 on."""
    return sorted(folder.glob("round-*.json"), key=lambda path: (len(path.stem), path.stem))
