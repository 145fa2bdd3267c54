from dataclasses import fields

import pytest
import torch
from torch import Tensor

from fkal.engine.rounds import Request
from fkal.results.request_io import UnusableRequest, load_request, request_bytes

FULL = Request(
    b=3,
    indices=torch.tensor([7, 2, 9]),
    ranks=torch.tensor([0, 0, 1]),
    scores=torch.tensor([0.1, 1 / 3, -2.5]),
    matches=torch.tensor([4, 4, 5]),
    pseudo_labels=torch.tensor([1, 0, 1]),
    metrics={"select/targets": 2.0, "pseudo/accuracy": 1 / 3},
    forward_images={"descriptors": 40},
    backward_images={"descriptors": 40},
    seconds={"descriptors": 0.25, "select": 1e-7},
    peak_memory_mb=12.5,
)
SPARSE = Request(1, torch.tensor([3]), None, None, None, None, {}, {}, {}, {}, None)


@pytest.mark.parametrize("request_", [FULL, SPARSE], ids=["full", "sparse"])
def test_a_request_comes_back_bit_by_bit(request_):
    again = load_request(request_bytes(request_))
    for field in fields(Request):
        once, twice = getattr(request_, field.name), getattr(again, field.name)
        assert torch.equal(once, twice) if isinstance(once, Tensor) else once == twice, field.name


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda content: content[:-1], "it is corrupt"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "its digest does not fit its content"),
        (lambda content: content.replace(b"fkal-request-1", b"fkal-request-9"), "not of format fkal-request-1"),
        (lambda content: b"", "it is corrupt"),
        (lambda content: b"\xff" * 40, "it is corrupt"),
        (lambda content: content.replace(b"metrics", b"metrix_"), "its digest does not fit its content"),
        (lambda content: content.replace(b"12.5", b"11.5"), "its digest does not fit its content"),
    ],
)
def test_what_was_not_written_is_refused(spoil, why):
    with pytest.raises(UnusableRequest, match=why):
        load_request(spoil(request_bytes(FULL)))
