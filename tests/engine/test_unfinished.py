"""A round that was stopped within its training goes on from there, to the bit."""

from dataclasses import replace

import pytest
import torch

from fkal.engine.progress import Progress
from fkal.engine.rounds import Round
from fkal.engine.unfinished import Unfinished
from fkal.results.unfinished_io import unfinished_bytes, unfinished_of


class Kept:
    """Keeps each state, as its file would hold it."""

    def __init__(self, begun: Unfinished | None = None) -> None:
        self.states: list[bytes] = []
        self._begun = begun

    def read(self, b: int) -> Unfinished | None:
        return self._begun if self._begun is not None and self._begun.request.b == b else None

    @property
    def wants(self) -> bool:
        return True

    def offer(self, unfinished: Unfinished) -> None:
        self.states.append(unfinished_bytes(unfinished))


def rounds_of(events) -> list[Round]:
    return [event for event in events if isinstance(event, Round)]


def assert_equal(again: Round, once: Round) -> None:
    for name in ("b", "labels_used", "metrics", "train_loss", "epoch", "forward_images", "backward_images"):
        assert getattr(again, name) == getattr(once, name), name
    assert torch.equal(again.selection.indices, once.selection.indices)
    assert torch.equal(again.confusion, once.confusion)
    assert list(again.weights) == list(once.weights)
    assert all(torch.equal(again.weights[name], once.weights[name]) for name in once.weights)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("pfk", "with norm", {}),
        ("pfk", "with dropout", {"training": {"start": "theta_0", "momentum": 0.9}}),
        ("varr", "lenet", {"members": 2}),
        ("random", "lenet", {"training": {"layers": "head"}}),
        ("pfk", "lenet", {"training": {"on_validation": True}}),
        ("pfk", "with norm", {"training": {"precision": "float16"}}),
        ("pfk", "with dropout", {"training": {"precision": "bfloat16"}}),
    ],
)
def test_a_round_goes_on_after_any_epoch_of_its_training_to_the_bit(learning, name, kind, options):
    kept = Kept()
    whole = rounds_of(replace(learning(name, kind=kind, rounds=2, **options), unfinished=kept).rounds())
    assert len(kept.states) == 2 * 2 * options.get("members", 1)  # of three epochs the first two, of each member
    for content in kept.states:
        begun = unfinished_of(content)
        b = begun.request.b
        torch.manual_seed(7)  # another process, whose model has other weights
        this = replace(learning(name, kind=kind, rounds=2, weights_seed=3, **options), unfinished=Kept(begun))
        events = list(this.rounds(whole[: b - 1]))
        trained = [each for each in events if isinstance(each, Progress) and each.phase == f"training b = {b}"]
        epochs = sum(3 - len(losses) for losses in begun.losses) + 3 * (options.get("members", 1) - len(begun.losses))
        assert len(trained) == epochs
        for again, once in zip(rounds_of(events), whole[b - 1 :], strict=True):
            assert_equal(again, once)


def test_the_best_epoch_on_test_keeps_nothing(learning):
    kept = Kept()
    list(replace(learning("random", rounds=1, epoch="best_on_test"), unfinished=kept).rounds())
    assert kept.states == []
