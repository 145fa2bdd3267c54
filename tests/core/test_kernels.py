import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import R_ZG, closest, r_g, r_z, r_zg_product, r_zg_product_of_sums, r_zg_sum, top_matches

EXACT = [float("-inf"), -2.0, -1.0, -1e-30, -0.0, 0.0, 1e-30, 0.5, 1.0, float("inf")]


def test_r_z_is_the_sum_over_taps_of_pearson_correlations(raw, paper):
    targets, pool = raw(3, seed=0), raw(6, seed=1)
    assert_close(r_z(targets.descriptors, pool.descriptors).double(), paper.r(targets.z, pool.z), rtol=1e-4, atol=1e-5)


def test_r_g_is_the_same_of_the_gradients(raw, paper):
    targets, pool = raw(3, seed=2), raw(6, seed=3)
    assert_close(r_g(targets.descriptors, pool.descriptors).double(), paper.r(targets.g, pool.g), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("combine", ["product", "product_of_sums", "sum"])
def test_each_reading_of_equation_12_is_as_the_paper_writes_it(raw, paper, combine):
    targets, pool = raw(4, seed=4), raw(5, seed=5)
    expected = paper.r_zg(combine, targets, pool)
    assert_close(R_ZG[combine](targets.descriptors, pool.descriptors).double(), expected, rtol=1e-4, atol=1e-5)


def test_the_three_readings_are_all_there_are_and_differ(raw):
    assert dict(R_ZG) == {"product": r_zg_product, "product_of_sums": r_zg_product_of_sums, "sum": r_zg_sum}
    targets, pool = raw(4, seed=4).descriptors, raw(5, seed=5).descriptors
    a, b, c = (kernel(targets, pool) for kernel in R_ZG.values())
    assert not torch.allclose(a, b)
    assert not torch.allclose(a, c)
    assert not torch.allclose(b, c)


def test_for_one_tap_product_and_product_of_sums_are_one(raw):
    targets, pool = ({tap: blocks[tap] for tap in ("fc1",)} for blocks in (raw(3, seed=6).z, raw(4, seed=7).z))
    a, b = Descriptors.of(targets, targets), Descriptors.of(pool, pool)
    assert_close(r_zg_product(a, b), r_zg_product_of_sums(a, b))


@pytest.mark.parametrize("kernel", [r_z, r_g, *R_ZG.values()])
def test_the_order_of_the_taps_changes_nothing(raw, kernel):
    targets, pool = raw(3, seed=8), raw(4, seed=9)
    turned = Descriptors.of(dict(reversed(pool.z.items())), dict(reversed(pool.g.items())))
    assert_close(kernel(targets.descriptors, turned), kernel(targets.descriptors, pool.descriptors))


def test_a_constant_row_is_similar_to_nothing(raw):
    targets, pool = raw(2, seed=10), raw(3, seed=11)
    for blocks in (*pool.z.values(), *pool.g.values()):
        blocks[1] = 0.25
    for kernel in (r_z, r_g, *R_ZG.values()):
        assert torch.equal(kernel(targets.descriptors, pool.descriptors)[:, 1], torch.zeros(2))


def test_product_is_the_gram_matrix_of_per_sample_weight_gradients_of_a_linear_layer():
    draws = torch.Generator().manual_seed(0)
    layer = nn.Linear(4, 3, bias=False, dtype=torch.float64)
    x = torch.randn(7, 4, generator=draws, dtype=torch.float64)
    y = torch.randint(3, (7,), generator=draws)
    weight_gradients, output_gradients = [], []
    for i in range(7):
        output = layer(x[i])
        output.retain_grad()
        layer.weight.grad = None
        F.cross_entropy(output, y[i]).backward()
        weight_gradients.append(layer.weight.grad.flatten().clone())
        output_gradients.append(output.grad)
    gradients = torch.stack(weight_gradients)
    factors = Descriptors({"fc": x}, {"fc": torch.stack(output_gradients)})
    assert_close(r_zg_product(factors[:3], factors[3:]), gradients[:3] @ gradients[3:].T)


@pytest.mark.parametrize("block_entries", [1, 3, 4, 8, 10, 12, 29, 1000])
@pytest.mark.parametrize("kernel", [r_z, *R_ZG.values()])
def test_streamed_matches_equal_those_of_the_full_matrix(raw, paper, kernel, block_entries):
    targets, pool = raw(4, seed=12).descriptors, raw(23, seed=13).descriptors
    dense = kernel(targets, pool)
    matches = top_matches(targets, pool, 6, kernel=kernel, block_entries=block_entries)
    expected = torch.tensor([paper.best_first(row)[:6] for row in dense.tolist()])
    assert torch.equal(matches.positions, expected)
    assert_close(matches.scores, dense.gather(1, expected))


@pytest.mark.parametrize("block_entries", [1, 5, 10, 15, 40, 1000])
@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_equal_scores_go_to_the_smaller_position_whatever_the_blocks(whole, paper, k, block_entries):
    targets, pool = whole(5, seed=14), whole(30, seed=15)
    dense = r_z(targets, pool)
    assert len(dense.unique()) <= 5  # 150 entries: ties everywhere
    matches = top_matches(targets, pool, k, kernel=r_z, block_entries=block_entries)
    expected = torch.tensor([paper.best_first(row)[:k] for row in dense.tolist()])
    assert torch.equal(matches.positions, expected)
    assert torch.equal(matches.scores, dense.gather(1, expected))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), m=st.integers(1, 4), n=st.integers(1, 12), block_entries=st.integers(1, 60))
