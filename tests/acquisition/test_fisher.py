"""Pools in which the right picks are known by construction."""

from functools import partial

import pytest
import torch

from fkal.acquisition import fisher
from fkal.acquisition.fisher import select_pcc, select_pfk
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import Features, FisherScores
from fkal.core.kernels import R_ZG
from fkal.core.partitioned_cover import partitioned_cover

D = 8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def described(z: list[int], g: list[int] | None = None) -> Descriptors:
    """Rows whose features (and gradients) point along the axes named; different axes are dissimilar."""
    axes = torch.eye(D)
    return Descriptors.of({"fc": axes[z]}, None if g is None else {"fc": axes[g]})


def scores(pool: Descriptors, targets: Descriptors) -> FisherScores:
    return FisherScores(pool, targets, torch.zeros(len(pool), dtype=torch.long))


@pytest.mark.parametrize("combine", list(R_ZG))
def test_each_target_gets_the_pool_image_that_is_like_it(combine):
    axes = [5, 2, 7, 0, 3, 6, 1, 4]
    pool, targets = described(axes, axes), described([0, 1, 2], [0, 1, 2])
    picks = select_pfk(scores(pool, targets), 3, seeded(), combine=combine)
    assert {int(t): int(i) for t, i in zip(picks.targets, picks.positions, strict=True)} == {
        t: axes.index(t) for t in (0, 1, 2)
    }
    assert picks.ranks.tolist() == [0, 0, 0]


def test_features_alone_find_them_too():
    axes = [5, 2, 7, 0, 3, 6, 1, 4]
    picks = select_pcc(Features(described(axes), described([0, 1, 2])), 3, seeded())
    assert sorted(picks.positions.tolist()) == sorted(axes.index(t) for t in (0, 1, 2))
    torch.testing.assert_close(picks.scores, torch.ones(3))


@pytest.mark.parametrize("combine", list(R_ZG))
def test_gradients_tell_images_of_equal_features_apart(combine):
    pool = described([0, 0, 1, 1, 2, 2], [3, 4, 3, 4, 3, 4])
    targets = described([0, 1, 2], [4, 3, 4])
    assert sorted(select_pfk(scores(pool, targets), 3, seeded(), combine=combine).positions.tolist()) == [1, 2, 5]
    assert sorted(select_pcc(Features(pool, targets), 3, seeded()).positions.tolist()) == [0, 2, 4]


def test_fewer_targets_than_picks_take_second_best_matches_after_all_best_ones():
    pool, targets = described([0, 1, 0, 1, 0, 2]), described([0, 1])
    picks = select_pcc(Features(pool, targets), 4, seeded())
    assert picks.positions.tolist() == [0, 1, 2, 3]
    assert picks.ranks.tolist() == [0, 0, 1, 1]


def test_a_single_target_takes_its_matches_in_order():
    z = torch.tensor([[0.0, 1.0, 0.0], [0.1, 0.9, 0.3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.2]])
    pool, target = Descriptors.of({"fc": z}), Descriptors.of({"fc": torch.tensor([[0.0, 1.0, 0.0]])})
    picks = select_pcc(Features(pool, target), 4, seeded())
    assert picks.positions.tolist() == [0, 3, 1, 2]
    assert picks.ranks.tolist() == [0, 1, 2, 3]
    assert picks.targets.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("combine", list(R_ZG))
def test_more_targets_than_picks_are_thinned_to_unlike_centers(combine, seed):
    clusters = [0, 1, 2] * 4
    axes = [5, 2, 7, 0, 3, 6, 1, 4]
    pool, targets = described(axes, axes), described(clusters, clusters)
    picks = select_pfk(scores(pool, targets), 3, seeded(seed), combine=combine)
    assert sorted(picks.positions.tolist()) == sorted(axes.index(axis) for axis in (0, 1, 2))
    for position, target in zip(picks.positions.tolist(), picks.targets.tolist(), strict=True):
        assert clusters[target] == axes[position]  # `targets` are rows of all targets, not of the centers


def test_as_many_targets_as_picks_need_no_generator():
    pool, targets = described([0, 1, 2, 3, 4]), described([4, 0, 2])
    draws, untouched = seeded(3), seeded(3)
    select_pcc(Features(pool, targets), 3, draws)
    assert torch.equal(draws.get_state(), untouched.get_state())


def slow_coverage(kernel: list[list[float]], p: int) -> float:
    """The value that greedy reaches, with every gain worked out every time; rows are pool images."""
    picked: list[int] = []
    for _ in range(p):
        rest = [i for i in range(len(kernel)) if i not in picked]
        picked.append(max(rest, key=lambda i: covered(kernel, [*picked, i])))
    return covered(kernel, picked)


def covered(kernel: list[list[float]], picked: list[int]) -> float:
    return sum(max(0.0, *(kernel[i][t] for i in picked)) for t in range(len(kernel[0])))


@pytest.mark.parametrize("combine", list(R_ZG))
@pytest.mark.parametrize("seed", range(3))
def test_coverage_is_what_greedy_over_the_whole_kernel_reaches(combine, seed, monkeypatch):
    monkeypatch.setattr(fisher, "partitioned_cover", partial(partitioned_cover, epsilon=1e-300))
    draws = seeded(seed)
    pool, targets = (
        Descriptors.of({"fc": torch.randn(n, 6, generator=draws)}, {"fc": torch.randn(n, 6, generator=draws)})
        for n in (30, 12)
    )
    kernel = R_ZG[combine](pool, targets).double().tolist()
    picks = select_pfk(scores(pool, targets), 5, seeded(seed), combine=combine, matching="coverage")
    assert covered(kernel, picks.positions.tolist()) == pytest.approx(slow_coverage(kernel, 5), rel=1e-5)
    assert sum(picks.scores.tolist()) == pytest.approx(covered(kernel, picks.positions.tolist()), rel=1e-4)
    nearest = [max(range(12), key=lambda t, i=i: kernel[i][t]) for i in picks.positions.tolist()]
    assert picks.targets.tolist() == nearest
    assert picks.ranks is None


