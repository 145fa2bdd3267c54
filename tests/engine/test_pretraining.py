from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import interpolate
from torch.testing import assert_close

from fkal.engine.pretraining import pretrain, rotated
from fkal.engine.progress import Progress
from fkal.engine.settings import PretrainConfig
from fkal.models.registry import build


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(network, pictures, meter, *, pool=None, generator_seed=0, **config):
    pool = torch.arange(len(pictures)) if pool is None else pool
    settings = PretrainConfig(**{"epochs": 2, "batch_size": 3, "lr": 0.05, **config})
    return pretrain(network, pictures, pool, config=settings, generator=seeded(generator_seed), meter=meter)


def test_rotated_turns_each_image_by_0_90_180_and_270_degrees():
    x = torch.randn(3, 2, 5, 5, generator=seeded(0))
    turned = rotated(x)
    assert turned.shape == (12, 2, 5, 5)
    for turns in range(4):
        for i in range(3):
            for c in range(2):
                expected = torch.tensor(np.rot90(x[i, c].numpy(), turns).copy())
                assert torch.equal(turned[3 * turns + i, c], expected)
                assert torch.equal(turned[3 * turns + i, c], torch.rot90(x[i, c], turns))


@pytest.mark.parametrize("name", ["lenet", "resnet10", "shufflenet_v2_x0_5"])
def test_the_state_has_everything_but_the_head(outcome, images, meter, name):
    torch.manual_seed(1)
    network = build(name, (1, 8, 8), 3)
    head = {"lenet": "fc2", "resnet10": "fc", "shufflenet_v2_x0_5": "fc.1"}[name]
    state = outcome(run(network, images(4, seed=1), meter, epochs=1))
    full = network.state_dict()
    assert set(full) - set(state) == {f"{head}.weight", f"{head}.bias"}
    assert set(state) <= set(full)
    assert all(state[key].shape == full[key].shape and state[key].dtype == full[key].dtype for key in state)
    assert any(not torch.equal(state[key], full[key]) for key in state)


@pytest.mark.parametrize("kind", ["lenet", "with norm"])
def test_the_model_itself_is_left_untouched(outcome, images, model, meter, kind):
    network = model(kind, seed=2)
    before, training = deepcopy(network.state_dict()), network.training
    outcome(run(network, images(6, seed=2), meter))
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_one_step_is_that_of_four_labeled_rotations_of_every_image(outcome, images, model, meter):
    """Held against the update written out, the head being the first thing drawn."""
    pictures, network = images(5, seed=3), model("lenet", seed=3)
    state = outcome(run(network, pictures, meter, generator_seed=9, epochs=1, batch_size=5, lr=0.1))
    exact, draws = deepcopy(network), seeded(9)
    exact.fc2 = nn.Linear(50, 4)
    bound = 1 / 50**0.5
    with torch.no_grad():
        exact.fc2.weight.uniform_(-bound, bound, generator=draws)
        exact.fc2.bias.uniform_(-bound, bound, generator=draws)
    exact = exact.double().train()
    x = next(pictures.batches([torch.arange(5)], device="cpu")).double()
    losses = [
        F.cross_entropy(exact(x[i : i + 1].rot90(turns, (2, 3))), torch.tensor([turns]))
        for i in range(5)
        for turns in range(4)
    ]
    (sum(losses) / 20).backward()
    for name, p in exact.named_parameters():
        if not name.startswith("fc2"):
            assert_close(state[name].double(), (p - 0.1 * p.grad).detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["lenet", "with norm", "with dropout"])
def test_the_generator_alone_decides_the_outcome(outcome, images, model, meter, kind):
    states = []
    for global_seed in (1, 2):
        network = model(kind, seed=4)
        torch.manual_seed(global_seed)
        states.append(outcome(run(network, images(7, seed=4), meter)))
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    other = outcome(run(model(kind, seed=4), images(7, seed=4), meter, generator_seed=1))
    assert any(not torch.equal(states[0][name], other[name]) for name in other)


def test_torchs_global_generator_is_left_alone(outcome, images, model, meter):
    network = model("lenet", seed=5)
    before = torch.get_rng_state()
    outcome(run(network, images(4, seed=5), meter))
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_pool_is_seen(outcome, images, model, meter):
    pictures, pool = images(9, seed=6), torch.tensor([8, 1, 4, 5])
    others = images(9, seed=7)
    for i in pool.tolist():
        others.to("cpu")[i] = pictures.to("cpu")[i]
    states = [outcome(run(model("lenet", seed=6), seen, meter, pool=pool)) for seen in (pictures, others)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_labels_play_no_part(outcome, images, model, meter):
    states = []
    for labels in (torch.arange(6) % 3, torch.zeros(6, dtype=torch.long)):
        pictures = images(6, seed=8)
        pictures.labels = labels
        states.append(outcome(run(model("lenet", seed=8), pictures, meter)))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_progress_counts_epochs_and_every_rotation_is_a_pass(images, model, meter):
    with meter.phase("pretrain"):
        steps = list(run(model("lenet", seed=9), images(7, seed=9), meter, epochs=3))
    assert steps == [Progress("pretraining", epoch, 3, "epochs") for epoch in (1, 2, 3)]
    assert dict(meter.forward_images) == dict(meter.backward_images) == {"pretrain": 3 * 4 * 7}


def test_of_an_oblong_image_the_centre_square_is_turned_and_all_turns_are_stretched_alike():
    square = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(10))
    oblong = torch.cat([torch.ones(2, 3, 6, 2), square, torch.ones(2, 3, 6, 2)], dim=3)
    turned = rotated(oblong)
    assert turned.shape == (8, 3, 6, 10)
    stretched = interpolate(square.rot90(1, dims=(2, 3)), size=(6, 10), mode="bilinear", antialias=True)
    torch.testing.assert_close(turned[2:4], stretched)


def test_oblong_images_pretrain(images, model, meter):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    assert next(run(network, images(4, seed=10, side=(8, 6)), meter)).done == 1


def test_a_model_without_a_linear_head_is_refused(images, meter):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="no linear layer to serve as its head"):
        next(run(network, images(4, seed=11), meter))


def test_a_loss_that_is_not_finite_is_refused_instead_of_returning_such_weights(outcome, images, model, meter):
    with pytest.raises(FloatingPointError, match="lr"):
        outcome(run(model("lenet", seed=12), images(8, seed=12), meter, epochs=4, lr=1e20))


def test_the_default_is_the_papers_schedule_for_mnist():
    config = PretrainConfig()
    assert (config.task, config.epochs, config.momentum) == ("rotation", 8, 0.5)
    factors = [config.factor(epoch) for epoch in range(8)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
