"""What the pipeline itself costs: its own share of processor seconds, by process, cell, seed and round.

    python benchmarks/pipeline.py --preset mnist --data-root ~/datasets [--method random,pfk_joint] [--ratio 100]
        [--seeds 0-1] [--rounds 10]

Runs the grid stage by stage in a project of its own, then each stage once more by force, when all is finished and
nothing is computed. What pretraining and descriptors computed is what the second time saves; what experiments
computed is the seconds of their phases that they publish, which are wall time: run it on an idle machine.
All else is the pipeline's own: starting Python and DVC, tracking, state, hashing, publishing, the report.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fkal.config.params_file import seed_numbers

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
STAGES = ("plan", "split", "pretrain", "descriptors", "experiment", "report")
TOP = (
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    "src/fkal/experiment/versions.py",
    "params/tuned/README.md",
)
IMPORTS = "import fkal.pipeline.stages, fkal.tracking.experiment_run"
CELLS, SEEDS = 40, 5


@dataclass(frozen=True)
class Measured:
    """Processor seconds: of each stage the first time and by force, of a `dvc repro` that runs none, of starting
    Python with what a stage imports, and of a finished cell's process with one seed and with all."""

    first: dict[str, float]
    forced: dict[str, float]
    idle: float
    start: float
    one_seed: float
    all_seeds: float

    def again(self, stage: str) -> float:
        """What a stage takes in which nothing is computed, without DVC's own start."""
        return self.forced[stage] - self.idle

    def computed(self, stage: str) -> float:
        return self.first[stage] - self.forced[stage]


def cpu_of(command: list[str], project: Path, data_root: str) -> float:
    """Processor seconds of a command and all that it started."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FKAL_", "MLFLOW_"))}
    environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "FKAL_DATA_ROOT": data_root}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def new_project(folder: Path, given: argparse.Namespace) -> Path:
    for name in TOP:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    grid = [BIN / "fkal", "grid", "--dataset", given.preset, "--ratio", given.ratio, "--method", given.method]
    text = subprocess.run([*grid, "--seeds", given.seeds], capture_output=True, text=True, check=True).stdout
    params = yaml.safe_load(text)
    if given.rounds:
        params["datasets"][given.preset]["acquisition"]["rounds"] = given.rounds
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder


def measured(project: Path, data_root: str) -> Measured:
    def repro(*arguments: str) -> float:
        return cpu_of(["dvc", "repro", *arguments], project, data_root)

    first = {stage: repro("-s", stage) for stage in STAGES}
    idle = repro()
    forced = {stage: repro("-f", "-s", stage) for stage in STAGES}
    start = cpu_of([sys.executable, "-c", IMPORTS], project, data_root)
    plan = next((project / "data" / "plan").glob("*/methods/*.yaml"))
    content = yaml.safe_load(plan.read_text())
    cells = [
        cpu_of(["fkal", "run", "--plan", str(copy_of(plan, content, seeds, project))], project, data_root)
        for seeds in (content["seeds"][:1], content["seeds"])
    ]
    return Measured(first, forced, idle, start, *cells)


def copy_of(plan: Path, content: dict[str, Any], seeds: list[int], project: Path) -> Path:
    """The plan of these seeds alone, which publishes into a folder of its own."""
    path = project / f"seeds-{len(seeds)}" / plan.relative_to(project / "data")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**content, "seeds": seeds}, sort_keys=False))
    return path


def phases_of(project: Path) -> list[float]:
    """Of each experiment the seconds that its phases took."""
    cells = [json.loads(path.read_text()) for path in (project / "data" / "timings").glob("*.json")]
    return [
        sum(sum(told["seconds"].values()) for name, told in seed.items() if name.startswith("round-"))
        for cell in cells
        for seed in cell.values()
    ]


def tell(told: Measured, experiments: list[float], *, cells: int, pairs: int, rounds: int) -> None:
    seeds = len(experiments) // cells
    shared = told.computed("pretrain")
    described = told.computed("descriptors")
    compute = shared + described + sum(experiments)
    total = sum(told.first.values()) - (len(STAGES) - 1) * told.idle  # one `dvc repro` starts DVC once
    own = total - compute
    a_seed = (told.all_seeds - told.one_seed) / (seeds - 1)
    a_cell = told.again("experiment") / cells
    an_iteration = (told.computed("experiment") - sum(experiments)) / (len(experiments) * rounds)
    print(f"{cells} cells of {seeds} seeds of {rounds} rounds, processor seconds:")
    for stage in STAGES:
        print(f"  {stage:12}{told.first[stage]:9.1f} the first time {told.forced[stage]:9.1f} with nothing to compute")
    print(f"own: {told.idle:.1f} for DVC to see that nothing is to be done; {told.start:.1f} a process start;")
    print(f"  {a_cell - seeds * a_seed:.1f} a cell (its start and DVC's share included), {a_seed:.2f} a seed that is")
    print(f"  finished, {an_iteration:.2f} a round (with what ends an experiment, such as the loadable model)")
    print(f"compute: {sum(experiments) / len(experiments):.1f} a seed, and {shared / seeds:.1f} to pretrain it once")
    print(f"own share here: {own:.1f} of {total:.1f} = {own / total:.1%}")
    fixed = told.idle + sum(told.again(stage) for stage in ("plan", "split", "pretrain", "report")) / pairs
    per_cell = a_cell + (SEEDS - seeds) * a_seed + SEEDS * rounds * an_iteration + told.again("descriptors") / cells
    grid_own = fixed + CELLS * per_cell
    grid_compute = SEEDS * shared / (seeds * pairs) + CELLS * (
        SEEDS * sum(experiments) / len(experiments) + SEEDS * described / (seeds * cells)
    )
    print(
        f"{CELLS} cells of {SEEDS} seeds, one dataset and ratio, the report counted as here: {grid_own:.0f} own beside "
        f"{grid_compute:.0f} of compute = {grid_own / (grid_own + grid_compute):.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--method", default="random,pfk_joint")
    parser.add_argument("--ratio", default="100")
    parser.add_argument("--seeds", default="0-1", help="at least two, to tell what one costs")
    parser.add_argument("--rounds", type=int, help="rounds of each experiment; the preset's if left out")
    given = parser.parse_args()
    if len(seed_numbers(given.seeds)) < 2:
        raise SystemExit("--seeds: give two or more, to tell what one costs")
    data_root = str(Path(given.data_root).expanduser().resolve())
    with tempfile.TemporaryDirectory() as folder:
        project, began = new_project(Path(folder), given), time.perf_counter()
        told = measured(project, data_root)
        experiments = phases_of(project)
        cells = len(list((project / "data" / "timings").glob("*.json")))
        pairs = len(given.ratio.split(","))
        params = yaml.safe_load((project / "params.yaml").read_text())
        rounds = params["datasets"][given.preset]["acquisition"]["rounds"]
        wall = time.perf_counter() - began
    tell(told, experiments, cells=cells, pairs=pairs, rounds=rounds)
    print(f"(it all took {wall:.0f} s of wall time)")


if __name__ == "__main__":
    main()
