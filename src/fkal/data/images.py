"""Sets of labeled images that give normalised batches on a device; the caller cannot tell tensors from files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, Num, UInt8
from PIL import Image
from torch import Tensor

from fkal.data.augmentation import child_seed, crop_flip, random_resized_crop
from fkal.data.decoding import (
    NEW_PIXELS,
    UNCHANGED,
    Change,
    decode,
    evaluation_side,
    evaluation_view,
    header,
    is_plain_jpeg,
    pixels_of,
)
from fkal.data.digest import files_digest, pixels_digest
from fkal.data.errors import CorruptImage
from fkal.data.files import ImageSource, notes_on
from fkal.data.gpu_decoding import FileBytes, SeenAs, gpu_views
from fkal.data.loading import StayingWorkers, in_threads
from fkal.data.settings import Decoding, Interpolation

ID_BYTES = 16
"""Of an image's SHA-256 that tell it from others."""
EvaluatedAs = Callable[[Image.Image, int, Interpolation], Image.Image]
"""What evaluation sees of an image: size x size of it."""
UNLABELED = -1
"""In place of the label of an image that nobody has labeled yet."""


@runtime_checkable
class ImageSet(Protocol):
    """Images by index, with their labels."""

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """On the CPU; `UNLABELED` where nobody knows, which only sets of own pools hold."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The label's name at the label's place."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image in a batch."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """By index, what a person calls the image: its file, or train/123."""
        ...

    @property
    def digest(self) -> str:
        """32 hexadecimal digits of the content."""
        ...

    def __len__(self) -> int: ...

    def batches(
        self, batches: Iterable[Tensor], *, device: torch.device | str, augment: torch.Generator | None = None
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """One normalised batch on `device` an index tensor; random training views where `augment` is given."""
        ...

    def pixels(self, indices: Tensor) -> UInt8[Tensor, "b c h w"]:
        """For people to look at, on the CPU."""
        ...


@runtime_checkable
class Identified(Protocol):
    """An image set that knows its images by their content."""

    def content_ids(self, indices: Tensor) -> UInt8[Tensor, "b 16"]:
        """Of each image the start of the SHA-256 of its pixels, or of its file's bytes; on the CPU."""
        ...


@runtime_checkable
class Annotated(Protocol):
    """An image set that left files out or changed images, and says so."""

    @property
    def notes(self) -> Sequence[str]:
        """A line each."""
        ...


