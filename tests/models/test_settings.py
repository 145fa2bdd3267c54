import pytest
import torch
import torchvision

from fkal.models import registry
from fkal.models.settings import MODELS, TORCHVISION_TAPS, usual_taps
from fkal.models.taps import tap_widths

SMALL = ["alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "mnasnet0_5",
         "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf", "resnet34", "shufflenet_v2_x0_5",
         "squeezenet1_1", "swin_t", "vgg11"]  # fmt: skip


def test_every_model_of_torchvision_has_usual_taps():
    names = torchvision.models.list_models(module=torchvision.models)
    assert [name for name in names if not usual_taps(name)] == []
    assert all(any(name.startswith(start) for name in names) for start in TORCHVISION_TAPS)


MODELS_ON_META = [
    name for name in torchvision.models.list_models(module=torchvision.models) if not name.startswith("regnet")
]
"""Building a RegNet reads numbers from tensors, which have none there."""


@pytest.mark.parametrize("name", MODELS_ON_META)
def test_the_usual_taps_of_torchvisions_models_are_layers_of_theirs(name):
    auxiliary = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **auxiliary)
    layers = dict(model.named_modules())
    assert [tap for tap in usual_taps(name) if tap not in layers] == []


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
@pytest.mark.parametrize("name", SMALL)
def test_the_usual_taps_of_a_family_give_descriptors(name):
    shape = (3, 64, 64)
    if name == "squeezenet1_1":
        model = torchvision.models.squeezenet1_1(num_classes=4)
    else:
        model = registry.build(name, shape, 4)
    widths = tap_widths(model, usual_taps(name), shape)
    assert list(widths) == list(usual_taps(name)) and min(widths.values()) > 16


def test_a_model_of_a_package_has_the_taps_that_the_package_says(monkeypatch):
    class Offered:
        def load(self):
            return MODELS["resnet10"]

    monkeypatch.setattr("fkal.models.settings.offered_models", lambda: {"theirs": Offered()})
    assert usual_taps("theirs") == ("layer3", "layer4")


def test_an_unknown_model_has_no_usual_taps():
    assert usual_taps("nothing") == ()
