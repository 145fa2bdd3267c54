from collections import Counter
from dataclasses import fields

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from fkal.core.evidence import Uncertainty
from fkal.core.uncertainty import uncertainty
from fkal.data.images import TensorImages
from fkal.engine.metering import Meter
from fkal.engine.sampling import Sampler, sampled_uncertainty, split_at_dropout
from fkal.models.dropout import MonteCarloDropout, monte_carlo_dropout
from fkal.models.modes import evaluating
from fkal.models.registry import build

SIDES = {"lenet": 28, "resnet10": 32, "resnet18": 32, "vgg11": 32, "mobilenet_v3_small": 32, "efficientnet_b0": 32,
         "shufflenet_v2_x0_5": 32, "densenet121": 32, "squeezenet1_1": 32, "swin_t": 32}  # fmt: skip
"""Models, and images that are small for them."""


@pytest.fixture(autouse=True)
def as_outside_of_tests():
    """Checked annotations refuse the stand-ins with which torch.fx follows a forward pass, and exist here alone."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(name: str, *, seed: int = 0) -> nn.Module:
    """With normalisation's statistics as after some training; at first they let no image differ from another."""
    side = SIDES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(name, (3, side, side), 3)
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        for layer in norms:
            layer.momentum = 1.0
        if norms:
            model.train()(torch.randn(8, 3, side, side))
        return model.eval()


def some_images(name: str, n: int = 3) -> Tensor:
    return torch.randn(n, 3, SIDES[name], SIDES[name], generator=seeded(7))


def whole_passes(model: nn.Module, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k passes through all of the model, in the layout that the sampler uses."""
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), evaluating(model), monte_carlo_dropout(model, generator):
        return torch.stack([model(x).softmax(dim=1) for _ in range(k)])


@pytest.mark.parametrize("name", list(SIDES))
def test_what_precedes_the_dropout_and_what_follows_are_together_the_model(name):
    model, x = built(name), some_images(name)
    prefix, suffix = split_at_dropout(model)
    assert suffix is not model  # it was split, and not given up
    with torch.no_grad():
        known = prefix(x)
        assert_close(suffix(*known), model(x), rtol=0, atol=0)
        for _ in range(3):
            with monte_carlo_dropout(model, seeded(1)):
                expected = model(x)
            with monte_carlo_dropout(model, seeded(1)):
                assert torch.equal(suffix(*known), expected)  # the same masks in the same places
            assert not torch.equal(expected, model(x))


@pytest.mark.parametrize("name", ["resnet10", "mobilenet_v3_small", "lenet"])
def test_a_samplers_passes_are_those_of_the_whole_model_under_the_same_draws(name, meter):
    model, x = built(name), some_images(name)
    p = Sampler(model, meter)(x, 4, seeded(2))
    assert p.shape == (4, 3, 3)
    assert_close(p, whole_passes(model, x, 4, seeded(2)), rtol=1e-4, atol=1e-5)
    assert_close(p.sum(dim=2), torch.ones(4, 3))
    assert len({tuple(one.flatten().tolist()) for one in p}) == 4


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("lenet", ["conv1.0"], ["conv2.0", "fc1.0", "fc2"]),
        ("resnet10", ["conv1", "bn1", "layer1.0.conv1"], ["layer1.0.conv2", "layer2.0.conv1", "layer4.0.conv2", "fc"]),
        ("vgg11", ["features.0", "features.18", "classifier.0"], ["classifier.3", "classifier.6"]),
        ("mobilenet_v3_small", ["features.0.0", "classifier.0"], ["classifier.3"]),
        ("squeezenet1_1", ["features.0"], ["classifier.1"]),
    ],
)
def test_layers_before_the_first_dropout_run_once_an_image_and_those_behind_it_k_times(name, before, after, meter):
    model, x, calls = built(name), some_images(name, 5), Counter()
    sampler = Sampler(model, meter)
    sampler(x, 1, seeded(3))  # the first time, the split is tried on two images
    for layer in (*before, *after):
        model.get_submodule(layer).register_forward_hook(lambda _, inputs, __, layer=layer: calls.update([layer]))
    sampler(x, 6, seeded(3))
    assert calls == {**dict.fromkeys(before, 1), **dict.fromkeys(after, 6)}


def test_each_of_the_k_passes_is_counted_as_one_of_the_whole_model(meter):
    model, x = built("lenet"), some_images("lenet", 5)
    with meter.phase("descriptors"):
        Sampler(model, meter)(x, 6, seeded(4))
    assert dict(meter.forward_images) == {"descriptors": 30}
    assert not meter.backward_images


class Branching(nn.Module):
    """Which way it goes depends on the values of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.drop, self.head = nn.Linear(12, 8), MonteCarloDropout(0.5), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1))
        h = h.relu() if float(h.mean()) > 0 else h.abs()
        return self.head(self.drop(h))


