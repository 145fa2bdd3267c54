"""VAAL: a VAE that hides which images are labeled, and a discriminator that finds it out.

Sinha, Ebrahimi, Darrell: Variational Adversarial Active Learning, ICCV 2019. Both networks are made
and trained from scratch each time, without the task model.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.evidence import Discrimination
from fkal.core.randomness import stream
from fkal.data.images import ImageSet
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.engine.settings import VaalConfig
from fkal.models.modes import evaluating
from fkal.models.vaal import Discriminator, Vae

REPORTS = 100
"""How often a training shows its progress and checks its loss."""


def discriminate(
    images: ImageSet,
    *,
    labeled: Int[Tensor, " l"],
    open_pool: Int[Tensor, " n"],
    config: VaalConfig,
    batch_size: int,
    generator: torch.Generator,
    meter: Meter,
) -> Generator[Progress, None, Discrimination]:
    """The probability of being labeled of each open image, by two networks trained to tell and to deceive.

    Images through the VAE are counted: forward and backward in its own steps, forward (encoder
    alone) in the discriminator's steps and in the last pass over the open pool. What passes the
    discriminator are latents, not images, and is not counted. All draws stem from the generator's
    seed.

    Raises ValueError without a labeled or without an open image, FloatingPointError when the loss
    is found not to be finite.
    """
    for kind, indices in (("labeled", labeled), ("open", open_pool)):
        if not len(indices):
            raise ValueError(f"0 {kind} images; VAAL tells labeled from open images: give at least 1 of each")
    trainer = VaalTrainer.between(images.shape, config, seed=generator.initial_seed(), meter=meter)
    draws = stream(generator.initial_seed(), "batches")
    batches = images.batches(paired_batches(labeled, open_pool, config, draws), device=meter.device)
    yield from trainer.train(batches)
    return (yield from trainer.discrimination(images, open_pool, batch_size))


def seeded_networks(shape: tuple[int, int, int], config: VaalConfig, seed: int) -> tuple[Vae, Discriminator]:
    """First weights from the stream `weights`; torch's initialisers know only the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream(seed, "weights").initial_seed())
        return Vae(shape, config.latent, config.width), Discriminator(config.latent)


def paired_batches(
    labeled: Int[Tensor, " l"], open_pool: Int[Tensor, " n"], config: VaalConfig, generator: torch.Generator
) -> Iterator[Int[Tensor, " two_b"]]:
    """One batch a step: `batch_size` labeled images, then as many open ones."""
    steps = config.iterations * (config.vae_steps + config.discriminator_steps)
    halves = [endless_batches(indices, config.batch_size, generator) for indices in (labeled, open_pool)]
    return map(torch.cat, islice(zip(*halves, strict=True), steps))


def endless_batches(
    indices: Int[Tensor, " n"], size: int, generator: torch.Generator
) -> Generator[Int[Tensor, " size"], None, None]:
    """Random orders of the indices, one after another, cut into batches all of one size.

    So a set smaller than a batch stands in it more than once.
    """
    left = indices[:0]
    while True:
        while len(left) < size:
            left = torch.cat([left, indices[torch.randperm(len(indices), generator=generator)]])
        yield left[:size]
        left = left[size:]


