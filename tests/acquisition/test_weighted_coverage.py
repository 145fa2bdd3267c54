"""Weighted coverage on evidence, against loops in float64 over the definition."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from fkal.acquisition import weighted_coverage
from fkal.acquisition.weighted_coverage import BONUS, select_wcov, select_wcov_zg
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import WeighedPosteriors, WeighedScores
from fkal.core.kernels import R_ZG
from fkal.core.pool_parts import Parts
from fkal.core.softmax import class_doubts, margin

CLASSES = 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(seed: int, *, n: int = 40, m: int = 11, taps: tuple[str, ...] = ("a", "b")) -> WeighedPosteriors:
    draws = seeded(seed)

    def described(rows: int) -> Descriptors:
        return Descriptors.of({tap: torch.randn(rows, 5, generator=draws) for tap in taps})

    def classes(rows: int) -> torch.Tensor:
        return torch.randint(CLASSES, (rows,), generator=draws)

    return WeighedPosteriors(
        pool=described(n),
        targets=described(m),
        y_t=classes(m),
        posterior=torch.randn(n, CLASSES, generator=draws).softmax(dim=1),
        pseudo_labels=classes(n),
        prior=None,
        weights=torch.rand(m, generator=draws, dtype=torch.float64),
        doubt=torch.rand(n, generator=draws, dtype=torch.float64),
        labeled=described(2),
        y=classes(2),
        labeled_doubt=torch.rand(2, generator=draws, dtype=torch.float64),
        logits=3 * torch.randn(n, CLASSES, generator=draws),
    )


def similarity(evidence: WeighedPosteriors) -> list[list[float]]:
    """s(t, a) word by word, a row for each a."""
    taps, rows = list(evidence.pool.z), []
    for a in range(evidence.n):
        row = []
        for t, y in enumerate(evidence.y_t.tolist()):
            of_taps = [float(evidence.pool.z[tap][a].double() @ evidence.targets.z[tap][t].double()) for tap in taps]
            unsure = 1.0
            if evidence.logits is not None:
                p = evidence.logits[a].double().softmax(dim=0).tolist()
                unsure = 1 - max(0.0, p[y] - max(other for c, other in enumerate(p) if c != y))
            row.append(max(0.0, sum(of_taps) / len(taps)) * float(evidence.posterior[a, y]) * unsure)
        rows.append(row)
    return rows


def slow(evidence: WeighedPosteriors | WeighedScores, p: int, s: list[list[float]] | None = None) -> list[int]:
    s = s or similarity(evidence)
    w = [float(each / evidence.weights.max()) for each in evidence.weights]

    def value(picked: list[int]) -> float:
        alone = sum(w[t] * s[a][t] for a in picked for t in range(len(w))) / sum(w)
        return sum(w[t] * max(s[a][t] for a in picked) for t in range(len(w))) + BONUS * alone

    picked: list[int] = []
    for _ in range(p):
        picked.append(max((a for a in range(evidence.n) if a not in picked), key=lambda a: value([*picked, a])))
    return picked


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("m", [3, 11, 30])  # fewer targets than picks, and more
def test_the_picks_are_those_of_the_definition(seed, trained, m):
    evidence = made(seed, m=m)
    if not trained:
        evidence = replace(evidence, logits=None)
    picks = select_wcov(evidence, 9, seeded())  # of 40 images all are drawn
    assert picks.positions.tolist() == slow(evidence, 9)
    s = torch.tensor(similarity(evidence), dtype=torch.float64)[picks.positions]
    assert picks.targets.tolist() == (s * evidence.weights).argmax(dim=1).tolist()


def test_the_doubt_of_a_class_is_that_of_the_margin_where_the_model_predicts_it_and_whole_elsewhere():
    logits = torch.randn(7, 4, generator=seeded(3))
    p = logits.double().softmax(dim=1)
    others = torch.stack([p[:, [c for c in range(4) if c != y]].amax(dim=1) for y in range(4)], dim=1)
    assert_close(class_doubts(logits), 1 - (p - others).clamp(min=0))
    assert_close(class_doubts(logits).amin(dim=1), margin(logits))
    assert class_doubts(torch.tensor([[2.0]])).tolist() == [[0.0]]  # a single class is known


def test_what_the_model_knows_already_is_left_and_what_it_mistakes_is_not():
    """Two images of the class alike: the model is sure of the first, and takes the second for another class."""
    axes = torch.eye(3)
    evidence = WeighedPosteriors(
        pool=Descriptors.of({"a": axes[[0, 0, 1]]}),
        targets=Descriptors.of({"a": axes[[0, 0, 1]]}),
        y_t=torch.tensor([0, 0, 1]),
        posterior=torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]),
        pseudo_labels=torch.tensor([0, 0, 1]),
        prior=None,
        weights=torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64),
        doubt=torch.ones(3, dtype=torch.float64),
        labeled=Descriptors.of({"a": axes[[0]]}),
        y=torch.tensor([0]),
        labeled_doubt=torch.ones(1, dtype=torch.float64),
        logits=torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 0.0]]),
    )
    assert select_wcov(evidence, 1, seeded()).positions.tolist() == [1]
    sure = replace(evidence, logits=torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 0.0]]))
    assert select_wcov(sure, 1, seeded()).positions.tolist() == [2]


def test_targets_that_count_nothing_are_not_served_while_others_count(monkeypatch):
    evidence = made(5, m=30)
    weights = torch.zeros(30, dtype=torch.float64)
    weights[:4] = 1.0
    counted = replace(evidence, weights=weights)
    alone = replace(evidence, targets=evidence.targets[:4], y_t=evidence.y_t[:4], weights=weights[:4])
    assert select_wcov(counted, 4, seeded()).positions.tolist() == select_wcov(alone, 4, seeded()).positions.tolist()
    equal = [select_wcov(replace(evidence, weights=c * torch.ones(30).double()), 9, seeded()) for c in (0.0, 1.0, 1e-9)]
    assert equal[0].positions.tolist() == equal[1].positions.tolist() == equal[2].positions.tolist()
    for most in (2, 4, 29):
        monkeypatch.setattr(weighted_coverage, "max_targets", lambda p, most=most: most)
        assert set(select_wcov(counted, 4, seeded()).targets.tolist()) <= {0, 1, 2, 3}


def test_drawn_targets_count_together_what_all_of_them_count():
    weights = torch.rand(5000, generator=seeded(1), dtype=torch.float64) ** 8
    rows, counts = weighted_coverage._drawn(weights, 3000, seeded(2))
    assert len(rows.unique()) == len(rows) < 3000 and counts.amax() == 1
    drawn = torch.zeros(5000, dtype=torch.float64).index_add_(0, rows, counts)
    for half in (slice(0, 2500), slice(2500, 5000)):
        assert_close(drawn[half].sum() / drawn.sum(), weights[half].sum() / weights.sum(), rtol=0, atol=0.03)
    heavy = weights > 0.5
    assert_close(drawn[heavy].sum() / drawn.sum(), weights[heavy].sum() / weights.sum(), rtol=0, atol=0.03)


def test_a_rare_target_is_served_before_one_more_copy_of_what_is_covered():
    axes = torch.eye(4)
    n, m = 21, 2901  # twenty copies of one image for all targets but the last, which one image alone resembles
    evidence = replace(
        made(0, n=n, m=m),
        pool=Descriptors.of({"a": axes[[0] * 20 + [1]]}),
        targets=Descriptors.of({"a": axes[[0] * 2900 + [1]]}),
        y_t=torch.tensor([0] * 2900 + [1]),
        posterior=torch.tensor([[1.0, 0.0]] * 20 + [[0.0, 1.0]]),
        weights=torch.tensor([1.0] * 2900 + [0.01], dtype=torch.float64),
        logits=None,
    )
    assert 20 in select_wcov(evidence, 2, seeded()).positions.tolist()


def test_classes_that_no_validation_image_has_are_no_help():
    """A model knows more classes than the estimator, which learned from validation images alone."""
    evidence = made(7)
    wide = torch.cat([evidence.logits, torch.full((evidence.n, 2), -torch.inf)], dim=1).clamp(min=-100)
    assert select_wcov(replace(evidence, logits=wide), 9, seeded()).positions.tolist() == slow(evidence, 9)


def test_rows_of_probabilities_are_multiplied_in_parts(monkeypatch):
    evidence = made(6)
    whole = select_wcov(evidence, 9, seeded()).positions.tolist()
    monkeypatch.setattr(weighted_coverage, "ROWS", 7)
    assert select_wcov(evidence, 9, seeded()).positions.tolist() == whole


def test_parts_of_the_pool_pick_for_themselves_and_reach_nearly_as_much():
    evidence = made(8, n=200, m=60)
    s = torch.tensor(similarity(evidence), dtype=torch.float64)

    def reached(picks) -> float:
        assert len(set(picks.positions.tolist())) == 12
        return float(s[picks.positions].amax(dim=0) @ evidence.weights)

    whole, parts = (reached(select_wcov(evidence, 12, seeded(), parts=Parts(count))) for count in (1, 5))
    assert parts > 0.9 * whole


def test_what_cannot_be_is_refused():
    evidence = made(0)
    with pytest.raises(ValueError, match="0 validation images to pick for; give at least one"):
        select_wcov(made(0, m=0), 1, seeded())
    with pytest.raises(ValueError, match="41 picks of a pool of 40"):
        select_wcov(evidence, 41, seeded())
    for broken in ({"posterior": evidence.posterior * torch.inf}, {"logits": evidence.logits * torch.nan}):
        with pytest.raises(ValueError, match="NaN or infinite"):
            select_wcov(replace(evidence, **broken), 1, seeded())


def scored(seed: int, **sizes: int) -> WeighedScores:
    """The same features beside gradients of as many taps."""
    known, draws = made(seed, **sizes), seeded(100 + seed)

    def with_gradients(rows: Descriptors) -> Descriptors:
        return Descriptors.of(dict(rows.z), {tap: torch.randn(len(rows), 3, generator=draws) for tap in rows.z})

    return WeighedScores(
        pool=with_gradients(known.pool),
        targets=with_gradients(known.targets),
        pseudo_labels=known.pseudo_labels,
        y_t=known.y_t,
        weights=known.weights,
        logits=known.logits,
    )


def by_kernel(evidence: WeighedScores, combine: str) -> list[list[float]]:
    """s(t, a) word by word, a row for each a."""
    rows = []
    for a in range(evidence.n):
        row = []
        for t, y in enumerate(evidence.y_t.tolist()):
            pairs = [
                tuple(float(of[tap][a].double() @ other[tap][t].double()) for of, other in blocks)
                for blocks in [((evidence.pool.z, evidence.targets.z), (evidence.pool.g, evidence.targets.g))]
                for tap in evidence.targets.z
            ]
            r_z, r_g = (sum(pair[k] for pair in pairs) for k in (0, 1))
            kernel = {"product": sum(z * g for z, g in pairs), "product_of_sums": r_z * r_g, "sum": r_z + r_g}[combine]
            unsure = 1.0
            if evidence.logits is not None and y < evidence.logits.shape[1]:
                p = evidence.logits[a].double().softmax(dim=0).tolist()
                unsure = 1 - max(0.0, p[y] - max(other for c, other in enumerate(p) if c != y))
            row.append(max(0.0, kernel) * unsure)
        rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("combine", list(R_ZG))
@pytest.mark.parametrize("m", [3, 11, 30])  # fewer targets than picks, and more
def test_by_the_kernel_the_picks_are_those_of_its_definition(seed, trained, combine, m):
    evidence = scored(seed, m=m)
    if not trained:
        evidence = replace(evidence, logits=None)
    picks = select_wcov_zg(evidence, 9, seeded(), combine=combine)
    expected = by_kernel(evidence, combine)
    assert picks.positions.tolist() == slow(evidence, 9, expected)
    s = torch.tensor(expected, dtype=torch.float64)[picks.positions]
    assert picks.targets.tolist() == (s * evidence.weights).argmax(dim=1).tolist()


def test_of_a_class_that_the_model_does_not_have_it_knows_nothing():
    evidence = scored(3)
    unknown = replace(evidence, y_t=torch.where(torch.arange(11) < 5, evidence.y_t, CLASSES + 1))
    made_of = select_wcov_zg(unknown, 9, seeded(), combine="product").positions.tolist()
    assert made_of == slow(unknown, 9, by_kernel(unknown, "product"))


def test_by_the_kernel_parts_of_the_pool_reach_nearly_as_much():
    evidence = scored(8, n=200, m=60)
    s = torch.tensor(by_kernel(evidence, "product"), dtype=torch.float64)

    def reached(count: int) -> float:
        picks = select_wcov_zg(evidence, 12, seeded(), combine="product", parts=Parts(count))
        assert len(set(picks.positions.tolist())) == 12
        return float(s[picks.positions].amax(dim=0) @ evidence.weights)

    assert reached(5) > 0.9 * reached(1)


def test_by_the_kernel_what_cannot_be_is_refused():
    evidence = scored(0)
    with pytest.raises(ValueError, match="0 validation images to pick for; give at least one"):
        select_wcov_zg(scored(0, m=0), 1, seeded(), combine="product")
    with pytest.raises(ValueError, match="41 picks of a pool of 40"):
        select_wcov_zg(evidence, 41, seeded(), combine="product")
    for broken in ({"weights": evidence.weights * torch.nan}, {"logits": evidence.logits * torch.nan}):
        with pytest.raises(ValueError, match="NaN or infinite"):
            select_wcov_zg(replace(evidence, **broken), 1, seeded(), combine="product")
