"""The images of a batch as a browser can show them, and as the model sees them.

Files are found by the rows of the batch, never by a path from outside, and their content is checked by its digest.
"""

import hashlib
import io
from dataclasses import replace
from typing import NamedTuple

from PIL import Image

from fkal.data.addresses import bytes_at
from fkal.data.decoding import UNCHANGED, decode, header
from fkal.labeling.batch import Batch
from fkal.labeling.listing import ListedImage
from fkal.labeling.project import Part, Project

LARGE, SMALL = 2400, 320
"""Pixels of the longer side: of the one large image, of one among twenty."""
LARGEST_AS_IT_IS = 4_000_000
"""Bytes of a file that is sent as it is."""
SHARP = 512
"""Images up to this side are sent without loss."""
SIGNATURES = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))
"""Formats that a browser shows as our decoder reads them, once nothing has to be changed."""


class VanishedImage(LookupError):
    """An image is not where the pool lists it, or its file has changed since."""


class Picture(NamedTuple):
    content: bytes
    media_type: str


class BatchImages:
    """The images of one batch, and the validation images that they were matched with."""

    def __init__(self, project: Project, batch: Batch) -> None:
        self._project = project
        self._images = batch.images
        self._pool_positions = project.pool.positions([image.digest for image in batch.images])
        self._matches = project.validation.positions_of_paths([image.matched_validation for image in batch.images])

    def picked(self, row: int, longest: int) -> Picture:
        """Raises VanishedImage, or CorruptImage if it cannot be decoded."""
        image, position = self._images[row], self._pool_positions[row]
        if position is None:
            raise VanishedImage(f"{image.path}: is not in the pool any more")
        return browser_picture(image_bytes(self._project, self._project.pool[position]), image.path, longest)

    def has_match(self, row: int) -> bool:
        return self._matches[row] is not None

    def match_label(self, row: int) -> str:
        """The class of the validation image."""
        position = self._matches[row]
        return "" if position is None else self._project.validation.labels[position] or ""

    def matched(self, row: int, longest: int) -> Picture:
        """The validation image that this row was matched with."""
        position = self._matches[row]
        if position is None:
            raise VanishedImage(f"{self._images[row].path}: has no matched validation image")
        listed = self._project.validation[position]  # in its places, also where it was labeled as a part of the pool
        return browser_picture(image_bytes(self._project, listed, "validation"), listed.path, longest)


def browser_picture(data: bytes, name: str, longest: int) -> Picture:
    """The file itself where a browser shows it as our decoder reads it; else decoded, scaled and encoded again."""
    media_type = next((media for start, media in SIGNATURES if data.startswith(start)), None)
    if media_type and len(data) <= LARGEST_AS_IT_IS:
        found = header(io.BytesIO(data), name)
        fits = max(found.width, found.height) <= longest
        if fits and found.changes == UNCHANGED and not found.may_be_transparent:
            return Picture(data, media_type)
    image = decode(data, name).image
    is_small = max(image.size) <= SHARP
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    if is_small:
        image.save(content, "PNG")
        return Picture(content.getvalue(), "image/png")
    image.save(content, "JPEG", quality=92)
    return Picture(content.getvalue(), "image/jpeg")


def image_bytes(project: Project, listed: ListedImage, part: Part = "pool") -> bytes:
    """The bytes of a file of the project, or of one of its copies. Raises VanishedImage if none has its digest."""
    copies = (replace(listed, path=path) for path in listed.duplicates)
    reason = "it is not there"
    for each in (listed, *copies):
        try:
            data = bytes_at(project.location(part, each))
        except OSError as error:
            reason = error.strerror or str(error)
            continue
        if listed.digest is None or hashlib.sha256(data).hexdigest() == listed.digest:
            return data
        reason = "its content has changed since it was listed"
    raise VanishedImage(f"{listed.path}: {reason}; skip it, or bring the file back")
