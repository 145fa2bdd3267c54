from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fkal.engine.settings import SgdConfig, TrainConfig
from fkal.engine.training import fit, shuffled_batches
from fkal.models.modes import evaluating


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(network, pictures, meter, *, generator_seed=0, indices=None, **config) -> list[float]:
    indices = torch.arange(len(pictures)) if indices is None else indices
    labels = pictures.labels[indices]
    return list(
        fit(
            network,
            pictures,
            indices,
            labels,
            config=TrainConfig(**config),
            generator=seeded(generator_seed),
            meter=meter,
        )
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"decay_epochs": (2, 4)}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"decay_epochs": (3,), "decay": 0.5}, [1, 1, 1, 0.5, 0.5, 0.5]),
        ({"decay_epochs": ()}, [1] * 6),
        ({"decay_epochs": (4,), "warmup_epochs": 2}, [0.5, 1, 1, 1, 0.1, 0.1]),
        ({"decay_epochs": (5,), "warmup_epochs": 4}, [0.25, 0.5, 0.75, 1, 1, 0.1]),
    ],
)
def test_the_learning_rate_rises_over_the_warm_up_and_falls_when_a_decay_epoch_begins(config, expected):
    assert [SgdConfig(**config).factor(epoch) for epoch in range(6)] == pytest.approx(expected)


