"""What the pipeline itself costs on a whole grid: 20 methods, two ratios, 5 seeds, 10 rounds of MNIST.

    python benchmarks/whole_grid.py --data-root ~/datasets [--seeds 0-4]

Weights before the first label and what experiments find are drawn at random beforehand, so that nothing is trained;
then `dvc repro` runs each stage. It does all that it would do around training: start processes, check what is kept,
track each round, hash, link, publish, report. The descriptors of the first round are computed for true; their
stage is run once more by force, which makes none, and the second time counts.
"""

import argparse
import os
import tempfile
from collections.abc import Generator
from functools import partial
from pathlib import Path

from drawing import keep_drawn
from torch import Tensor

from fkal.experiment.experiment import Experiment, prepare
from fkal.experiment.shared_files import shared_tensors
from fkal.models.registry import head_name
from fkal.pipeline.plan import planned
from pipeline import STAGES, cpu_of, new_project

METHODS = (
    "random,margin,balanced_margin,least_confidence,base,direct,badge,typiclust,uherding,flqmi,coreset,pcc,"
    "pfk_predicted,pfk_joint,pfk_joint:sum,pfk_joint:coverage,pfk_joint:whiten,pfk_joint:coverage:whiten,"
    "pfk_true,pfk_true:coverage"
)
BOUND = 0.05


def draw(project: Path) -> int:
    """Everything that training would have made for the grid of the project's plan; returns how many experiments."""
    n, out = 0, project / "runs"
    for place, plan in enumerate(sorted((project / "data" / "plan").glob("*/methods/*.yaml"))):
        for config in planned(plan, "experiment").configs:
            experiment = prepare(config, out, print)
            for path in experiment.weights_paths:
                list(shared_tensors(path, partial(_body, experiment), print))
            keep_drawn(experiment, out, 0.001 * place)
            n += 1
    return n


def _body(experiment: Experiment) -> Generator[None, None, dict[str, Tensor]]:
    head = f"{head_name(experiment.model)}."
    yield from ()
    return {name: value.contiguous() for name, value in experiment.first_weights.items() if not name.startswith(head)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--ratio", default="1,100")
    parser.add_argument("--method", default=METHODS)
    given = parser.parse_args()
    given.preset, given.rounds = "mnist", None
    data_root = os.environ["FKAL_DATA_ROOT"] = str(Path(given.data_root).expanduser().resolve())
    with tempfile.TemporaryDirectory() as folder:
        project = new_project(Path(folder), given)
        spent = {"plan": cpu_of(["dvc", "repro", "-s", "plan"], project, data_root)}
        n = draw(project)
        for stage in STAGES[1:]:
            spent[stage] = cpu_of(["dvc", "repro", "-s", stage], project, data_root)
            if stage == "descriptors":
                print(f"  {stage:12}{spent[stage]:9.1f} the first time, which computes them")
                spent[stage] = cpu_of(["dvc", "repro", "-f", "-s", stage], project, data_root)
            print(f"  {stage:12}{spent[stage]:9.1f}", flush=True)
        idle = cpu_of(["dvc", "repro"], project, data_root)
        cells = len(list((project / "data" / "metrics").glob("*.json")))
    own = sum(spent.values()) - (len(STAGES) - 1) * idle  # one `dvc repro` starts DVC once
    print(f"{cells} cells, {n} experiments: {own:.0f} processor seconds of the pipeline's own, {own / n:.2f} each;")
    print(f"a second `dvc repro`, which runs nothing: {idle:.1f}")
    least = own / n * (1 / BOUND - 1)
    print(f"its share is below {BOUND:.0%} where an experiment computes for more than {least:.0f} processor seconds")


if __name__ == "__main__":
    main()