class PlainPython(Branching):
    """Counts images with Python's own functions."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.reshape(int(x.size(0)), -1))
        return self.head(self.drop(torch.stack([row.relu() for row in h])))


class RemembersItsSize(Branching):
    """Reads off the images, before any dropout, a number that is used behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.body(x.flatten(1)).relu()).view(x.size(0), -1))


class AddsInPlace(Branching):
    """Its shortcut is overwritten behind the dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1)).relu()
        return self.head(h.add_(self.drop(self.second(h))))


class TwoWays(Branching):
    """A shortcut past the dropout, a parameter of its own, and a result that some layers have no part in."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.unused = nn.Parameter(torch.rand(8)), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1))
        self.unused(h)
        return self.head(h * self.scale + self.drop(F.relu(h)) + self.drop(h))


class DropsFirst(Branching):
    """Nothing precedes its dropout."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.drop(x).flatten(1)).relu())


class DropsLast(Branching):
    """Nothing follows its dropout."""

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.head(self.body(x.flatten(1)).relu()))


def tiny(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return kind().eval()


class ByType(Branching):
    """Tracing takes the other way."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1))
        return self.head(self.drop(h.relu() if type(h) is Tensor else h.abs()))


class ReluInPlace(Branching):
    """What precedes the dropout is changed behind it."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1))
        dropped = self.drop(h)
        return self.head(dropped + F.relu(h, inplace=True))


@pytest.mark.parametrize("kind", [Branching, PlainPython, RemembersItsSize, AddsInPlace, ByType, ReluInPlace])
def test_a_model_that_cannot_be_followed_is_asked_whole_and_draws_the_same(kind, meter):
    model, x, calls = tiny(kind), torch.randn(4, 3, 2, 2, generator=seeded(5)), []
    sampler = Sampler(model, meter)
    sampler(x, 1, seeded(6))
    model.body.register_forward_hook(lambda *_: calls.append(1))
    p = sampler(x, 5, seeded(6))
    assert len(calls) == 5
    assert torch.equal(p, whole_passes(model, x, 5, seeded(6)))
    assert sum(meter.forward_images.values()) == 4 + 20


@pytest.mark.parametrize("kind", [TwoWays, DropsFirst, DropsLast])
def test_however_a_model_is_wired_the_sampler_draws_what_it_would_draw(kind, meter):
    model, x = tiny(kind), torch.randn(4, 3, 2, 2, generator=seeded(8))
    before = x.clone()
    p = Sampler(model, meter)(x, 5, seeded(9))
    assert_close(p, whole_passes(model, x, 5, seeded(9)), rtol=1e-5, atol=1e-6)
    assert torch.equal(x, before)


def test_a_model_without_dropout_gives_one_answer_which_an_ensemble_can_still_use(meter):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x = torch.randn(2, 3, 2, 2, generator=seeded(0))
    p = Sampler(model, meter)(x, 2, seeded(0))
    assert torch.equal(p[0], p[1])
    assert_close(p[0], model(x).softmax(dim=1).detach())


@pytest.mark.parametrize("training", [True, False])
def test_sampling_leaves_the_model_as_it_was(training, meter):
    """A dropout of its own that a torchvision model brings along stays off while sampling."""
    model, x = built("mobilenet_v3_small").train(training), some_images("mobilenet_v3_small")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Sampler(model, meter)(x, 2, seeded(10))
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(layer.training is training for layer in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    with evaluating(model):
        assert torch.equal(model(x), model(x))


def test_a_sampler_follows_the_models_weights(meter):
    """Both halves share the model's modules and parameters."""
    for model, x in ((built("lenet"), some_images("lenet")), (tiny(TwoWays), torch.randn(4, 3, 2, 2))):
        sampler = Sampler(model, meter)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        assert_close(sampler(x, 2, seeded(11)), whole_passes(model, x, 2, seeded(11)), rtol=1e-4, atol=1e-5)


