"""Members trained as one batched model learn what each learns by itself."""

import math
from copy import deepcopy

import pytest
import torch
from torch.testing import assert_close

from fkal.engine.fitting_together import fit_together, learn_together
from fkal.engine.metering import Meter
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit
from fkal.models.modes import evaluating

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def seeded(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def together(members, pictures, indices, *, meter=None, **settings) -> list[list[float]]:
    config = TrainConfig(**{"epochs": 4, "batch_size": 5, "lr": 0.05, "decay_epochs": (2,), **settings})
    return list(
        fit_together(
            members,
            pictures,
            indices,
            pictures.labels[indices],
            config=config,
            generators=seeded(len(members)),
            meter=meter or Meter(CPU),
        )
    )


@pytest.mark.parametrize("loss", ["plain", "class_balanced", "balanced_softmax"])
@pytest.mark.parametrize("n", [10, 11, 13])  # whole batches, a last one of one, a last one of three
def test_each_member_learns_what_it_learns_by_itself(images, model, loss, n):
    pictures, members = images(20, seed=1), [model("lenet", seed=seed) for seed in (1, 2, 3)]
    alone = deepcopy(members)
    indices = torch.randperm(20, generator=torch.Generator().manual_seed(9))[:n]
    settings = {"loss": loss, "momentum": 0.8, "weight_decay": 0.01, "warmup_epochs": 2}
    losses = together(members, pictures, indices, **settings)
    config = TrainConfig(epochs=4, batch_size=5, lr=0.05, decay_epochs=(2,), **settings)
    for e, (member, other, draws) in enumerate(zip(members, alone, seeded(3), strict=True)):
        labels = pictures.labels[indices]
        expected = fit(other, pictures, indices, labels, config=config, generator=draws, meter=Meter(CPU))
        assert [by_member[e] for by_member in losses] == pytest.approx(list(expected), rel=1e-3)
        for name, value in member.state_dict().items():
            assert_close(value, other.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_every_image_passes_once_an_epoch_for_each_member(images, model):
    meter = Meter(CPU)
    with meter.phase("train"):
        together([model("lenet", seed=s) for s in (1, 2)], images(7, seed=1), torch.arange(7), meter=meter)
    assert dict(meter.forward_images) == dict(meter.backward_images) == {"train": 2 * 4 * 7}


def test_the_same_seeds_give_the_same_members_in_bfloat16_too(images, model):
    pictures = images(12, seed=2)
    for precision in (None, "bfloat16"):
        once, again = ([[*map(deepcopy, [model("lenet", seed=s) for s in (4, 5)])], None] for _ in range(2))
        for each in (once, again):
            each[1] = together(each[0], pictures, torch.arange(12), precision=precision)
        assert once[1] == again[1]
        for one, other in zip(once[0], again[0], strict=True):
            assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_a_loss_that_is_not_finite_ends_it(images, model):
    with pytest.raises(FloatingPointError, match=r"lower train\.lr = 1e\+20"):
        together([model("lenet", seed=s) for s in (1, 2)], images(9, seed=1), torch.arange(9), lr=1e20)


def test_members_learn_together_on_a_gpu_alone_and_where_they_can(model):
    plain, with_norm = [model("lenet", seed=s) for s in (1, 2)], [model("with norm", seed=s) for s in (1, 2)]
    assert learn_together(plain, TrainConfig(), CUDA)
    assert learn_together(plain, TrainConfig(precision="tf32"), CUDA)
    for members, config, device in (
        (plain, TrainConfig(), CPU),
        (plain[:1], TrainConfig(), CUDA),
        (with_norm, TrainConfig(), CUDA),
        (plain, TrainConfig(layers="head"), CUDA),
        (plain, TrainConfig(precision="float16"), CUDA),
    ):
        assert not learn_together(members, config, device)


def test_a_round_of_an_ensemble_that_learns_together_is_that_of_one_by_one(learning, monkeypatch):
    def rounds():
        return [event for event in learning("varr", members=2, rounds=2).rounds() if hasattr(event, "train_loss")]

    one_by_one = rounds()
    monkeypatch.setattr("fkal.engine.loop.learn_together", lambda members, config, device: True)
    for this, other in zip(rounds(), one_by_one, strict=True):
        assert this.train_loss == pytest.approx(other.train_loss, rel=1e-3)
        assert all(map(math.isfinite, this.train_loss))
        assert torch.equal(this.selection.indices, other.selection.indices)
        assert dict(this.forward_images) == dict(other.forward_images)
        for name, value in this.weights.items():
            assert_close(value, other.weights[name], rtol=1e-3, atol=1e-5)


def test_members_evaluate_as_before_once_they_have_learned(images, model):
    members, pictures = [model("lenet", seed=s) for s in (1, 2)], images(9, seed=3)
    together(members, pictures, torch.arange(9))
    (x,) = pictures.batches([torch.arange(9)], device="cpu")
    with evaluating(members[1]):
        assert members[1](x).shape == (9, 3)
