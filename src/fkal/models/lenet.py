"""LeNet of the paper's MNIST experiments."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fkal.models.dropout import MonteCarloDropout

SMALLEST_UNPADDED = 16
"""Below this height or width two 5x5 convolutions and two poolings leave nothing; so they pad."""


class LeNet(nn.Module):
    """conv 10@5x5, pool, conv 20@5x5, pool, fc 50, fc d; ReLU after each but the last.

    Taps: `conv1` (10), `conv2` (20) and `fc1` (50), each after its ReLU. Monte Carlo dropout
    0.25, 0.25 after the poolings and 0.5 after fc1 (protocol of the paper).
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


def _pooled_side(side: int, padding: int) -> int:
    for _ in range(2):
        side = (side - 4 + 2 * padding) // 2
    return side
