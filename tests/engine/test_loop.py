from collections import Counter
from copy import deepcopy
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from fkal.acquisition import ACQUISITIONS
from fkal.core.randomness import stream
from fkal.engine.metering import Progress
from fkal.engine.rounds import Round, Selection
from fkal.engine.training import fit

N, M, T = 24, 9, 6
"""Pool, validation and test images of the tiny problem."""


def finished(learning, past=()) -> list[Round]:
    return [event for event in learning.rounds(past) if isinstance(event, Round)]


def one_image(images, index: int) -> Tensor:
    return next(images.batches([torch.tensor([index])], device="cpu")).double()


def accuracy(network, images, indices) -> float:
    network = deepcopy(network).eval()
    with torch.no_grad():
        hits = [
            int(network(next(images.batches([torch.tensor([i])], device="cpu"))).argmax()) == int(images.labels[i])
            for i in indices.tolist()
        ]
    return sum(hits) / len(hits)


def assert_same_selection(a: Selection, b: Selection) -> None:
    for field in fields(Selection):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert (x is None and y is None) or torch.equal(x, y), field.name


def assert_same_round(a: Round, b: Round) -> None:
    """Bit by bit, apart from the clock."""
    assert_same_selection(a.selection, b.selection)
    assert a.weights.keys() == b.weights.keys()
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert torch.equal(a.confusion, b.confusion)
    for name in ("b", "labels_used", "metrics", "train_loss", "epoch", "labeled_counts"):
        assert getattr(a, name) == getattr(b, name), name
    assert a.forward_images == b.forward_images
    assert a.backward_images == b.backward_images


