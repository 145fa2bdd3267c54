"""The two networks of VAAL: a convolutional beta-VAE and a discriminator of its latents.

Sinha, Ebrahimi, Darrell: Variational Adversarial Active Learning, ICCV 2019. Its VAE is made for
images of 32x32 and 64x64; here the number of halvings follows from the image.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

Shape = tuple[int, int, int]

HALVED_FROM = 8
"""Grids whose shorter side has this many pixels or more are halved again; so it ends at 4 to 7."""

SMALLEST = 4
"""Below this height or width one 4x4 convolution leaves next to nothing."""

WIDEST = 8
"""Channels double with each halving up to this multiple of the width (in the paper 128 to 1024)."""

HIDDEN = 512
"""Units in each hidden layer of the discriminator."""


class Encoder(nn.Module):
    """4x4 convolutions of stride 2 with batch normalisation and ReLU, then mu and log sigma^2."""

    def __init__(self, channels: list[int], grid: tuple[int, int], latent: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(_halving(*pair) for pair in pairwise(channels)), nn.Flatten())
        self.head = nn.Linear(channels[-1] * grid[0] * grid[1], 2 * latent)

    def forward(self, x: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        mu, log_var = self.head(self.body(x)).chunk(2, dim=1)
        return mu, log_var


class Decoder(nn.Module):
    """The encoder's mirror image, of transposed convolutions; its output is not squashed."""

    def __init__(self, channels: list[int], grids: list[tuple[int, int]], latent: int) -> None:
        super().__init__()
        steps = list(zip(pairwise(reversed(channels)), reversed(grids[:-1]), strict=True))
        self.start = nn.Sequential(
            nn.Linear(latent, channels[-1] * grids[-1][0] * grids[-1][1]),
            nn.Unflatten(1, (channels[-1], *grids[-1])),
        )
        self.body = nn.Sequential(*(_doubling(*pair, grid) for pair, grid in steps[:-1]))
        (before, out), grid = steps[-1]
        self.end = _transposed(before, out, grid, bias=True)

    def forward(self, z: Float[Tensor, "n k"]) -> Float[Tensor, "n c h w"]:
        return self.end(self.body(self.start(z)))


class Vae(nn.Module):
    """A beta-VAE of images of `shape` (c, h, w) with `width` channels after the first halving."""

    def __init__(self, shape: Shape, latent: int, width: int) -> None:
        super().__init__()
        c, height, breadth = shape
        if min(height, breadth) < SMALLEST:
            raise ValueError(
                f"images of {height}x{breadth} are too small for VAAL's encoder; give {SMALLEST}x{SMALLEST} or more"
            )
        grids = _grids(height, breadth)
        channels = [c, *(width * min(2**i, WIDEST) for i in range(len(grids) - 1))]
        self.encoder = Encoder(channels, grids[-1], latent)
        self.decoder = Decoder(channels, grids, latent)

    def forward(
        self, x: Float[Tensor, "n c h w"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """The reconstruction from z = mu + sigma epsilon, mu and log sigma^2; epsilon comes from the generator."""
        mu, log_var = self.encoder(x)
        epsilon = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        return self.decoder(mu + (0.5 * log_var).exp() * epsilon), mu, log_var


class Discriminator(nn.Module):
    """The logit of a latent's image being labeled; two hidden layers (authors' program: four)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, mu: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        return self.body(mu)[:, 0]


def _grids(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width before the first halving and after each; at least one halving."""
    grids = [(height, width), (height // 2, width // 2)]
    while min(grids[-1]) >= HALVED_FROM:
        grids.append((grids[-1][0] // 2, grids[-1][1] // 2))
    return grids


def _halving(before: int, after: int) -> nn.Sequential:
    """A side of s pixels becomes one of s // 2."""
    convolution = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _doubling(before: int, after: int, grid: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(_transposed(before, after, grid, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _transposed(before: int, after: int, grid: tuple[int, int], *, bias: bool) -> nn.ConvTranspose2d:
    """A side of s // 2 pixels becomes the s of `grid`: an odd one is padded by the pixel that halving dropped."""
    odd = (grid[0] % 2, grid[1] % 2)
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, output_padding=odd, bias=bias)
