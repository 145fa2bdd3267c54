"""LeNet of the paper's MNIST experiments."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fkal.models.closed_form import LogitGradients
from fkal.models.dropout import MonteCarloDropout

SMALLEST_UNPADDED = 16
"""Below this height or width two 5x5 convolutions and two poolings leave nothing; so they pad."""


class LeNet(nn.Module):
    """conv 10@5x5, pool, conv 20@5x5, pool, fc 50, fc d; ReLU after each but the last.

    Taps: `conv1` (10), `conv2` (20) and `fc1` (50), each after its ReLU. Monte Carlo dropout
    0.25, 0.25 after the poolings and 0.5 after fc1 (protocol of the paper).

    Without padding, the gradients of its logits at the taps are known in closed form.
    """

    def __init__(self, channels: int, height: int, width: int, n_classes: int) -> None:
        super().__init__()
        padding = 2 if min(height, width) < SMALLEST_UNPADDED else 0
        self.conv1 = nn.Sequential(nn.Conv2d(channels, 10, 5, padding=padding), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(10, 20, 5, padding=padding), nn.ReLU())
        flat = 20 * _pooled_side(height, padding) * _pooled_side(width, padding)
        if flat == 0:
            raise ValueError(f"images of {height}x{width} are too small for LeNet; give 4x4 or more")
        self.fc1 = nn.Sequential(nn.Linear(flat, 50), nn.ReLU())
        self.fc2 = nn.Linear(50, n_classes)
        self.drop1 = MonteCarloDropout(0.25)
        self.drop2 = MonteCarloDropout(0.25)
        self.drop3 = MonteCarloDropout(0.5)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        x = self.drop1(F.max_pool2d(self.conv1(x), 2))
        x = self.drop2(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(self.drop3(self.fc1(x.flatten(1))))

    @property
    def closed_form_taps(self) -> Mapping[str, tuple[str, ...]]:
        """None where it pads, while dropout is sampled, and of a subclass, which may compute something else."""
        samples = any(drop.generator is not None for drop in (self.drop1, self.drop2, self.drop3))
        if samples or type(self) is not LeNet or self._conv2.padding != (0, 0):
            return {}
        return {"conv1": ("conv1", "conv2", "fc1"), "conv2": ("conv2", "fc1"), "fc1": ("fc1",)}

    @torch.no_grad()
    def logit_gradients(self, tap: str, outputs: Mapping[str, Tensor]) -> LogitGradients:
        """Of all d logits at a tap, from the outputs for n images that `closed_form_taps` names.

        Max-pooling passes each gradient on to one position, so the sum over a map is the one over the pooled map. A
        convolution without padding gives an input channel the sum over its kernel times the sum over the output's
        map, and a product with the input is one with the output less its bias, so no map of gradients is ever built.
        """
        head, fires = self.fc2.weight, outputs["fc1"] > 0
        if tap == "fc1":
            return LogitGradients(head[:, None, :].repeat(1, len(fires), 1), (outputs["fc1"] @ head.T).T)
        at_fc1 = head[:, None, :] * fires  # (d n 50), before its ReLU
        maps = F.max_pool2d(outputs["conv2"], 2)
        weight = self._fc1.weight.unflatten(1, maps.shape[1:])  # (50 20 h w)
        if tap == "conv2":
            at_conv2 = at_fc1 @ weight.sum(dim=(2, 3))  # (d n 20), summed over the map
            out_of_fc1 = (outputs["fc1"] - self._fc1.bias) * fires
            return LogitGradients(at_conv2 / _positions(outputs["conv2"]), (out_of_fc1 @ head.T).T)
        fires_at = (maps > 0).to(maps)
        through = torch.einsum("johw,nohw->njo", weight, fires_at)  # (n 50 20): fc1's weights where conv2's ReLU fires
        before_relu = torch.einsum("dnj,njo->dno", at_fc1, through)
        at_conv1 = before_relu @ self._conv2.weight.sum(dim=(2, 3))  # (d n 10), summed over the map
        out_of_conv2 = (maps - _by_channel(self._conv2)) * fires_at
        into_fc1 = (out_of_conv2.flatten(1) @ self._fc1.weight.T) * fires
        return LogitGradients(at_conv1 / _positions(outputs["conv1"]), (into_fc1 @ head.T).T)

    @property
    def _conv2(self) -> nn.Conv2d:
        layer = self.conv2[0]
        assert isinstance(layer, nn.Conv2d)
        return layer

    @property
    def _fc1(self) -> nn.Linear:
        layer = self.fc1[0]
        assert isinstance(layer, nn.Linear)
        return layer


def _by_channel(layer: nn.Conv2d) -> Float[Tensor, "c 1 1"]:
    assert layer.bias is not None
    return layer.bias[:, None, None]


def _positions(maps: Float[Tensor, "n c h w"]) -> int:
    return maps.shape[2] * maps.shape[3]


def _pooled_side(side: int, padding: int) -> int:
    for _ in range(2):
        side = (side - 4 + 2 * padding) // 2
    return side
