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

from fkal.acquisition.registry import ACQUISITIONS
from fkal.core.evidence import Features
from fkal.core.labels import PSEUDO_LABELS
from fkal.core.picks import largest
from fkal.core.randomness import stream
from fkal.engine.progress import Progress
from fkal.engine.rounds import Round, Selection
from fkal.engine.sampling import sampled_uncertainty
from fkal.engine.training import fit
from fkal.models.ensemble import members_of

N, M, T, D, K = 24, 9, 6, 3, 3
"""Pool, validation and test images of the tiny problem, its classes, passes or views."""

METHODS = [name for name, entry in ACQUISITIONS.items() if entry.has_schedule]


def reveals(name: str, options: dict) -> bool:
    """Whether the method sees labels of the pool that nobody gave."""
    return ACQUISITIONS[name].needs.sees_oracle or options.get("pseudo_label") == "true"


RANDOM_FIRST = [name for name, entry in ACQUISITIONS.items() if entry.random_first]
MATCHING = [name for name, entry in ACQUISITIONS.items() if issubclass(entry.needs.record, Features)]


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
    """Dataset indices of the first round's picks, and of the validation images they match."""
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


@pytest.mark.parametrize("name", RANDOM_FIRST)
def test_methods_that_need_a_trained_model_pick_as_random_does_at_first_and_pay_no_pass(learning, name):
    this, baseline = (finished(learning(method, rounds=2)) for method in (name, "random"))
    assert torch.equal(this[0].selection.indices, baseline[0].selection.indices)
    assert this[0].selection.scores is None
    assert set(this[0].forward_images) == {"train", "evaluate"}
    assert all(torch.equal(value, baseline[0].weights[key]) for key, value in this[0].weights.items())
    assert not torch.equal(this[1].selection.indices, baseline[1].selection.indices)
    assert this[1].selection.scores is not None
    assert this[1].forward_images["descriptors"] > 0


@pytest.mark.parametrize("name", [name for name in METHODS if name not in RANDOM_FIRST])
def test_methods_that_need_none_choose_at_once(learning, name):
    (first,) = finished(learning(name, rounds=1))
    assert (first.selection.scores is None) is (name in ("random", "boss"))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(
    ("name", "measure"),
    [("varr", "variation_ratio"), ("entropy", "entropy"), ("bald", "mutual_information"), ("mean_std", "mean_std")],
)
def test_an_uncertainty_method_picks_the_images_that_the_trained_models_are_least_sure_of(
    learning, outcome, meter, name, measure, members
):
    this = learning(name, rounds=2, members=members)
    first, second = finished(this)
    network = deepcopy(this.model)
    network.load_state_dict(first.weights)
    rest = torch.tensor([i for i in this.problem.pool.tolist() if i not in first.selection.indices.tolist()])
    known = outcome(
        sampled_uncertainty(
            members_of(network), this.problem.train, rest, k=K, batch_size=5,
            generator=stream(this.seed, "gather", 2), meter=meter,
        )
    )  # fmt: skip
    picks = largest(getattr(known, measure), 4, stream(this.seed, "select", 2))
    assert torch.equal(second.selection.indices, rest[picks.positions])
    assert_close(second.selection.scores, picks.scores.float())


def test_core_set_picks_the_images_that_are_farthest_from_what_is_covered(learning):
    this = learning("coreset", rounds=2, taps=("conv2", "fc1"))
    weights, covered = this.theta_0, []
    for done in finished(this):
        network = deepcopy(this.model)
        network.load_state_dict(weights)
        slow = SlowLeNet(network)
        z = {
            i: np.concatenate(slow.z_and_g(one_image(this.problem.train, i), 0)[0][1:])
            for i in this.problem.pool.tolist()
        }
        for index, score in zip(done.selection.indices.tolist(), done.selection.scores.tolist(), strict=True):
            if covered:  # the first of all is drawn
                gaps = {i: min(np.linalg.norm(z[i] - z[c]) for c in covered) for i in z if i not in covered}
                assert index == max(gaps, key=gaps.get)
                assert score == pytest.approx(gaps[index], rel=1e-3)
            covered.append(index)
        weights = done.weights


