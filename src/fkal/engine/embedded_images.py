"""Embeddings in place of images: what the rest of the engine takes for images of l channels and one pixel."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor

from fkal.data.images import ImageSet
from fkal.engine.memory import UNBOUNDED, MemoryBound


class EmbeddedImages:
    """Some images of a set by their embeddings; indices are those of the set.

    Asking for an image that was not embedded is an error of ours. Rows beyond the `bound` of memory stay in their file;
    a device gets some at a time.
    """

    def __init__(
        self,
        images: ImageSet,
        indices: Int[Tensor, " n"],
        rows: Float[Tensor, "n l"],
        bound: MemoryBound = UNBOUNDED,
    ) -> None:
        self._images = images
        self._stays = bound.is_exceeded((rows.shape[0], rows.shape[1]), rows.dtype)
        self._row_of = torch.full((len(images),), -1)
        self._row_of[indices] = torch.arange(len(indices))
        self._on: dict[torch.device, Tensor] = {torch.device("cpu"): rows}
        self.labels: Int64[Tensor, " m"] = images.labels
        self.classes: tuple[str, ...] = images.classes
        self.shape: tuple[int, int, int] = (rows.shape[1], 1, 1)
        self.names: Sequence[str] = images.names

    def __len__(self) -> int:
        return len(self._images)

    @property
    def digest(self) -> str:
        """Of the images."""
        return self._images.digest

    def rows(self, indices: Int[Tensor, " b"], device: torch.device | str = "cpu") -> Float[Tensor, "b l"]:
        """Embeddings of some images."""
        device, cpu = torch.device(device), torch.device("cpu")
        places = self._row_of[indices.cpu()]
        assert (places >= 0).all(), "an image was asked for that was not embedded"
        if self._stays:
            return self._on[cpu][places].to(device)
        if device not in self._on:
            self._on[device] = self._on[cpu].to(device)
        return self._on[device][places.to(device)]

    def batches(
        self, batches: Iterable[Tensor], *, device: torch.device | str, augment: torch.Generator | None = None
    ) -> Iterator[Float[Tensor, "b l 1 1"]]:
        """An embedding has no views, so `augment` changes nothing."""
        for indices in batches:
            yield self.rows(indices, device)[:, :, None, None]

    def pixels(self, indices: Tensor) -> UInt8[Tensor, "b c h w"]:
        """Of the images, for people to look at."""
        return self._images.pixels(indices)