class SlowLeNet:
    """Section 2 of the protocol for LeNet: one image at a time, in float64."""

    def __init__(self, network) -> None:
        self.model = deepcopy(network).double().eval()

    def predicted(self, x: Tensor) -> int:
        return int(self.model(x).argmax())

    def z_and_g(self, x: Tensor, y: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        conv1 = self.model.conv1(x)
        conv2 = self.model.conv2(F.max_pool2d(conv1, 2))
        fc1 = self.model.fc1(F.max_pool2d(conv2, 2).flatten(1))
        tapped = [conv1, conv2, fc1]
        gradients = torch.autograd.grad(F.cross_entropy(self.model.fc2(fc1), torch.tensor([y])), tapped)
        return [self.phi(t.detach()) for t in tapped], [self.phi(t) for t in gradients]

    @staticmethod
    def phi(tensor: Tensor) -> np.ndarray:
        return tensor[0].reshape(tensor.shape[1], -1).mean(dim=1).numpy()


def correlations(a: list[np.ndarray], b: list[np.ndarray]) -> list[float]:
    return [float(np.corrcoef(p, q)[0, 1]) for p, q in zip(a, b, strict=True)]


def kernel(reading: str, a, b) -> float:
    r_z, r_g = correlations(a[0], b[0]), correlations(a[1], b[1])
    match reading:
        case "r_z":
            return sum(r_z)
        case "product":
            return sum(z * g for z, g in zip(r_z, r_g, strict=True))
        case "product_of_sums":
            return sum(r_z) * sum(r_g)
        case "sum":
            return sum(r_z) + sum(r_g)
    raise AssertionError(reading)


def algorithm_1(learning, reading: str) -> tuple[list[int], list[int]]:
    """Dataset indices of the first iteration's picks, and of the validation images they match."""
    problem, p = learning.problem, learning.method.budget
    network = deepcopy(learning.model)
    network.load_state_dict(learning.theta_0)
    slow, train = SlowLeNet(network), problem.train
    validation, pool = problem.validation.tolist(), problem.pool.tolist()
    known = {v: slow.z_and_g(one_image(train, v), int(train.labels[v])) for v in validation}
    wrong = [v for v in validation if slow.predicted(one_image(train, v)) != int(train.labels[v])]

    def described(i: int):
        z, _ = slow.z_and_g(one_image(train, i), 0)
        joint = max(validation, key=lambda v: sum(correlations(z, known[v][0])))
        return slow.z_and_g(one_image(train, i), int(train.labels[joint]))

    unlabeled = {i: described(i) for i in pool}
    centers = wrong
    if len(wrong) > p:
        first = int(torch.randint(len(wrong), (), generator=stream(learning.seed, "select", 1)))
        centers = [wrong[first]]
        while len(centers) < p:
            rest = [v for v in wrong if v not in centers]
            centers.append(min(rest, key=lambda v: max(kernel(reading, known[c], known[v]) for c in centers)))
    score = {c: {i: kernel(reading, known[c], unlabeled[i]) for i in pool} for c in centers}
    ranked = {c: sorted(pool, key=lambda i, c=c: -score[c][i]) for c in centers}
    picks, matches = [], []
    for rank in range(len(pool)):
        for c in sorted(centers, key=lambda c, rank=rank: -score[c][ranked[c][rank]]):
            if ranked[c][rank] not in picks:
                picks.append(ranked[c][rank])
                matches.append(c)
    return picks[:p], matches[:p]


@pytest.mark.parametrize("budget", [3, 8])
@pytest.mark.parametrize("reading", ["r_z", "product", "product_of_sums", "sum"])
def test_an_iteration_picks_what_algorithm_1_picks(learning, reading, budget):
    method = {"name": "pcc"} if reading == "r_z" else {"name": "pfk", "combine": reading}
    this = learning(**method, budget=budget, rounds=1)
    (first,) = finished(this)
    targets = int(first.metrics["select/targets"])
    assert (targets > budget) is (budget == 3)  # once with k-center, once without
    picks, matches = algorithm_1(this, reading)
    assert first.selection.indices.tolist() == picks
    assert first.selection.matches.tolist() == matches


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [("random", 0, 0), ("pcc", 1, 0), ("pfk", 1, 1)],
)
def test_passes_are_those_of_table_1(learning, name, forward, backward):
    this = learning(name, budget=4, rounds=3, training={"epochs": 3})
    for b, done in enumerate(finished(this)):
        unlabeled, labeled = N - 4 * b, 4 * (b + 1)
        assert done.forward_images.get("descriptors", 0) == forward * (M + unlabeled)
        assert done.backward_images.get("descriptors", 0) == backward * (M + unlabeled)
        assert done.forward_images["train"] == done.backward_images["train"] == 3 * labeled
        assert done.forward_images["evaluate"] == T + M
        assert set(done.forward_images) - {"descriptors"} == {"train", "evaluate"}
        assert set(done.backward_images) - {"descriptors"} == {"train"}


@pytest.mark.parametrize("name", list(ACQUISITIONS))
@pytest.mark.parametrize("protocol", ["last", "paper"])
def test_the_passes_counted_are_the_passes_made(learning, name, protocol):
    this, made = learning(name, rounds=1, protocol=protocol), Counter()

    def count_forward(layer, inputs) -> None:
        made["forward"] += len(inputs[0])

    def count_backward(layer, grad_inputs, grad_outputs) -> None:
        made["backward"] += len(grad_outputs[0])

    this.model.register_forward_pre_hook(count_forward)
    this.model.fc2.register_full_backward_hook(count_backward)
    (done,) = finished(this)
    assert sum(done.forward_images.values()) == made["forward"]
    assert sum(done.backward_images.values()) == made["backward"]


@pytest.mark.parametrize("name", ["pcc", "pfk"])
def test_gathering_reaches_no_parameter_and_no_layer_before_the_earliest_tap(learning, name):
    this, seen = learning(name, taps=("conv2", "fc1"), rounds=1), []

    def look(layer, inputs, output) -> None:
        if not this.model.training:
            seen.append(output.requires_grad)

    this.model.conv1.register_forward_hook(look)
    steps = this.rounds()
    while not next(steps).phase.startswith("training"):
        assert all(p.grad is None for p in this.model.parameters())
    assert seen
    assert not any(seen)
    assert this.model.training
    assert all(p.requires_grad for p in this.model.parameters())