def test_labeling_the_whole_pool_is_one_iteration_that_pays_for_training_alone(learning):
    this = learning("all", training={"epochs": 2})
    (done,) = finished(this)
    assert torch.equal(done.selection.indices, this.problem.pool)
    assert done.labels_used == N
    assert done.forward_images == {"train": 2 * N, "evaluate": T + M}


@pytest.mark.parametrize(
    ("name", "options", "forward", "backward"),
    [
        ("random", {}, lambda b, n, m: 0, lambda b, n, m: 0),
        ("pcc", {}, lambda b, n, m: M + n, lambda b, n, m: 0),
        ("pfk", {}, lambda b, n, m: M + n, lambda b, n, m: M + n),
        ("pfk", {"pseudo_label": "predicted"}, lambda b, n, m: M + n, lambda b, n, m: M + n),
        ("pfk", {"pseudo_label": "joint_shift"}, lambda b, n, m: M + 2 * n, lambda b, n, m: M + n),
        ("pfk", {"pseudo_label": "joint_shift_grid"}, lambda b, n, m: 2 * (M + n), lambda b, n, m: M + n),
        ("pfk", {"pseudo_label": "joint_zg"}, lambda b, n, m: M + 2 * n, lambda b, n, m: M + (1 + D) * n),
        ("pfk", {"pseudo_label": "trace"}, lambda b, n, m: (1 + K) * (M + n), lambda b, n, m: (1 + K * D) * (M + n)),
        ("varr", {}, lambda b, n, m: K * n if b > 1 else 0, lambda b, n, m: 0),
        ("bald", {"members": 2}, lambda b, n, m: 2 * K * n if b > 1 else 0, lambda b, n, m: 0),
        ("coreset", {}, lambda b, n, m: n + m, lambda b, n, m: 0),
        ("margin", {}, lambda b, n, m: n if b > 1 else 0, lambda b, n, m: 0),
        ("base", {}, lambda b, n, m: n if b > 1 else 0, lambda b, n, m: 0),
        ("direct", {}, lambda b, n, m: n + m if b > 1 else 0, lambda b, n, m: 0),
        ("galaxy", {}, lambda b, n, m: n + m if b > 1 else 0, lambda b, n, m: 0),
        ("probcover", {}, lambda b, n, m: n + m, lambda b, n, m: 0),
        ("uherding", {}, lambda b, n, m: M + n + m, lambda b, n, m: 0),
        ("flqmi", {}, lambda b, n, m: M + n, lambda b, n, m: 0),
        ("boss", {}, lambda b, n, m: M + n + m, lambda b, n, m: 0),
        ("epig", {}, lambda b, n, m: K * (n + M) if b > 1 else 0, lambda b, n, m: 0),
    ],
)
def test_passes_are_those_of_table_1(learning, name, options, forward, backward):
    this = learning(name, budget=4, rounds=3, training={"epochs": 3}, **options)
    members = options.get("members", 1)
    for b, done in enumerate(finished(this), start=1):
        unlabeled, labeled_before = N - 4 * (b - 1), 4 * (b - 1)
        assert done.forward_images.get("descriptors", 0) == forward(b, unlabeled, labeled_before)
        assert done.backward_images.get("descriptors", 0) == backward(b, unlabeled, labeled_before)
        assert done.forward_images["train"] == done.backward_images["train"] == members * 3 * 4 * b
        assert done.forward_images["evaluate"] == members * (T + M)
        assert set(done.forward_images) - {"descriptors"} == {"train", "evaluate"}
        assert set(done.backward_images) - {"descriptors"} == {"train"}


