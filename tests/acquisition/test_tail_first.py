"""Tail first, against loops over its definition."""

import math

import pytest
import torch

from fkal.acquisition.tail_first import select_tail_first
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import Posteriors


def made(posterior: torch.Tensor, prior: torch.Tensor | None = None) -> Posteriors:
    n = len(posterior)
    return Posteriors(
        Descriptors.of({"a": torch.ones(n, 2)}),
        Descriptors.of({"a": torch.ones(3, 2)}),
        torch.tensor([0, 1, 2]),
        posterior,
        posterior.argmax(dim=1),
        prior,
    )


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def slow(posterior: list[list[float]], prior: list[float], p: int) -> list[int]:
    expected = [math.ceil(sum(row[c] for row in posterior)) for c in range(len(prior))]
    classes = sorted(range(len(prior)), key=lambda c: prior[c])
    taken: list[int] = []
    for place, c in enumerate(classes):
        left = p - len(taken)
        share = left if place == len(classes) - 1 else min(math.ceil(left / (len(classes) - place)), expected[c])
        rest = sorted((a for a in range(len(posterior)) if a not in taken), key=lambda a: -posterior[a][c])
        taken += rest[:share]
    return taken


@pytest.mark.parametrize("p", [1, 7, 40, 60])
@pytest.mark.parametrize("seed", range(4))
def test_the_picks_are_those_of_the_definition(seed, p):
    draws = torch.Generator().manual_seed(seed)
    posterior = (3 * torch.randn(60, 5, generator=draws, dtype=torch.float64)).softmax(dim=1)
    prior = torch.rand(5, generator=draws, dtype=torch.float64)
    picks = select_tail_first(made(posterior, prior / prior.sum()), p, seeded())
    assert picks.positions.tolist() == slow(posterior.tolist(), prior.tolist(), p)


def test_a_rare_class_takes_no_more_than_the_pool_is_expected_to_have_of_it():
    posterior = torch.full((100, 2), 0.0)
    posterior[:, 0] = 1
    posterior[[5, 9]] = torch.tensor([0.0, 1.0])
    picks = select_tail_first(made(posterior), 10, seeded())
    assert picks.positions[:2].sort().values.tolist() == [5, 9]
    assert picks.scores is not None and picks.scores.tolist() == [1.0] * 10


def test_without_estimated_frequencies_the_mean_probabilities_count():
    posterior = (3 * torch.randn(50, 4, generator=seeded(), dtype=torch.float64)).softmax(dim=1)
    mean = posterior.mean(dim=0)
    with_prior, without = (select_tail_first(made(posterior, prior), 9, seeded()) for prior in (mean, None))
    assert with_prior.positions.tolist() == without.positions.tolist()


def test_more_picks_than_images_are_refused():
    with pytest.raises(ValueError, match="4 picks"):
        select_tail_first(made(torch.full((3, 2), 0.5)), 4, seeded())


def test_a_probability_that_is_no_number_is_refused():
    posterior = torch.full((3, 2), 0.5)
    posterior[1, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        select_tail_first(made(posterior), 1, seeded())