def test_any_scores_infinities_and_signed_zeros_included_are_ranked_as_numbers(table, paper, data, m, n, block_entries):
    row = st.lists(st.sampled_from(EXACT), min_size=n, max_size=n)
    scores = torch.tensor(data.draw(st.lists(row, min_size=m, max_size=m)))
    k = data.draw(st.integers(1, n))
    kernel = table(scores)
    matches = top_matches(kernel.targets, kernel.pool, k, kernel=kernel, block_entries=block_entries)
    expected = torch.tensor([paper.best_first(row)[:k] for row in scores.tolist()])
    assert torch.equal(matches.positions, expected)
    assert torch.equal(matches.scores, scores.gather(1, expected))


def test_a_negative_zero_ties_with_zero(table):
    kernel = table(torch.tensor([[-0.0, 0.0, -0.0, 0.0, -1e-38]]))
    matches = top_matches(kernel.targets, kernel.pool, 5, kernel=kernel, block_entries=2)
    assert matches.positions.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("block_entries", [1, 6, 7, 8, 11, 32, 63, 10_000])
def test_streaming_holds_no_more_kernel_entries_than_asked_for(table, block_entries):
    m, n = 4, 50
    kernel = table(torch.randn(m, n, generator=torch.Generator().manual_seed(16)))
    top_matches(kernel.targets, kernel.pool, 3, kernel=kernel, block_entries=block_entries)
    one_column = m
    assert max(rows * columns for rows, columns in kernel.shapes) <= max(block_entries, one_column)
    assert all(rows == m for rows, _ in kernel.shapes)
    assert sum(columns for _, columns in kernel.shapes) == n


def test_a_kernel_that_returns_nan_is_refused(table):
    scores = torch.zeros(2, 5)
    scores[1, 4] = float("nan")
    kernel = table(scores)
    with pytest.raises(ValueError, match=r"returned NaN; check the descriptors"):
        top_matches(kernel.targets, kernel.pool, 1, kernel=kernel, block_entries=2)


def test_descriptors_of_an_infinite_feature_are_refused_by_the_ranking(raw):
    targets, pool = raw(2, seed=17), raw(4, seed=18)
    pool.z["fc1"][3, 0] = float("inf")
    with pytest.raises(ValueError, match="NaN"):
        top_matches(targets.descriptors, pool.descriptors, 1, kernel=r_z)


@pytest.mark.parametrize("k", [-1, 0, 7])
def test_more_matches_than_the_pool_has_or_none_are_refused(raw, k):
    targets, pool = raw(2, seed=19).descriptors, raw(6, seed=20).descriptors
    with pytest.raises(ValueError, match=f"k = {k} matches of a pool of 6; ask for 1 to 6"):
        top_matches(targets, pool, k, kernel=r_z)


@pytest.mark.parametrize("block_entries", [1, 6, 11, 12, 18, 30, 1000])
def test_the_closest_reference_is_the_largest_of_its_row_and_the_first_of_equals(whole, block_entries):
    queries, references = whole(6, seed=21), whole(17, seed=22)
    scores, rows = closest(queries, references, kernel=r_z, block_entries=block_entries)
    dense = r_z(queries, references).tolist()
    assert rows.tolist() == [row.index(max(row)) for row in dense]
    assert scores.tolist() == [max(row) for row in dense]


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.integers(1, 12), block_entries=st.integers(1, 40))
def test_closest_agrees_with_the_best_match_for_any_scores(table, data, n, block_entries):
    row = st.lists(st.sampled_from(EXACT), min_size=n, max_size=n)
    kernel = table(torch.tensor(data.draw(st.lists(row, min_size=3, max_size=3))))
    found = closest(kernel.targets, kernel.pool, kernel=kernel, block_entries=block_entries)
    matches = top_matches(kernel.targets, kernel.pool, 1, kernel=kernel, block_entries=block_entries)
    assert torch.equal(found.rows, matches.positions[:, 0])
    assert torch.equal(found.scores, matches.scores[:, 0])