CONTENDERS = [
    *((name, {}) for name in ACQUISITIONS),
    *(("pfk", {"pseudo_label": name}) for name in PSEUDO_LABELS if name != "joint"),
    ("varr", {"members": 3}),
]


@pytest.mark.parametrize(("name", "options"), CONTENDERS)
@pytest.mark.parametrize("epoch", ["last", "best_on_test"])
def test_the_passes_counted_are_the_passes_made(learning, name, options, epoch):
    this, made = learning(name, rounds=2, epoch=epoch, **options), Counter()

    def count_forward(layer, inputs) -> None:
        made["forward"] += len(inputs[0])

    def count_backward(layer, grad_inputs, grad_outputs) -> None:
        made["backward"] += len(grad_outputs[0])

    for member in members_of(this.model):
        member.fc2.register_forward_pre_hook(count_forward)  # the last layer, which sampling passes every time
        member.fc2.register_full_backward_hook(count_backward)
    rounds = finished(this)
    forward, backward = (
        sum((Counter(getattr(done, kind)) for done in rounds), Counter())
        for kind in ("forward_images", "backward_images")
    )
    if name == "vaal":  # its passes are through networks of its own
        del forward["descriptors"], backward["descriptors"]
    assert sum(forward.values()) == made["forward"]
    views = {"none": 0, "clean": 1, "perturbed": K}[PSEUDO_LABELS[options.get("pseudo_label", "joint")].views]
    known = M if views == K else 0  # Monte Carlo labels are those of the validation images too
    batched = views * sum(known + N - 4 * (done.b - 1) for done in rounds)  # images whose D logits went back at one go
    assert sum(backward.values()) == made["backward"] + (D - 1) * batched


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


@pytest.mark.parametrize("name", METHODS)
def test_rounds_pick_open_pool_images_and_never_one_twice(learning, name):
    this = learning(name, budget=7, rounds=3)
    rounds = finished(this)
    assert [done.b for done in rounds] == [1, 2, 3]
    picked = torch.cat([done.selection.indices for done in rounds]).tolist()
    assert len(set(picked)) == len(picked) == 21
    assert set(picked) <= set(this.problem.pool.tolist())


@pytest.mark.parametrize("name", [*METHODS, "all"])
def test_the_whole_pool_can_be_labeled(learning, name):
    this = learning(name, budget=8, rounds=3, training={"epochs": 1})
    picked = torch.cat([done.selection.indices for done in finished(this)])
    assert sorted(picked.tolist()) == sorted(this.problem.pool.tolist())


@pytest.mark.parametrize("name", METHODS)
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
        at_random = name in ("random", "boss") or (name in RANDOM_FIRST and done.b == 1)
        assert (selection.scores is None) is at_random
        for known in (selection.ranks, selection.matches):
            assert (known is not None) is (name in MATCHING)
        if name in MATCHING:
            assert set(selection.matches.tolist()) <= set(problem.validation.tolist())
        if selection.scores is not None:
            assert selection.scores.dtype == torch.float32


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
        ("pfk", "with norm", {"epoch": "best_on_test"}),
        ("pfk", "with dropout", {}),
        ("pfk", "lenet", {"pseudo_label": "trace"}),
        ("pfk", "with norm", {"pseudo_label": "mutual_information_diagonal"}),
        ("pfk", "lenet", {"pseudo_label": "joint_zg"}),
        ("varr", "lenet", {"members": 2}),
        ("mean_std", "lenet", {"training": {"layers": "head"}}),
        ("bald", "lenet", {"members": 2, "epoch": "best_on_test", "training": {"start": "theta_0"}}),
        ("vaal", "lenet", {}),
        ("coreset", "with norm", {}),
        ("badge", "with norm", {}),
        ("direct", "lenet", {}),
        ("galaxy", "lenet", {}),
        ("typiclust", "lenet", {}),
        ("uherding", "with norm", {}),
        ("flqmi", "lenet", {}),
        ("epig", "lenet", {}),
        ("bait", "lenet", {}),
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


