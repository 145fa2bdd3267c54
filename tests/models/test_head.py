import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fkal.models.head import HeadInput, head_width
from fkal.models.registry import build


@pytest.mark.parametrize(
    ("name", "shape", "width"),
    [("lenet", (1, 8, 8), 50), ("resnet10", (3, 32, 32), 512), ("mobilenet_v2", (3, 32, 32), 1280)],
)
def test_what_enters_the_head_makes_the_logits(name, shape, width):
    model = build(name, shape, 7).eval()
    with torch.no_grad(), HeadInput(model) as caught:
        logits = model(torch.rand(3, *shape))
    assert caught.features.shape == (3, width)
    assert caught.weight.shape == (7, width)
    assert_close(F.linear(caught.features, caught.weight, caught.head.bias.detach()), logits)
    assert head_width(model, shape) == width


def test_nothing_is_caught_after_the_block():
    model = build("lenet", (1, 8, 8), 3)
    with HeadInput(model) as caught:
        pass
    model(torch.zeros(1, 1, 8, 8))
    assert caught.features is None


class Tempered(nn.Module):
    """Its logits are not what the last linear layer makes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return 2 * self.fc(x.flatten(1)) + 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()), "has no linear layer to serve as its head"),
        (Tempered(), "does not end in the linear layer 'fc' that makes the logits; give it one, or take a method"),
        (nn.Sequential(nn.Linear(4, 3), nn.Flatten()), "does not end in the linear layer '0'"),
    ],
)
def test_a_model_that_does_not_end_in_a_linear_layer_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        head_width(model, (1, 4, 4))
