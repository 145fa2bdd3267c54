import pytest
import torch

from fkal.core.centers import k_center
from fkal.core.descriptors import Descriptors
from fkal.core.kernels import R_ZG, r_z


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def greedy(similarity: list[list[float]], first: int, p: int) -> list[int]:
    """The next is the one whose largest similarity to the chosen ones is smallest."""
    chosen = [first]
    while len(chosen) < p:
        rest = [t for t in range(len(similarity)) if t not in chosen]
        chosen.append(min(rest, key=lambda t: (max(similarity[c][t] for c in chosen), t)))
    return chosen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("combine", list(R_ZG))
def test_each_center_is_the_one_least_similar_to_those_before(raw, paper, combine, seed):
    targets = raw(9, seed=seed)
    rows = k_center(targets.descriptors, 6, kernel=R_ZG[combine], generator=seeded(seed)).tolist()
    assert rows == greedy(paper.r_zg(combine, targets, targets).tolist(), rows[0], 6)


def test_features_alone_give_centers_by_r_z(raw, paper):
    targets = raw(9, seed=5)
    rows = k_center(Descriptors.of(targets.z), 9, kernel=r_z, generator=seeded(1)).tolist()
    assert rows == greedy(paper.r(targets.z, targets.z).tolist(), rows[0], 9)


@pytest.mark.parametrize("seed", range(5))
def test_of_equally_dissimilar_targets_the_smaller_row_is_taken(whole, seed):
    targets = whole(12, seed=seed)
    rows = k_center(targets, 12, kernel=r_z, generator=seeded(seed)).tolist()
    assert rows == greedy(r_z(targets, targets).tolist(), rows[0], 12)


@pytest.mark.parametrize("p", [1, 2, 7, 8])
def test_centers_are_distinct_even_among_identical_targets(p):
    targets = Descriptors.of({"fc": torch.tensor([[1.0, 2.0, 4.0]]).repeat(8, 1)})
    rows = k_center(targets, p, kernel=r_z, generator=seeded(0)).tolist()
    assert len(set(rows)) == p
    assert set(rows) <= set(range(8))


@pytest.mark.parametrize("seed", range(5))
def test_as_many_centers_as_clusters_take_one_of_each(seed):
    clusters = torch.arange(12) % 3
    targets = Descriptors.of({"fc": torch.eye(3)[clusters]})
    rows = k_center(targets, 3, kernel=r_z, generator=seeded(seed))
    assert sorted(clusters[rows].tolist()) == [0, 1, 2]


def test_the_generator_alone_decides_the_first_center(raw):
    targets = raw(4, seed=6).descriptors
    firsts = [int(k_center(targets, 1, kernel=r_z, generator=seeded(seed))[0]) for seed in range(40)]
    assert set(firsts) == {0, 1, 2, 3}
    assert firsts == [int(k_center(targets, 1, kernel=r_z, generator=seeded(seed))[0]) for seed in range(40)]


@pytest.mark.parametrize("p", [-1, 0, 5])
def test_more_centers_than_targets_or_none_are_refused(raw, p):
    with pytest.raises(ValueError, match=f"{p} centers of 4 targets; ask for 1 to 4"):
        k_center(raw(4, seed=7).descriptors, p, kernel=r_z, generator=seeded(0))