def trained(this, weights, e: int, done: Round, meter) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights of member e after the round, if it starts from these weights and is alone."""
    (network, *others) = members_of(deepcopy(this.model))
    network.load_state_dict(weights)
    labeled = [i for i in this.problem.pool.tolist() if i in done.selection.indices.tolist()]
    indices, names = torch.tensor(labeled), ("member", e) if e else ()
    losses = fit(
        network, this.problem.train, indices, this.problem.train.labels[indices], config=this.training,
        generator=stream(this.seed, "train", done.b, *names), meter=meter,
    )  # fmt: skip
    return list(losses), network.state_dict()


def of_member(weights, e: int) -> dict[str, Tensor]:
    prefix = f"members.{e}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


@pytest.mark.parametrize("layers", ["all", "head"])
def test_each_member_is_trained_from_its_own_weights_in_an_order_of_its_own(learning, meter, layers):
    this = learning("varr", rounds=1, members=3, training={"layers": layers})
    (done,) = finished(this)
    losses = []
    for e in range(3):
        by_epoch, weights = trained(this, of_member(this.theta_0, e), e, done, meter)
        assert all(torch.equal(value, of_member(done.weights, e)[name]) for name, value in weights.items())
        losses.append(by_epoch)
    assert done.train_loss == pytest.approx([sum(epoch) / 3 for epoch in zip(*losses, strict=True)])
    assert not torch.equal(of_member(done.weights, 0)["fc2.weight"], of_member(done.weights, 1)["fc2.weight"])


def test_members_that_start_from_the_same_weights_see_the_images_in_different_orders(learning):
    this = learning("varr", rounds=1, members=2)
    same = {name: this.theta_0[name.replace("members.1", "members.0")] for name in this.theta_0}
    (done,) = finished(replace(this, theta_0=same))
    assert not torch.equal(of_member(done.weights, 0)["fc2.weight"], of_member(done.weights, 1)["fc2.weight"])


@pytest.mark.parametrize("epoch", ["last", "best_on_test"])
def test_the_first_member_is_the_model_without_an_ensemble(learning, epoch):
    """From the same labels, which the first round draws alike."""
    (several,), (alone,) = (finished(learning("varr", rounds=1, members=n, epoch=epoch)) for n in (2, 1))
    assert torch.equal(several.selection.indices, alone.selection.indices)
    for name, value in of_member(several.weights, 0).items():
        assert torch.equal(value, alone.weights[name])


@pytest.mark.parametrize("start", ["warm", "theta_0"])
def test_members_go_on_from_their_own_weights_or_from_their_own_theta_0(learning, start):
    rounds = finished(learning("varr", rounds=2, members=2, training={"start": start}))
    last = learning("varr", rounds=2, members=2, training={"start": start, "epochs": 1, "lr": 1e-30})
    (untrained,) = finished(last, rounds[:1])
    before = rounds[0].weights if start == "warm" else last.theta_0
    assert all(torch.equal(value, before[name]) for name, value in untrained.weights.items())


def test_what_is_reported_of_an_ensemble_is_the_members_mean(learning):
    this = learning("entropy", rounds=2, members=3)
    problem = this.problem
    for done in finished(this):
        network = deepcopy(this.model)
        network.load_state_dict(done.weights)
        on_test = [accuracy(member, problem.test_images, problem.test) for member in members_of(network)]
        on_validation = [accuracy(member, problem.train, problem.validation) for member in members_of(network)]
        assert done.metrics["test/accuracy"] == pytest.approx(sum(on_test) / 3)
        assert done.metrics["val/accuracy"] == pytest.approx(sum(on_validation) / 3)
        assert int(done.confusion.sum()) == 3 * T


def test_each_member_keeps_its_own_best_epoch_under_the_papers_protocol(learning, meter):
    training = {"epochs": 6, "lr": 0.2, "decay_epochs": ()}
    (several,) = finished(learning("varr", rounds=1, members=2, epoch="best_on_test", training=training))
    this = learning("varr", rounds=1, members=2, training=training)
    labeled = torch.tensor([i for i in this.problem.pool.tolist() if i in several.selection.indices.tolist()])
    for e, member in enumerate(members_of(deepcopy(this.model))):
        member.load_state_dict(of_member(this.theta_0, e))
        names = ("member", e) if e else ()
        best, kept = -1.0, {}
        for _ in fit(
            member, this.problem.train, labeled, this.problem.train.labels[labeled], config=this.training,
            generator=stream(this.seed, "train", 1, *names), meter=meter,
        ):  # fmt: skip
            now = accuracy(member, this.problem.test_images, this.problem.test)
            if now > best:
                best, kept = now, deepcopy(member.state_dict())
        assert all(torch.equal(value, of_member(several.weights, e)[name]) for name, value in kept.items())


def test_where_the_head_alone_learns_the_body_stays_theta_0_in_every_iteration(learning):
    this = learning("pfk", kind="with norm", rounds=3, training={"layers": "head"})
    for done in finished(this):
        changed = {name for name, value in done.weights.items() if not torch.equal(value, this.theta_0[name])}
        assert changed == {"head.weight", "head.bias"}


@pytest.mark.parametrize("kind", ["lenet", "with norm"])
@pytest.mark.parametrize("seed", range(3))
def test_the_papers_protocol_keeps_the_earliest_epoch_of_best_test_accuracy(learning, meter, kind, seed):
    this = learning(
        "random",
        kind=kind,
        rounds=1,
        epoch="best_on_test",
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
    rounds = finished(learning("random", rounds=3, epoch="best_on_test", training=training))
    assert min(done.epoch for done in rounds[:-1]) < 6
    last = learning("random", rounds=3, epoch="last", training=training)
    for before, done in pairwise(rounds):
        (again,) = finished(replace(last, method=replace(last.method, rounds=done.b)), rounds[: before.b])
        assert again.train_loss == done.train_loss


@pytest.mark.parametrize("name", METHODS)
def test_the_test_set_decides_nothing_but_what_is_reported(learning, problem, images, name):
    other = replace(problem, test_images=images(8, seed=99, labels=torch.zeros(8, dtype=torch.long)))
    for a, b in zip(finished(learning(name, rounds=2)), finished(learning(name, rounds=2, problem=other)), strict=True):
        assert_same_selection(a.selection, b.selection)
        assert all(torch.equal(a.weights[key], b.weights[key]) for key in a.weights)
        assert a.train_loss == b.train_loss
        assert a.epoch == b.epoch == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, options in CONTENDERS if not reveals(name, options) and name != "all"],
)
def test_the_labels_of_the_open_pool_decide_nothing(learning, problem, images, name, options):
    """Two oracles that agree on what is picked; the rest of the pool they see otherwise."""
    rounds = 2 if ACQUISITIONS[name].random_first else 1
    a = finished(learning(name, rounds=rounds, **options))
    picked = {i for done in a for i in done.selection.indices.tolist()}
    unpicked = [i for i in problem.pool.tolist() if i not in picked]
    labels = problem.train.labels.clone()
    labels[unpicked] = (labels[unpicked] + 1) % 3
    train = images(33, seed=1)  # the same pixels
    train.labels = labels
    b = finished(learning(name, rounds=rounds, problem=replace(problem, train=train), **options))
    for once, again in zip(a, b, strict=True):
        assert_same_selection(once.selection, again.selection)
        assert all(torch.equal(once.weights[key], again.weights[key]) for key in once.weights)


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


def half(steps):
    """What a half of a round returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("name", ["random", "pfk", "badge", "varr", "vaal", "typiclust", "uherding", "epig"])
