from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch
from torch.testing import assert_close

from fkal.core.randomness import stream
from fkal.engine import cross_fitting
from fkal.engine.cross_fitting import FOLDS, CrossFit, cross_fitted_head, folds
from fkal.engine.evaluation import confusion_of
from fkal.engine.head_training import PENALTIES, LabeledRows, balanced_error, logits_of, penalty_path
from fkal.engine.losses import balanced_softmax, class_balanced, plain
from fkal.engine.rounds import Round
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit
from fkal.models.modes import evaluating


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def finished(learning, past=()) -> list[Round]:
    return [event for event in learning.rounds(past) if isinstance(event, Round)]


def returned(generator):
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def test_folds_are_as_large_as_each_other_and_have_each_class_alike():
    labels = torch.arange(40) % 4
    fold = folds(labels, None, seeded())
    assert fold.bincount().tolist() == [8] * FOLDS
    for k in range(FOLDS):
        assert labels[fold == k].bincount(minlength=4).tolist() == [2] * 4


def test_no_group_is_in_two_folds():
    groups = torch.arange(60) // 3
    fold = folds(groups % 4, groups, seeded())
    assert all(len(fold[groups == group].unique()) == 1 for group in range(20))
    assert fold.unique().tolist() == list(range(FOLDS))


def test_one_image_per_class_still_leaves_images_to_learn_from():
    fold = folds(torch.arange(3), None, seeded())
    assert sorted(fold.tolist()) == [0, 1, 2]


def test_validation_images_of_a_single_group_are_refused():
    with pytest.raises(ValueError, match="all validation images are of one group"):
        folds(torch.tensor([0, 1, 2]), torch.tensor([7, 7, 7]), seeded())


def test_each_fold_is_predicted_by_a_network_that_learned_from_all_others(images, model, meter):
    pictures, network = images(30, seed=0), model("lenet", seed=0)
    labeled, validation = torch.arange(10), torch.arange(10, 30)
    fold = folds(pictures.labels[validation], None, seeded())
    config = TrainConfig(epochs=2, batch_size=5)
    cross = CrossFit(network, pictures, validation, fold, config, batch_size=4, meter=meter)
    found = returned(cross.run(labeled, pictures.labels[labeled], seed=3, what="")).logits
    again = deepcopy(network)
    seen = torch.cat([labeled, validation[fold != 2]])
    draws = stream(3, "fold", 2)
    list(fit(again, pictures, seen, pictures.labels[seen], config=config, generator=draws, meter=meter))
    with evaluating(again), torch.no_grad():
        expected = again(next(pictures.batches([validation[fold == 2]], device="cpu")))
    assert_close(found[fold == 2], expected)


def test_the_heads_of_all_folds_have_one_penalty_and_have_not_seen_their_fold():
    labeled, validation, fold = separable_rows()
    crossed = cross_fitted_head(labeled, validation, fold, plain, 2)
    for k in range(FOLDS):
        others = validation_but(validation, fold != k)
        weights = exact_heads(labeled, others)[crossed.penalty]
        found, exact = crossed.logits[fold == k].softmax(1), logits_of(weights, validation.z[fold == k]).softmax(1)
        assert_close(found, exact.float(), atol=2e-3, rtol=0)  # trained to 1e-4 of the gradient and not to 1e-6


@pytest.mark.parametrize("loss", [plain, class_balanced, balanced_softmax])
def test_the_penalty_is_the_best_of_all_though_not_all_are_tried(loss, monkeypatch):
    tried = counted_penalties(monkeypatch)
    rows = rows_with_a_frequent_class(labeled=400, rare=10, features=40, shift=1.5)
    crossed = cross_fitted_head(*rows, loss, 2)
    errors = errors_of_all_penalties(*rows, loss)
    assert crossed.penalty == min(errors, key=errors.__getitem__)
    assert crossed.penalty in tried and set(PENALTIES) - set(tried)


def test_an_error_that_rises_before_it_falls_ends_nothing():
    """A head that may learn little learns the frequent class before it tells classes apart."""
    rows = rows_with_a_frequent_class(labeled=1000, rare=4, features=5, shift=2.0)
    errors = errors_of_all_penalties(*rows, plain)
    assert errors[PENALTIES[1]] > errors[PENALTIES[0]] > errors[PENALTIES[-1]]
    assert cross_fitted_head(*rows, plain, 2).penalty == min(errors, key=errors.__getitem__)


def counted_penalties(monkeypatch) -> list[float]:
    tried = []
    path = cross_fitting.penalty_path

    def counted(*args, **settings):
        for fitted, weights in path(*args, **settings):
            tried.append(fitted.penalty)
            yield fitted, weights

    monkeypatch.setattr(cross_fitting, "penalty_path", counted)
    return tried


