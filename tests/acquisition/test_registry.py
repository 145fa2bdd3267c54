"""The contract that every acquisition keeps."""

import pytest
import torch

from fkal.acquisition import ACQUISITIONS, acquisition
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import Evidence, Features, FisherScores, Nothing
from fkal.core.kernels import R_ZG

OPTIONS = {"combine": list(R_ZG)}
"""Every value of every option that an acquisition may take."""


def variants() -> list:
    found = []
    for name, entry in ACQUISITIONS.items():
        choices = [{}]
        for option in entry.options:
            choices = [{**chosen, option: value} for chosen in choices for value in OPTIONS[option]]
        found += [pytest.param(name, chosen, id="-".join([name, *chosen.values()])) for chosen in choices]
    return found


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def evidence(needs: type[Evidence], *, n: int, targets: int, seed: int = 0) -> Evidence:
    draws = seeded(seed)

    def described(rows: int, with_grad: bool) -> Descriptors:
        z = {tap: torch.rand(rows, width, generator=draws) for tap, width in (("a", 4), ("b", 6))}
        g = {tap: torch.randn(rows, width, generator=draws) for tap, width in (("a", 4), ("b", 6))}
        return Descriptors.of(z, g if with_grad else None)

    if needs is Nothing:
        return Nothing(n)
    if needs is Features:
        return Features(described(n, False), described(targets, False))
    assert needs is FisherScores
    return FisherScores(described(n, True), described(targets, True), torch.randint(3, (n,), generator=draws))


@pytest.mark.parametrize(("name", "options"), variants())
@pytest.mark.parametrize("targets", [1, 3, 6, 7, 15])
@pytest.mark.parametrize("p", [1, 6, 20])
def test_it_picks_p_distinct_positions_of_the_pool(name, options, targets, p):
    entry = ACQUISITIONS[name]
    seen = evidence(entry.needs, n=20, targets=targets)
    picks = entry.select(seen, p, seeded(0), **options)
    positions = picks.positions.tolist()
    assert picks.positions.dtype == torch.long
    assert len(positions) == len(set(positions)) == p
    assert set(positions) <= set(range(20))
    for column in (picks.ranks, picks.scores, picks.targets):
        assert column is None or column.shape == (p,)
    if picks.targets is not None:
        assert set(picks.targets.tolist()) <= set(range(targets))


@pytest.mark.parametrize(("name", "options"), variants())
@pytest.mark.parametrize("targets", [3, 15])
def test_the_same_generator_seed_gives_the_same_choice(name, options, targets):
    entry = ACQUISITIONS[name]
    choices = []
    for _ in range(2):
        seen = evidence(entry.needs, n=20, targets=targets)
        choices.append(entry.select(seen, 5, seeded(7), **options).positions)
        torch.rand(3)  # what others draw must not matter
    assert torch.equal(*choices)


@pytest.mark.parametrize(("name", "options"), variants())
@pytest.mark.parametrize("targets", [3, 40])
@pytest.mark.parametrize("p", [21, 100])
def test_more_picks_than_the_pool_has_are_refused(name, options, targets, p):
    entry = ACQUISITIONS[name]
    seen = evidence(entry.needs, n=20, targets=targets)
    with pytest.raises(ValueError, match="20"):
        entry.select(seen, p, seeded(0), **options)


@pytest.mark.parametrize(("name", "options"), variants())
def test_evidence_is_left_as_it_was(name, options):
    entry = ACQUISITIONS[name]
    seen, untouched = (evidence(entry.needs, n=20, targets=9) for _ in range(2))
    entry.select(seen, 4, seeded(0), **options)
    if isinstance(seen, Features):
        for after, before in ((seen.pool, untouched.pool), (seen.targets, untouched.targets)):
            for tap in before.z:
                assert torch.equal(after.z[tap], before.z[tap])
            for tap in before.g:
                assert torch.equal(after.g[tap], before.g[tap])


@pytest.mark.parametrize("name", list(ACQUISITIONS))
def test_it_says_what_it_is_and_where_it_comes_from(name):
    entry = acquisition(name)
    assert entry is ACQUISITIONS[name]
    assert entry.summary
    assert entry.reference


def test_an_unknown_name_is_refused_with_the_closest_one():
    with pytest.raises(ValueError, match=r"unknown acquisition 'pkf'; did you mean 'pfk'\? known: random, pcc, pfk"):
        acquisition("pkf")
    with pytest.raises(ValueError, match=r"unknown acquisition 'zzzzzz'; known: random, pcc, pfk"):
        acquisition("zzzzzz")
