import pytest
import torch
from torch import Tensor, nn

from fkal.models.registry import build
from fkal.models.taps import Taps, tap_widths


def some_input(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class Branching(nn.Module):
    """One layer that returns a tuple, one that no forward pass reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x.flatten(1)[:, None, :4])
        return self.head(self.attention(tokens, tokens, tokens)[0][:, 0])


def test_the_outputs_of_the_named_layers_are_caught_while_the_block_lasts():
    model, x = build("lenet", (1, 8, 8), 3), some_input(2, 1, 8, 8)
    with Taps(model, ("conv1", "fc1")) as taps:
        model(x)
    assert set(taps.outputs) == {"conv1", "fc1"}
    torch.testing.assert_close(taps.outputs["conv1"], model.conv1(x))
    caught = taps.outputs["conv1"]
    model(x + 1)
    assert taps.outputs["conv1"] is caught


@pytest.mark.parametrize("with_grad", [False, True])
def test_tapping_changes_no_output(with_grad):
    model, x = build("resnet10", (1, 32, 32), 3).eval().requires_grad_(False), some_input(2, 1, 32, 32)
    expected = model(x)
    with Taps(model, ("relu", "layer1.0.conv1", "layer3", "layer4", "fc"), with_grad=with_grad):
        assert torch.equal(model(x), expected)


def test_a_tap_before_an_in_place_relu_is_caught_as_it_was_and_differentiated():
    """`features.3` of vgg11 is a convolution, which the ReLU after it overwrites."""
    model, x = build("vgg11", (3, 32, 32), 3).eval().requires_grad_(False), some_input(1, 3, 32, 32)
    stem = model.features[:4]
    assert model.features[4].inplace
    expected = stem(x)
    assert (expected < 0).any()
    with torch.no_grad(), Taps(model, ("features.3",)) as taps:
        model(x)
    assert torch.equal(taps.outputs["features.3"], expected)
    with Taps(model, ("features.3", "features.4"), with_grad=True) as taps:
        logits = model(x)
    assert torch.equal(taps.outputs["features.3"], expected)
    before, after = torch.autograd.grad(logits[0, 1], [taps.outputs["features.3"], taps.outputs["features.4"]])
    assert after.abs().sum() > 0
    torch.testing.assert_close(before, torch.where(expected > 0, after, 0.0))


def test_the_graph_begins_at_the_earliest_tap():
    model, x = build("lenet", (1, 8, 8), 3).requires_grad_(False), some_input(2, 1, 8, 8)
    seen = {}
    for name in ("conv1", "conv2", "fc1"):
        model.get_submodule(name).register_forward_hook(
            lambda _, inputs, __, name=name: seen.update({name: inputs[0].requires_grad})
        )
    with Taps(model, ("fc1", "conv2"), with_grad=True) as taps:
        logits = model(x)
    assert seen == {"conv1": False, "conv2": False, "fc1": True}
    assert taps.outputs["conv2"].is_leaf
    assert not taps.outputs["fc1"].is_leaf
    assert logits.requires_grad


def test_an_unknown_tap_is_refused_with_the_closest_layer():
    model = build("lenet", (1, 8, 8), 3)
    with pytest.raises(ValueError, match=r"no layer 'conv3' to tap; did you mean 'conv\d'\? layers: conv1, conv2, fc1"):
        Taps(model, ("conv3",))
    with pytest.raises(ValueError, match="no layer '' to tap; layers: conv1"):
        Taps(model, ("",))


def test_widths_are_those_of_the_pooled_outputs():
    model = build("resnet10", (1, 32, 32), 3)
    taps = ("fc", "layer1.0", "conv1", "avgpool")
    assert tap_widths(model, taps, (1, 32, 32)) == {"fc": 3, "layer1.0": 64, "conv1": 64, "avgpool": 512}


@pytest.mark.parametrize("training", [True, False])
def test_asking_for_widths_leaves_the_model_as_it_was(training):
    model = build("resnet10", (1, 32, 32), 3).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tap_widths(model, ("layer3",), (1, 32, 32))
    assert all(layer.training is training for layer in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_layer_that_returns_no_tensor_is_refused():
    with pytest.raises(ValueError, match="layer attention returns a tuple; tap a tensor"):
        tap_widths(Branching(), ("attention",), (1, 2, 2))


def test_a_refused_tap_leaves_the_model_as_it_was():
    model = Branching().train()
    with pytest.raises(ValueError, match="attention"):
        tap_widths(model, ("attention",), (1, 2, 2))
    assert all(layer.training for layer in model.modules())
    with Taps(model, ("stem",)) as taps:
        model(torch.zeros(1, 1, 2, 2))  # no hook of the refused tap is left
    assert set(taps.outputs) == {"stem"}


def test_a_layer_that_no_forward_pass_reaches_is_refused():
    with pytest.raises(ValueError, match=r"taps \['unused'\] are not reached by a forward pass"):
        tap_widths(Branching(), ("stem", "unused"), (1, 2, 2))


def test_a_layer_whose_output_cannot_be_pooled_is_refused():
    model = nn.Sequential(nn.Unflatten(1, (1, 1)), nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1, 4, 4\)"):
        tap_widths(model, ("0",), (1, 4, 4))
