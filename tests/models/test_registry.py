from importlib.metadata import EntryPoint

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from fkal.models.dropout import MonteCarloDropout, monte_carlo_dropout
from fkal.models.registry import build, head_name
from fkal.models.settings import MODELS, known_model
from fkal.models.taps import tap_widths

SMALL = (1, 32, 32)


@pytest.mark.parametrize(("name", "blocks"), [("resnet10", 1), ("resnet18", 2)])
def test_a_residual_network_has_so_many_basic_blocks_a_stage_and_the_imagenet_stem(name, blocks):
    model = build(name, (3, 32, 32), 10)
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        layers = list(model.get_submodule(f"layer{stage}"))
        assert len(layers) == blocks
        assert all(isinstance(layer, BasicBlock) for layer in layers)
        assert all(layer.conv1.out_channels == layer.conv2.out_channels == width for layer in layers)
        assert layers[0].conv1.stride == ((1, 1) if stage == 1 else (2, 2))
    assert (model.conv1.kernel_size, model.conv1.stride, model.conv1.out_channels) == ((7, 7), (2, 2), 64)
    assert model.maxpool.kernel_size == 3
    assert head_name(model) == "fc"
    assert tap_widths(model, ("layer3", "layer4"), (3, 32, 32)) == {"layer3": 256, "layer4": 512}


def test_resnet18_computes_what_torchvisions_does_from_the_same_weights():
    ours, theirs = build("resnet18", (3, 32, 32), 5).eval(), torchvision.models.resnet18(num_classes=5).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_dropout_stands_after_both_relus_of_a_residual_block():
    model = build("resnet10", SMALL, 3)
    active = [layer for layer in model.modules() if isinstance(layer, MonteCarloDropout)]
    calls = []
    for layer in active:
        layer.register_forward_hook(lambda *_: calls.append(1))
    model.eval()(torch.zeros(1, *SMALL))
    assert len(active) == 4
    assert len(calls) == 8
    assert all(layer.p == 0.25 for layer in active)


@pytest.mark.parametrize("name", [*MODELS, "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_by_name_takes_the_datas_channels_and_classes(name, channels):
    model = build(name, (channels, 32, 32), 4).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, channels, 32, 32)).shape == (2, 4)
    assert any(isinstance(layer, MonteCarloDropout) for layer in model.modules())
    head = model.get_submodule(head_name(model))
    assert isinstance(head, nn.Linear)
    assert head.out_features == 4


@pytest.mark.parametrize("name", list(MODELS))
def test_the_usual_taps_of_a_model_exist(name):
    entry = MODELS[name]
    model = build(name, SMALL, 3)
    assert all(width > 1 for width in tap_widths(model, entry.taps, SMALL).values())


@pytest.mark.parametrize("name", ["lenet", "resnet10", "mobilenet_v3_small"])
def test_the_global_seed_decides_the_weights(name):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in build(name, SMALL, 3).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_model_without_a_linear_head_is_refused_where_a_head_is_needed():
    model = build("squeezenet1_1", SMALL, 3)
    with pytest.raises(ValueError, match="SqueezeNet has no linear layer to serve as its head"):
        head_name(model)


def test_an_unknown_model_is_refused_with_the_closest_name():
    with pytest.raises(
        ValueError, match=r"unknown model 'resnet81'; did you mean 'resnet\d+'\? see `fkal list models`"
    ):
        build("resnet81", SMALL, 3)
    with pytest.raises(ValueError, match="unknown model 'zzzzzzzz'; see"):
        build("zzzzzzzz", SMALL, 3)


def test_a_transformer_has_monte_carlo_dropout_and_taps_with_channels_first_alone():
    """Swin brings nn.Dropout(0.0) along, which drops nothing, and keeps its channels last."""
    network = build("swin_t", (3, 64, 64), 3).eval()
    x = torch.ones(1, 3, 64, 64)
    with torch.no_grad(), monte_carlo_dropout(network, torch.Generator().manual_seed(0)):
        assert not torch.equal(network(x), network(x))
    assert tap_widths(network, ("permute",), (3, 64, 64)) == {"permute": 768}
    with pytest.raises(ValueError, match=r"features\.7.*channels last; tap 'permute'"):
        tap_widths(network, ("features.7",), (3, 64, 64))


@pytest.mark.parametrize(("name", "shape"), [("alexnet", (1, 8, 8)), ("vit_b_32", (3, 32, 32))])
def test_a_model_that_cannot_take_images_of_this_size_is_refused(name, shape):
    with pytest.raises(ValueError, match=f"{shape[1]}x{shape[2]}"):
        build(name, shape, 3)


def test_a_model_of_another_package_is_known_by_name_and_loaded_when_it_is_built(monkeypatch):
    point = EntryPoint("ours", "absent_package:entry", "fkal.models")
    monkeypatch.setattr("fkal.object_references.entry_points", lambda group: [point])
    assert known_model("ours") == "ours"
    with pytest.raises(ModuleNotFoundError, match="absent_package"):
        build("ours", (1, 8, 8), 3)
    monkeypatch.setattr(EntryPoint, "load", lambda self: MODELS["lenet"])
    assert build("ours", (1, 8, 8), 3)(torch.zeros(1, 1, 8, 8)).shape == (1, 3)
