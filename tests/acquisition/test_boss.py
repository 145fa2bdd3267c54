"""BoSS on small pools: what it chooses, held against its parts and against loops."""

from dataclasses import replace

import pytest
import torch

from fkal.acquisition import boss
from fkal.acquisition.boss import STRATEGIES, WITHOUT_MODEL, select
from fkal.core.evidence import Outputs, Revealed
from fkal.core.picks import Picks

D = 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(n: int = 60, labeled: int = 6, known: int = 30, seed: int = 0) -> Revealed:
    """Classes are apart, and the first is most of the pool."""
    draws = seeded(seed)

    def outputs(y: torch.Tensor) -> Outputs:
        features = torch.nn.functional.one_hot(y, 5).float() * 2 + torch.randn(len(y), 5, generator=draws)
        return Outputs(torch.randn(len(y), D, generator=draws), features)

    y_pool = torch.where(torch.rand(n, generator=draws) < 0.9, 0, torch.randint(D, (n,), generator=draws))
    y, y_v = torch.randint(D, (labeled,), generator=draws), torch.arange(known) % D
    weight = torch.randn(D, 5, generator=draws)
    return Revealed(outputs(y_pool), outputs(y), y, y_pool=y_pool, weight=weight, known=outputs(y_v), y_v=y_v)


def test_the_batch_is_the_best_of_all_that_were_offered(monkeypatch):
    offered = []

    def noted(strategy):
        def ask(evidence: Revealed, p: int, generator: torch.Generator) -> Picks:
            assert 16 <= evidence.n <= 60 and len(evidence.y_pool) == evidence.n
            offered.append((evidence, strategy(evidence, p, generator)))
            return offered[-1][1]

        return ask

    monkeypatch.setattr(boss, "STRATEGIES", {name: noted(each) for name, each in STRATEGIES.items()})
    evidence = made()
    chosen = select(evidence, 4, seeded())
    assert len(offered) == boss.BATCHES
    errors = []
    for part, picks in offered:
        rows = torch.cat([(evidence.pool.logits == row).all(dim=1).nonzero()[0] for row in part.pool.logits])
        errors.append(boss._error(evidence, rows[picks.positions].sort().values))
    assert boss._error(evidence, chosen.positions) == min(errors) < max(errors)


def test_before_the_first_label_no_strategy_asks_the_model(monkeypatch):
    names = []

    def noted(name: str):
        def ask(evidence: Revealed, p: int, generator: torch.Generator) -> Picks:
            names.append(name)
            return STRATEGIES[name](evidence, p, generator)

        return ask

    monkeypatch.setattr(boss, "STRATEGIES", {name: noted(name) for name in STRATEGIES})
    select(made(labeled=0), 4, seeded())
    assert set(names) == WITHOUT_MODEL


def test_the_error_is_the_mean_over_classes():
    evidence = made()
    rare = evidence.y_v != 2
    fewer = replace(evidence, known=evidence.known[torch.cat([rare.nonzero()[:, 0], torch.tensor([2])])])
    fewer = replace(fewer, y_v=torch.cat([evidence.y_v[rare], torch.tensor([2])]))
    batch = torch.arange(8)
    wrong = round(boss._error(fewer, batch) * D * 10)
    assert boss._error(fewer, batch) * D * 10 == pytest.approx(wrong)


@pytest.mark.parametrize("seed", range(4))
def test_typiclass_takes_the_class_with_fewest_labels_and_its_middle(seed):
    evidence = made(seed=seed)
    counts, taken = [int((evidence.y == c).sum()) for c in range(D)], []
    for pick in STRATEGIES["typiclass"](evidence, 12, seeded()).positions.tolist():
        left = [[a for a in range(60) if int(evidence.y_pool[a]) == c and a not in taken] for c in range(D)]
        c = min((c for c in range(D) if left[c]), key=lambda c: counts[c])
        rows = evidence.pool.features[left[c]].double()
        sums = [float((rows - row).square().sum()) for row in rows]
        assert pick in left[c] and sums[left[c].index(pick)] == pytest.approx(min(sums))
        taken.append(pick)
        counts[c] += 1


def test_it_teaches_more_than_a_random_batch():
    evidence = made(n=300, known=90, seed=5)
    chosen = boss._error(evidence, select(evidence, 6, seeded()).positions)
    random = [boss._error(evidence, torch.randperm(300, generator=seeded(s))[:6].sort().values) for s in range(5)]
    assert chosen < min(random)


def test_more_picks_than_images_are_refused():
    with pytest.raises(ValueError, match="61 picks"):
        select(made(), 61, seeded())


def test_a_pool_of_as_many_images_as_picks_is_taken_whole():
    assert select(made(n=7), 7, seeded()).positions.tolist() == list(range(7))
