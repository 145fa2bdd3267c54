"""Whitening against a library's shrinkage, and by what it leaves: every direction varies alike."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor
from torch.testing import assert_close

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import r_zg_product
from fkal.core.whitening import WHITENINGS, Factor, Whitening, shrunk_covariance


def correlated(n: int, width: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=draws) @ torch.randn(width, width, generator=draws) + 3


def described(n: int, seed: int) -> Descriptors:
    return Descriptors.of(
        {"a": correlated(n, 5, seed), "b": correlated(n, 3, seed + 1)},
        {"a": correlated(n, 5, seed + 2), "b": correlated(n, 3, seed + 3)},
    )


@pytest.mark.parametrize(("n", "width"), [(4, 9), (50, 9), (2000, 9)])
def test_shrinkage_is_that_of_ledoit_and_wolf(n, width):
    rows = correlated(n, width, 0).double()
    expected, _ = ledoit_wolf(rows.numpy(), assume_centered=True)
    assert_close(shrunk_covariance(rows), torch.tensor(expected), rtol=1e-8, atol=1e-10)


def slow(rows: np.ndarray, reference: np.ndarray, *, centred: bool) -> np.ndarray:
    """(x - mean) C^-1/2, of unit length; C^-1/2 by its eigenvectors."""
    mean = reference.mean(axis=0) if centred else 0
    covariance, _ = ledoit_wolf(reference - mean, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    x = (rows - mean) @ vectors @ np.diag(values**-0.5) @ vectors.T
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_features_are_whitened_about_their_mean_and_gradients_about_zero():
    known, pool = described(80, 1), described(7, 20)
    white = Whitening.fitted(known)(pool)
    for kind, centred in (("z", True), ("g", False)):
        for tap in ("a", "b"):
            rows, reference = (getattr(each, kind)[tap].double().numpy() for each in (pool, known))
            expected = torch.tensor(slow(rows, reference, centred=centred), dtype=torch.float32)
            assert_close(getattr(white, kind)[tap], expected, rtol=1e-3, atol=1e-4)


def test_the_kernel_is_the_fisher_kernel_with_the_inverse_of_both_factors():
    """Up to the lengths of rows, z^T A^-1 z' times g^T G^-1 g'."""
    known = described(60, 2)
    kernel = r_zg_product(*(Whitening.fitted(known)(part) for part in (known[:4], known[4:9])))
    expected = torch.zeros(4, 5, dtype=torch.float64)
    for tap in ("a", "b"):
        factors = []
        for kind, centred in (("z", True), ("g", False)):
            rows = getattr(known, kind)[tap].double()
            rows = rows - rows.mean(dim=0) if centred else rows
            inverse = torch.linalg.inv(shrunk_covariance(rows))
            product = rows @ inverse @ rows.T
            length = product.diagonal().sqrt()
            factors.append((product / length[:, None] / length)[:4, 4:9])
        expected += factors[0] * factors[1]
    assert_close(kernel.double(), expected, rtol=1e-3, atol=1e-4)


def test_a_direction_in_which_all_images_are_alike_hides_the_others_no_longer():
    """Before, two classes are alike since one entry outweighs; after, they are not."""
    draws = torch.Generator().manual_seed(3)
    y = torch.arange(200) % 2
    rows = torch.randn(200, 4, generator=draws) * torch.tensor([10.0, 0.05, 0.05, 0.05])
    rows[:, 1] += y
    white = Factor.of(rows, centred=True)(rows)
    assert float(rows[y == 0].mean(dim=0)[1]) < 0.5 < float(rows[y == 1].mean(dim=0)[1])
    assert float(white[y == 0, 1].mean()) < -0.3
    assert float(white[y == 1, 1].mean()) > 0.3
    assert_close(torch.linalg.vector_norm(white, dim=1), torch.ones(200))


def test_within_classes_what_sets_classes_apart_is_not_shrunk():
    draws = torch.Generator().manual_seed(4)
    y = torch.arange(300) % 3
    rows = torch.randn(3, 5, generator=draws)[y] * 4 + torch.randn(300, 5, generator=draws)
    z = Descriptors({"a": rows})
    factor = Whitening.within_classes(z, y).z["a"]
    deviations = rows - torch.stack([rows[y == c].mean(dim=0) for c in range(3)])[y]
    assert_close(factor.root, Factor.of(deviations, centred=False).root)
    assert_close(factor.mean, rows.double().mean(dim=0))
    assert Whitening.within_classes(z, y).g == {}


def test_images_that_are_all_alike_stay_so():
    rows = torch.full((6, 3), 0.5)
    assert_close(Factor.of(rows, centred=True)(rows), torch.zeros(6, 3))


@pytest.mark.parametrize("rows", [torch.zeros(0, 3), torch.tensor([[1.0, torch.inf]])])
def test_nothing_and_what_is_not_finite_are_refused(rows):
    with pytest.raises(ValueError, match="no descriptor, or one that is not finite"):
        shrunk_covariance(rows)


def test_no_whitening_leaves_descriptors_as_they_are():
    known = described(5, 5)
    assert WHITENINGS["none"](known)(known) is known
    assert not torch.equal(WHITENINGS["shrunk"](known)(known).z["a"], known.z["a"])
