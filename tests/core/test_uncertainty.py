import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fkal.core import uncertainty as U

MEASURES = (U.variation_ratio, U.entropy, U.mutual_information, U.mean_std)
ROUNDING = 1e-9


def probabilities(k: int, n: int, d: int, *, seed: int, sharpness: float = 1.0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(k, n, d, generator=draws, dtype=torch.float64)).softmax(dim=2)


def nats(p: list[float]) -> float:
    return -sum(v * math.log(v) for v in p if v > 0)


class Slow:
    """Each measure of one image, from its k rows of d probabilities, as its paper writes it."""

    @staticmethod
    def variation_ratio(passes: list[list[float]]) -> float:
        votes = Counter(row.index(max(row)) for row in passes)
        return 1 - max(votes.values()) / len(passes)

    @staticmethod
    def entropy(passes: list[list[float]]) -> float:
        return nats([sum(column) / len(passes) for column in zip(*passes, strict=True)])

    @classmethod
    def mutual_information(cls, passes: list[list[float]]) -> float:
        return cls.entropy(passes) - sum(nats(row) for row in passes) / len(passes)

    @staticmethod
    def mean_std(passes: list[list[float]]) -> float:
        total = 0.0
        for column in zip(*passes, strict=True):
            mean = sum(column) / len(passes)
            total += math.sqrt(sum((v - mean) ** 2 for v in column) / len(passes))
        return total / len(passes[0])


some_probabilities = st.builds(
    probabilities,
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(2, 6),
    seed=st.integers(0, 10_000),
    sharpness=st.sampled_from([0.0, 0.3, 2.0, 40.0, 1000.0]),
)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("k", "n", "d"), [(1, 3, 4), (2, 5, 2), (7, 4, 3), (16, 2, 10)])
@pytest.mark.parametrize("sharpness", [0.5, 5.0, 1000.0])
def test_each_measure_is_as_its_paper_writes_it(measure, k, n, d, sharpness):
    p = probabilities(k, n, d, seed=k, sharpness=sharpness)
    expected = [getattr(Slow, measure.__name__)(p[:, i].tolist()) for i in range(n)]
    assert_close(measure(p), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_the_four_measures_of_a_batch_stand_under_their_names():
    p = probabilities(5, 6, 3, seed=0)
    found = U.uncertainty(p)
    assert found.n == 6
    for measure in MEASURES:
        assert torch.equal(getattr(found, measure.__name__), measure(p))


@settings(max_examples=60, deadline=None)
@given(p=some_probabilities)
def test_no_measure_leaves_its_bounds(p):
    k, _, d = p.shape
    varr, entropy, bald, std = (measure(p) for measure in MEASURES)
    assert (varr >= 0).all()
    assert (varr <= 1 - 1 / min(k, d) + ROUNDING).all()  # some class has at least that share of the votes
    assert (entropy >= 0).all()
    assert (entropy <= math.log(d) + ROUNDING).all()
    assert (bald >= 0).all()
    assert (bald <= entropy + ROUNDING).all()
    assert (bald <= math.log(k) + ROUNDING).all()  # a pass's number tells no more
    assert (std >= 0).all()
    assert (std <= 0.5 + ROUNDING).all()  # of values in [0, 1]


@settings(max_examples=30, deadline=None)
@given(p=some_probabilities, seed=st.integers(0, 1000))
def test_the_order_of_the_passes_changes_nothing(p, seed):
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))
    for measure in MEASURES:
        assert_close(measure(p[order]), measure(p), rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(p=some_probabilities)
def test_passes_counted_twice_change_nothing(p):
    """So the passes of an ensemble's members can be pooled."""
    for measure in MEASURES:
        assert_close(measure(torch.cat([p, p])), measure(p), rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(p=some_probabilities)
def test_where_all_passes_agree_only_the_entropy_of_one_pass_is_left(p):
    agreed = p[:1].expand(5, -1, -1)
    assert torch.equal(U.variation_ratio(agreed), torch.zeros(p.shape[1], dtype=p.dtype))
    assert_close(U.mutual_information(agreed), torch.zeros(p.shape[1], dtype=p.dtype), rtol=0, atol=ROUNDING)
    assert_close(U.mean_std(agreed), torch.zeros(p.shape[1], dtype=p.dtype), rtol=0, atol=ROUNDING)
    assert_close(U.entropy(agreed), torch.special.entr(p[0]).sum(dim=1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("measure", MEASURES)
def test_an_image_does_not_depend_on_those_beside_it(measure, dtype):
    p = probabilities(6, 5, 4, seed=3).to(dtype)
    whole = measure(p)
    assert whole.dtype == dtype
    for i in range(5):
        assert_close(measure(p[:, i : i + 1]), whole[i : i + 1])


def test_agreement_in_float32_is_never_below_zero():
    p = (3 * torch.randn(1, 2000, 10, generator=torch.Generator().manual_seed(4))).softmax(dim=2).expand(7, -1, -1)
    assert (U.mutual_information(p) >= 0).all()


def test_a_tie_within_a_pass_is_a_vote_for_the_smaller_class():
    p = torch.tensor([[[0.5, 0.5, 0.0]], [[0.5, 0.5, 0.0]], [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]])
    assert U.variation_ratio(p).tolist() == [0.25]


def test_hand_made_passes_are_told_apart():
    """Sure; unsure alike in every pass; each pass sure of another class."""
    sure, flat = [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]
    p = torch.tensor([[sure, flat, sure], [sure, flat, [0.0, 1.0, 0.0]], [sure, flat, [0.0, 0.0, 1.0]]])
    assert_close(U.entropy(p), torch.tensor([0.0, math.log(3), math.log(3)]))
    assert_close(U.mutual_information(p), torch.tensor([0.0, 0.0, math.log(3)]), rtol=1e-5, atol=1e-6)
    assert_close(U.variation_ratio(p), torch.tensor([0.0, 0.0, 2 / 3]))
    assert_close(U.mean_std(p), torch.tensor([0.0, 0.0, math.sqrt(2) / 3]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_pass_that_is_nan_makes_its_images_measure_nan_and_no_other(measure):
    p = probabilities(4, 3, 5, seed=5)
    p[2, 1, 3] = torch.nan
    assert measure(p).isnan().tolist() == [False, True, False]
