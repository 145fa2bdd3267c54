import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fkal.engine.losses import LOSSES, balanced_softmax, class_balanced, class_weights, plain

COUNTS = torch.tensor([6, 2, 1])
LABELS = torch.repeat_interleave(torch.arange(3), COUNTS)


def logits(n: int = 9, d: int = 3) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_plain_is_the_cross_entropy_bit_for_bit():
    assert torch.equal(plain(logits(), LABELS, COUNTS), F.cross_entropy(logits(), LABELS))


def test_class_balanced_is_the_mean_over_classes_of_each_class_s_mean():
    by_image = -logits().log_softmax(dim=1)[torch.arange(9), LABELS]
    by_class = [by_image[c == LABELS].mean() for c in range(3)]
    assert_close(class_balanced(logits(), LABELS, COUNTS), sum(by_class) / 3)


def test_the_batches_of_an_epoch_together_have_the_class_balanced_loss_of_the_whole():
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    parts = [class_balanced(logits()[rows], LABELS[rows], COUNTS) * len(rows) for rows in order.split(4)]
    assert_close(sum(parts) / 9, class_balanced(logits(), LABELS, COUNTS))


def test_balanced_softmax_is_the_cross_entropy_of_probabilities_weighted_by_the_counts():
    e = logits().exp()
    p = e * COUNTS / (e * COUNTS).sum(dim=1, keepdim=True)
    assert_close(balanced_softmax(logits(), LABELS, COUNTS), -p[torch.arange(9), LABELS].log().mean())


@pytest.mark.parametrize("name", list(LOSSES))
def test_with_as_many_labels_per_class_all_losses_are_the_cross_entropy(name):
    labels = torch.arange(9) % 3
    assert_close(LOSSES[name](logits(), labels, torch.tensor([3, 3, 3])), F.cross_entropy(logits(), labels))


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_class_without_labels_leaves_loss_and_gradient_finite_and_its_logit_is_not_raised(name):
    scores = logits(8, 4).requires_grad_()
    loss = LOSSES[name](scores, torch.tensor([0, 0, 0, 0, 0, 1, 1, 2]), torch.tensor([5, 2, 1, 0]))
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert (gradient[:, 3] > 0).all()  # descent lowers the logit of a class that no label has


def test_weights_have_mean_one_over_the_images_and_are_zero_where_there_are_none():
    counts = torch.tensor([6, 0, 2, 1])
    assert class_weights(counts).tolist() == pytest.approx([0.5, 0, 1.5, 3])
    assert float((class_weights(counts) * counts).sum()) == pytest.approx(9)


def test_of_rare_labels_balanced_losses_have_a_larger_gradient_than_plain():
    scores = torch.zeros(9, 3, dtype=torch.float64, requires_grad=True)
    pulls = {
        name: float(-torch.autograd.grad(loss(scores, LABELS, COUNTS), scores)[0][-1, 2])
        for name, loss in LOSSES.items()
    }
    assert pulls["class_balanced"] > pulls["plain"]
    assert pulls["balanced_softmax"] > pulls["plain"]