def test_a_round_goes_on_from_its_request_as_if_nobody_had_waited(learning, problem, name):
    """The object that asked is gone; another one with other weights learns from the labels."""
    undisturbed = finished(learning(name))
    for b, expected in enumerate(undisturbed, start=1):
        asking = learning(name)
        request = half(asking.select(asking.state(undisturbed[: b - 1])))
        del asking
        other = replace(learning(name, weights_seed=9), oracle=None)
        labels = problem.train.labels[request.indices]
        done = half(other.learn(other.state(undisturbed[: b - 1]), request, labels))
        assert_same_round(done, expected)
        assert list(done.metrics) == list(expected.metrics)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "pfk" and not reveals(name, {})])
def test_without_an_oracle_the_same_images_are_requested(learning, name):
    """Labels of the pool that nobody gave yet are looked at by none but the ablation `true`."""
    knowing, asking = learning(name), replace(learning(name), oracle=None)
    (first, *_) = finished(replace(knowing, method=replace(knowing.method, rounds=1)))
    for past in ((), (first,)):
        a, b = (half(one.select(one.state(past))) for one in (knowing, asking))
        assert torch.equal(a.indices, b.indices)
        assert a.metrics == b.metrics


def test_without_an_oracle_nothing_is_said_of_labels_that_are_not_known(learning):
    asking = replace(learning("pfk"), oracle=None)
    request = half(asking.select(asking.state()))
    assert list(request.metrics) == ["select/targets"]
    assert request.pseudo_labels is not None