class TensorImages:
    """Images in one uint8 tensor, which moves to a device once and is normalised there, a batch at a time."""

    def __init__(
        self,
        pixels: UInt8[Tensor, "n c h w"],
        labels: Tensor,
        classes: Sequence[str],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        names: Sequence[str] | str = "image",
        augmentation: str = "none",
        digest: str | None = None,
        file_hashes: Sequence[bytes] = (),
        notes: Sequence[str] = (),
        may_be_unlabeled: bool = False,
    ) -> None:
        """`names` is a list, or the word before the index.

        `digest` and `file_hashes`, where known, are of the files behind the pixels.
        """
        _refuse_unless_labeled(len(pixels), labels, classes, may_be_unlabeled=may_be_unlabeled)
        if augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation {augmentation!r}: not known; choose one of {', '.join(AUGMENTATIONS)}")
        self.labels = labels
        self.classes = tuple(classes)
        self.shape: tuple[int, int, int] = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        self.names: Sequence[str] = NumberedNames(names, len(pixels)) if isinstance(names, str) else names
        self._normalise = Normalisation(mean, std, channels=self.shape[0])
        self._augmented = AUGMENTATIONS[augmentation]
        self.file_hashes = file_hashes
        self.notes = notes
        self._digest = digest
        self._on: dict[torch.device, Tensor] = {torch.device("cpu"): pixels.contiguous()}

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        return self._digest or pixels_digest(self._on[torch.device("cpu")], self.labels, self.classes)

    def to(self, device: torch.device | str) -> UInt8[Tensor, "n c h w"]:
        """All pixels on the device, copied there by the first call."""
        device = _numbered(torch.device(device))
        if device not in self._on:
            self._on[device] = self._on[torch.device("cpu")].to(device)
        return self._on[device]

    def batches(
        self, batches: Iterable[Tensor], *, device: torch.device | str, augment: torch.Generator | None = None
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """`augment` matters only where the set was made with an augmentation."""
        for pixels in self.raw_batches(batches, device=device, augment=augment):
            yield self._normalise(pixels)

    def raw_batches(
        self, batches: Iterable[Tensor], *, device: torch.device | str, augment: torch.Generator | None = None
    ) -> Iterator[UInt8[Tensor, "b c h w"]]:
        """The same before they are normalised."""
        everything = self.to(device)
        views = None if augment is None else torch.Generator().manual_seed(child_seed(augment))
        for indices in batches:
            _refuse_outside(indices, len(self))
            pixels = everything[indices.to(everything.device)]
            if views is not None:
                pixels = self._augmented(pixels, views)
            yield pixels

    def pixels(self, indices: Tensor) -> UInt8[Tensor, "b c h w"]:
        _refuse_outside(indices, len(self))
        return self._on[torch.device("cpu")][indices.cpu()]

    def content_ids(self, indices: Tensor) -> UInt8[Tensor, "b 16"]:
        rows = self.pixels(indices).numpy()
        return _ids(hashlib.sha256(repr(self.shape).encode() + row.tobytes()).digest() for row in rows)


class FolderImages:
    """Image files, decoded as they are needed by worker processes."""

    def __init__(
        self,
        files: ImageSource,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int = 224,
        workers: int = 2,
        digest: str | None = None,
        hashes: Sequence[bytes] | None = None,
        evaluated: EvaluatedAs = evaluation_view,
        interpolation: Interpolation = "bilinear",
        decoding: Decoding | None = None,
        may_be_unlabeled: bool = False,
    ) -> None:
        """With `digest`, of files that are known to decode, no file is read for digest and notes.

        With `hashes`, the SHA-256 of each file, none is read for its content id. `evaluated` makes what evaluation
        sees of an image.
        """
        _refuse_unless_labeled(len(files), files.labels, files.classes, may_be_unlabeled=may_be_unlabeled)
        self.labels = files.labels
        self.classes = files.classes
        self.shape: tuple[int, int, int] = (3, size, size)
        self.names: Sequence[str] = files.printable_names
        self._files = files
        self._workers = workers
        self._undecoded = StayingWorkers(FileBytes(files), workers=workers)
        self._digest = digest
        self._hashes = hashes
        self._view = _FileView(size, evaluated, interpolation, decoding)
        self._views = StayingWorkers(_WholeBatches(files, self._view), workers=workers)
        self._normalise = Normalisation(mean, std, channels=3)

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def digest(self) -> str:
        """Of the bytes of all files, which are read once for it."""
        if self._digest is not None:
            return self._digest
        has_new_pixels = any(changes & NEW_PIXELS for _, changes in self._read)
        return files_digest(
            *(self.file_hashes, self.shape, self.labels, self.classes),
            has_new_pixels=has_new_pixels,
            interpolation=self._view.interpolation,
        )

    @cached_property
    def file_hashes(self) -> Sequence[bytes]:
        """Needs what the digest reads; none where the digest is given, as no file is read then."""
        return [] if self._digest is not None else [file_hash for file_hash, _ in self._read]

    @cached_property
    def notes(self) -> Sequence[str]:
        """Needs what the digest reads."""
        if self._digest is not None:
            return ()
        return notes_on(self._files, [changes for _, changes in self._read])

    def batches(
        self, batches: Iterable[Tensor], *, device: torch.device | str, augment: torch.Generator | None = None
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """Each batch is made whole by one worker from a seed of its own, so their number changes nothing."""
        device = torch.device(device)
        on_gpu = device.type == "cuda"
        if self._view.decoding == "gpu" and augment is None:
            yield from self._by_gpu(batches, device)
            return
        requests = _Requests(batches, len(self), augment)
        for pixels in self._views.answers(requests, pin_memory=on_gpu):
            if isinstance(pixels, CorruptImage):
                raise pixels
            yield self._normalise(pixels.to(device, non_blocking=on_gpu))

    def _by_gpu(self, batches: Iterable[Tensor], device: torch.device) -> Iterator[Float[Tensor, "b c h w"]]:
        view = self._view
        seen_as: SeenAs = "evaluation" if view.evaluated is evaluation_view else "covering"
        for files in self._undecoded.answers(_Requests(batches, len(self), None)):
            if isinstance(files, CorruptImage):
                raise files
            pixels = gpu_views(files, view.size, seen_as, view.interpolation, device)
            yield self._normalise(pixels)

    def pixels(self, indices: Tensor) -> UInt8[Tensor, "b c h w"]:
        """Decoded whole."""
        _refuse_outside(indices, len(self))
        return _views(self._files, indices.tolist(), replace(self._view, decoding=None))

    def content_ids(self, indices: Tensor) -> UInt8[Tensor, "b 16"]:
        """Another view of the same file is another content."""
        _refuse_outside(indices, len(self))
        hashes = [self._hash(index) for index in indices.tolist()]
        view = self._view.name.encode()
        if not view:
            return _ids(hashes)
        return _ids(hashlib.sha256(view + file_hash).digest() for file_hash in hashes)

    def _hash(self, index: int) -> bytes:
        return self._read[index][0] if self._hashes is None else self._hashes[index]

    def corrupt(self) -> list[str]:
        """The files that cannot be decoded; reads them all."""
        flaws = in_threads(self._is_corrupt, len(self), self._workers)
        return [self._files.path(index) for index, flawed in enumerate(flaws) if flawed]

    @cached_property
    def _read(self) -> list[tuple[bytes, Change]]:
        """Of each file its SHA-256 and what its decoder will change; raises CorruptImage for what is no image."""
        return in_threads(self._hash_and_changes, len(self), self._workers)

    def _hash_and_changes(self, index: int) -> tuple[bytes, Change]:
        data = self._files.bytes_of(index)
        if is_plain_jpeg(data):
            return hashlib.sha256(data).digest(), UNCHANGED
        path = self._files.path(index)
        found = header(io.BytesIO(data), path)
        changes = decode(data, path).changes if found.may_be_transparent else found.changes
        return hashlib.sha256(data).digest(), changes

    def _is_corrupt(self, index: int) -> bool:
        try:
            _decoded_file(self._files, index)
        except CorruptImage:
            return True
        return False


class Normalisation:
    """(pixels / 255 - mean) / std, a channel at a time."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, channels: int) -> None:
        means, stds = _per_channel("mean", mean, channels), _per_channel("std", std, channels)
        factors = (1 / (255 * stds)).float(), (-means / stds).float()
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {torch.device("cpu"): factors}  # each (1 c 1 1)

    def __call__(self, pixels: Num[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if pixels.device not in self._on:
            scale, shift = self._on[torch.device("cpu")]
            self._on[pixels.device] = scale.to(pixels.device), shift.to(pixels.device)
        scale, shift = self._on[pixels.device]
        return pixels.to(torch.float32).mul_(scale).add_(shift)


class NumberedNames(Sequence[str]):
    """train/0, train/1, ... without holding them."""

    def __init__(self, word: str, n: int) -> None:
        self._word, self._range = word, range(n)

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, index: Any) -> Any:
        chosen = self._range[index]
        return f"{self._word}/{chosen}" if isinstance(chosen, int) else [f"{self._word}/{i}" for i in chosen]


@dataclass(frozen=True)
class _FileView:
    """What is seen of an image file."""

    size: int
    evaluated: EvaluatedAs
    interpolation: Interpolation
    decoding: Decoding | None

    @property
    def name(self) -> str:
        """Empty for the first one that there was."""
        kind = "" if self.evaluated is evaluation_view else self.evaluated.__name__
        kind = kind if self.interpolation == "bilinear" else f"{kind} {self.interpolation}"
        return kind if self.decoding is None else f"{kind} {self.decoding}"

    @property
    def at_least(self) -> int | None:
        """Pixels a side that a draft needs for evaluation; None where files are decoded whole."""
        if self.decoding != "draft":
            return None
        return evaluation_side(self.size) if self.evaluated is evaluation_view else self.size

    def of(self, image: Image.Image, generator: torch.Generator | None) -> Image.Image:
        """For training, by random draws, with a generator."""
        if generator is None:
            return self.evaluated(image, self.size, self.interpolation)
        return random_resized_crop(image, self.size, generator, self.interpolation)


class _WholeBatches:
    """For the loader: a request (indices, seed) -> its pixels, or what was wrong with them."""

    def __init__(self, files: ImageSource, view: _FileView) -> None:
        self._files, self._view = files, view

    def __getitem__(self, request: tuple[list[int], int | None]) -> UInt8[Tensor, "b c h w"] | CorruptImage:
        indices, seed = request
        try:
            return _views(self._files, indices, self._view, seed)
        except CorruptImage as error:
            return error  # raised in a worker it would come out wrapped in a traceback


class _Requests:
    """For the loader: the batches, each with a seed of its own."""

    def __init__(self, batches: Iterable[Tensor], n: int, augment: torch.Generator | None) -> None:
        self._batches, self._n, self._augment = batches, n, augment

    def __iter__(self) -> Iterator[tuple[list[int], int | None]]:
        seeds = None if self._augment is None else torch.Generator().manual_seed(child_seed(self._augment))
        for indices in self._batches:
            _refuse_outside(indices, self._n)
            yield indices.tolist(), None if seeds is None else child_seed(seeds)


def _views(
    files: ImageSource, indices: list[int], view: _FileView, seed: int | None = None
) -> UInt8[Tensor, "b 3 s s"]:
    """With a seed random training views, else what evaluation sees."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    at_least = view.at_least if generator is None else None
    views = torch.empty(len(indices), 3, view.size, view.size, dtype=torch.uint8)
    for row, index in enumerate(indices):
        image = _decoded_file(files, index, at_least).convert("RGB")
        views[row] = pixels_of(view.of(image, generator))
    return views


def _decoded_file(files: ImageSource, index: int, at_least: int | None = None) -> Image.Image:
    return decode(files.bytes_of(index), files.path(index), at_least=at_least).image


def _ids(digests: Iterable[bytes]) -> UInt8[Tensor, "b 16"]:
    joined = bytearray(b"".join(digest[:ID_BYTES] for digest in digests))
    return torch.frombuffer(joined, dtype=torch.uint8).view(-1, ID_BYTES) if joined else torch.empty(0, ID_BYTES).byte()


def _numbered(device: torch.device) -> torch.device:
    """cuda and cuda:0 are one device."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _per_channel(field: str, values: Sequence[float], channels: int) -> Tensor:
    if len(values) not in (1, channels):
        raise ValueError(f"{field}: {list(values)}: the images have {channels} channels; give one value or {channels}")
    return torch.tensor(list(values), dtype=torch.float64).expand(channels).reshape(1, channels, 1, 1)


def _refuse_unless_labeled(n: int, labels: Tensor, classes: Sequence[str], *, may_be_unlabeled: bool) -> None:
    if labels.dtype != torch.int64 or labels.shape != (n,):
        raise ValueError(
            f"labels {tuple(labels.shape)} of {labels.dtype}: {n} images need {n} int64 labels; give those"
        )
    least = UNLABELED if may_be_unlabeled else 0
    if n and not least <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise ValueError(
            f"labels {int(labels.min())} to {int(labels.max())}: there are {len(classes)} classes; "
            f"use 0 to {len(classes) - 1}"
        )


def _refuse_outside(indices: Tensor, n: int) -> None:
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < n:
        raise ValueError(
            f"indices {int(indices.min())} to {int(indices.max())}: there are {n} images; use 0 to {n - 1}"
        )


def _unchanged(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return pixels


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"none": _unchanged, "crop_flip": crop_flip}
