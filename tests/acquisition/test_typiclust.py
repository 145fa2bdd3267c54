"""Clusters that k-means cannot miss, with a known most typical image each."""

import pytest
import torch
from sklearn import cluster
from threadpoolctl import threadpool_info
from torch import Tensor

from fkal.acquisition import typiclust
from fkal.acquisition.clusters import k_means
from fkal.acquisition.typiclust import select
from fkal.core.evidence import Outputs, Supervised

N_CLUSTERS = 6
ANGLES = torch.arange(N_CLUSTERS) * (2 * torch.pi / N_CLUSTERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def around(clusters: list[int], spread: Tensor) -> Tensor:
    """Points on the circle, each off its cluster's middle by its spread."""
    angles = ANGLES[clusters] + spread
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def supervised(pool: Tensor, labeled: Tensor) -> Supervised:
    logits = torch.zeros(len(pool), 3), torch.zeros(len(labeled), 3)
    y = torch.zeros(len(labeled), dtype=torch.long)
    return Supervised(Outputs(logits[0], pool), Outputs(logits[1], labeled), y)


def pool_of(sizes: list[int], seed: int) -> tuple[Tensor, list[int]]:
    clusters = [c for c, size in enumerate(sizes) for _ in range(size)]
    return around(clusters, 0.3 * (torch.rand(len(clusters), generator=seeded(seed)) - 0.5)), clusters


def slow_most_typical(rows: Tensor) -> int:
    k = min(20, len(rows) // 2)

    def typicality(i: int) -> float:
        distances = sorted(float((rows[i] - rows[j]).norm()) for j in range(len(rows)) if j != i)
        return 1 / (sum(distances[:k]) / k)

    return max(range(len(rows)), key=typicality)


@pytest.mark.parametrize("seed", range(4))
def test_each_cluster_gives_its_most_typical_image_large_clusters_first(seed):
    sizes = [12, 40, 30, 20, 60, 50]
    pool, clusters = pool_of(sizes, seed)
    picks = select(supervised(pool.double(), pool[:0].double()), 6, seeded(seed))
    expected = []
    for c in sorted(range(6), key=lambda c: -sizes[c]):
        members = [i for i, own in enumerate(clusters) if own == c]
        expected.append(members[slow_most_typical(pool[members].double())])
    assert picks.positions.tolist() == expected


def test_clusters_with_labels_wait_until_the_others_had_their_turn():
    pool, clusters = pool_of([30] * 6, 1)
    labeled = around([0, 1, 1, 2], torch.zeros(4))
    picks = select(supervised(pool, labeled), 2, seeded())  # 4 labels + 2 picks: six clusters
    assert {clusters[i] for i in picks.positions.tolist()} <= {3, 4, 5}
    assert len({clusters[i] for i in picks.positions.tolist()}) == 2


def test_small_clusters_wait_until_the_others_are_used_up():
    """The authors' program drops them: turns go over the other clusters alone."""
    pool, clusters = pool_of([20, 3, 20, 2, 20, 20], 2)
    picks = select(supervised(pool, pool[:0]), 6, seeded())
    assert {clusters[i] for i in picks.positions[:4].tolist()} == {0, 2, 4, 5}
    assert {clusters[i] for i in picks.positions[4:].tolist()} <= {0, 2, 4, 5}
    everything = select(supervised(pool, pool[:0]), 85, seeded())
    assert sorted(everything.positions.tolist()) == list(range(85))


def slow_turns(pool: Tensor, labeled: Tensor, found: list[int], p: int) -> list[int]:
    """The authors' loop: clusters of more than five images, by few labels and then by many images, turn after turn."""
    n, of_row = len(pool), found[: len(pool)]
    size, known = {c: found.count(c) for c in found}, {c: found[n:].count(c) for c in found}
    order = sorted((c for c in size if size[c] > 5), key=lambda c: (known[c], -size[c]))
    picked: list[int] = []
    turn = 0
    while len(picked) < p:
        members = [i for i in range(n) if of_row[i] == order[turn % len(order)] and i not in picked]
        if members:
            picked.append(members[slow_most_typical(pool[members])])
        turn += 1
    return picked


@pytest.mark.parametrize("seed", range(3))
def test_the_turns_are_those_of_the_authors_program(seed, monkeypatch):
    """Under given clusters: some small, some with labels, fewer than the picks."""
    draws = seeded(seed)
    pool, labeled = (torch.randn(n, 5, generator=draws, dtype=torch.float64) for n in (70, 8))
    found = torch.randint(5, (78,), generator=draws)
    found[torch.tensor([3, 9, 70])] = 5
    monkeypatch.setattr("fkal.acquisition.typiclust.k_means", lambda rows, k, generator: found)
    picks = select(supervised(pool, labeled), 21, seeded())
    rows = torch.nn.functional.normalize(pool, dim=1)
    assert picks.positions.tolist() == slow_turns(rows, labeled, found.tolist(), 21)


def test_k_means_finds_the_same_clusters_for_the_same_seed_and_takes_copies():
    rows, clusters = pool_of([30] * 6, 3)
    found = [k_means(rows, 6, seeded(4)) for _ in range(2)]
    assert torch.equal(*found)
    together = found[0][:, None] == found[0]
    truly = torch.tensor(clusters)[:, None] == torch.tensor(clusters)
    assert torch.equal(together, truly)
    assert len(k_means(torch.ones(8, 2), 5, seeded()).unique()) == 1


@pytest.mark.parametrize(("k", "algorithm"), [(6, "KMeans"), (60, "MiniBatchKMeans")])
def test_k_means_works_with_as_many_threads_as_torch(monkeypatch, k, algorithm):
    seen: list[int] = []
    fit_predict = getattr(cluster, algorithm).fit_predict

    def spied(self, rows):
        seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp")
        return fit_predict(self, rows)

    monkeypatch.setattr(getattr(cluster, algorithm), "fit_predict", spied)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        k_means(torch.randn(200, 4, generator=seeded()), k, seeded())
    finally:
        torch.set_num_threads(before)
    assert seen and set(seen) == {1}


@pytest.mark.parametrize("n", [30, 31])
def test_distances_in_blocks_find_the_same_images(n, monkeypatch):
    rows, _ = pool_of([n] * 3, 3)
    evidence = supervised(rows, torch.empty(0, rows.shape[1], dtype=rows.dtype))
    whole = select(evidence, 8, seeded(1))
    monkeypatch.setattr(typiclust, "ENTRIES", 5 * n)
    parts = select(evidence, 8, seeded(1))
    assert parts.positions.tolist() == whole.positions.tolist()
    assert torch.allclose(parts.scores, whole.scores)
