"""GPU figures; what they say is checked where there is a GPU."""

import time

import pytest
import torch

from fkal.tracking.gpu import GpuMeter


def test_a_cpu_has_no_gpu_figures():
    assert GpuMeter.of(torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_work_on_the_gpu_takes_energy():
    meter = GpuMeter.of(torch.device("cuda", 0))
    assert meter is not None
    a, until = torch.randn(2000, 2000, device="cuda"), time.monotonic() + 2
    while time.monotonic() < until:
        a @ a
        torch.cuda.synchronize()
    figures = meter.lap()
    meter.close()
    assert 0 < figures["gpu/util_mean_pct"] <= 100
    assert 0 < figures["gpu/energy_wh"] < 2