@dataclass(frozen=True)
class VaalTrainer:
    """The two networks, each with its optimizer, and the steps that they take against each other.

    A batch is labeled images, then as many open ones. Both halves pass together: batch
    normalisation has the same statistics for both, and keeps these for the last pass. (The
    authors' program passes one after the other.)
    """

    vae: Vae
    discriminator: Discriminator
    adams: tuple[torch.optim.Adam, torch.optim.Adam]
    config: VaalConfig
    noise: torch.Generator
    meter: Meter

    @classmethod
    def between(cls, shape: tuple[int, int, int], config: VaalConfig, *, seed: int, meter: Meter) -> "VaalTrainer":
        """Two new networks on the meter's device, all of it from one seed."""
        vae, discriminator = seeded_networks(shape, config, seed)
        return cls(
            vae=vae.to(meter.device),
            discriminator=discriminator.to(meter.device),
            adams=(_adam(vae, config), _adam(discriminator, config)),
            config=config,
            noise=torch.Generator(meter.device).manual_seed(stream(seed, "noise").initial_seed()),
            meter=meter,
        )

    def train(self, batches: Iterator[Float[Tensor, "two_b c h w"]]) -> Generator[Progress, None, None]:
        """All iterations, one batch a step."""
        config = self.config
        schedules = [torch.optim.lr_scheduler.LambdaLR(adam, config.factor) for adam in self.adams]
        every = max(1, config.iterations // REPORTS)
        for done in range(1, config.iterations + 1):
            losses = [self.vae_step(x) for x in islice(batches, config.vae_steps)]
            losses += [self.discriminator_step(x) for x in islice(batches, config.discriminator_steps)]
            for schedule in schedules:
                schedule.step()
            if done % every == 0 or done == config.iterations:
                _refuse_unless_finite(torch.stack(losses), f"after iteration {done}", config)
                yield Progress("VAAL", done, config.iterations, "iterations")

    def vae_step(self, x: Float[Tensor, "two_b c h w"]) -> Float[Tensor, ""]:
        x_hat, mu, log_var = self.vae(x, self.noise)
        self.meter.forward(len(x))
        logits = self.discriminator(mu)
        loss = vae_loss(x, x_hat, mu, log_var, self.config) + self.config.adversarial * deception_loss(logits)
        _descend(self.vae, self.adams[0], loss)
        self.meter.backward(len(x))
        return loss.detach()

    def discriminator_step(self, x: Float[Tensor, "two_b c h w"]) -> Float[Tensor, ""]:
        with torch.no_grad():
            mu, _ = self.vae.encoder(x)
        self.meter.forward(len(x))
        loss = discriminator_loss(self.discriminator(mu))
        _descend(self.discriminator, self.adams[1], loss)
        return loss.detach()

    def discrimination(
        self, images: ImageSet, open_pool: Int[Tensor, " n"], batch_size: int
    ) -> Generator[Progress, None, Discrimination]:
        """One pass over the open pool, each image by itself: batch normalisation as training left it, no noise."""
        logits: list[Tensor] = []
        batches = open_pool.split(batch_size)
        with evaluating(self.vae):
            for done, x in enumerate(images.batches(batches, device=self.meter.device), start=1):
                with torch.no_grad():
                    mu, _ = self.vae.encoder(x)
                    logits.append(self.discriminator(mu))
                self.meter.forward(len(x))
                yield Progress("descriptors of pool", done, len(batches), "batches")
        everything = torch.cat(logits).cpu()
        _refuse_unless_finite(everything, "of the open pool", self.config)
        return Discrimination(everything.double().sigmoid())  # in float32 the surest would all be equal


def vae_loss(
    x: Float[Tensor, "two_b c h w"],
    x_hat: Float[Tensor, "two_b c h w"],
    mu: Float[Tensor, "two_b k"],
    log_var: Float[Tensor, "two_b k"],
    config: VaalConfig,
) -> Float[Tensor, ""]:
    """-L^trd: squared error + beta KL(N(mu, sigma^2), N(0, 1)), mean over labeled + mean over open images.

    Both are sums over an image's values and its latents, as in the bound on its likelihood. The
    authors' program averages the error over the c h w values and sums the divergence over the
    batch, under which the latents come to say nothing of the image; `beta` = c h w `batch_size`
    with `adversarial` = c h w is its loss.
    """
    error = (x_hat - x).square().flatten(1).sum(dim=1)
    divergence = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)
    return _halves(error + config.beta * divergence).mean(dim=1).sum()


def deception_loss(logits: Float[Tensor, " two_b"]) -> Float[Tensor, ""]:
    """L^adv: the cross-entropy of the answer "labeled" for labeled and open images alike."""
    return F.softplus(-_halves(logits)).mean(dim=1).sum()


def discriminator_loss(logits: Float[Tensor, " two_b"]) -> Float[Tensor, ""]:
    """L_D: the cross-entropy of "labeled" for the first half and "open" for the second."""
    labeled, opened = _halves(logits)
    return F.softplus(-labeled).mean() + F.softplus(opened).mean()


def _halves(values: Float[Tensor, " two_b"]) -> Float[Tensor, "2 b"]:
    """Of labeled and of open images."""
    return values.unflatten(0, (2, -1))


def _adam(network: nn.Module, config: VaalConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=config.lr, fused=True)


def _descend(network: nn.Module, adam: torch.optim.Adam, loss: Float[Tensor, ""]) -> None:
    """One step of this network; the other, which the loss passes through, gets no gradient."""
    adam.zero_grad(set_to_none=True)
    loss.backward(inputs=list(network.parameters()))
    adam.step()


def _refuse_unless_finite(values: Tensor, where: str, config: VaalConfig) -> None:
    if not values.isfinite().all():
        raise FloatingPointError(f"VAAL's loss or logits {where} are not finite; lower vaal.lr = {config.lr}")
