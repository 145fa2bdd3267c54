import pytest
import torch

from fkal.engine.metering import Meter


def test_passes_are_counted_for_the_phase_that_is_open(meter):
    with meter.phase("train"):
        meter.forward(3)
        with meter.phase("evaluate"):
            meter.forward(10)
        meter.forward(4)
        meter.backward(7)
    with meter.phase("train"):
        meter.forward(1)
    assert dict(meter.forward_images) == {"train": 8, "evaluate": 10}
    assert dict(meter.backward_images) == {"train": 7}


def test_a_phase_without_passes_has_no_count(meter):
    with meter.phase("descriptors"):
        meter.forward(3)
        meter.backward(0)
    assert dict(meter.forward_images) == {"descriptors": 3}
    assert dict(meter.backward_images) == {}


def test_seconds_of_a_phase_add_up(meter):
    with meter.phase("train"):
        pass
    first = meter.seconds["train"]
    with meter.phase("train"):
        pass
    assert meter.seconds["train"] >= first >= 0


def test_a_phase_that_fails_is_closed_and_timed():
    meter = Meter(torch.device("cpu"))
    with pytest.raises(RuntimeError), meter.phase("train"):
        raise RuntimeError
    with meter.phase("evaluate"):
        meter.forward(2)
    assert set(meter.seconds) == {"train", "evaluate"}
    assert dict(meter.forward_images) == {"evaluate": 2}