# the evidence


def tensor_images(n: int) -> TensorImages:
    pixels = torch.randint(0, 256, (n, 3, 28, 28), generator=seeded(12)).to(torch.uint8)
    return TensorImages(pixels, torch.arange(n) % 3, "abc", mean=(0.5,), std=(0.25,))


def sampled(outcome, members, *, k: int, batch_size: int, seed: int, meter: Meter, n: int = 7) -> Uncertainty:
    indices = torch.tensor([6, 1, 3, 0, 5])
    generator = seeded(seed)
    return outcome(
        sampled_uncertainty(
            members, tensor_images(n), indices, k=k, batch_size=batch_size, generator=generator, meter=meter
        )
    )


@pytest.mark.parametrize("n_members", [1, 3])
def test_uncertainty_is_measured_on_the_pooled_passes_of_all_members(outcome, meter, n_members):
    members = [built("lenet", seed=e) for e in range(n_members)]
    found = sampled(outcome, members, k=4, batch_size=5, seed=13, meter=meter)
    x = next(tensor_images(7).batches([torch.tensor([6, 1, 3, 0, 5])], device="cpu"))
    draws = seeded(13)
    pooled = torch.cat([Sampler(member, meter)(x, 4, draws) for member in members])
    assert pooled.shape == (4 * n_members, 5, 3)
    expected = uncertainty(pooled)
    for field in fields(Uncertainty):
        assert torch.equal(getattr(found, field.name), getattr(expected, field.name))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_every_batch_counts_k_passes_of_each_member_and_reports(meter, batch_size):
    members = [built("lenet", seed=e) for e in range(2)]
    steps = sampled_uncertainty(
        members, tensor_images(7), torch.tensor([6, 1, 3, 0, 5]), k=3, batch_size=batch_size, generator=seeded(14),
        meter=meter,
    )  # fmt: skip
    batches = -(-5 // batch_size)
    assert [tuple(step) for step in steps] == [
        ("Monte Carlo passes", done, batches, "batches") for done in range(1, batches + 1)
    ]
    assert sum(meter.forward_images.values()) == 2 * 3 * 5


def test_one_pass_of_each_member_is_an_ensemble_without_dropouts_help(outcome, meter):
    members = [built("lenet", seed=e) for e in range(4)]
    found = sampled(outcome, members, k=1, batch_size=3, seed=15, meter=meter)
    assert (found.mutual_information > 0).all()
    assert sum(meter.forward_images.values()) == 4 * 5


def test_the_seed_alone_decides_and_the_global_generator_is_left_alone(outcome, meter):
    members = [built("lenet", seed=e) for e in range(2)]
    found = []
    for global_seed, seed in ((1, 16), (2, 16), (2, 17)):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        found.append(sampled(outcome, members, k=3, batch_size=2, seed=seed, meter=meter).entropy)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_every_image_batch_and_member_has_masks_of_its_own(outcome, meter):
    """The same image nine times, seen by the same model three times."""
    pixels = torch.randint(0, 256, (1, 3, 28, 28), generator=seeded(18)).to(torch.uint8).repeat(9, 1, 1, 1)
    same = TensorImages(pixels, torch.zeros(9, dtype=torch.long), "abc", mean=(0.5,), std=(0.25,))
    model = built("lenet")

    def entropy(members: list[nn.Module], k: int) -> Tensor:
        steps = sampled_uncertainty(
            members, same, torch.arange(9), k=k, batch_size=3, generator=seeded(19), meter=meter
        )
        return outcome(steps).entropy

    assert len(entropy([model], 2).unique()) == 9
    several = outcome(
        sampled_uncertainty([model] * 3, same, torch.arange(9), k=1, batch_size=3, generator=seeded(19), meter=meter)
    )
    assert (several.mutual_information > 0).all()
