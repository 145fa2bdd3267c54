"""Calibration error by loops, and models of known temperature."""

import pytest
import torch

from fkal.core.calibration import BINS, TEMPERATURES, expected_calibration_error, temperature


def slow(logits: torch.Tensor, y: torch.Tensor) -> float:
    members: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for row, label in zip(logits.double().softmax(dim=1), y.tolist(), strict=True):
        confidence = float(row.max())
        members[min(int(confidence * BINS), BINS - 1)].append((confidence, int(row.argmax()) == label))
    error = 0.0
    for inside in members:
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / len(y) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("scale", [0.5, 3.0, 30.0])
def test_the_error_is_that_of_the_bins(scale):
    draws = torch.Generator().manual_seed(1)
    logits, y = scale * torch.randn(200, 4, generator=draws), torch.randint(4, (200,), generator=draws)
    assert float(expected_calibration_error(logits, y)) == pytest.approx(slow(logits, y))


@pytest.mark.parametrize("t", [1.0, 2.5, 6.0])
def test_logits_that_are_t_times_too_sure_need_about_t(t):
    draws = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(20_000, 3, generator=draws)
    y = torch.multinomial(logits.softmax(dim=1), 1, generator=draws)[:, 0]
    assert temperature(t * logits, y) == pytest.approx(t, rel=0.15)


def test_a_model_that_is_wrong_throughout_is_cooled_as_far_as_it_goes():
    logits = torch.tensor([[9.0, 0.0, 0.0]] * 50)
    assert temperature(logits, torch.ones(50, dtype=torch.long)) == TEMPERATURES[-1]
