"""Pretrained models: their weights, the images that they were made for, and what enters their head."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fkal.core.tokens import pooled_tokens
from fkal.errors import ConfigError, first_line
from fkal.models.modes import evaluating
from fkal.models.registry import head_name, with_sampled_dropout
from fkal.models.settings import MODELS, PROGRAM, TIMM, TORCHVISION, ModelConfig, TokenRule, offered_models
from fkal.models.taps import Taps, tokens_of
from fkal.models.weights_files import is_file
from fkal.object_references import resolved
from fkal.paths import at_home


@dataclass(frozen=True)
class Inputs:
    """The images that a model was made for: pixels per side, how they are scaled to it, how they are normalised.

    None: the model does not say.
    """

    size: int | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Pretrained:
    """A model with its published weights and head, on the CPU; of an exported program what it returns is the embedding.

    `digest` is the SHA-256 of the weights, `license` what their publisher says of them. With `sets_head` it is a model
    of timm whose head is not its last linear layer: it has several, one of another kind, or none, as models that were
    trained without labels. It sets and removes it itself.
    """

    name: str
    model: nn.Module
    inputs: Inputs
    digest: str
    license: str
    is_program: bool = False
    sets_head: bool = False

    def with_head(self, n_classes: int) -> nn.Module:
        """A copy that can be trained whole: its head is for so many classes and drawn from torch's global seed.

        Raises ValueError for a program, whose layers do not learn, and for a head that is not linear.
        """
        if self.is_program:
            raise ValueError("an exported program has no layers that learn; set train.layers=frozen")
        model: Any = copy.deepcopy(self.model)
        if self.sets_head:
            model.reset_classifier(n_classes)
        else:
            name = head_name(model)
            model.set_submodule(name, nn.Linear(model.get_submodule(name).in_features, n_classes))
        return with_sampled_dropout(model).to(memory_format=torch.channels_last)

    def without_head(self) -> nn.Module:
        """A copy that returns what enters the head. Raises ValueError for a head that is not linear."""
        if self.is_program:
            return self.model
        body: Any = copy.deepcopy(self.model)
        if self.sets_head:
            body.reset_classifier(0)
        else:
            body.set_submodule(head_name(body), nn.Identity())
        whole: nn.Module = body.to(memory_format=torch.channels_last)
        return whole


class OddOutput(ValueError):
    """What a model returns is no row of numbers for each image."""


class Embedder(nn.Module):
    """Images to embeddings: what enters a pretrained model's head, or its last tokens by a rule of one's own.

    Raises ValueError for a rule that the model has no tokens for.
    """

    def __init__(self, pretrained: Pretrained, rule: TokenRule | None) -> None:
        super().__init__()
        self.body = pretrained.without_head()
        self._rule = rule
        self._tokens = tokens_of(self.body)
        if rule is not None and self._tokens is None:
            raise ValueError(f"{pretrained.name} has no tokens to choose from; leave features.tokens out")
        if rule in ("cls", "cls+mean") and not _has_class_token(self.body):
            raise ValueError(f"{pretrained.name} has no class token; set features.tokens=mean, or leave it out")

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if self._rule is None:
            return _one_row(self.body(x))
        assert self._tokens is not None
        with Taps(self.body, (self._tokens.layer,)) as caught:
            self.body(x)
        return pooled_tokens(caught.outputs[self._tokens.layer], self._rule, self._tokens.prefix)

    def width(self, shape: tuple[int, int, int]) -> int:
        """Features of an image of this shape, by one pass of two random ones.

        Raises ValueError where they cannot pass, and where what comes out is no row of numbers for each.
        """
        device = next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))
        images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        try:
            with evaluating(self):
                rows = self(images)
        except OddOutput:
            raise
        except Exception as error:  # a program checks its inputs by errors of its own
            raise ValueError(
                f"it cannot take two images of {shape[1]}x{shape[2]} ({first_line(error)}); "
                "set data.image_size to what it is made for"
            ) from error
        if len(rows) != 2:
            raise OddOutput(f"it makes {len(rows)} rows of 2 images; take a model that makes one for each")
        if not bool(rows.isfinite().all()):
            raise OddOutput("it makes numbers that are not finite; check its weights")
        return rows.shape[1]


def _has_class_token(body: nn.Module) -> bool:
    """Under timm's or torchvision's name. Registers come before the patches as well, and are none."""
    return any(isinstance(getattr(body, name, None), Tensor) for name in ("cls_token", "class_token"))


def pretrained(config: ModelConfig) -> Pretrained:
    """The model of these settings with its weights.

    Raises:
        ConfigError: There are no such weights, or they are not the model's.
        MissingWeights: They are not on this machine and cannot be downloaded.
        MissingPackage: The model's library is not installed.
    """
    load: Callable[[ModelConfig], Pretrained] = resolved(":".join(_loader(config)))
    return load(config)


def names_own_file(config: ModelConfig) -> bool:
    """Whether program or weights are a file that the user has, and nothing to download."""
    return config.name.endswith(PROGRAM) or is_file(config.weights or "")


def weights_are_here(config: ModelConfig) -> bool:
    """Whether the model can be had without a download: its weights are drawn, in a file, or in a library's cache.

    Raises what `pretrained` raises for names that are unknown.
    """
    if not config.is_pretrained:
        return True
    if names_own_file(config):
        file = config.name if config.name.endswith(PROGRAM) else config.weights or ""
        return at_home(file).is_file()
    module, _ = _loader(config)
    found: Callable[[ModelConfig], bool] = resolved(f"{module}:is_here")
    return found(config)


def _loader(config: ModelConfig) -> tuple[str, str]:
    """Module and function, by what the model's name looks like; each module imports its own library."""
    if config.name.endswith(PROGRAM):
        return "fkal.models.programs", "pretrained_program"
    if config.name.startswith(TIMM):
        return "fkal.models.timm_models", "pretrained_timm"
    if config.name in MODELS or config.name.startswith(TORCHVISION) or config.name not in offered_models():
        return "fkal.models.torchvision_models", "pretrained_torchvision"
    raise ConfigError(
        f"model.weights = {config.weights!r}: {config.name} is a package's model, whose weights only the package "
        "knows; leave model.weights out"
    )


def _one_row(output: object) -> Tensor:
    """One row per image: maps are averaged over their positions. Raises OddOutput for what is no row."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() < 2:
        found = (
            f"{output.dtype} of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        )
        raise OddOutput(f"it returns {found}; take a model that returns one row of floats for each image")
    return output.mean(dim=(2, 3)) if output.dim() == 4 else output.flatten(1)
