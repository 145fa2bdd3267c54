"""A linear head: at the minimum, whatever the order of its labels, under the penalty that validation images prefer."""

import pytest
import torch
import torch.nn.functional as F

from fkal.engine.feature_check import feature_check, folds_by_group
from fkal.engine.head_training import PENALTIES, LabeledRows, balanced_error, fit_head, minimised
from fkal.engine.losses import LOSSES, plain
from fkal.models.linear_head import LinearHead


def blobs(n: int, *, seed: int, spread: float = 1.0) -> LabeledRows:
    draws = torch.Generator().manual_seed(seed)
    centres = 2 * torch.eye(3, 8)
    y = torch.arange(n) % 3
    return LabeledRows(centres[y] + spread * torch.randn(n, 8, generator=draws), y)


@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_the_gradient_vanishes_at_the_minimum(penalty):
    labeled = blobs(40, seed=0)
    found = minimised(torch.zeros(3, 9, dtype=torch.float64), labeled, penalty, F.cross_entropy)
    weights = found.clone().requires_grad_()
    logits = labeled.z.double() @ weights[:, :-1].T + weights[:, -1]
    (F.cross_entropy(logits, labeled.y) + penalty / 2 * weights.square().sum()).backward()
    assert weights.grad is not None and float(weights.grad.abs().max()) < 1e-5


def test_the_order_of_labels_and_the_head_before_play_no_part():
    labeled, validation = blobs(30, seed=0), blobs(30, seed=1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    one, other = LinearHead(8, 3), LinearHead(8, 3)
    torch.nn.init.normal_(other.head.weight)
    fit_head(one, labeled, validation, plain)
    fit_head(other, LabeledRows(labeled.z[order], labeled.y[order]), validation, plain)
    torch.testing.assert_close(one.head.weight, other.head.weight, atol=1e-4, rtol=1e-3)


def test_the_penalty_is_the_one_of_least_error_on_validation_images():
    labeled, validation = blobs(15, seed=0, spread=2.0), blobs(90, seed=1, spread=2.0)
    head = LinearHead(8, 3)
    kept = fit_head(head, labeled, validation, plain)
    errors = {}
    for penalty in PENALTIES:
        weights = minimised(torch.zeros(3, 9, dtype=torch.float64), labeled, penalty, F.cross_entropy)
        logits = validation.z.double() @ weights[:, :-1].T + weights[:, -1]
        errors[penalty] = balanced_error(logits, validation.y)
    assert kept.penalty == min(errors, key=errors.__getitem__)


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss_trains_a_head_where_a_class_has_no_label(name):
    few = blobs(30, seed=0)
    labeled = LabeledRows(few.z[few.y < 2], few.y[few.y < 2])
    head = LinearHead(8, 3)
    fit = fit_head(head, labeled, blobs(30, seed=1), LOSSES[name])
    assert fit.loss < 1 and head.head.weight.isfinite().all()


def test_classes_weigh_the_same_in_the_error_whatever_their_number():
    logits, y = torch.zeros(5, 2), torch.tensor([0, 0, 0, 0, 1])
    logits[4, 1] = 3.0
    by_hand = (F.cross_entropy(logits[:4], y[:4]) + F.cross_entropy(logits[4:], y[4:])) / 2
    assert balanced_error(logits, y) == pytest.approx(float(by_hand))


class TestFeatureCheck:
    """Cross-validation on validation images."""

    def test_features_that_tell_classes_score_near_one_and_noise_near_chance(self):
        draws = torch.Generator().manual_seed(0)
        told = feature_check(blobs(60, seed=0, spread=0.3), draws)
        noise = LabeledRows(torch.randn(300, 8, generator=draws), torch.arange(300) % 3)
        assert told.balanced_accuracy == 1 and told.tells_classes
        found = feature_check(noise, draws)
        assert found.balanced_accuracy is not None and abs(found.balanced_accuracy - 1 / 3) < 0.15
        assert not found.tells_classes

    def test_groups_are_never_split_and_classes_are_spread(self):
        y = (torch.arange(90) % 3).sort().values
        groups = torch.arange(90) // 5
        folds = folds_by_group(y, groups, 5, torch.Generator().manual_seed(0))
        for group in groups.unique():
            assert len(folds[groups == group].unique()) == 1
        for label in range(3):
            assert len(folds[y == label].unique()) == 5

    def test_leaks_between_images_of_a_group_do_not_count(self):
        """Each group has a mark of its own and a label at random: by group there is nothing to learn."""
        draws = torch.Generator().manual_seed(0)
        groups = torch.arange(40).repeat_interleave(4)
        marks = torch.randn(40, 8, generator=draws)
        rows = LabeledRows(marks[groups] + 0.01 * torch.randn(160, 8, generator=draws), (groups * 7) % 2)
        leaking = feature_check(rows, torch.Generator().manual_seed(1)).balanced_accuracy
        honest = feature_check(rows, torch.Generator().manual_seed(1), groups).balanced_accuracy
        assert leaking is not None and honest is not None and honest < leaking

    def test_a_class_with_one_image_cannot_be_checked(self):
        rows = LabeledRows(torch.randn(3, 8), torch.tensor([0, 0, 1]))
        assert feature_check(rows, torch.Generator()).balanced_accuracy is None
