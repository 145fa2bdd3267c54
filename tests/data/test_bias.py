import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fkal.data.bias import biased_pool, cut_classes, keep_counts, largest_remainder, rank_in_class, rare_classes
from fkal.data.settings import BiasConfig

MNIST_POOL = [4923, 5742, 4958, 5131, 4842, 4421, 4918, 5265, 4851, 4949]  # train less 1,000 a class
SVHN_KEPT, SVHN_CUT = [45550, 90560, 74740, 60765, 43787], [50000, 40000, 38000, 33000, 23596]
COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)
RATIOS = st.floats(1, 1000, allow_nan=False)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kept(counts: list[int], bias: BiasConfig, cut: tuple[int, ...] = ()) -> list[int]:
    return keep_counts(torch.tensor(counts), bias, cut).tolist()


def test_mnist_at_ratio_100_keeps_25596_and_255():
    counts = kept(MNIST_POOL, BiasConfig(ratio=100.0), (5, 6, 7, 8, 9))
    assert counts[:5] == MNIST_POOL[:5]
    assert (sum(counts[:5]), sum(counts[5:])) == (25_596, 255)


def test_svhn_at_ratio_100_keeps_315402_and_3154():
    counts = kept(SVHN_KEPT + SVHN_CUT, BiasConfig(ratio=100.0), (5, 6, 7, 8, 9))
    assert (sum(counts[:5]), sum(counts[5:])) == (315_402, 3_154)


def test_a_ratio_of_1_leaves_the_pool_as_it_is():
    assert kept([5, 7, 50], BiasConfig(), (2,)) == [5, 7, 50]


def test_a_cut_half_that_is_small_already_stays():
    assert kept([1000, 3], BiasConfig(ratio=2.0), (1,)) == [1000, 3]


def test_shares_go_by_largest_remainder_and_ties_to_the_lower_class():
    assert largest_remainder(10, [1, 1, 1]) == [4, 3, 3]
    assert largest_remainder(7, [50, 30, 20]) == [4, 2, 1]


def test_every_cut_class_keeps_an_image_where_there_are_enough():
    assert largest_remainder(3, [1000, 1, 1]) == [1, 1, 1]
    assert largest_remainder(2, [1000, 1, 1]) == [1, 1, 0]


def test_a_long_tail_falls_by_the_ratio_from_head_to_tail():
    assert kept([1000, 1000, 1000], BiasConfig(kind="long_tail", ratio=100.0)) == [1000, 100, 10]


def test_by_hand_keeps_the_written_fraction_exactly():
    bias = BiasConfig(kind="by_hand", fractions={0: 0.29, 2: 0.0, 3: 0.001})
    assert kept([100, 100, 100, 100], bias) == [29, 100, 0, 1]


def test_classes_that_the_dataset_lacks_are_refused():
    with pytest.raises(ValueError, match=r"classes \[7\].*0 to 2"):
        kept([1, 2, 3], BiasConfig(cut=(7,)), (7,))


@given(COUNTS, RATIOS, st.data())
def test_an_imbalance_meets_its_ratio_and_never_exceeds_what_exists(counts, ratio, data):
    cut = tuple(data.draw(st.sets(st.integers(0, len(counts) - 1))))
    after = kept(counts, BiasConfig(ratio=ratio), cut)
    rest, gone = ([c for c in range(len(counts)) if (c in cut) == is_cut] for is_cut in (False, True))
    assert all(0 <= a <= b for a, b in zip(after, counts, strict=True))
    assert all(after[c] == counts[c] for c in rest)
    before, left = sum(counts[c] for c in gone), sum(after[c] for c in gone)
    if ratio > 1:
        assert left <= sum(counts[c] for c in rest) / ratio or left == 0
        assert left == before or left + 1 > sum(counts[c] for c in rest) / ratio - 1e-6
    if left >= sum(counts[c] > 0 for c in gone):
        assert all(after[c] >= 1 for c in gone if counts[c])


@given(COUNTS, RATIOS)
def test_a_long_tail_keeps_some_of_every_class_that_has_any(counts, ratio):
    after = kept(counts, BiasConfig(kind="long_tail", ratio=ratio))
    assert all((a > 0) == (b > 0) and a <= b for a, b in zip(after, counts, strict=True))


def test_the_second_half_of_ten_classes_is_five_to_nine():
    assert cut_classes(10, "second_half", seeded()) == (5, 6, 7, 8, 9)
    assert cut_classes(5, "second_half", seeded()) == (3, 4)


def test_a_random_half_depends_on_the_seed_alone():
    first = cut_classes(100, "random_half", seeded(1))
    assert first == cut_classes(100, "random_half", seeded(1)) != cut_classes(100, "random_half", seeded(2))
    assert len(set(first)) == 50 and list(first) == sorted(first)


def test_an_unknown_cut_rule_is_refused():
    with pytest.raises(ValueError, match="second_half"):
        cut_classes(10, "third", seeded())


def test_rare_classes_are_named_also_where_nothing_is_cut():
    assert rare_classes(BiasConfig(), (2, 3), [9] * 4, [1] * 4) == (2, 3)
    assert rare_classes(BiasConfig(kind="long_tail", ratio=10.0), (), [9] * 5, [1] * 5) == (3, 4)
    assert rare_classes(BiasConfig(kind="by_hand", fractions={0: 0.5, 1: 1.0}), (), [9] * 4, [1] * 4) == (0,)


@pytest.mark.parametrize(
    ("pool", "validation", "rare"),
    [
        ([12, 300], [5, 5], (0,)),
        ([300, 12], [5, 5], (1,)),
        ([25, 75], [5, 5], ()),  # just half of its share of validation
        ([24, 76], [5, 5], (0,)),
        ([4, 16], [9, 1], (0,)),
        ([0, 7, 7], [2, 2, 2], (0,)),
    ],
)
def test_of_a_pool_that_is_left_as_it_is_rare_are_those_below_half_of_their_share_of_validation(pool, validation, rare):
    assert rare_classes(BiasConfig(kind="none"), (), pool, validation) == rare


def test_a_bias_of_none_keeps_every_image():
    assert keep_counts(torch.tensor([12, 300]), BiasConfig(kind="none"), (0,)).tolist() == [12, 300]


def test_a_pool_holds_what_the_counts_say_in_order_and_by_seed():
    labels = torch.arange(100) % 10
    bias, cut = BiasConfig(ratio=10.0), (5, 6, 7, 8, 9)
    pool = biased_pool(labels, bias, cut, seeded())
    assert labels[pool].bincount(minlength=10).tolist() == [10] * 5 + [1] * 5
    assert torch.equal(pool, pool.unique())
    assert torch.equal(pool, biased_pool(labels, bias, cut, seeded()))
    assert not torch.equal(pool, biased_pool(labels, bias, cut, seeded(1)))


def test_a_pool_of_a_higher_ratio_lies_within_that_of_a_lower():
    labels = torch.arange(1000) % 10
    mild, strong = (biased_pool(labels, BiasConfig(ratio=r), (5, 6, 7), seeded()) for r in (5.0, 50.0))
    assert set(strong.tolist()) < set(mild.tolist())


def test_ranks_count_earlier_entries_of_the_class():
    assert rank_in_class(torch.tensor([2, 0, 2, 2, 0])).tolist() == [0, 0, 1, 2, 1]