def test_the_default_is_the_papers_schedule_for_mnist():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.lr) == (50, 25, 0.05)
    assert (config.start, config.layers) == ("warm", "all")
    factors = [config.factor(epoch) for epoch in (0, 14, 15, 29, 30, 44, 45, 49)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("kind", ["lenet", "with norm"])
def test_training_is_sgd_with_momentum_weight_decay_and_the_scheduled_rate(images, model, meter, kind):
    """Held against the update written out; one batch an epoch, so that the order plays no part."""
    pictures, network = images(6, seed=0), model(kind, seed=0)
    settings = {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.01, "decay_epochs": (3,), "decay": 0.1}
    exact = deepcopy(network).double().train()
    losses = fitted(network, pictures, meter, epochs=5, batch_size=6, warmup_epochs=2, **settings)
    x = next(pictures.batches([torch.arange(6)], device="cpu")).double()
    velocity = [torch.zeros_like(p) for p in exact.parameters()]
    for epoch, rate in enumerate([0.05, 0.1, 0.1, 0.01, 0.01]):
        log_p = exact(x).log_softmax(dim=1)
        loss = -sum(log_p[i, pictures.labels[i]] for i in range(6)) / 6
        assert losses[epoch] == pytest.approx(float(loss.detach()), rel=1e-4)
        gradients = torch.autograd.grad(loss, list(exact.parameters()))
        with torch.no_grad():
            for p, v, g in zip(exact.parameters(), velocity, gradients, strict=True):
                v.mul_(0.5).add_(g + 0.01 * p)
                p.sub_(rate * v)
    for p, q in zip(network.parameters(), exact.parameters(), strict=True):
        assert_close(p.double(), q, rtol=1e-3, atol=1e-5)


def test_an_epochs_loss_is_the_mean_over_images_not_over_batches(images, model, meter):
    pictures, network = images(7, seed=1), model("lenet", seed=1)
    exact = deepcopy(network)
    (loss,) = fitted(network, pictures, meter, epochs=1, batch_size=5, lr=1e-12)
    x = next(pictures.batches([torch.arange(7)], device="cpu"))
    assert loss == pytest.approx(float(F.cross_entropy(exact(x), pictures.labels).detach()), rel=1e-5)


def test_the_labels_given_are_learned_not_those_of_the_images(images, model, meter):
    """The oracle may know better than the data set."""
    pictures, network = images(6, seed=2), model("lenet", seed=2)
    labels = (pictures.labels + 1) % 3
    config = TrainConfig(epochs=60, batch_size=6, lr=0.1, decay_epochs=())
    losses = list(fit(network, pictures, torch.arange(6), labels, config=config, generator=seeded(0), meter=meter))
    assert losses[-1] < 0.1
    x = next(pictures.batches([torch.arange(6)], device="cpu"))
    assert torch.equal(network(x).argmax(dim=1), labels)


def test_every_image_passes_forward_and_backward_once_an_epoch(images, model, meter):
    with meter.phase("train"):
        fitted(model("lenet", seed=3), images(7, seed=3), meter, epochs=4, batch_size=3)
    assert dict(meter.forward_images) == dict(meter.backward_images) == {"train": 28}


@pytest.mark.parametrize("kind", ["lenet", "with norm", "with dropout"])
def test_the_generator_alone_decides_how_training_goes(images, model, meter, kind):
    """Dropout that a model brings along draws too; a resumed run must draw the same."""
    pictures, states = images(8, seed=4), []
    for global_seed in (1, 2):
        network = model(kind, seed=4)
        torch.manual_seed(global_seed)
        fitted(network, pictures, meter, epochs=2, batch_size=3)
        states.append(network.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_another_generator_seed_trains_otherwise(images, model, meter):
    pictures, networks = images(8, seed=5), [model("lenet", seed=5) for _ in range(2)]
    for seed, network in enumerate(networks):
        fitted(network, pictures, meter, generator_seed=seed, epochs=1, batch_size=3)
    assert not torch.equal(networks[0].fc2.weight, networks[1].fc2.weight)


def test_a_loss_that_is_not_finite_stops_training_and_names_the_learning_rate(images, model, meter):
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) after epoch \d; lower train.lr = 1e\+20"):
        fitted(model("lenet", seed=6), images(8, seed=6), meter, epochs=4, batch_size=2, lr=1e20)


HEADS = {"lenet": "fc2", "with norm": "head", "with dropout": "head"}


@pytest.mark.parametrize("kind", list(HEADS))
def test_where_the_head_alone_learns_nothing_else_changes(images, model, meter, kind):
    """Batch normalisation's statistics included."""
    pictures, network = images(8, seed=8), model(kind, seed=8).train()
    before = deepcopy(network.state_dict())
    fitted(network, pictures, meter, epochs=3, batch_size=3, weight_decay=0.01, layers="head")
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{HEADS[kind]}.weight", f"{HEADS[kind]}.bias"}
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("kind", ["lenet", "with norm"])
def test_training_the_head_is_logistic_regression_on_the_bodys_features_in_evaluation_mode(images, model, meter, kind):
    pictures, network = images(7, seed=9), model(kind, seed=9)
    seen = []
    handle = network.get_submodule(HEADS[kind]).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = next(pictures.batches([torch.arange(7)], device="cpu"))
    network.eval()(x)
    handle.remove()
    features, weight, bias = (
        seen[0].detach().double(),
        *(p.detach().double().clone() for p in network.get_submodule(HEADS[kind]).parameters()),
    )
    losses = fitted(
        network, pictures, meter, epochs=4, batch_size=7, lr=0.1, momentum=0.0, decay_epochs=(), layers="head"
    )
    for loss in losses:
        p = (features @ weight.T + bias).softmax(dim=1)
        expected = -sum(float(p[i, pictures.labels[i]].log()) for i in range(7)) / 7
        assert loss == pytest.approx(expected, rel=1e-4)
        at_logits = (p - F.one_hot(pictures.labels, 3)) / 7
        weight, bias = weight - 0.1 * at_logits.T @ features, bias - 0.1 * at_logits.sum(dim=0)
    assert_close(network.get_submodule(HEADS[kind]).weight.double(), weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("layers", ["all", "head"])
def test_training_that_is_given_up_half_way_gives_the_gradients_back(images, model, meter, layers):
    pictures, network = images(6, seed=10), model("with norm", seed=10)
    network.conv.bias.requires_grad_(False)
    config = TrainConfig(epochs=5, batch_size=3, layers=layers)
    epochs = fit(network, pictures, torch.arange(6), pictures.labels, config=config, generator=seeded(0), meter=meter)
    next(epochs)
    assert network.conv.weight.requires_grad is (layers == "all")
    epochs.close()
    assert {name for name, p in network.named_parameters() if not p.requires_grad} == {"conv.bias"}


def test_a_loss_that_is_not_finite_gives_the_gradients_back_too(images, model, meter):
    network = model("lenet", seed=11)
    for p in network.parameters():
        p.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError):
        fitted(network, images(8, seed=11), meter, epochs=4, batch_size=2, layers="head")
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("kind", ["lenet", "with norm", "with dropout"])
def test_between_epochs_others_may_evaluate_the_model_without_changing_how_it_trains(images, model, meter, kind):
    """As the authors' rule does, which asks for the test accuracy of every epoch."""
    pictures, states = images(7, seed=12), []
    for evaluates in (False, True):
        network = model(kind, seed=12)
        config = TrainConfig(epochs=4, batch_size=3)
        for _ in fit(
            network, pictures, torch.arange(7), pictures.labels, config=config, generator=seeded(0), meter=meter
        ):
            if evaluates:
                with evaluating(network):
                    network(next(pictures.batches([torch.arange(7)], device="cpu")))
        states.append(network.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("kind", ["lenet", "with norm", "with dropout"])
@pytest.mark.parametrize("training", [True, False])
def test_the_mode_that_the_model_comes_in_does_not_matter(images, model, meter, kind, training):
    pictures, states = images(7, seed=13), []
    for mode in (True, training):
        network = model(kind, seed=13).train(mode)
        fitted(network, pictures, meter, epochs=2, batch_size=3)
        states.append(network.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_passes_are_counted_alike_whichever_layers_learn(images, model, meter):
    """Table 1's 2 I N_b, although the backward pass of a head is short."""
    with meter.phase("train"):
        fitted(model("lenet", seed=14), images(7, seed=14), meter, epochs=4, batch_size=3, layers="head")
    assert dict(meter.forward_images) == dict(meter.backward_images) == {"train": 28}


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 12, 13])
@pytest.mark.parametrize("size", [2, 3, 6, 50])
def test_batches_hold_every_image_once_and_none_is_left_alone(n, size):
    batches = shuffled_batches(n, size, seeded(n))
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    lengths = [len(batch) for batch in batches]
    expected = [size] * (n // size) + [n % size] * (n % size > 0)
    if len(expected) > 1 and expected[-1] == 1:
        expected[-2:] = [size + 1]
    assert lengths == expected
    assert n == 1 or min(lengths) > 1


def test_the_order_is_shuffled_anew_each_time():
    generator = seeded(0)
    orders = {tuple(torch.cat(shuffled_batches(9, 4, generator)).tolist()) for _ in range(5)}
    assert len(orders) == 5


def test_a_last_batch_of_one_trains_a_network_with_batch_normalisation(images, meter):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3)
    )
    assert len(fitted(network, images(7, seed=7), meter, epochs=2, batch_size=3)) == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs = 0; give at least 1"),
        ({"batch_size": 0}, "batch_size = 0; give at least 1"),
        ({"warmup_epochs": -1}, "warmup_epochs = -1; give at least 0"),
        ({"lr": 0.0}, "lr = 0.0; give a learning rate above 0"),
        ({"lr": float("nan")}, "lr = nan; give a learning rate above 0"),
        ({"momentum": 1.0}, r"momentum = 1.0; give a value in \[0, 1\)"),
        ({"weight_decay": -0.1}, "weight_decay = -0.1; give 0 or more"),
        ({"decay": 0.0}, r"decay = 0.0; give a factor in \(0, 1\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_way_out(setting, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**setting)


def test_a_rare_class_is_found_more_often_under_a_balanced_loss_than_under_the_plain_one(images, model, meter):
    pictures = images(120, seed=0, labels=torch.tensor([0] * 60 + [1] * 56 + [2] * 4))
    unseen = images(90, seed=1)
    found = {}
    for loss in ("plain", "class_balanced", "balanced_softmax"):
        network = model("lenet", seed=0)
        fitted(network, pictures, meter, epochs=12, batch_size=24, lr=0.02, decay_epochs=(), loss=loss)
        with evaluating(network), torch.no_grad():
            predicted = network(next(unseen.batches([torch.arange(90)], device="cpu"))).argmax(dim=1)
        found[loss] = int((predicted[unseen.labels == 2] == 2).sum())
    assert found["class_balanced"] > found["plain"]
    assert found["balanced_softmax"] > found["plain"]


def test_an_image_without_a_label_is_refused_by_its_index(images, model, meter):
    pictures = images(6, seed=0)
    labels = pictures.labels.clone()
    labels[4] = -1
    training = fit(
        model("lenet", seed=0),
        pictures,
        torch.arange(6),
        labels,
        config=TrainConfig(epochs=1),
        generator=seeded(0),
        meter=meter,
    )
    with pytest.raises(ValueError, match=r"\[4\] have no label"):
        next(training)
