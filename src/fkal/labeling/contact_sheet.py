"""rounds/NN/contact.html: the images of a batch on one page that holds all it shows."""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from fkal.atomic_files import write_whole
from fkal.data.errors import CorruptImage
from fkal.folders import in_place
from fkal.labeling.batch import Batch, BatchImage, BatchRequest
from fkal.labeling.page_images import BatchImages, Picture, VanishedImage
from fkal.labeling.pages import rendered
from fkal.labeling.project import Project

CONTACT = "contact.html"
MOST = 500
"""Images on the page; more would take a browser long."""
SIDE = 128
"""Pixels of the longer side of each."""


class Cell(NamedTuple):
    """One image as the page shows it; the addresses are data, or empty where an image cannot be shown."""

    image: BatchImage
    picture: str
    problem: str
    match: str
    match_label: str


def write_batch(project: Project, folder: Path, request: BatchRequest, images: Iterable[BatchImage]) -> Batch:
    """Write a batch with its contact sheet. The sheet comes first, since a folder with request.json is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    batch = Batch(folder, request, tuple(images))
    write_contact_sheet(project, batch)
    return Batch.write(folder, request, batch.images)


def write_contact_sheet(project: Project, batch: Batch) -> Path:
    """Write the page beside the batch. An image that cannot be read is named there with its reason."""
    images = BatchImages(project, batch)
    cells = [_cell(images, row, image) for row, image in enumerate(batch.images[:MOST])]
    page = rendered(
        "contact.html", "contact.css", cells=cells, batch=batch, project=project, more=len(batch.images) - MOST
    )
    path = in_place(batch.folder, CONTACT)
    write_whole(path, page.encode())
    return path


def _cell(images: BatchImages, row: int, image: BatchImage) -> Cell:
    picture, problem = "", ""
    try:
        picture = _data_address(images.picked(row, SIDE))
    except (VanishedImage, CorruptImage) as error:
        problem = str(error)
    match = ""
    if images.has_match(row):
        try:
            match = _data_address(images.matched(row, SIDE))
        except (VanishedImage, CorruptImage):
            match = ""  # the row itself is shown; the validation set has its own checks
    return Cell(image, picture, problem, match, images.match_label(row))


def _data_address(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.content).decode()}"
