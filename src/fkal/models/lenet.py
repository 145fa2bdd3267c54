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

    Without padding, the gradients of its logits at the taps are known in closed form (`closed_form_taps`).
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
        self.closed_form_taps = () if padding else ("conv1", "conv2", "fc1")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        x = self.drop1(F.max_pool2d(self.conv1(x), 2))
        x = self.drop2(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(self.drop3(self.fc1(x.flatten(1))))

    def logit_gradients(self, outputs: Mapping[str, Tensor]) -> dict[str, LogitGradients]:
        """Without dropout, of all d logits at the three taps, from these taps' `outputs` for n images.

        Max-pooling passes each gradient on to one position, so the sum over a map is the one over the pooled map. A
        convolution without padding gives an input channel the sum over its kernel times the sum over the output's
        map, and a product with the input is one with the output less its bias, so no map of gradients is ever built.
        """
        conv2, fc1, head = self.conv2[0], self.fc1[0], self.fc2.weight.detach()
        assert isinstance(conv2, nn.Conv2d)
        assert isinstance(fc1, nn.Linear)
        kernels, bias = conv2.weight.detach(), _bias(conv2)[:, None, None]
        maps = F.max_pool2d(outputs["conv2"], 2)
        into_fc1 = fc1.weight.detach().unflatten(1, maps.shape[1:])  # (50 20 h w)

        fires = outputs["fc1"] > 0
        at_fc1 = head[:, None, :] * fires  # (d n 50), below its ReLU
        at_conv2 = at_fc1 @ into_fc1.sum(dim=(2, 3))  # (d n 20), summed over the map
        fires_at = (maps > 0).to(maps)
        reached = torch.einsum("johw,nohw->njo", into_fc1, fires_at)  # (n 50 20): from a map below its ReLU into fc1
        below_conv2 = torch.einsum("dnj,njo->dno", at_fc1, reached)
        at_conv1 = below_conv2 @ kernels.sum(dim=(2, 3))  # (d n 10)

        out_of_conv2 = ((maps - bias) * fires_at).flatten(1) @ fc1.weight.detach().T
        return {
            "conv1": LogitGradients(at_conv1 / _positions(outputs["conv1"]), ((out_of_conv2 * fires) @ head.T).T),
            "conv2": LogitGradients(
                at_conv2 / _positions(outputs["conv2"]), (((outputs["fc1"] - _bias(fc1)) * fires) @ head.T).T
            ),
            "fc1": LogitGradients(head[:, None, :].expand(-1, len(fires), -1), (outputs["fc1"] @ head.T).T),
        }


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach()


def _positions(maps: Float[Tensor, "n c h w"]) -> int:
    return maps.shape[2] * maps.shape[3]


def _pooled_side(side: int, padding: int) -> int:
    for _ in range(2):
        side = (side - 4 + 2 * padding) // 2
    return side
