"""What a configuration can name."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import MappingProxyType
from typing import TypeVar

from rich import box
from rich.console import Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fkal.acquisition.cost import LABELING, LETTERS, letters_in
from fkal.acquisition.registry import ACQUISITIONS, Acquisition
from fkal.acquisition.settings import MATCHING_SUMMARIES, AcquisitionConfig
from fkal.cli.terminal import console, echo_json
from fkal.config.layers import presets
from fkal.config.schema import ConfigError
from fkal.core.labels import PSEUDO_LABELS
from fkal.data.registry import DATASETS
from fkal.errors import did_you_mean, shortened
from fkal.models.settings import FROZEN_TAP, MODELS

Row = dict[str, str]
T = TypeVar("T")


def _offered(known: Mapping[str, T], group: str) -> dict[str, T]:
    """What is built in, and what other packages offer as entry points of the group."""
    return {**known, **{point.name: point.load() for point in entry_points(group=group)}}


def _datasets() -> list[Row]:
    return [
        {"name": name, "what": entry.about, "files under the data root": "\n".join(entry.needs) or "none"}
        for name, entry in _offered(DATASETS, "fkal.datasets").items()
    ]


def _models() -> list[Row]:
    rows = [
        {"name": name, "what": entry.summary, "usual taps": ", ".join(entry.taps)}
        for name, entry in _offered(MODELS, "fkal.models").items()
    ]
    last_stages = "the last two stages"
    libraries = [
        {"name": "torchvision:NAME", "what": "any classification model of torchvision", "usual taps": last_stages},
        {"name": "timm:NAME", "what": "any model of timm (pip install 'fkal[timm]')", "usual taps": last_stages},
        {"name": "NAME.pt2", "what": "an exported program that embeds images", "usual taps": FROZEN_TAP},
    ]
    return [*rows, *libraries]


def suggested_backbone() -> str:
    """The backbone to start with: a DINOv2 where timm is installed, else a ResNet-50."""
    return "timm:vit_small_patch14_dinov2" if find_spec("timm") else "torchvision:resnet50"


def _acquisitions() -> list[Row]:
    return [
        {
            "name": name,
            "what": entry.summary,
            "needs": entry.needs.summary,
            "passes": _passes(entry),
            "reads true labels": "yes" if entry.needs.sees_oracle else "no",
            "reference": entry.reference,
        }
        for name, entry in _offered(ACQUISITIONS, "fkal.acquisitions").items()
    ]


def _passes(entry: Acquisition) -> str:
    """Of an ensemble, and under a pseudo-label that costs nothing."""
    lines = [entry.cost(AcquisitionConfig.pseudo_label, members=2).text]
    lines += ["+ the pseudo-label's"] if "pseudo_label" in entry.needs.reads else []
    lines += ["0 in b = 1"] if entry.random_first else []
    return "\n".join(lines)


def _pseudo_labels() -> list[Row]:
    return [
        {
            "name": name,
            "what": entry.summary,
            "passes more": LABELING[entry.passes].text,
            "reads true labels": "yes" if entry.sees_oracle else "no",
        }
        for name, entry in PSEUDO_LABELS.items()
    ]


def _matchings() -> list[Row]:
    entries = {name: ACQUISITIONS["pfk"].under(name) for name in MATCHING_SUMMARIES}
    return [
        {
            "name": name,
            "what": MATCHING_SUMMARIES[name],
            "needs": entry.needs.summary,
            "passes": _passes(entry),
            "reads combine": "yes" if "combine" in entry.options else "no",
        }
        for name, entry in entries.items()
    ]


def _presets() -> list[Row]:
    return [
        {"name": name, "what": path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "), "file": str(path)}
        for name, path in presets().items()
    ]


LISTS: Mapping[str, Callable[[], list[Row]]] = MappingProxyType(
    {
        "datasets": _datasets,
        "models": _models,
        "acquisitions": _acquisitions,
        "pseudo-labels": _pseudo_labels,
        "matchings": _matchings,
        "presets": _presets,
    }
)


PASSES: Mapping[str, str] = MappingProxyType(
    {"acquisitions": "passes", "pseudo-labels": "passes more", "matchings": "passes"}
)
"""The column of a list that has formulas."""

NARROWEST = 18
"""Characters that a column of words has at least in a table."""

SLACK = 20
"""Characters more than the least, without which rich would take them from columns that cannot spare them."""


def show(what: str | None, *, as_json: bool) -> None:
    """Print one of the lists. Raises ConfigError for one that does not exist."""
    if what is None:
        raise ConfigError(f"fkal list: say which list; choose one of {', '.join(LISTS)}")
    if what not in LISTS:
        raise ConfigError(
            f"there is no list of {shortened(what)}; {did_you_mean(what, LISTS)}choose one of {', '.join(LISTS)}"
        )
    rows = LISTS[what]()
    if as_json:
        echo_json({what: rows})
        return
    passes = PASSES.get(what)
    legend = _legend(row[passes] for row in rows) if passes else None
    table = Table(box=box.SIMPLE, caption=legend, caption_justify="left")
    for title in rows[0]:
        whole = title in ("name", passes)
        longest = max(len(word) for row in rows for word in row[title].split())
        table.add_column(title, no_wrap=whole, min_width=None if whole else max(NARROWEST, longest))
    for row in rows:
        table.add_row(*row.values())
    screen = console()
    width = Measurement.get(screen, screen.options.update(max_width=sys.maxsize), table)
    fits = width.maximum <= screen.width or width.minimum + SLACK <= screen.width
    screen.print(table if fits else _one_below_another(rows, legend))


def _one_below_another(rows: list[Row], legend: str | None) -> Group:
    """What a narrow terminal can show whole."""
    parts: list[RenderableType] = []
    for row in rows:
        name, *others = row.items()
        entry = Table.grid(padding=(0, 1, 0, 2), pad_edge=True)
        entry.add_column(no_wrap=True)
        entry.add_column(overflow="fold")
        for title, value in others:
            entry.add_row(title, value)
        parts += [Text(name[1], style="bold"), entry, ""]
    return Group(*parts, *([legend] if legend else []))


def _legend(formulas: Iterable[str]) -> str:
    letters = (f"{letter} {LETTERS[letter]}" for letter in letters_in(*formulas))
    return f"Passes are images, forward and backward, in round b: {', '.join(letters)}."
