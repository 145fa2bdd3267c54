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
    tensors, about = request_parts(request)
    facts = json.dumps({"format": FORMAT, **about}, allow_nan=False)
    return save(tensors, metadata={"request": facts, "sha256": digest_of_parts(tensors, facts)})


def load_request(content: bytes) -> Request:
    """The Request of a file's content. Raises UnusableRequest if it is not what was written."""
    try:
        header, tensors = metadata_of(content), load(content)
        facts: dict[str, Any] = json.loads(header["request"])
        if facts.pop("format") != FORMAT:
            raise UnusableRequest(f"it is not of format {FORMAT}; select the images again")
        if header["sha256"] != digest_of_parts(tensors, header["request"]):
            raise UnusableRequest("its digest does not fit its content; select the images again")
        return request_of(tensors, facts)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UnusableRequest):
            raise
        raise UnusableRequest(f"it is corrupt ({error}); select the images again") from error


def request_parts(request: Request) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its tensors, and all else as JSON has it."""
    columns = {name: getattr(request, name) for name in COLUMNS}
    tensors = {name: tensor.contiguous() for name, tensor in columns.items() if tensor is not None}
    return tensors, {name: getattr(request, name) for name in FACTS}


def request_of(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Request:
    """The Request of its parts. Raises TypeError for facts that are none of a Request."""
    columns: dict[str, Any] = {name: tensors.get(name) for name in COLUMNS}
    return Request(**columns, **facts)


def metadata_of(content: bytes) -> Mapping[str, str]:
    """The metadata of a safetensors file, whose first 8 bytes say how long its JSON header is."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: Mapping[str, str] = header["__metadata__"]
    return metadata


def digest_of_parts(tensors: Mapping[str, Tensor], facts: str) -> str:
    """SHA-256 of both."""
    return hashlib.sha256(save(dict(tensors)) + facts.encode()).hexdigest()