def test_answers_that_do_not_fit_the_request_are_refused(learning):
    this = learning("random")
    state = this.state()
    request = half(this.select(state))
    with pytest.raises(ValueError, match="3 labels for 4 requested images; give one per image"):
        half(this.learn(state, request, torch.zeros(3, dtype=torch.long)))
    with pytest.raises(ValueError, match=r"labels \[3, -1\]: there are 3 classes; give 0 to 2"):
        half(this.learn(state, request, torch.tensor([0, 3, -1, 1])))
    later = this.state(finished(learning("random", rounds=1)))
    with pytest.raises(ValueError, match="a request of round 1 after round 1; give that of round 2"):
        half(this.learn(later, request, torch.zeros(4, dtype=torch.long)))


def test_without_a_test_set_validation_images_are_measured_once(learning, problem, outcome):
    """What is not known is left out, and nothing is passed through the model twice."""
    measured = replace(problem, test_images=problem.train, test=problem.validation, measured="val")
    usual, without = (finished(learning("random", rounds=1, problem=each))[0] for each in (problem, measured))
    assert without.measured == "val" and usual.measured == "test"
    assert without.metrics["val/accuracy"] == usual.metrics["val/accuracy"]
    assert not [name for name in without.metrics if name.startswith(("test/", "holdout/"))]
    assert int(without.confusion.sum()) == M
    assert without.forward_images["evaluate"] == M
    assert all(torch.equal(without.weights[name], usual.weights[name]) for name in usual.weights)


def test_a_label_that_nobody_knows_is_never_read_by_an_estimator(learning, problem, outcome):
    """Pool images of unknown labels have -1; the ablation that reads true labels is refused."""
    unknown = deepcopy(problem.train)
    unknown.labels[problem.pool] = -1
    blind = replace(problem, train=unknown)
    known = replace(learning("pfk", pseudo_label="joint"), oracle=None)
    asked = replace(known, problem=blind)
    assert_same_selection(
        outcome(known.select(known.state())).labeled(torch.zeros(4, dtype=torch.long)),
        outcome(asked.select(asked.state())).labeled(torch.zeros(4, dtype=torch.long)),
    )
    limit = replace(learning("pfk", pseudo_label="true", problem=blind), oracle=None)
    with pytest.raises(ValueError, match="which nobody knows"):
        outcome(limit.select(limit.state()))
