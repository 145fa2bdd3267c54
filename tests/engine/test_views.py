import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import fkal.engine.views
from fkal.core.descriptors import standardised
from fkal.engine.describing import Describer
from fkal.engine.views import Perturbation, _batched_gradients, perturbations, perturbed_views, view_of
from fkal.models.registry import build
from fkal.models.taps import Taps

TAPS = {"lenet": ("conv1", "conv2", "fc1"), "with norm": ("relu", "norm"), "resnet10": ("layer3", "layer4")}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_of(kind: str, model, *, seed: int) -> nn.Module:
    if kind != "resnet10":
        return model(kind, seed=seed)
    torch.manual_seed(seed)
    network = build("resnet10", (1, 8, 8), 3)
    for layer in network.modules():  # statistics as after some training
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    return network


def pictures_of(images, n: int, *, seed: int) -> Tensor:
    return next(images(n, seed=seed).batches([torch.arange(n)], device="cpu"))


def phi(tensor: Tensor) -> Tensor:
    """Global average pooling of one image's tensor."""
    return tensor[0].flatten(1).mean(dim=1) if tensor.dim() == 4 else tensor[0]


def turned(image: Tensor, degrees: float) -> Tensor:
    """`(h w)` turned counterclockwise about its middle, black beyond the edge: bilinear, pixel by pixel."""
    height, width = image.shape
    angle, result = math.radians(degrees), torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            from_x = math.cos(angle) * x - math.sin(angle) * y + (width - 1) / 2
            from_y = math.sin(angle) * x + math.cos(angle) * y + (height - 1) / 2
            left, top = math.floor(from_x), math.floor(from_y)
            for r in (top, top + 1):
                for c in (left, left + 1):
                    if 0 <= r < height and 0 <= c < width:
                        share = (1 - abs(from_y - r)) * (1 - abs(from_x - c))
                        result[row, column] += share * image[r, c]
    return result


