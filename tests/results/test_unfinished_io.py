"""The file of a round within its training: written in time, read whole or not at all."""

import pytest
import torch

from fkal.engine.rounds import Request
from fkal.engine.unfinished import FitState, Unfinished
from fkal.results.unfinished_io import UnfinishedFile, unfinished_bytes, unfinished_of

REQUEST = Request(
    b=3,
    indices=torch.tensor([4, 1]),
    ranks=None,
    scores=torch.tensor([0.5, 0.25]),
    matches=None,
    pseudo_labels=torch.tensor([1, 0]),
    metrics={"select/targets": 2.0},
    forward_images={"descriptors": 9},
    backward_images={},
    seconds={"select": 0.5},
    peak_memory_mb=None,
)


def state(epochs: int) -> Unfinished:
    weights = {"a.weight": torch.arange(4.0).reshape(2, 2) + epochs, "a.bias": torch.zeros(2)}
    fit = FitState({"weight": torch.full((2, 2), 0.1)}, torch.Generator().manual_seed(epochs).get_state())
    losses = ((0.5, 0.25), tuple(0.1 for _ in range(epochs)))
    return Unfinished(REQUEST, losses, weights, fit, {"train": epochs}, {"train": epochs}, {"train": 1.5})


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def keeper(tmp_path, clock, said) -> UnfinishedFile:
    return UnfinishedFile(tmp_path / "unfinished.safetensors", 2.0, said.append, clock=clock)


def assert_same(found: Unfinished, given: Unfinished) -> None:
    assert (found.losses, found.forward_images, found.seconds) == (given.losses, given.forward_images, given.seconds)
    assert found.request.metrics == REQUEST.metrics and torch.equal(found.request.indices, REQUEST.indices)
    assert found.request.ranks is None and torch.equal(found.fit.generator, given.fit.generator)
    for ours, theirs in ((found.weights, given.weights), (found.fit.momentum, given.fit.momentum)):
        assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_state_comes_back_as_it_was_written():
    assert_same(unfinished_of(unfinished_bytes(state(2))), state(2))


def test_a_state_is_wanted_after_seconds_and_written_after_minutes(keeper, clock, tmp_path):
    file = tmp_path / "unfinished.safetensors"
    assert not keeper.wants
    clock.now = 10.0
    assert keeper.wants
    keeper.offer(state(1))
    assert not keeper.wants and not file.exists()
    clock.now = 120.0
    keeper.offer(state(2))
    assert_same(keeper.read(3), state(2))
    clock.now = 131.0
    keeper.offer(state(3))
    assert len(keeper.read(3).losses[1]) == 2
    keeper.flush()
    assert len(keeper.read(3).losses[1]) == 3
    file.unlink()
    keeper.offer(state(4))
    keeper.clear()
    keeper.flush()
    assert not file.exists()


def test_with_no_minutes_nothing_is_wanted(tmp_path, clock):
    keeper = UnfinishedFile(tmp_path / "x", 0.0, print, clock=clock)
    clock.now = 1e9
    assert not keeper.wants


def test_what_cannot_be_gone_on_from_is_as_good_as_none(keeper, tmp_path, said):
    file = tmp_path / "unfinished.safetensors"
    assert keeper.read(3) is None and said == []
    whole = unfinished_bytes(state(2))
    file.write_bytes(whole)
    assert keeper.read(2) is None and said == []
    changed = bytearray(whole)
    changed[-1] ^= 1
    for content in (b"", whole[:-8], bytes(changed), b"\x08" + whole[1:]):
        file.write_bytes(content)
        said.clear()
        assert keeper.read(3) is None
        assert "the round starts from its beginning" in said[0]
    file.unlink()
    file.mkdir()
    assert keeper.read(3) is None and "it is a folder" in said[-1]
