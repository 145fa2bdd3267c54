"""Calibration error by loops, and models of known temperature."""

import pytest
import torch
from torch.testing import assert_close

from fkal.core.calibration import BINS, TEMPERATURES, bias_corrected, expected_calibration_error, temperature


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


def classes_of_normals(y: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Log posteriors under equal frequencies of three unit normals at 0, 2 and 4, from a draw of each class in y."""
    x = 2.0 * y + torch.randn(len(y), generator=draws)
    return (-0.5 * (x[:, None] - 2.0 * torch.arange(3)).square()).double().log_softmax(dim=1)


@pytest.mark.parametrize("frequencies", [[1, 1, 1], [8, 1, 3]])
@pytest.mark.parametrize("too_sure", [0.1, 1.0, 5.0])
def test_a_bias_and_a_temperature_are_found_whatever_the_frequencies_of_the_images(frequencies, too_sure):
    draws = torch.Generator().manual_seed(3)
    y = torch.multinomial(torch.tensor(frequencies).double(), 20_000, replacement=True, generator=draws)
    exact = classes_of_normals(y, draws)
    found = bias_corrected(too_sure * exact + torch.tensor([1.0, -2.0, 0.5]), y)
    assert_close(found(too_sure * exact + torch.tensor([1.0, -2.0, 0.5])), exact.exp(), atol=0.05, rtol=0)


def test_one_image_of_each_class_that_is_right_makes_no_model_infinitely_sure():
    log_p = torch.tensor([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]).log()
    found = bias_corrected(log_p, torch.arange(3))
    assert 1 < float(found.sharpness) < 20
    assert_close(found.bias, torch.zeros(3).double(), atol=1e-6, rtol=0)
    again = bias_corrected(log_p, torch.arange(3))
    assert torch.equal(found.sharpness, again.sharpness) and torch.equal(found.bias, again.bias)


def test_images_that_are_surely_wrong_make_the_model_unsure():
    log_p = torch.tensor([[0.0, -700.0], [-700.0, 0.0]]).double()
    p = bias_corrected(log_p, torch.tensor([1, 0]))(log_p)
    assert float((p - 0.5).abs().max()) < 0.25


def test_a_network_that_hardly_tells_classes_apart_is_sharpened():
    """As one is after few steps of training: all images look much like the second class."""
    draws = torch.Generator().manual_seed(5)
    y = torch.arange(3).repeat(10)
    flat = 0.02 * classes_of_normals(y, draws) + torch.tensor([0.0, 0.6, 0.2])
    found = bias_corrected(flat, y)
    assert float(found.sharpness) > 10
    assert float((found(flat).argmax(dim=1) == y).double().mean()) > float((flat.argmax(dim=1) == y).double().mean())


def test_a_class_without_an_image_keeps_its_bias_and_no_image_changes_nothing():
    draws = torch.Generator().manual_seed(4)
    y = torch.tensor([0, 2]).repeat(20)
    log_p = classes_of_normals(y, draws) + torch.tensor([2.0, 0.0, 0.0])
    assert float(bias_corrected(log_p, y).bias[1]) == 0
    nothing = bias_corrected(log_p[:0], y[:0])
    assert_close(nothing(log_p), log_p.softmax(dim=1))


def test_posteriors_that_say_nothing_stay_as_they_are():
    found = bias_corrected(torch.zeros(30, 3), torch.tensor([0] * 20 + [1] * 7 + [2] * 3))
    assert_close(found(torch.zeros(2, 3).double()), torch.full((2, 3), 1 / 3).double())
