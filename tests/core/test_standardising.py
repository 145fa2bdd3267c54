"""Standardised features: columns of zero mean and unit deviation, components by variance, one layer for two."""

import pytest
import torch

from fkal.core.standardising import Standardising


def rows(n: int = 40, width: int = 6) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    mixed = torch.randn(n, width, generator=draws) @ torch.randn(width, width, generator=draws)
    return mixed + torch.arange(width)


def test_columns_have_zero_mean_and_unit_deviation():
    standard = Standardising.fitted(rows(), None)(rows())
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(dim=0, correction=0), torch.ones(6), atol=1e-5, rtol=0)


def test_a_constant_column_becomes_zero():
    wide = torch.cat([rows(), torch.full((40, 1), 7.0)], dim=1)
    assert (Standardising.fitted(wide, None)(wide)[:, -1] == 0).all()


def test_components_are_those_of_most_variance_and_uncorrelated():
    standard = Standardising.fitted(rows(), None)(rows()).double()
    variances = torch.linalg.eigvalsh(standard.T @ standard / 40).flip(0)
    reduced = Standardising.fitted(rows(), 3)(rows()).double()
    torch.testing.assert_close(reduced.T @ reduced / 40, variances[:3].diag(), atol=1e-5, rtol=1e-5)


def test_the_map_is_that_of_the_rows_it_was_fitted_on():
    fitted = Standardising.fitted(rows(), 2)
    torch.testing.assert_close(fitted(rows())[:5], fitted(rows()[:5]))


@pytest.mark.parametrize("pca", [None, 3])
def test_folded_into_the_layer_behind_it_gives_the_same_logits(pca):
    fitted = Standardising.fitted(rows(), pca)
    weight, bias = torch.randn(4, pca or 6), torch.randn(4)
    folded_weight, folded_bias = fitted.folded(weight, bias)
    torch.testing.assert_close(
        rows() @ folded_weight.T + folded_bias, fitted(rows()) @ weight.T + bias, atol=1e-4, rtol=1e-4
    )


def test_a_feature_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        Standardising.fitted(torch.tensor([[1.0, float("nan")]]), None)


@pytest.mark.parametrize("pca", [None, 3])
def test_sums_that_are_added_up_part_by_part_give_the_same_map(pca, monkeypatch):
    whole = Standardising.fitted(rows(), pca)(rows())
    monkeypatch.setattr("fkal.core.standardising.FITTED_AT_ONCE", 0)
    monkeypatch.setattr("fkal.core.standardising.PART", 60)
    torch.testing.assert_close(Standardising.fitted(rows(), pca)(rows()), whole)


@pytest.mark.parametrize("pca", [None, 6])
def test_a_layer_moved_behind_another_map_gives_the_same_logits(pca):
    then, now = Standardising.fitted(rows()[:20], None), Standardising.fitted(rows(), pca)
    weight, bias = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([1.0, 0.0, -1.0])
    moved, moved_bias = then.refolded(weight, bias, now)
    logits = then(rows()) @ weight.T + bias
    torch.testing.assert_close(now(rows()) @ moved.T + moved_bias, logits, atol=1e-4, rtol=1e-4)


def test_a_layer_behind_components_keeps_what_the_other_map_keeps():
    """Of components that span other features the logits differ, less the more components there are."""
    then = Standardising.fitted(rows()[:20], 3)
    weight, bias = torch.randn(2, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(2)
    logits = then(rows()) @ weight.T

    def lost(pca: int) -> float:
        now = Standardising.fitted(rows(), pca)
        moved, moved_bias = then.refolded(weight, bias, now)
        return float((now(rows()) @ moved.T + moved_bias - logits).norm() / logits.norm())

    assert lost(6) < 1e-5 < lost(5) < lost(2)
