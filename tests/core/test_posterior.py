"""Posteriors against loops in float64, and against a library."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.testing import assert_close

from fkal.core.descriptors import Descriptors
from fkal.core.posterior import (
    NEIGHBOUR_FOLDS,
    NEIGHBOURS,
    PENALTIES,
    SMOOTHING,
    TEMPERATURES,
    Logistic,
    NearestNeighbours,
    opinion_pool,
)
from fkal.core.whitening import Whitening

WIDTHS = {"a": 6, "b": 4}


def labeled(n: int, seed: int, spread: float = 1.0) -> tuple[Descriptors, Tensor]:
    """Images of 3 classes, each class about its own center (the same for every seed)."""
    draws, centers = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99)
    y = torch.randint(3, (n,), generator=draws)
    z = {
        tap: torch.randn(3, width, generator=centers)[y] + spread * torch.randn(n, width, generator=draws)
        for tap, width in WIDTHS.items()
    }
    return Descriptors.of(z), y


def slow_neighbours(similar: list[float], y: list[int], k: int, temperature: float) -> list[float]:
    """Class probabilities of one image from all labeled ones."""
    order = sorted(range(len(y)), key=lambda i: -similar[i])[:k]
    shares = [0.0] * 3
    for i in order:
        shares[y[i]] += math.exp((similar[i] - similar[order[0]]) / temperature) / y.count(y[i])
    return [(1 - SMOOTHING) * share / sum(shares) + SMOOTHING / 3 for share in shares]


def similarities(queries: Descriptors, z: Descriptors) -> list[list[float]]:
    return sum(queries.z[tap].double() @ z.z[tap].double().T for tap in WIDTHS).tolist()


@pytest.mark.parametrize("block_entries", [64, 1 << 22])
def test_neighbours_count_by_similarity_over_the_size_of_their_class(monkeypatch, block_entries):
    monkeypatch.setattr("fkal.core.posterior.AT_ONCE", block_entries)
    (z, y), (queries, _) = labeled(40, 0), labeled(9, 1)
    whiten = Whitening.within_classes(z, y)
    posterior = NearestNeighbours(whiten, whiten(z), y, k=7, temperature=0.2)
    rows = similarities(whiten(queries), whiten(z))
    expected = [slow_neighbours(row, y.tolist(), 7, 0.2) for row in rows]
    assert_close(posterior(queries).double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-3, atol=1e-5)


def folds(y: list[int], count: int) -> list[int]:
    """Every fold has about as many images of each class: in the order of classes, one after another."""
    order = sorted(range(len(y)), key=lambda i: (y[i], i))
    return [order.index(i) % count for i in range(len(y))]


@pytest.mark.parametrize("spread", [0.7, 2.0])
def test_k_and_temperature_best_predict_images_that_had_no_part_in_the_whitening(spread):
    z, y = labeled(60, 2, spread)
    fitted, labels, fold = NearestNeighbours.fitted(z, y), y.tolist(), torch.tensor(folds(y.tolist(), NEIGHBOUR_FOLDS))
    rows: list[tuple[int, list[float], list[int]]] = []
    for f in range(NEIGHBOUR_FOLDS):
        held, rest = (fold == f).nonzero()[:, 0], (fold != f).nonzero()[:, 0]
        whiten = Whitening.within_classes(z[rest], y[rest])
        similar = similarities(whiten(z[held]), whiten(z[rest]))
        rows += [(own, row, y[rest].tolist()) for own, row in zip(y[held].tolist(), similar, strict=True)]

    def loss(k: int, temperature: float) -> float:
        by_class: dict[int, list[float]] = {}
        for own, row, known in rows:
            by_class.setdefault(own, []).append(-math.log(slow_neighbours(row, known, k, temperature)[own]))
        return sum(sum(losses) / len(losses) for losses in by_class.values()) / len(by_class)

    least = min(loss(k, t) for k in NEIGHBOURS for t in TEMPERATURES)
    assert loss(fitted.k, fitted.temperature) == pytest.approx(least, rel=1e-4)
    assert_close(fitted.z.z["a"], Whitening.within_classes(z, y)(z).z["a"])  # then all of them take part
    assert len(labels) == len(rows)


def test_settings_of_images_that_say_nothing_are_not_chosen_by_how_well_the_whitening_has_learned_them():
    """Labels drawn at random, ten of each class, in more dimensions than images: any sure prediction is wrong."""
    draws = torch.Generator().manual_seed(3)
    z = Descriptors.of({"a": torch.randn(30, 60, generator=draws)})
    y = (torch.arange(30) % 3)[torch.randperm(30, generator=draws)]
    queries = Descriptors.of({"a": torch.randn(200, 60, generator=draws)})
    p = NearestNeighbours.fitted(z, y)(queries)
    assert float(p.amax(dim=1).mean()) < 0.5


def test_more_images_of_a_class_make_it_no_more_probable():
    z, y = labeled(200, 3)
    twice = torch.cat([torch.arange(200), *(2 * [(y == 0).nonzero()[:, 0]])])
    whiten = Whitening.within_classes(z, y)
    plain = NearestNeighbours(whiten, whiten(z), y, k=200, temperature=0.5)
    more = NearestNeighbours(whiten, whiten(z[twice]), y[twice], k=len(twice), temperature=0.5)
    queries, _ = labeled(20, 4)
    assert_close(plain(queries), more(queries), rtol=1e-3, atol=1e-5)


def test_a_single_validation_image_is_refused():
    z, y = labeled(1, 5)
    with pytest.raises(ValueError, match="1 validation images; give at least 2"):
        NearestNeighbours.fitted(z, y)


@pytest.mark.parametrize("n", [2, 3, 30])
def test_few_validation_images_do(n):
    z, y = labeled(n, 6)
    queries, _ = labeled(5, 7)
    for estimator in (NearestNeighbours, Logistic):
        p = estimator.fitted(z, y)(queries)
        assert p.shape == (5, int(y.max()) + 1)
        assert_close(p.sum(dim=1), torch.ones(5))


def side_by_side(z: Descriptors) -> np.ndarray:
    return torch.cat([z.z[tap] for tap in WIDTHS], dim=1).double().numpy()


@pytest.mark.parametrize("spread", [0.7, 2.0])
def test_logistic_regression_is_that_of_the_library_under_the_penalty_that_generalises_best(spread):
    (z, y), (queries, _) = labeled(300, 8, spread), labeled(20, 9, spread)
    x = side_by_side(z)
    others = side_by_side(queries)
    weights = 1 / np.bincount(y)[y]

    def library(rows: np.ndarray, penalty: float) -> Pipeline:
        """Its penalty is half the squares, against a sum over images in place of a mean."""
        share = weights[rows] / weights[rows].sum()
        model = LogisticRegression(C=1 / (2 * penalty), tol=1e-8, max_iter=2000)
        return make_pipeline(StandardScaler(), model).fit(
            x[rows], y.numpy()[rows], logisticregression__sample_weight=share
        )

    fold = np.empty(300, dtype=int)
    fold[np.argsort(y.numpy(), kind="stable")] = np.arange(300) % 2

    def loss(penalty: float) -> float:
        total = 0.0
        for f in (0, 1):
            (train,), (held,) = np.nonzero(fold != f), np.nonzero(fold == f)
            logs = library(train, penalty).predict_log_proba(x[held])
            total -= np.average(logs[np.arange(len(held)), y.numpy()[held]], weights=weights[held])
        return total

    best = library(np.arange(300), min(PENALTIES, key=loss))
    assert_close(
        Logistic.fitted(z, y)(queries).double(), torch.tensor(best.predict_proba(others)), rtol=0.02, atol=2e-3
    )


def test_an_entry_that_never_varies_tells_nothing():
    z = Descriptors({"a": torch.tensor([[0.0, 1.0], [0.2, 1.0], [1.0, 1.0], [0.9, 1.0]])})
    p = Logistic.fitted(z, torch.tensor([0, 0, 1, 1]))(Descriptors({"a": torch.tensor([[0.1, 5.0], [0.1, -5.0]])}))
    assert p.isfinite().all()
    assert_close(p[0], p[1])


def test_opinions_meet_in_their_geometric_mean():
    said = [torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])]
    pooled = opinion_pool([lambda z, p=p: p for p in said], Descriptors({"a": torch.zeros(1, 1)}))
    assert_close(pooled, torch.tensor([[0.75, 0.25]], dtype=torch.float64))  # sqrt(0.45) : sqrt(0.05) is 3 : 1
