"""Images at the size and under the normalisation that a pretrained model was made for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from fkal.data.datasets import Dataset
from fkal.data.images import ImageSet, Normalisation, TensorImages
from fkal.data.registry import IMAGENET_MEAN, IMAGENET_STD, entry_of
from fkal.data.settings import INTERPOLATIONS, DataConfig, Interpolation

CHANNELS = 3


class ScaledImages:
    """Images in memory, scaled on the device a batch at a time; grey ones are repeated to three channels."""

    def __init__(self, images: TensorImages, view: View) -> None:
        side = (view.size, view.size) if view.size else images.shape[1:]
        self._images = images
        self._interpolation = view.interpolation
        self._normalise = Normalisation(view.mean, view.std, channels=CHANNELS)
        self.labels: Int64[Tensor, " n"] = images.labels
        self.classes = images.classes
        self.shape: tuple[int, int, int] = (CHANNELS, *side)
        self.names: Sequence[str] = images.names
        self.notes = images.notes

    def __len__(self) -> int:
        return len(self._images)

    @property
    def digest(self) -> str:
        """Of the images before they are scaled."""
        return self._images.digest

    def batches(
        self, batches: Iterable[Tensor], *, device: torch.device | str, augment: torch.Generator | None = None
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        for pixels in self._images.raw_batches(batches, device=device, augment=augment):
            yield self._normalise(self._scaled(pixels.expand(-1, CHANNELS, -1, -1)))

    def pixels(self, indices: Tensor) -> UInt8[Tensor, "b c h w"]:
        """As they are before they are scaled."""
        return self._images.pixels(indices)

    def content_ids(self, indices: Tensor) -> UInt8[Tensor, "b 16"]:
        return self._images.content_ids(indices)

    def _scaled(self, pixels: UInt8[Tensor, "b 3 _ _"]) -> Float[Tensor, "b 3 v w"]:
        """Values of pixels, 0 to 255; what overshoots in a bicubic view is cut off."""
        smooth = self._interpolation != "nearest"
        if pixels.shape[1:] == self.shape:
            return pixels.float()
        view = interpolate(pixels.float(), size=self.shape[1:], mode=self._interpolation, antialias=smooth)
        return view.clamp_(0, 255)


@dataclass(frozen=True)
class View:
    """What a pretrained model takes: pixels per side (None: as the images have them), scaling, and normalisation."""

    size: int | None
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(
        config: DataConfig,
        *,
        size: int | None,
        interpolation: str,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> View:
        """What is set counts most, then what the model was made for, then the dataset's own.

        Raises ValueError for an interpolation that fkal does not have.
        """
        entry = entry_of(config.name)
        chosen = next((each for each in INTERPOLATIONS if each == (config.interpolation or interpolation)), None)
        if chosen is None:
            raise ValueError(
                f"the model was made for {interpolation!r} interpolation, which fkal has not; set data.interpolation "
                f"to one of {', '.join(INTERPOLATIONS)}"
            )
        return View(
            config.image_size or size,
            chosen,
            tuple(config.mean or mean or _three(entry.mean) or IMAGENET_MEAN),
            tuple(config.std or std or _three(entry.std) or IMAGENET_STD),
        )


def scaled_dataset(config: DataConfig, view: View, load: Callable[[DataConfig], Dataset]) -> Dataset:
    """A dataset as a pretrained model takes it; `load` reads one.

    Published images, which all have one size, are kept at that size and scaled when they are used. Other images are
    read from their files at the model's size.
    """
    of_files = replace(config, image_size=view.size, interpolation=view.interpolation)
    of_published = replace(config, image_size=None, interpolation=None)
    plain = of_files if entry_of(config.name).shape is None else of_published
    found = load(replace(plain, mean=None, std=None))
    if not isinstance(found.train, TensorImages):  # streamed from files, in three channels
        return load(replace(of_files, mean=view.mean, std=view.std))
    return replace(found, train=_scaled(found.train, view), test=_scaled(found.test, view))


def _scaled(part: ImageSet, view: View) -> ScaledImages:
    assert isinstance(part, TensorImages)
    return ScaledImages(part, view)


def refuse_unless_for_three_channels(values: Sequence[float]) -> None:
    """Raises ValueError for neither one value nor one per channel."""
    if len(values) not in (1, CHANNELS):
        raise ValueError(
            f"a pretrained model sees images of {CHANNELS} channels; give one value or {CHANNELS}, or leave it out"
        )


def _three(values: Sequence[float] | None) -> Sequence[float] | None:
    return values if values is None or len(values) == CHANNELS else list(values) * CHANNELS
