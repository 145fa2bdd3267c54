"""Two stages of greedy covering beside one stage."""

import pytest
import torch

from fkal.core.facility_location import facility_location
from fkal.core.partitioned_cover import objective, partitioned_cover
from fkal.core.pool_parts import Parts
from fkal.core.row_stream import RowStream

TARGETS = torch.randn(30, 6, generator=torch.Generator().manual_seed(2))
ABOUT = {"weights": torch.ones(30), "covered": torch.zeros(30)}


def of_seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def similarity(rows: torch.Tensor) -> torch.Tensor:
    return rows @ TARGETS.T


@pytest.fixture
def pool() -> torch.Tensor:
    return torch.randn(240, 6, generator=of_seed(1))


def streamed(pool: torch.Tensor, reads: list[int] | None = None) -> RowStream:
    def read(rows: torch.Tensor | slice) -> torch.Tensor:
        found = pool[rows].clone()
        if reads is not None:
            reads.append(len(found))
        return found

    return RowStream((len(pool), pool.shape[1]), pool.dtype, pool.device, read)


def cover(pool, p: int, parts: Parts, seed: int = 0, **others):
    return partitioned_cover(
        pool, p, **{"similarity": similarity, **ABOUT, **others}, parts=parts, generator=of_seed(seed)
    )


def reached(pool: torch.Tensor, positions: torch.Tensor) -> float:
    return objective(lambda rows: similarity(pool[rows]), positions, **ABOUT)


def test_one_part_is_one_stage(pool):
    alone = facility_location(lambda rows: similarity(pool[rows]), 240, 9, **ABOUT, generator=of_seed(0))
    parts = cover(pool, 9, Parts(1))
    assert parts.positions.tolist() == alone.positions.tolist()
    assert parts.scores.tolist() == alone.scores.tolist()


@pytest.mark.parametrize("parts", [2, 5, 16])
@pytest.mark.parametrize("seed", range(3))
def test_parts_reach_nearly_what_one_stage_reaches_with_picks_of_their_own(pool, parts, seed):
    pool = pool[torch.randperm(240, generator=of_seed(seed))]
    alone = cover(pool, 9, Parts(1)).positions
    picks = cover(pool, 9, Parts(parts))
    assert len(set(picks.positions.tolist())) == 9
    assert reached(pool, picks.positions) >= 0.97 * reached(pool, alone)
    assert float(picks.scores.sum()) == pytest.approx(reached(pool, picks.positions), rel=1e-5)


def test_it_does_not_matter_which_part_is_done_first(pool):
    def last_first(work, parts):
        return [work(part) for part in reversed(parts)][::-1]

    about = {"epsilon": 0.5}  # so that what is drawn decides
    in_order, backwards = cover(pool, 9, Parts(8), **about), cover(pool, 9, Parts(8, last_first), **about)
    assert in_order.positions.tolist() == backwards.positions.tolist()
    assert in_order.scores.tolist() == backwards.scores.tolist()
    assert in_order.positions.tolist() != cover(pool, 9, Parts(8), seed=1, **about).positions.tolist()


def test_a_part_works_with_its_own_rows_alone(pool):
    """Elsewhere a part has its rows in memory and is picked from as here, whether the pool was streamed or not."""
    sent = []

    def elsewhere(work, parts):
        sent.extend(part.in_memory() for part in parts)
        return [work(part) for part in sent]

    here = cover(pool, 9, Parts(5))
    for rows in (pool, streamed(pool)):
        there = cover(rows, 9, Parts(5, elsewhere))
        assert there.positions.tolist() == here.positions.tolist()
        assert there.scores.tolist() == here.scores.tolist()
    assert [len(part.rows) for part in sent[5:]] == [48] * 5
    assert all(part.rows.untyped_storage().nbytes() == 48 * 6 * 4 for part in sent)


def test_a_streamed_pool_is_never_read_whole(pool, monkeypatch):
    for name in ("FEWEST_ROWS", "CACHED_ENTRIES"):
        monkeypatch.setattr(f"fkal.core.facility_location.{name}", 8)
    reads: list[int] = []
    assert cover(streamed(pool, reads), 9, Parts(4)).positions.tolist() == cover(pool, 9, Parts(4)).positions.tolist()
    assert max(reads) <= 32


def test_similarities_are_kept_for_one_part_at_a_time(pool, monkeypatch):
    """Those of all candidates together are too many, those of each part are not."""
    monkeypatch.setattr("fkal.core.facility_location.KEPT_ENTRIES", 60 * 30)
    seen = []

    def counted(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return similarity(rows)

    kept = cover(pool, 9, Parts(4), similarity=counted, keep=True)
    with_keeping = sum(seen)
    seen.clear()
    assert kept.positions.tolist() == cover(pool, 9, Parts(4), similarity=counted).positions.tolist()
    assert with_keeping < sum(seen)


def test_a_part_that_alone_reaches_more_than_the_union_is_kept():
    """Each part's first pick covers everything a little; the union prefers these to what completes each other."""
    rows = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.6, 0.6, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]])
    about = {"similarity": torch.clone, "weights": torch.ones(4), "covered": torch.zeros(4)}
    picks = cover(rows, 2, Parts(2), **about)
    alone = max(float(rows[part].amax(dim=0).sum()) for part in ([0, 1], [2, 3]))
    assert float(rows[picks.positions].amax(dim=0).sum()) >= alone


def test_a_bonus_counts_in_both_stages(pool):
    pool[[17, 201], 0] = 1000.0
    about = {"similarity": lambda rows: similarity(rows.clamp(max=3))}
    picks = cover(pool, 3, Parts(4), bonus=lambda rows: rows[:, 0], **about)
    assert {17, 201} <= set(picks.positions.tolist())


def test_more_parts_than_rows_give_all_they_have(pool):
    few = pool[:5]
    for count in (3, 5, 65_536):
        assert sorted(cover(few, 5, Parts(count)).positions.tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="6"):
        cover(few, 6, Parts(3))


def test_a_similarity_that_is_no_number_is_refused(pool):
    with pytest.raises(ValueError, match="a similarity is NaN"):
        cover(pool, 3, Parts(4), similarity=lambda rows: similarity(rows).mul_(torch.nan))
