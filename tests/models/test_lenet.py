from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fkal.core.descriptors import pooled
from fkal.models.closed_form import ClosedForm
from fkal.models.dropout import monte_carlo_dropout
from fkal.models.lenet import LeNet
from fkal.models.modes import evaluating
from fkal.models.registry import build
from fkal.models.taps import Taps, tap_widths


def test_on_28x28_it_is_the_papers_lenet():
    model = LeNet(1, 28, 28, 10)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {
        "conv1.0.weight": (10, 1, 5, 5),
        "conv1.0.bias": (10,),
        "conv2.0.weight": (20, 10, 5, 5),
        "conv2.0.bias": (20,),
        "fc1.0.weight": (50, 320),
        "fc1.0.bias": (50,),
        "fc2.weight": (10, 50),
        "fc2.bias": (10,),
    }
    assert sum(p.numel() for p in model.parameters()) == 21_840


def test_the_output_is_that_of_the_layers_one_after_the_other():
    model = LeNet(1, 28, 28, 10)
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    f = torch.nn.functional
    h = f.max_pool2d(f.relu(f.conv2d(x, model.conv1[0].weight, model.conv1[0].bias)), 2)
    h = f.max_pool2d(f.relu(f.conv2d(h, model.conv2[0].weight, model.conv2[0].bias)), 2)
    assert h.shape == (3, 20, 4, 4)
    h = f.relu(h.flatten(1) @ model.fc1[0].weight.T + model.fc1[0].bias)
    torch.testing.assert_close(model(x), h @ model.fc2.weight.T + model.fc2.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 32), (3, 4, 4), (1, 16, 16), (1, 15, 40)])
def test_it_takes_images_of_any_size_from_4x4_on(shape):
    model = build("lenet", shape, 7)
    assert model(torch.zeros(2, *shape)).shape == (2, 7)
    assert tap_widths(model, ("conv1", "conv2", "fc1"), shape) == {"conv1": 10, "conv2": 20, "fc1": 50}


@pytest.mark.parametrize(("height", "width"), [(3, 8), (8, 3), (1, 1)])
def test_smaller_images_are_refused(height, width):
    with pytest.raises(ValueError, match=f"images of {height}x{width} are too small for LeNet; give 4x4 or more"):
        LeNet(1, height, width, 10)


def test_dropout_follows_the_poolings_and_the_first_fully_connected_layer():
    """The paper's 0.25, 0.25, 0.5. Before a pooling, which takes the largest of four, masks would do less."""
    model = LeNet(1, 28, 28, 10).eval()
    seen = {}
    for name in ("drop1", "drop2", "drop3"):
        model.get_submodule(name).register_forward_hook(
            lambda layer, inputs, output, name=name: seen.update({name: (layer.p, tuple(inputs[0].shape), output)})
        )
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), monte_carlo_dropout(model, torch.Generator().manual_seed(1)):
        model(x)
    assert {name: value[:2] for name, value in seen.items()} == {
        "drop1": (0.25, (2, 10, 12, 12)),
        "drop2": (0.25, (2, 20, 4, 4)),
        "drop3": (0.5, (2, 50)),
    }
    for _, _, output in seen.values():
        assert (output == 0).any()


def differentiated(model: nn.Module, x: Tensor, tap: str) -> tuple[Tensor, Tensor]:
    """The pooled gradient of each logit of each image at one tap, and its product with the tap, by autograd."""
    with evaluating(model), Taps(model, (tap,), with_grad=True) as caught:
        logits = model(x)
    output = caught.outputs[tap]
    jacobian, products = [], []
    for c in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, c].sum(), output, retain_graph=True)
        jacobian.append(pooled(gradient))
        products.append((output.detach() * gradient).flatten(1).sum(dim=1))
    return torch.stack(jacobian), torch.stack(products)


def biased(model: nn.Module) -> None:
    """Weights as after some training: units that never fire, biases of both signs."""
    for bias in (model.conv1[0].bias, model.conv2[0].bias, model.fc1[0].bias, model.fc2.bias):
        bias.data.normal_(0, 0.3)
    model.conv1[0].bias.data[3] = model.conv2[0].bias.data[7] = model.fc1[0].bias.data[11] = -50.0


def black(x: Tensor) -> Tensor:
    """Equal pixels: every entry that a max-pooling looks at is as large."""
    return torch.zeros_like(x)


@pytest.mark.parametrize("of", [lambda x: x, black], ids=["noise", "ties"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 16, 16), (2, 17, 23), (1, 16, 41)])
def test_gradients_of_its_logits_are_known_in_closed_form(shape: tuple[int, int, int], of: Callable[[Tensor], Tensor]):
    torch.manual_seed(0)
    model = build("lenet", shape, 4).double().eval()
    biased(model)
    x = of(torch.randn(5, *shape, dtype=torch.float64))
    assert isinstance(model, ClosedForm)
    assert list(model.closed_form_taps) == ["conv1", "conv2", "fc1"]
    for tap, needed in model.closed_form_taps.items():
        with torch.no_grad(), Taps(model, needed) as caught:
            model(x)
        found, slow = model.logit_gradients(tap, caught.outputs), differentiated(model, x, tap)
        torch.testing.assert_close(found.jacobian, slow[0], rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(found.products, slow[1], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 15, 40)])
def test_where_it_pads_it_does_not_know_them(shape):
    """At the border a kernel reaches beyond the map, so that the sum over it is not what it gives on."""
    assert not build("lenet", shape, 4).closed_form_taps


def test_of_drawn_networks_and_of_those_that_may_compute_something_else_it_does_not_know_them():
    class Other(LeNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flip(3))

    assert not Other(1, 28, 28, 10).closed_form_taps
    model = LeNet(1, 28, 28, 10)
    with monte_carlo_dropout(model, torch.Generator()):
        assert not model.closed_form_taps
    assert model.closed_form_taps
