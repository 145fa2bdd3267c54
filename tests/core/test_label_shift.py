"""Expectation-maximisation by loops, and pools whose class frequencies are known."""

import pytest
import torch
from torch.testing import assert_close

from fkal.core.label_shift import estimated_prior, shifted


def slow_em(p: list[list[float]], steps: int, known: tuple[int, ...] = ()) -> list[float]:
    """Saerens, Latinne, Decaestecker, eq. 2.9, from equal frequencies; a known image's posterior is its class."""
    d = len(p[0])
    prior = [1 / d] * d
    for _ in range(steps):
        total = [float(known.count(c)) for c in range(d)]
        for row in p:
            weighted = [row[c] * prior[c] / (1 / d) for c in range(d)]
            for c in range(d):
                total[c] += weighted[c] / sum(weighted)
        prior = [t / (len(p) + len(known)) for t in total]
    return prior


def normal_mixture(prior: list[float], n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n draws from unit normals at 0, 2, 4, ..., their classes, and exact posteriors under equal frequencies."""
    draws = torch.Generator().manual_seed(seed)
    y = torch.multinomial(torch.tensor(prior), n, replacement=True, generator=draws)
    x = 2.0 * y + torch.randn(n, generator=draws)
    centers = 2.0 * torch.arange(len(prior))
    return (-0.5 * (x[:, None] - centers).square()).softmax(dim=1), y


@pytest.mark.parametrize("known", [(), (2, 2, 0, 2, 1)])
def test_each_step_is_that_of_the_paper(known):
    p, _ = normal_mixture([0.7, 0.2, 0.1], 60, seed=0)
    slow = torch.tensor(slow_em(p.tolist(), 500, known), dtype=torch.float64)
    assert_close(estimated_prior(p, torch.tensor(known, dtype=torch.long)), slow, atol=1e-4, rtol=0)


def test_a_known_class_that_no_posterior_speaks_of_is_left_out():
    p, _ = normal_mixture([0.7, 0.2, 0.1], 60, seed=0)
    assert_close(estimated_prior(p, torch.tensor([1, 3, 7])), estimated_prior(p, torch.tensor([1])))


def test_a_rare_class_whose_clear_images_were_labeled_is_still_as_frequent_as_it_was():
    """What stays of it looks unlike it: from the open images alone it is thought to be far rarer than it is."""
    p, y = normal_mixture([0.98, 0.02], 20_000, seed=3)
    labeled = p[:, 1] > 0.9
    open_images, truth = p[~labeled], float((y == 1).double().mean())
    still_there = float((y[~labeled] == 1).double().mean())
    assert float(estimated_prior(open_images)[1]) < still_there / 5
    assert float(estimated_prior(open_images, y[labeled])[1]) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize("prior", [[0.6, 0.38, 0.02], [1 / 3, 1 / 3, 1 / 3], [0.01, 0.98, 0.01]])
def test_the_frequencies_of_a_pool_are_found_from_posteriors_alone(prior):
    p, y = normal_mixture(prior, 20_000, seed=1)
    truth = y.bincount(minlength=3).double() / len(y)
    assert_close(estimated_prior(p), truth, atol=0.01, rtol=0)


def test_what_is_rare_is_said_to_be_rare_only_where_it_is_more_probable_than_not():
    """At 1 in 50, almost all that equal frequencies call rare is not."""
    p, y = normal_mixture([0.98, 0.02], 20_000, seed=2)
    before, after = p.argmax(dim=1), shifted(p, estimated_prior(p)).argmax(dim=1)
    right = [float((y[called == 1] == 1).double().mean()) for called in (before, after)]
    assert right[0] < 0.15
    assert right[1] > 0.5
    assert float((after == y).double().mean()) > float((before == y).double().mean())


def test_posteriors_under_a_prior_are_bayes_rule():
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    assert_close(shifted(p, torch.tensor([0.8, 0.2])), torch.tensor([[0.8, 0.2], [0.72 / 0.74, 0.02 / 0.74]]))


@pytest.mark.parametrize("p", [torch.zeros(0, 2), torch.zeros(1, 2), torch.tensor([[0.5, torch.nan]])])
def test_what_is_no_distribution_is_refused(p):
    with pytest.raises(ValueError, match="class probabilities"):
        estimated_prior(p)