def errors_of_all_penalties(
    labeled: LabeledRows, validation: LabeledRows, fold: torch.Tensor, loss
) -> dict[float, float]:
    logits = {penalty: torch.zeros(len(validation.y), 2, dtype=torch.float64) for penalty in PENALTIES}
    for k in range(FOLDS):
        for penalty, weights in exact_heads(labeled, validation_but(validation, fold != k), loss).items():
            logits[penalty][fold == k] = logits_of(weights, validation.z[fold == k])
    return {penalty: balanced_error(found, validation.y) for penalty, found in logits.items()}


def separable_rows() -> tuple[LabeledRows, LabeledRows, torch.Tensor]:
    z = torch.randn(40, 3, generator=seeded(1))
    y = (z[:, 0] > 0).long()
    return LabeledRows(z[:10], y[:10]), LabeledRows(z[10:], y[10:]), folds(y[10:], None, seeded())


def rows_with_a_frequent_class(
    *, labeled: int, rare: int, features: int, shift: float
) -> tuple[LabeledRows, LabeledRows, torch.Tensor]:
    """20 validation images of each of two classes; three features tell them apart."""
    y = torch.cat([torch.arange(labeled) >= labeled - rare, torch.arange(40) % 2 == 1]).long()
    z = torch.randn(labeled + 40, features, generator=seeded(2))
    z[:, :3] += shift * y[:, None]
    validation = LabeledRows(z[labeled:], y[labeled:])
    return LabeledRows(z[:labeled], y[:labeled]), validation, folds(validation.y, None, seeded())


def validation_but(validation: LabeledRows, kept: torch.Tensor) -> LabeledRows:
    return LabeledRows(validation.z[kept], validation.y[kept])


def exact_heads(labeled: LabeledRows, others: LabeledRows, loss=plain) -> dict[float, torch.Tensor]:
    """By penalty."""
    rows = LabeledRows(torch.cat([labeled.z, others.z]), torch.cat([labeled.y, others.y]))
    return {fitted.penalty: weights for fitted, weights in penalty_path(rows, loss, 2)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pfk", "flqmi", "pcc"])
def test_targets_are_the_images_that_cross_fitted_models_have_wrong(learning, problem, name):
    training = {"on_validation": True, "epochs": 12}
    first = finished(learning(name, training=training, rounds=2))[0]
    y = problem.train.labels[problem.validation]
    wrong = problem.validation[first.cross_fitted.argmax(dim=1) != y]
    second = finished(learning(name, training=training, rounds=2))[1]
    if second.selection.matches is not None and len(wrong):
        assert set(second.selection.matches.tolist()) <= set(wrong.tolist())
    confusion = confusion_of(y, first.cross_fitted.argmax(dim=1), 3)
    assert first.metrics["val/accuracy"] == pytest.approx(float(confusion.trace() / confusion.sum()))


def test_training_on_validation_images_is_training_on_them_and_the_labeled(learning, problem, meter):
    run = learning("random", training={"on_validation": True}, rounds=1)
    first = finished(run)[0]
    plain_run = learning("random", rounds=1)
    seen = torch.cat([first.selection.indices.sort().values, problem.validation])
    network = deepcopy(plain_run.model)
    network.load_state_dict(plain_run.theta_0)
    order = torch.cat([problem.pool[torch.isin(problem.pool, seen)], problem.validation])
    list(
        fit(
            network,
            problem.train,
            order,
            problem.train.labels[order],
            config=run.training,
            generator=stream(run.seed, "train", 1),
            meter=meter,
        )
    )
    assert all(torch.equal(first.weights[name], value) for name, value in network.state_dict().items())
    assert first.labels_used == 4 and sum(first.labeled_counts) == 4


@pytest.mark.parametrize("name", ["pfk", "uherding", "random"])
def test_going_on_gives_the_same_rounds_though_cross_fitted_predictions_are_not_kept(learning, name):
    whole = finished(learning(name, training={"on_validation": True}))
    kept = [replace(past, cross_fitted=None) for past in whole[:2]]
    (again,) = finished(learning(name, training={"on_validation": True}), kept)
    assert torch.equal(again.selection.indices, whole[2].selection.indices)
    assert again.metrics == whole[2].metrics
    assert again.forward_images == whole[2].forward_images


def test_validation_only_labels_nothing_and_learns_from_the_validation_images(learning, problem):
    (only,) = finished(learning("validation_only", training={"epochs": 12}))
    assert only.labels_used == 0 and not len(only.selection.indices)
    assert only.labeled_counts == (0, 0, 0)
    assert only.metrics["test/accuracy"] > 1 / 3
    assert "select/minority_fraction" not in only.metrics


def test_without_the_setting_nothing_is_cross_fitted(learning):
    assert all(each.cross_fitted is None for each in finished(learning("pfk")))
    assert "cross_fitted" in {field.name for field in fields(Round)}
