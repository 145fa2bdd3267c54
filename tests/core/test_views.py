import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from fkal.core.views import View

D, L, N = 4, 6, 5


class Head(nn.Module):
    """Two layers from a tapped feature to the logits, in float64."""

    def __init__(self, *, seed: int, scale: float = 1.0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.first, self.second = nn.Linear(L, 7).double(), nn.Linear(7, D).double()
        for parameter in self.parameters():
            parameter.data = scale * torch.randn(parameter.shape, generator=draws, dtype=torch.float64)

    def forward(self, z: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(z)))


def features(n: int = N, *, seed: int) -> Tensor:
    return torch.randn(n, L, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view_through(head: nn.Module, z: Tensor) -> View:
    """The Jacobian one logit and one image at a time."""
    rows = []
    for c in range(D):
        for i in range(len(z)):
            leaf = z[i : i + 1].clone().requires_grad_()
            rows.append(torch.autograd.grad(head(leaf)[0, c], leaf)[0][0])
    jacobian = torch.stack(rows).view(D, len(z), L)
    return View({"fc": z}, {"fc": jacobian}, head(z).detach().softmax(dim=1))


def loss_gradients(head: nn.Module, z: Tensor) -> Tensor:
    """dL(1_d, y^)/dz for each class d and image."""
    rows = []
    for d in range(D):
        for i in range(len(z)):
            leaf = z[i : i + 1].clone().requires_grad_()
            rows.append(torch.autograd.grad(F.cross_entropy(head(leaf), torch.tensor([d])), leaf)[0][0])
    return torch.stack(rows).view(D, len(z), L)


@pytest.mark.parametrize("seed", range(3))
def test_a_fisher_score_is_minus_the_gradient_of_the_loss_under_each_class(seed):
    head, z = Head(seed=seed), features(seed=seed + 10)
    assert_close(view_through(head, z).fisher_scores("fc"), -loss_gradients(head, z), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gap", [5.0, 15.0, 25.0, 30.0, 40.0, 100.0])
def test_scores_keep_their_direction_however_certain_the_model(gap):
    """The arg max has probability 1 from a gap of 17 on in float32, of 37 in float64."""
    head, z = Head(seed=3, scale=0.3), features(seed=13)
    head.second.bias.data = torch.tensor([0.0, gap, 1.0, -1.0], dtype=torch.float64)
    view = view_through(head, z)
    scores, jacobian = view.fisher_scores("fc"), view.jacobian["fc"]
    for d in range(D):
        exact = sum(view.p[:, c, None] * (jacobian[d] - jacobian[c]) for c in range(D) if c != d)
        assert exact.abs().max() > 0
        if gap < 20:
            assert_close(exact, -loss_gradients(head, z)[d], rtol=1e-4, atol=0)
        assert_close(scores[d] / exact.abs().max(), exact / exact.abs().max(), rtol=0, atol=1e-2)


def test_the_scores_of_a_view_in_float32_are_float64():
    head, z = Head(seed=4), features(seed=14)
    exact = view_through(head, z)
    view = View({"fc": z.float()}, {"fc": exact.jacobian["fc"].float()}, exact.p)
    scores = view.fisher_scores("fc")
    assert scores.dtype == torch.float64
    assert_close(scores, exact.fisher_scores("fc"), rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_under_the_models_own_probabilities_scores_cancel(seed, scale):
    """The expectation of a score is zero."""
    head, z = Head(seed=seed, scale=scale), features(3, seed=seed + 1)
    view = view_through(head, z)
    scores = view.fisher_scores("fc")
    mean = sum(view.p[:, d, None] * scores[d] for d in range(D))
    assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-12 * float(view.jacobian["fc"].abs().max()))


def test_each_tap_has_scores_of_its_own():
    head, z = Head(seed=5), features(seed=15)
    one = view_through(head, z)
    both = View({"fc": z, "conv": z[:, :2]}, {"fc": one.jacobian["fc"], "conv": 2 * one.jacobian["fc"][..., :2]}, one.p)
    assert torch.equal(both.fisher_scores("fc"), one.fisher_scores("fc"))
    assert_close(both.fisher_scores("conv"), 2 * one.fisher_scores("fc")[..., :2])


@pytest.mark.parametrize("seed", range(3))
def test_the_trace_of_a_view_is_features_times_fisher_scores(seed):
    head, z = Head(seed=seed), features(seed=seed + 20)
    gradients = loss_gradients(head, z)
    expected = [[-sum(float(a * b) for a, b in zip(z[i], gradients[d, i], strict=True)) for i in range(N)]
                for d in range(D)]  # fmt: skip
    assert_close(view_through(head, z).trace("fc"), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_of_a_pooled_tap_the_trace_is_that_before_pooling():
    """The mean of products over positions is not the product of the means."""
    draws = torch.Generator().manual_seed(6)
    z = torch.randn(N, L, 3, 3, generator=draws, dtype=torch.float64)
    jacobian = torch.randn(D, N, L, 3, 3, generator=draws, dtype=torch.float64)
    p = torch.randn(N, D, generator=draws, dtype=torch.float64).softmax(dim=1)
    products = torch.einsum("nlhw,dnlhw->dn", z, jacobian)
    view = View({"conv": z.mean(dim=(2, 3))}, {"conv": jacobian.mean(dim=(3, 4))}, p, {"conv": products})
    for i in range(N):
        for d in range(D):
            score = jacobian[d, i] - sum(p[i, c] * jacobian[c, i] for c in range(D))
            assert float(view.trace("conv")[d, i]) == pytest.approx(float((z[i] * score).sum()), rel=1e-9, abs=1e-12)
    pooled = View(view.z, view.jacobian, p)
    assert not torch.allclose(pooled.trace("conv"), view.trace("conv"))