@pytest.mark.parametrize("name", list(ACQUISITIONS))
def test_rounds_pick_open_pool_images_and_never_one_twice(learning, name):
    this = learning(name, budget=7, rounds=3)
    rounds = finished(this)
    assert [done.b for done in rounds] == [1, 2, 3]
    picked = torch.cat([done.selection.indices for done in rounds]).tolist()
    assert len(set(picked)) == len(picked) == 21
    assert set(picked) <= set(this.problem.pool.tolist())


@pytest.mark.parametrize("name", list(ACQUISITIONS))
def test_the_whole_pool_can_be_labeled(learning, name):
    this = learning(name, budget=8, rounds=3, training={"epochs": 1})
    picked = torch.cat([done.selection.indices for done in finished(this)])
    assert sorted(picked.tolist()) == sorted(this.problem.pool.tolist())


@pytest.mark.parametrize("name", list(ACQUISITIONS))
def test_a_round_says_what_was_picked_and_what_came_of_it(learning, name):
    this = learning(name, kind="lenet", rounds=2)
    problem, labels = this.problem, this.problem.train.labels
    so_far: list[int] = []
    for done in finished(this):
        selection = done.selection
        assert torch.equal(selection.labels, labels[selection.indices])
        so_far += selection.indices.tolist()
        assert done.labels_used == len(so_far)
        assert done.labeled_counts == tuple(sum(int(labels[i]) == c for i in so_far) for c in range(3))
        rare = sum(int(label) == 2 for label in selection.labels) / 4
        assert done.metrics["select/minority_fraction"] == pytest.approx(rare)
        network = deepcopy(this.model)
        network.load_state_dict(done.weights)
        assert done.metrics["test/accuracy"] == pytest.approx(accuracy(network, problem.test_images, problem.test))
        assert done.metrics["val/accuracy"] == pytest.approx(accuracy(network, problem.train, problem.validation))
        assert int(done.confusion.sum()) == T
        assert len(done.train_loss) == done.epoch == 3
        assert (selection.pseudo_labels is not None) is (name == "pfk")
        for known in (selection.ranks, selection.scores, selection.matches):
            assert (known is None) is (name == "random")
        if name != "random":
            assert set(selection.matches.tolist()) <= set(problem.validation.tolist())


def test_matches_are_validation_images_that_the_model_had_wrong(learning):
    this = learning("pcc", rounds=2)
    before = this.theta_0
    for done in finished(this):
        network = deepcopy(this.model).eval()
        network.load_state_dict(before)
        wrong = [
            v
            for v in this.problem.validation.tolist()
            if int(network.double()(one_image(this.problem.train, v)).argmax()) != int(this.problem.train.labels[v])
        ]
        assert done.metrics["select/targets"] == len(wrong) > 0
        assert set(done.selection.matches.tolist()) <= set(wrong)
        before = done.weights


def test_pseudo_labels_are_held_against_the_truth_over_the_open_pool(learning):
    """With the predicted labels, which a slow version knows at once."""
    this = learning("pfk", pseudo_label="predicted", rounds=1)
    (done,) = finished(this)
    slow, train = SlowLeNet(learning("pfk").model), this.problem.train
    pairs = {i: (slow.predicted(one_image(train, i)), int(train.labels[i])) for i in this.problem.pool.tolist()}
    assert done.selection.pseudo_labels.tolist() == [pairs[i][0] for i in done.selection.indices.tolist()]
    assert done.metrics["pseudo/accuracy"] == pytest.approx(sum(s == y for s, y in pairs.values()) / N)
    called = [y for s, y in pairs.values() if s == 2]
    rare = [s for s, y in pairs.values() if y == 2]
    assert called
    assert done.metrics["pseudo/minority_precision"] == pytest.approx(sum(y == 2 for y in called) / len(called))
    assert done.metrics["pseudo/minority_recall"] == pytest.approx(sum(s == 2 for s in rare) / len(rare))


