"""A Request as one file's bytes: tensors as safetensors, all else as JSON in its header. Both ways, bit by bit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fkal.engine.rounds import Request

FORMAT = "fkal-request-1"
COLUMNS = ("indices", "ranks", "scores", "matches", "pseudo_labels")
FACTS = ("b", "metrics", "forward_images", "backward_images", "seconds", "peak_memory_mb")


class UnusableRequest(ValueError):
    """What is on disk is not a whole Request."""


def request_bytes(request: Request) -> bytes:
    """The content of the file; its header has the digest of tensors and facts."""
    columns = {name: getattr(request, name) for name in COLUMNS}
    tensors = {name: tensor.contiguous() for name, tensor in columns.items() if tensor is not None}
    facts = json.dumps({"format": FORMAT, **{name: getattr(request, name) for name in FACTS}}, allow_nan=False)
    return save(tensors, metadata={"request": facts, "sha256": _digest(tensors, facts)})


def load_request(content: bytes) -> Request:
    """The Request of a file's content. Raises UnusableRequest if it is not what was written."""
    try:
        header, tensors = _header(content), load(content)
        facts: dict[str, Any] = json.loads(header["request"])
        if facts.pop("format") != FORMAT:
            raise UnusableRequest(f"it is not of format {FORMAT}; select the images again")
        if header["sha256"] != _digest(tensors, header["request"]):
            raise UnusableRequest("its digest does not fit its content; select the images again")
        columns: dict[str, Any] = {name: tensors.get(name) for name in COLUMNS}
        return Request(**columns, **facts)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UnusableRequest):
            raise
        raise UnusableRequest(f"it is corrupt ({error}); select the images again") from error


def _header(content: bytes) -> Mapping[str, str]:
    """The metadata of a safetensors file, whose first 8 bytes say how long its JSON header is."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: Mapping[str, str] = header["__metadata__"]
    return metadata


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    return hashlib.sha256(save(dict(tensors)) + facts.encode()).hexdigest()
