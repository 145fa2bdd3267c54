import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from fkal.core.descriptors import Descriptors, loss_gradient, pooled, standardised


def rows(n: int, width: int, *, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_a_feature_map_is_averaged_over_its_positions():
    x = rows(3, 2 * 4 * 5, seed=0).view(3, 2, 4, 5)
    expected = torch.zeros(3, 2, dtype=torch.float64)
    for n in range(3):
        for c in range(2):
            expected[n, c] = sum(float(x[n, c, h, w]) for h in range(4) for w in range(5)) / 20
    assert_close(pooled(x).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (1, 3), (1, 1)])
def test_a_grid_averages_each_field_of_a_map(height, width):
    """Field i of `fields` reaches from i * side // fields up to, rounded up, (i + 1) * side / fields."""
    x = rows(3, 2 * height * width, seed=9).view(3, 2, height, width)
    fields = min(2, height), min(2, width)
    expected = []
    for n in range(3):
        row = []
        for c in range(2):
            for i in range(fields[0]):
                for j in range(fields[1]):
                    hs = range(i * height // fields[0], math.ceil((i + 1) * height / fields[0]))
                    ws = range(j * width // fields[1], math.ceil((j + 1) * width / fields[1]))
                    row.append(sum(float(x[n, c, h, w]) for h in hs for w in ws) / len(hs) / len(ws))
        expected.append(row)
    assert_close(pooled(x, 2).double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_a_grid_leaves_tokens_and_fully_connected_outputs_as_they_are():
    tokens, flat = rows(3, 8, seed=1).view(3, 4, 2), rows(3, 8, seed=2)
    assert torch.equal(pooled(tokens, 2), pooled(tokens))
    assert torch.equal(pooled(flat, 2), flat)


def test_tokens_are_averaged_and_a_fully_connected_output_stays_as_it_is():
    tokens = rows(3, 8, seed=1).view(3, 4, 2)
    assert_close(pooled(tokens), (tokens[:, 0] + tokens[:, 1] + tokens[:, 2] + tokens[:, 3]) / 4)
    flat = rows(3, 8, seed=2)
    assert torch.equal(pooled(flat), flat)


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2, 2, 2)])
def test_a_tensor_of_another_rank_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=r"shape \(3,.*tap a layer that returns"):
        pooled(torch.zeros(shape))


def test_standardised_rows_have_zero_mean_and_unit_length():
    block = rows(5, 6, seed=3)
    expected = torch.zeros(5, 6, dtype=torch.float64)
    for i in range(5):
        values = [float(v) for v in block[i]]
        mean = sum(values) / 6
        length = sum((v - mean) ** 2 for v in values) ** 0.5
        expected[i] = torch.tensor([(v - mean) / length for v in values])
    assert_close(standardised(block).double(), expected, rtol=1e-5, atol=1e-6)


def test_dot_products_of_standardised_rows_are_pearson_correlations():
    a, b = rows(4, 9, seed=4), rows(3, 9, seed=5) * 100 + 7
    expected = [[np.corrcoef(p.double(), q.double())[0, 1] for q in b] for p in a]
    assert_close((standardised(a) @ standardised(b).T).double(), torch.tensor(expected), rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(2, 12),
    scale=st.integers(-30, 30).map(lambda power: 10.0**power),
    shift=st.floats(-100, 100),
)
def test_standardising_ignores_a_positive_scale_and_a_shift(seed, width, scale, shift):
    block = rows(3, width, seed=seed, dtype=torch.float64)
    assert_close(standardised(scale * (block + shift)), standardised(block), rtol=1e-6, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(2, 12), power=st.integers(-36, 36))
def test_float32_gradients_of_any_size_keep_their_direction(seed, width, power):
    block = rows(3, width, seed=seed)
    assert_close(standardised(block * 10.0**power), standardised(block), rtol=1e-4, atol=1e-5)


def test_gradients_of_1e_30_are_not_taken_for_zero():
    expected = torch.tensor([[1.0, 0.0, -1.0]]) / 2**0.5
    assert_close(standardised(torch.tensor([[3e-30, 2e-30, 1e-30]])), expected)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3, -2e-30, 12345.678])
@pytest.mark.parametrize("width", [1, 2, 3, 7, 50])
def test_a_constant_row_becomes_zeros(value, width):
    block = torch.full((2, width), value)
    assert torch.equal(standardised(block), torch.zeros(2, width))


def test_a_small_variation_on_a_large_mean_is_no_constant():
    block = torch.tensor([[1000.0, 1000.0, 1000.5]])
    expected = torch.tensor([[-1.0, -1.0, 2.0]]) / 6**0.5
    assert_close(standardised(block), expected, rtol=1e-3, atol=0.0)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    block = rows(4, 5, seed=6)
    block[2] = 1.0
    for i in range(4):
        assert torch.equal(standardised(block)[i : i + 1], standardised(block[i : i + 1]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_is_not_finite_stays_visible_as_nan(bad):
    block = rows(2, 4, seed=7)
    block[1, 2] = bad
    result = standardised(block)
    assert result[1].isnan().all()
    assert result[0].isfinite().all()


def test_descriptors_standardise_each_tap_on_its_own(raw):
    z, g = raw(3, seed=0)
    descriptors = Descriptors.of(z, g)
    assert len(descriptors) == 3
    for tap in z:
        assert torch.equal(descriptors.z[tap], standardised(z[tap]))
        assert torch.equal(descriptors.g[tap], standardised(g[tap]))


def test_blocks_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"blocks of \[2, 3\] rows; give every tap one row an image"):
        Descriptors({"a": torch.zeros(2, 1)}, {"a": torch.zeros(3, 1)})


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_blocks_concatenated_give_the_descriptors_back(raw, size):
    whole = raw(7, seed=1).descriptors
    firsts, parts = zip(*whole.blocks(size), strict=True)
    assert list(firsts) == list(range(0, 7, size))
    assert all(len(part) <= size for part in parts)
    again = Descriptors.concatenated(parts)
    for tap in whole.z:
        assert torch.equal(again.z[tap], whole.z[tap])
        assert torch.equal(again.g[tap], whole.g[tap])


def test_indexing_takes_the_rows_of_every_tap_in_the_order_asked_for(raw):
    whole = raw(5, seed=2).descriptors
    chosen = whole[torch.tensor([4, 0, 4])]
    for tap in whole.z:
        assert torch.equal(chosen.z[tap], torch.stack([whole.z[tap][row] for row in (4, 0, 4)]))
        assert torch.equal(chosen.g[tap], torch.stack([whole.g[tap][row] for row in (4, 0, 4)]))


@pytest.mark.parametrize("gap", [0.0, 3.0, 20.0, 60.0, 600.0])
def test_the_loss_gradient_keeps_its_direction_however_certain_the_model(gap):
    logits = torch.tensor([[gap, 0.0, 1.0], [0.0, gap, 1.0]])
    y = torch.tensor([0, 0])
    for row, told in zip(logits.tolist(), loss_gradient(logits, y), strict=True):
        p = [math.exp(v - max(row)) / sum(math.exp(w - max(row)) for w in row) for v in row]
        paper = [-(p[1] + p[2]), p[1], p[2]]
        assert_close(told.double(), torch.tensor([v / max(map(abs, paper)) for v in paper]).double())


def test_a_row_whose_gradient_is_gone_is_zero():
    assert torch.equal(loss_gradient(torch.tensor([[1000.0, 0.0]]), torch.tensor([0])), torch.zeros(1, 2))
