"""The stages of the pipeline, and what makes and follows it: options and help."""

from pathlib import Path
from typing import Annotated

import typer

from fkal.cli.exclusive_options import refuse_beside_plan
from fkal.cli.executor_options import ExecutorOptions
from fkal.cli.exit import cli_errors
from fkal.cli.options import (
    DataRoot,
    Debug,
    Json,
    Method,
    Out,
    Params,
    PlanFile,
    Root,
    Seeds,
    Settings,
    Tracking,
    Verify,
    expanded,
)
from fkal.cli.terminal import echo, say

SPLIT_EXAMPLES = "Example:\n\n    fkal split --preset mnist --seeds 0-4 --set bias.ratio=100"


@expanded
def split(
    context: typer.Context,
    settings: Settings,
    seeds: Seeds = None,
    out: Out = Path("runs"),
    plan: PlanFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw biased splits and write them as files that `fkal run` uses."""
    with cli_errors(debug):
        from fkal.runner import expand as configuring

        if plan is not None:
            refuse_beside_plan(context)
            from fkal.cli.prepare_output import print_splits
            from fkal.cli.progress import TERMINAL
            from fkal.pipeline import stages

            print_splits(stages.split(plan, out, TERMINAL), as_json=False)
            return
        sources = settings.sources(out=out)
        configs = configuring.experiments(sources, None, seeds)
        from fkal.cli.prepare_output import print_splits
        from fkal.cli.progress import TERMINAL
        from fkal.runner import prepare as preparing

        print_splits(preparing.split(configs, out=out, display=TERMINAL), as_json=as_json)


PRETRAIN_EXAMPLES = "Example:\n\n    fkal pretrain --preset mnist --seeds 0-4"


@expanded
def pretrain(
    context: typer.Context,
    settings: Settings,
    seeds: Seeds = None,
    out: Out = Path("runs"),
    plan: PlanFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pretrain theta^0 by rotation on the biased pool, for every method of `fkal run` to share."""
    with cli_errors(debug):
        from fkal.runner import expand as configuring

        if plan is not None:
            refuse_beside_plan(context)
            from fkal.cli.prepare_output import print_pretrained
            from fkal.cli.progress import TERMINAL
            from fkal.pipeline import stages

            print_pretrained(stages.pretrain(plan, out, TERMINAL), as_json=False)
            return
        sources = settings.sources(out=out)
        configs = configuring.experiments(sources, None, seeds)
        from fkal.cli.prepare_output import print_pretrained
        from fkal.cli.progress import TERMINAL
        from fkal.runner import prepare as preparing

        print_pretrained(preparing.pretrain(configs, out=out, display=TERMINAL), as_json=as_json)


EMBED_EXAMPLES = (
    "Examples:\n\n    fkal embed --preset mnist --method pcc,pfk_joint --seeds 0-4\n\n"
    "    fkal embed --preset cifar10-frozen --executor ray --ray-address auto"
)


@expanded
def embed(
    context: typer.Context,
    settings: Settings,
    executor: ExecutorOptions,
    method: Method = None,
    seeds: Seeds = None,
    out: Out = Path("runs"),
    plan: PlanFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Describe pool and validation images by theta^0 and keep the descriptors, for first rounds to read.

    Experiments whose training alone differs then describe nothing in their first round. Large pools make
    large files: 4 bytes a feature and as many a gradient for each image, method and seed. A frozen backbone's
    embeddings are kept likewise. With --executor ray each file is a task.
    """
    with cli_errors(debug):
        from fkal.runner import expand as configuring

        cluster = executor.cluster()
        if plan is not None:
            refuse_beside_plan(context)
            from fkal.cli.prepare_output import print_descriptors
            from fkal.cli.progress import TERMINAL
            from fkal.pipeline import stages

            print_descriptors(stages.descriptors(plan, out, TERMINAL, cluster), as_json=False)
            return
        sources = settings.sources(out=out)
        configs = configuring.experiments(sources, method, seeds)
        from fkal.cli.prepare_output import print_descriptors
        from fkal.cli.progress import TERMINAL
        from fkal.runner import prepare as preparing

        answers = preparing.embed(configs, out=out, cluster=cluster, display=TERMINAL)
        print_descriptors(answers, as_json=as_json)


GRID_EXAMPLES = "Example:\n\n    fkal grid --dataset mnist --ratio 1,100 --seeds 0-4 > params.yaml"


def grid(
    dataset: Annotated[str, typer.Option(help="Presets, comma-separated.")],
    ratio: Annotated[str, typer.Option(help="Class imbalance ratios: 1,100.")] = "100",
    method: Annotated[
        str, typer.Option(help="Methods, as `fkal run` takes them.")
    ] = "random,validation_only,pfk_joint",
    seeds: Annotated[str, typer.Option(help="Seeds: 3, 0-4 or 0-2,7.")] = "0-4",
    folder: Annotated[str | None, typer.Option(help="Your own images, for --dataset folder --ratio 1.")] = None,
    debug: Debug = False,
) -> None:
    """Print a params.yaml for the pipeline: a grid of experiments, and the settings of its datasets."""
    with cli_errors(debug):
        from fkal.cli.grid import grid_text

        datasets, ratios, methods = ([w.strip() for w in text.split(",")] for text in (dataset, ratio, method))
        echo(grid_text(datasets, ratios, methods, seeds, folder), nl=False)


PLAN_EXAMPLES = "Example:\n\n    fkal plan --params params.yaml"


def plan_(
    params: Params = None,
    root: Root = Path("data"),
    out: Out = Path("runs"),
    verify: Verify = False,
    debug: Debug = False,
) -> None:
    """Resolve the grid of params.yaml into a file for each stage of the pipeline, with just what that stage reads.

    The first stage of `dvc repro`, which always runs it: it looks whether the images have changed. It also takes back
    into --out what was published and is not there.
    """
    with cli_errors(debug):
        from fkal.pipeline import plan as planning

        cells = planning.plan(params, root, out, say, verify=verify)
        echo(f"{root / planning.PLAN}: {cells} cells")


SYNC_EXAMPLES = "Examples:\n\n    dvc pull && fkal sync\n\n    fkal sync --out runs"


def sync(
    root: Root = Path("data"),
    out: Out = Path("runs"),
    data_root: DataRoot = None,
    tracking_uri: Tracking = None,
    debug: Debug = False,
) -> None:
    """Bring the tracking store up to what the pipeline published and to what `fkal run` left under --out.

    After `dvc pull`, a hit in DVC's cache, or the loss of the store. Nothing is computed. What cannot be brought up is
    reported, and the exit code is 3.
    """
    with cli_errors(debug):
        from fkal.pipeline import sync as syncing

        syncing.sync(root, out, tracking_uri, data_root, notify=say, tell=echo)