@pytest.mark.parametrize("kind", list(TAPS))
def test_a_view_is_that_of_one_image_class_and_tap_at_a_time(images, model, meter, kind):
    network, x, taps = network_of(kind, model, seed=0), pictures_of(images, 4, seed=0), TAPS[kind]
    view = view_of(network.train(), x, taps, meter)
    exact = deepcopy(network).double().eval().requires_grad_(False)
    for i in range(4):
        with Taps(exact, taps, with_grad=True) as caught:
            logits = exact(x[i : i + 1].double())
        assert_close(view.p[i], logits[0].detach().softmax(dim=0), rtol=1e-4, atol=1e-6)
        for tap in taps:
            assert_close(view.z[tap][i].double(), phi(caught.outputs[tap].detach()), rtol=1e-3, atol=1e-5)
            for c in range(3):
                (gradient,) = torch.autograd.grad(logits[0, c], caught.outputs[tap], retain_graph=True)
                assert_close(view.jacobian[tap][c, i].double(), phi(gradient), rtol=1e-3, atol=1e-5)
                product = (caught.outputs[tap].detach() * gradient).sum()
                assert_close(view.products[tap][c, i].double(), product, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("taps", [("conv1", "conv2", "fc1"), ("conv2",), ("fc1", "conv1")])
def test_a_model_that_knows_its_gradients_has_the_same_view_without_a_backward_pass(images, meter, monkeypatch, taps):
    torch.manual_seed(20)
    network = build("lenet", (1, 20, 18), 3)
    x = next(images(6, seed=20, side=(20, 18)).batches([torch.arange(6)], device="cpu"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with monkeypatch.context() as unknown:
        unknown.setattr(type(network), "closed_form_taps", {})
        slow = view_of(network, x, taps, meter)
    passes = meter.passes
    monkeypatch.setattr(torch.autograd, "grad", None)
    view = view_of(network.train(), x, taps, meter)
    assert meter.passes == (2 * passes[0], 2 * passes[1])  # they count as the passes that they stand for
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    for block in view.jacobian.values():
        assert not block.requires_grad
        block.add_(1).sub_(1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert list(view.z) == list(view.jacobian) == list(view.products) == list(taps)
    assert torch.equal(view.p, slow.p)
    for tap in taps:
        assert torch.equal(view.z[tap], slow.z[tap])
        assert_close(view.jacobian[tap], slow.jacobian[tap], rtol=1e-4, atol=1e-7)
        assert_close(view.products[tap], slow.products[tap], rtol=1e-4, atol=1e-6)


def test_of_other_layers_a_model_that_knows_some_gradients_goes_backward(images, meter):
    network = build("lenet", (1, 20, 18), 3)
    x = next(images(2, seed=21, side=(20, 18)).batches([torch.arange(2)], device="cpu"))
    assert list(view_of(network, x, ("conv1.0", "conv2"), meter).jacobian) == ["conv1.0", "conv2"]


def test_probabilities_are_float64_however_certain_the_model(images, model, meter):
    network, x = model("lenet", seed=1), pictures_of(images, 3, seed=1)
    network.fc2.bias.data = torch.tensor([25.0, 0.0, 1.0])
    view = view_of(network, x, ("fc1",), meter)
    assert view.p.dtype == torch.float64
    assert (view.p[:, 1:] > 0).all()
    assert (1 - view.p[:, 0] > 1e-13).all()


@pytest.mark.parametrize("kind", ["lenet", "with norm"])
def test_features_and_fisher_scores_are_those_that_the_describer_standardises(outcome, images, model, meter, kind):
    network, pictures, taps = model(kind, seed=2), images(6, seed=2), TAPS[kind]
    indices, labels = torch.tensor([5, 0, 3, 1]), torch.tensor([1, 1, 0, 2, 0, 2])
    view = view_of(network, next(pictures.batches([indices], device="cpu")), taps, meter)
    describer = Describer(network, pictures, taps, 4, meter)
    alike = outcome(
        describer.describe(indices, lambda b: labels[b.indices], labels="true", with_grad=True, what="pool")
    ).descriptors
    for tap in taps:
        assert_close(standardised(view.z[tap]), alike.z[tap], rtol=1e-4, atol=1e-5)
        scores = view.fisher_scores(tap)
        under_labels = torch.stack([-scores[labels[index], row] for row, index in enumerate(indices.tolist())])
        assert_close(standardised(under_labels), alike.g[tap].double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("entries", [1, 4 * 10 * 64, 3 * 4 * 10 * 64])
def test_classes_taken_some_at_a_time_give_the_same_view(images, model, meter, monkeypatch, entries):
    network, x = model("lenet", seed=3), pictures_of(images, 4, seed=3)
    whole = view_of(network, x, TAPS["lenet"], meter)
    monkeypatch.setitem(fkal.engine.views.GRADIENT_ENTRIES, "cpu", entries)
    parts = view_of(network, x, TAPS["lenet"], meter)
    for tap in TAPS["lenet"]:
        assert_close(parts.jacobian[tap], whole.jacobian[tap], rtol=1e-5, atol=1e-7)
        assert_close(parts.products[tap], whole.products[tap], rtol=1e-5, atol=1e-6)
        assert torch.equal(parts.z[tap], whole.z[tap])


@pytest.mark.parametrize("kind", list(TAPS))
def test_a_class_alone_has_bit_for_bit_the_gradients_of_a_batch_of_one(images, model, kind):
    network, x = network_of(kind, model, seed=12).eval().requires_grad_(False), pictures_of(images, 4, seed=12)
    with Taps(network, TAPS[kind], with_grad=True) as caught:
        logits = network(x)
    outputs = list(caught.outputs.values())
    for direction in torch.eye(3):
        at_logits = direction.expand(1, 4, 3)
        batched = torch.autograd.grad(logits, outputs, at_logits, is_grads_batched=True, retain_graph=True)
        for alone, in_batch in zip(_batched_gradients(logits, outputs, at_logits), batched, strict=True):
            assert torch.equal(alone, in_batch)


def test_the_trace_of_a_whole_piecewise_linear_layer_ranks_classes_as_its_logits_do(images, model, meter):
    """Without biases above it z . J(d) is the logit itself, of which the mean logit is taken off."""
    network, x = model("lenet", seed=11), pictures_of(images, 5, seed=11)
    for bias in (network.conv2[0].bias, network.fc1[0].bias, network.fc2.bias):
        bias.data.zero_()
    view, logits = view_of(network, x, TAPS["lenet"], meter), network(x).detach().double()
    expected = (logits - (view.p * logits).sum(dim=1, keepdim=True)).T
    for tap in TAPS["lenet"]:
        assert_close(view.trace(tap), expected, rtol=1e-3, atol=1e-5)


def test_a_view_costs_one_forward_pass_an_image_and_a_backward_pass_an_image_and_class(images, model, meter):
    network, x = model("lenet", seed=4), pictures_of(images, 5, seed=4)
    with meter.phase("views"):
        view_of(network, x, ("conv2",), meter)
    assert dict(meter.forward_images) == {"views": 5}
    assert dict(meter.backward_images) == {"views": 5 * 3}


def test_the_forward_pass_counted_is_the_one_made(images, model, meter):
    network, x, calls = model("lenet", seed=5), pictures_of(images, 5, seed=5), []
    network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    drawn = perturbations(4, (1, 8, 8), degrees=5.0, noise=0.1, generator=seeded(0))
    list(perturbed_views(network, x, ("conv2",), drawn, meter))
    assert calls == [5, 5, 5, 5]
    assert sum(meter.forward_images.values()) == 20


@pytest.mark.parametrize("training", [True, False])
def test_a_view_leaves_the_model_as_it_was(images, model, meter, training):
    network, x = model("with norm", seed=6).train(training), pictures_of(images, 5, seed=6)
    network.conv.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():  # as within a method that needs no gradients of its own
        view = view_of(network, x, ("relu",), meter)
        assert not torch.is_grad_enabled()
    assert not any(block.requires_grad for block in (*view.z.values(), *view.jacobian.values(), view.p))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training is training
    assert {name for name, p in network.named_parameters() if not p.requires_grad} == {"conv.bias"}
    assert all(p.grad is None for p in network.parameters())
    assert not x.requires_grad


def test_views_are_made_as_they_are_asked_for(images, model, meter):
    network, x = model("lenet", seed=7), pictures_of(images, 2, seed=7)
    drawn = perturbations(3, (1, 8, 8), degrees=5.0, noise=0.1, generator=seeded(0))
    views = perturbed_views(network, x, ("fc1",), drawn, meter)
    assert not meter.forward_images
    for k in (1, 2, 3):
        view = next(views)
        assert sum(meter.forward_images.values()) == 2 * k
        assert torch.equal(view.z["fc1"], view_of(network, drawn[k - 1](x), ("fc1",), meter).z["fc1"])
        meter.forward_images.subtract({"setup": 2})


def test_the_same_generator_seed_draws_the_same_views():
    def draw(seed: int) -> list[Perturbation]:
        return perturbations(5, (1, 4, 4), degrees=5.0, noise=0.1, generator=seeded(seed))

    for once, again, other in zip(draw(1), draw(1), draw(2), strict=True):
        assert once.degrees == again.degrees != other.degrees
        assert torch.equal(once.noise, again.noise)
        assert not torch.equal(once.noise, other.noise)


def test_turns_are_uniform_within_the_degrees_and_noise_has_the_deviation_asked_for():
    drawn = perturbations(2000, (1, 3, 3), degrees=5.0, noise=0.3, generator=seeded(3))
    turns = torch.tensor([view.degrees for view in drawn])
    assert (turns.abs() <= 5).all()
    # uniform on [-5, 5] has standard deviation 2.89
    assert abs(float(turns.mean())) < 5 * 2.89 / 2000**0.5
    for quarter in range(4):
        share = ((turns >= -5 + 2.5 * quarter) & (turns < -2.5 + 2.5 * quarter)).double().mean()
        assert abs(float(share) - 0.25) < 5 * (0.25 * 0.75 / 2000) ** 0.5
    noise = torch.stack([view.noise for view in drawn])
    assert abs(float(noise.std()) - 0.3) < 5 * 0.3 / (2 * noise.numel()) ** 0.5
    assert abs(float(noise.mean())) < 5 * 0.3 / noise.numel() ** 0.5


def test_a_view_of_no_degrees_and_no_noise_is_the_image_itself(images):
    x = pictures_of(images, 3, seed=8)
    for view in perturbations(4, (1, 8, 8), degrees=0.0, noise=0.0, generator=seeded(4)):
        assert torch.equal(view(x), x)


def test_noise_is_added_and_is_the_same_for_every_image(images):
    x = pictures_of(images, 3, seed=9)
    (view,) = perturbations(1, (1, 8, 8), degrees=0.0, noise=0.5, generator=seeded(5))
    assert_close(view(x) - x, view.noise.expand(3, -1, -1, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("degrees", [-90.0, -7.5, 0.5, 5.0, 30.0, 90.0])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 7, 7)])
def test_a_turn_is_counterclockwise_about_the_middle(degrees, shape):
    x = torch.randn(2, *shape, generator=seeded(6))
    view = Perturbation(degrees, torch.zeros(shape))
    expected = torch.stack([torch.stack([turned(channel.double(), degrees) for channel in image]) for image in x])
    assert_close(view(x).double(), expected, rtol=1e-4, atol=1e-3)


def test_a_quarter_turn_is_that_of_rot90():
    x = torch.randn(2, 1, 6, 6, generator=seeded(7))
    assert_close(Perturbation(90.0, torch.zeros(1, 6, 6))(x), torch.rot90(x, 1, dims=(2, 3)), rtol=1e-4, atol=1e-4)


def test_no_images_view_depends_on_the_images_beside_it(images):
    x = pictures_of(images, 5, seed=10)
    (view,) = perturbations(1, (1, 8, 8), degrees=20.0, noise=0.5, generator=seeded(8))
    for i in range(5):
        assert_close(view(x[i : i + 1]), view(x)[i : i + 1])
