"""Options that several commands take, each declared once. Imports nothing heavy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from fkal.cli.terminal import say
from fkal.paths import TUNED

if TYPE_CHECKING:
    from fkal.runner.expand import Sources

Preset = Annotated[
    str | None,
    typer.Option(help="Packaged settings: digits, mnist, cifar10-frozen, ... (fkal list presets)."),
]
Params = Annotated[Path | None, typer.Option(help="A params file instead of ./params.yaml.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, say train.lr=0.1. Repeatable."),
]
Dataset = Annotated[
    str | None, typer.Option(help="A dataset of the params file, or the preset of that name. [default: the grid's]")
]
Ratio = Annotated[str | None, typer.Option(help="Class imbalance ratios: 1,100. [default: the grid's]")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder that holds the datasets. [default: $FKAL_DATA_ROOT or data]")
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Pretrained model with its default weights: resnet50, torchvision:NAME, timm:NAME, or the file of an "
        "exported program, NAME.pt2. --set model.weights=FILE names other weights."
    ),
]
AcceptLicense = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Accept this license of weights, which is not Apache, MIT, BSD or CC-BY."),
]
Embeddings = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Own embeddings instead of images: .npz or .parquet (features, ids, labels)."),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="Methods, comma-separated: random, pfk_joint, varr; marks after : (varr:e4:k32, pfk_joint:sum, "
        ":random_theta_0, :head_only), taps after @ (pcc@conv2)."
    ),
]
Seeds = Annotated[str | None, typer.Option(help="Seeds: 3, 0-4 or 0-2,7. [default: the configured one]")]
PlanFile = Annotated[
    Path | None,
    typer.Option(help="Be a stage of the pipeline: do what this file of `fkal plan` says."),
]
Untuned = Annotated[bool, typer.Option("--untuned", help="Leave out what `fkal tune --apply` put over the settings.")]
Tracking = Annotated[str | None, typer.Option(help="MLflow store. [default: $MLFLOW_TRACKING_URI or ./mlflow.db]")]
Root = Annotated[Path, typer.Option(help="Folder of what the pipeline publishes.")]
Out = Annotated[Path, typer.Option(help="Folder for splits, weights, finished rounds and curves.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read the files of datasets again where nothing says that they changed.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run, and stop.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class Settings:
    """The options that say which settings a command works with."""

    preset: Preset = None
    params: Params = None
    dataset: Dataset = None
    ratio: Ratio = None
    assignments: Set = None
    data_root: DataRoot = None
    backbone: Backbone = None
    accept_license: AcceptLicense = None
    embeddings: Embeddings = None

    def sources(self, *, untuned: bool = False, out: Path = Path("runs"), verify: bool = False) -> Sources:
        """Where the settings come from; `untuned` leaves out what `fkal tune --apply` put over them.

        Digests of image files are remembered under `out`, and with `verify` not believed.
        """
        from fkal.runner.expand import Sources, StartingPoint

        return Sources(
            preset=self.preset,
            params=self.params,
            dataset=self.dataset,
            ratio=self.ratio,
            data_root=self.data_root,
            start=StartingPoint(backbone=self.backbone, accept_license=self.accept_license, embeddings=self.embeddings),
            assignments=self.assignments or [],
            notify=say,
            tuned=None if untuned else TUNED,
            out=out,
            verify=verify,
        )


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer reads it: each record of options that it takes is replaced by the record's fields."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    records = {p.name: hints[p.name] for p in parameters if is_dataclass(hints[p.name])}
    options = [option for p in parameters for option in _options(p, hints[p.name])]

    @wraps(command)
    def with_records(**given: Any) -> None:
        for name, record in records.items():
            given[name] = record(**{field.name: given.pop(field.name) for field in fields(record)})
        command(**given)

    with_records.__signature__ = inspect.Signature(options, return_annotation=None)  # type: ignore[attr-defined]
    with_records.__annotations__ = {option.name: option.annotation for option in options} | {"return": None}
    return with_records


def _options(parameter: inspect.Parameter, kind: Any) -> Sequence[inspect.Parameter]:
    """The parameter itself, or one for each field of the record that it takes."""
    if not is_dataclass(kind):
        return [_keyword(parameter.name, parameter.default, kind)]
    hints = get_type_hints(kind, include_extras=True)
    return [_keyword(field.name, field.default, hints[field.name]) for field in fields(kind)]


def _keyword(name: str, default: Any, kind: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