def test_coverage_picks_no_second_image_for_what_one_covers():
    """Nine targets are alike and one is another: k-center's first two picks are for both, and so are coverage's."""
    pool, targets = described([0] * 5 + [1] + [2] * 5, [0] * 5 + [1] + [2] * 5), described([0] * 9 + [1], [0] * 9 + [1])
    picks = select_pfk(scores(pool, targets), 2, seeded(), combine="product", matching="coverage")
    assert picks.positions[0] < 5
    assert picks.positions[1] == 5
    assert picks.scores[0] > picks.scores[1]


def test_of_more_targets_than_can_be_looked_at_a_drawn_part_is_covered(monkeypatch):
    monkeypatch.setattr("fkal.acquisition.fisher.max_targets", lambda p: p)
    pool, targets = described(list(range(8)), list(range(8))), described(list(range(8)), list(range(8)))
    chosen = {
        tuple(sorted(select_pfk(scores(pool, targets), 3, seeded(s), combine="product", matching="coverage").positions))
        for s in range(5)
    }
    assert len(chosen) > 1
    assert all(len(set(map(int, picks))) == 3 for picks in chosen)


def test_where_every_target_can_have_a_pick_coverage_goes_on_with_second_best_matches():
    """Three targets, six picks: nothing covers more than each one's best match, and nobody is picked by chance."""
    draws = seeded(4)
    pool, targets = (
        Descriptors.of({"fc": torch.randn(n, 6, generator=draws)}, {"fc": torch.randn(n, 6, generator=draws)})
        for n in (30, 3)
    )
    kernel = R_ZG["product"](pool, targets).double()
    picks = select_pfk(scores(pool, targets), 6, seeded(), combine="product", matching="coverage")
    best = float(kernel.amax(dim=0).clamp(min=0).sum())
    assert covered(kernel.tolist(), picks.positions.tolist()) == pytest.approx(best, rel=1e-5)
    assert set(picks.positions.tolist()) >= set(kernel.argmax(dim=0).tolist())
    assert picks.ranks.tolist() == sorted(picks.ranks.tolist())


@pytest.mark.parametrize("matching", ["k_center", "coverage", "transport"])
def test_no_target_at_all_is_refused(matching):
    pool = described([0, 1, 2])
    with pytest.raises(ValueError, match="0 validation images to pick for; give at least one"):
        select_pfk(scores(pool, pool[:0]), 1, seeded(), combine="product", matching=matching)
    with pytest.raises(ValueError, match="0 validation images to pick for; give at least one"):
        select_pcc(Features(pool, pool[:0]), 1, seeded())


def pearson(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    return float(a @ b / (a.norm() * b.norm()))


def similarity(combine: str, target: dict[str, list[torch.Tensor]], image: dict[str, list[torch.Tensor]]) -> float:
    """Equation 12 of one target and one image, or equation 6 for `r_z`; both are {"z": rows by tap, "g": ...}."""
    z, g = ([pearson(a, b) for a, b in zip(target[of], image[of], strict=True)] for of in "zg")
    return {
        "r_z": sum(z),
        "product": sum(a * b for a, b in zip(z, g, strict=True)),
        "product_of_sums": sum(z) * sum(g),
        "sum": sum(z) + sum(g),
    }[combine]


@pytest.mark.parametrize("m", [4, 15])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("combine", ["r_z", *R_ZG])
def test_picks_are_those_of_algorithm_1_by_loops(combine, seed, m):
    """Greedy k-center where there are more targets than picks, then best matches, second-best ones, and so on."""
    draws, n, p = seeded(seed), 30, 9
    raw = [
        {of: {tap: torch.randn(k, w, generator=draws) for tap, w in (("a", 5), ("b", 7))} for of in "zg"}
        for k in (n, m)
    ]
    pool, targets = (Descriptors.of(part["z"], part["g"]) for part in raw)
    images, wanted = (
        [{of: [rows[i] for rows in part[of].values()] for of in "zg"} for i in range(k)]
        for part, k in zip(raw, (n, m), strict=True)
    )
    kept, generator = list(range(m)), seeded(seed)
    if m > p:
        kept = [int(torch.randint(m, (), generator=generator))]
        while len(kept) < p:
            near = {t: max(similarity(combine, wanted[c], wanted[t]) for c in kept) for t in range(m) if t not in kept}
            kept.append(min(near, key=near.__getitem__))
    ranked = []
    for t in kept:
        alike = [similarity(combine, wanted[t], image) for image in images]
        best = sorted(range(n), key=lambda i, alike=alike: -alike[i])
        ranked += [(rank, -alike[i], i) for rank, i in enumerate(best)]
    expected = list(dict.fromkeys(i for _, _, i in sorted(ranked)))[:p]
    if combine == "r_z":
        picks = select_pcc(Features(pool, targets), p, seeded(seed))
    else:
        picks = select_pfk(scores(pool, targets), p, seeded(seed), combine=combine)
    assert picks.positions.tolist() == expected