def test_true_pseudo_labels_are_all_right(learning):
    (done,) = finished(learning("pfk", pseudo_label="true", rounds=1))
    assert torch.equal(done.selection.pseudo_labels, done.selection.labels)
    assert done.metrics["pseudo/accuracy"] == 1.0


def test_where_nothing_is_rare_no_minority_is_reported(learning, problem):
    (done,) = finished(learning("pfk", rounds=1, problem=replace(problem, minority=())))
    assert not [name for name in done.metrics if "minority" in name]


@pytest.mark.parametrize("name", ["pcc", "pfk"])
def test_where_no_validation_image_is_misclassified_all_of_them_are_targets(learning, problem, name):
    slow = SlowLeNet(learning(name).model)
    for v in problem.validation.tolist():
        problem.train.labels[v] = slow.predicted(one_image(problem.train, v))
    (done,) = finished(learning(name, rounds=1, budget=12))
    assert done.metrics["select/targets"] == M
    assert len(done.selection.indices) == 12


def test_progress_tells_how_far_each_phase_is(learning):
    events = [event for event in learning("pfk", rounds=1).rounds() if isinstance(event, Progress)]
    assert [tuple(event) for event in events] == [
        *(("descriptors of validation", i, 2, "batches") for i in (1, 2)),
        *(("descriptors of pool", i, 5, "batches") for i in (1, 2, 3, 4, 5)),
        *(("training b = 1", i, 3, "epochs") for i in (1, 2, 3)),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("random", "lenet", {}),
        ("pcc", "lenet", {}),
        ("pfk", "lenet", {}),
        ("pfk", "lenet", {"training": {"start": "theta_0"}}),
        ("pfk", "with norm", {"protocol": "paper"}),
        ("pfk", "with dropout", {}),
    ],
)
def test_going_on_from_any_finished_prefix_gives_the_same_rounds_bit_by_bit(learning, name, kind, options):
    torch.manual_seed(1)
    whole = finished(learning(name, kind=kind, rounds=3, **options))
    for k in range(4):
        torch.manual_seed(2 + k)  # another process
        rest = finished(learning(name, kind=kind, rounds=3, weights_seed=3, **options), whole[:k])
        assert len(rest) == 3 - k
        for again, once in zip(rest, whole[k:], strict=True):
            assert_same_round(again, once)


def test_another_seed_goes_another_way(learning):
    a, b = (finished(learning("random", rounds=1, seed=seed))[0] for seed in (1, 2))
    assert not torch.equal(a.selection.indices, b.selection.indices)


@pytest.mark.parametrize("start", ["warm", "theta_0"])
def test_training_starts_from_the_weights_before_or_from_theta_0(learning, meter, start):
    this = learning("pfk", rounds=3, training={"start": start})
    before, labeled = this.theta_0, set()
    for done in finished(this):
        labeled |= set(done.selection.indices.tolist())
        network = deepcopy(this.model)
        network.load_state_dict(before if start == "warm" else this.theta_0)
        indices = torch.tensor([i for i in this.problem.pool.tolist() if i in labeled])
        losses = list(
            fit(
                network,
                this.problem.train,
                indices,
                this.problem.train.labels[indices],
                config=this.training,
                generator=stream(this.seed, "train", done.b),
                meter=meter,
            )
        )
        assert tuple(losses) == done.train_loss
        assert all(torch.equal(value, done.weights[name]) for name, value in network.state_dict().items())
        before = done.weights


