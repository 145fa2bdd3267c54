"""What each round picked, for the eye: its first picks, each above its matched validation image."""

from collections.abc import Sequence

import pandas as pd
from PIL import Image, ImageDraw

from fkal.config.method_spec import short_method_name
from fkal.data.images import ImageSet
from fkal.engine.rounds import Round
from fkal.escaping import file_stem
from fkal.report.exhibit import Exhibit
from fkal.report.experiments import Finished
from fkal.report.panels import Panel, with_class_names
from fkal.tracking.contact_sheet import INK, WHITE, caption_font, thumbnails

PICKS, GAP, LEFT = 14, 2, 46
COLOURS = 64
PICKED = {
    "indices": "index",
    "labels": "label",
    "pseudo_labels": "pseudo_label",
    "matches": "matched_validation_index",
    "ranks": "rank",
    "scores": "score",
}
"""What is shown about a pick, by the field of a selection."""


def picked_exhibit(panel: Panel, method: str, images: ImageSet | str) -> Exhibit:
    """Of the method's first seed; `images` may be the reason why they cannot be read."""
    name, title = f"picked-{panel.name}-{file_name(method)}", f"{panel.title}: picked by {short_method_name(method)}"
    if isinstance(images, str) or not panel.experiments(method):
        why = images if isinstance(images, str) else "curves alone were read"
        return Exhibit(name, title, missing=f"{title}: {why}.")
    first = panel.experiments(method)[0]
    beside = "; below each the validation image that it was matched with" if _has_matches(first) else ""
    return Exhibit(
        name,
        title,
        f"Seed {first.outcome.config.seed}: the first {PICKS} picks of each round{beside}. The CSV has all, "
        "with their labels.",
        picture=picked_sheet(first, images),
        numbers=picks_frame(first, images.classes),
        folded=True,
        wide=True,
    )


def picked_sheet(experiment: Finished, images: ImageSet) -> Image.Image:
    """A row per round (two rows of images where picks were matched)."""
    strips = [_strip(each, images) for each in experiment.outcome.rounds]
    size = max(strip.width for strip in strips), sum(strip.height + 3 * GAP for strip in strips)
    sheet = Image.new("RGB", size, WHITE)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height + 3 * GAP
    return sheet.quantize(COLOURS)


def picks_frame(experiment: Finished, classes: Sequence[str]) -> pd.DataFrame:
    """A row per pick, in the order of picking: indices count within the dataset's training part."""
    parts = []
    for each in experiment.outcome.rounds:
        known = {column: getattr(each.selection, name) for name, column in PICKED.items()}
        picks = {column: values.tolist() for column, values in known.items() if values is not None}
        parts.append(pd.DataFrame({"b": each.b, **picks}))
    picks = pd.concat(parts, ignore_index=True)
    picks = with_class_names(picks, classes, "pseudo_label", "pseudo_class") if "pseudo_label" in picks else picks
    return with_class_names(picks, classes)


def file_name(method: str) -> str:
    """A method's name without what file systems refuse."""
    return file_stem(method.replace(":", "-").replace("@", "-at-").replace("+", "-"))


def _strip(finished: Round, images: ImageSet) -> Image.Image:
    selection = finished.selection
    rows = [thumbnails(images, selection.indices[:PICKS])]
    if selection.matches is not None:
        rows.append(thumbnails(images, selection.matches[:PICKS]))
    width, height = rows[0][0].width + GAP, rows[0][0].height + GAP
    strip = Image.new("RGB", (LEFT + PICKS * width, len(rows) * height), WHITE)
    ImageDraw.Draw(strip).text((2, 4), f"b={finished.b}", fill=INK, font=caption_font(13))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            strip.paste(image, (LEFT + x * width, y * height))
    return strip


def _has_matches(experiment: Finished) -> bool:
    return any(each.selection.matches is not None for each in experiment.outcome.rounds)