@pytest.mark.parametrize("kind", ["lenet", "with norm"])
@pytest.mark.parametrize("seed", range(3))
def test_the_papers_protocol_keeps_the_earliest_epoch_of_best_test_accuracy(learning, meter, kind, seed):
    this = learning(
        "random",
        kind=kind,
        rounds=1,
        protocol="paper",
        seed=seed,
        training={"epochs": 6, "lr": 0.2, "decay_epochs": ()},
    )
    (done,) = finished(this)
    network = deepcopy(this.model)
    network.load_state_dict(this.theta_0)
    indices = torch.tensor([i for i in this.problem.pool.tolist() if i in done.selection.indices.tolist()])
    epochs = fit(
        network,
        this.problem.train,
        indices,
        this.problem.train.labels[indices],
        config=this.training,
        generator=stream(seed, "train", 1),
        meter=meter,
    )
    recorded, states = [], []
    for _ in epochs:
        recorded.append(accuracy(network, this.problem.test_images, this.problem.test))
        states.append(deepcopy(network.state_dict()))
    best = recorded.index(max(recorded))
    assert done.epoch == best + 1
    assert len(done.train_loss) == 6
    assert done.metrics["test/accuracy"] == pytest.approx(recorded[best])
    assert all(torch.equal(done.weights[name], value) for name, value in states[best].items())
    assert done.forward_images["evaluate"] == 6 * T + T + M


def test_the_papers_protocol_goes_on_from_the_kept_epoch(learning, problem):
    """A test set of wrong labels makes an early epoch the best."""
    training = {"epochs": 6, "lr": 0.2, "decay_epochs": ()}
    problem.test_images.labels[:] = (problem.test_images.labels + 1) % 3
    rounds = finished(learning("random", rounds=3, protocol="paper", training=training))
    assert min(done.epoch for done in rounds[:-1]) < 6
    last = learning("random", rounds=3, protocol="last", training=training)
    for before, done in pairwise(rounds):
        (again,) = finished(replace(last, method=replace(last.method, rounds=done.b)), rounds[: before.b])
        assert again.train_loss == done.train_loss


@pytest.mark.parametrize("name", list(ACQUISITIONS))
def test_the_test_set_decides_nothing_but_what_is_reported(learning, problem, images, name):
    other = replace(problem, test_images=images(8, seed=99, labels=torch.zeros(8, dtype=torch.long)))
    for a, b in zip(finished(learning(name, rounds=2)), finished(learning(name, rounds=2, problem=other)), strict=True):
        assert_same_selection(a.selection, b.selection)
        assert all(torch.equal(a.weights[key], b.weights[key]) for key in a.weights)
        assert a.train_loss == b.train_loss
        assert a.epoch == b.epoch == 3


def test_the_labels_of_the_open_pool_decide_nothing(learning, problem, images):
    """Two oracles that agree on what is picked; the rest of the pool they see otherwise."""
    for name, pseudo_label in (("random", "joint"), ("pcc", "joint"), ("pfk", "joint"), ("pfk", "predicted")):
        (a,) = finished(learning(name, rounds=1, pseudo_label=pseudo_label))
        unpicked = [i for i in problem.pool.tolist() if i not in a.selection.indices.tolist()]
        labels = problem.train.labels.clone()
        labels[unpicked] = (labels[unpicked] + 1) % 3
        train = images(33, seed=1)  # the same pixels
        train.labels = labels
        (b,) = finished(learning(name, rounds=1, pseudo_label=pseudo_label, problem=replace(problem, train=train)))
        assert_same_selection(a.selection, b.selection)
        assert all(torch.equal(a.weights[key], b.weights[key]) for key in a.weights)


def test_kept_weights_are_copies_that_later_training_does_not_touch(learning):
    steps = learning("random", rounds=2).rounds()
    first = next(event for event in steps if isinstance(event, Round))
    kept = deepcopy(dict(first.weights))
    list(steps)
    for name, value in first.weights.items():
        assert_close(value, kept[name], rtol=0, atol=0)


def test_finishing_needs_no_more_work_once_all_rounds_are_there(learning):
    this = learning("pcc", rounds=2)
    rounds = finished(this)
    assert list(this.rounds(rounds)) == []
