"""The real dvc on the digits: what runs again after which change, what comes back, what a kill leaves."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # a stage is a process, and each imports torch

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
VERSIONS = Path("src/fkal/experiment/versions.py")
SMALL = {
    "pretrain": {"epochs": 1, "decay_epochs": []},
    "train": {"epochs": 2, "decay_epochs": []},
    "acquisition": {"rounds": 2, "budget": 20},
}


def call(*command: str, cwd: Path, code: int = 0) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FKAL_", "MLFLOW_"))}
    environment["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def ran(output: str) -> list[str]:
    """The stages that `dvc repro` ran."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def set_params(project: Path, **changes: dict) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["grid"].update(changes.pop("grid", {}))
    params["methods"].update(changes.pop("names", {}))
    for section, values in changes.items():
        params["datasets"]["digits"][section].update(values)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def new_project(folder: Path) -> Path:
    """What the repository has at its top for the pipeline, with small settings."""
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / VERSIONS).parent.mkdir(parents=True)
    shutil.copy(ROOT / VERSIONS, folder / VERSIONS)
    (folder / ".dvc" / "plots").mkdir(parents=True)
    for name in (".gitignore", "config", "plots/budget_curve.json"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    call("git", "init", "-q", cwd=folder)
    set_params(folder, grid={"seeds": "0"}, **SMALL)
    return folder


def commit(project: Path) -> None:
    call("git", "add", "-A", cwd=project)
    call("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "results", cwd=project)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project whose pipeline has run."""
    folder = new_project(tmp_path_factory.mktemp("pipeline") / "project")
    stages = ran(call("dvc", "repro", cwd=folder))
    assert stages == [
        "plan",
        "split@digits-20",
        "pretrain@digits-20",
        "descriptors@digits-20",
        "experiment@digits-20-random",
        "experiment@digits-20-validation_only",
        "experiment@digits-20-pfk_joint",
        "report",
    ]
    return folder


def test_a_second_repro_runs_the_plan_alone(project):
    assert ran(call("dvc", "repro", cwd=project)) == ["plan"]


def test_a_new_version_of_the_program_makes_a_new_plan(project):
    before = (project / VERSIONS).read_bytes()
    (project / VERSIONS).write_bytes(before + b"\n# another\n")
    assert ran(call("dvc", "repro", cwd=project)) == ["plan"]  # which came out the same, so nothing follows
    (project / VERSIONS).write_bytes(before)
    assert ran(call("dvc", "repro", cwd=project)) == ["plan"]


def test_metrics_and_plots_tell_of_each_cell(project):
    table = call("dvc", "metrics", "show", cwd=project)
    assert "digits-20-random" in table and "final_accuracy" in table
    assert (project / "report/tables/experiments.csv").read_text().count("torch") == 3  # what each was made with
    call("dvc", "plots", "show", cwd=project)
    page = (project / "dvc_plots" / "index.html").read_text()
    assert "digits ir20 pfk_joint" in page and "digits ir20 random" in page


def test_scratch_folder_published_files_and_cache_are_one_copy(project):
    """Until a file is replaced, which is the only way that it changes."""
    cached = {path.stat().st_ino for path in (project / ".dvc/cache/files").rglob("*") if path.is_file()}
    scratch = {path.stat().st_ino for path in (project / "runs").rglob("*.safetensors")}
    kept = [path for kind in ("experiments", "pretrained") for path in (project / "data" / kind).rglob("*.safetensors")]
    assert kept
    assert {path.stat().st_ino for path in kept} <= cached & scratch
    folder = project / "data/pretrained/digits-20"
    (random,), (joint,) = (list((folder / name).glob("*.safetensors")) for name in ("random", "pfk_joint"))
    assert random.samefile(joint)
    assert random.samefile(project / "runs/pretrained" / random.name)


def test_outputs_come_back_from_the_cache(project):
    before = (project / "data/experiments/digits-20-random/s0/round-02.json").read_bytes()
    shutil.rmtree(project / "data/experiments")
    shutil.rmtree(project / "data/pretrained")
    shutil.rmtree(project / "data/descriptors")
    call("dvc", "checkout", cwd=project)
    assert (project / "data/experiments/digits-20-random/s0/round-02.json").read_bytes() == before
    assert ran(call("dvc", "repro", cwd=project)) == ["plan"]


def test_another_machine_pulls_and_computes_nothing_anew(project, tmp_path):
    commit(project)
    call("dvc", "remote", "add", "-f", "--local", "-d", "there", str(tmp_path / "remote"), cwd=project)
    call("dvc", "push", cwd=project)
    other = tmp_path / "other"
    call("git", "clone", "-q", str(project), str(other), cwd=tmp_path)
    call("dvc", "remote", "add", "--local", "-d", "there", str(tmp_path / "remote"), cwd=other)
    call("dvc", "pull", cwd=other)
    assert ran(call("dvc", "repro", cwd=other)) == ["plan"]
    told = call("fkal", "sync", cwd=other)
    assert "3 of 3 experiments" in told
    assert "digits-ir20-pfk_joint-s0" in call("fkal", "runs", cwd=other)
    set_params(other, grid={"seeds": "0-1"})
    output = call("dvc", "repro", "experiment@digits-20-pfk_joint", cwd=other)
    assert "digits-ir20-pfk_joint-s0: finished before, nothing to do" in output
    assert "digits seed 0: runs/pretrained/" in output and "(was there)" in output


def test_a_change_reaches_only_those_who_read_it(project):
    weights, shared = "pretrain@digits-20", "descriptors@digits-20"
    joint, pcc, varr = (f"experiment@digits-20-{method}" for method in ("pfk_joint", "pcc", "varr_e2"))
    set_params(project, acquisition={"combine": "sum"})
    assert ran(call("dvc", "repro", cwd=project)) == ["plan", joint, "report"]
    set_params(project, grid={"method": ["pfk_joint", "pcc"]})
    assert ran(call("dvc", "repro", cwd=project)) == ["plan", weights, shared, pcc, "report"]
    set_params(project, grid={"method": ["pfk_joint", "pcc", "varr_e2"]}, names={"varr_e2": "varr:e2"})
    assert ran(call("dvc", "repro", cwd=project)) == ["plan", weights, shared, varr, "report"]
    set_params(project, grid={"method": ["pfk_joint", "pcc"]})
    call("dvc", "repro", cwd=project)
    commit(project)
    told = call("dvc", "exp", "run", "-S", "datasets.digits.train.epochs=3", cwd=project)
    assert sorted(ran(told)) == sorted(["plan", joint, pcc, "report"])
    differences = call("dvc", "metrics", "diff", cwd=project)
    assert "digits-20-pcc.json" in differences and "aubc.mean" in differences


@pytest.mark.clusters
def test_a_killed_repro_goes_on_in_the_same_runs(tmp_path):
    folder = new_project(tmp_path / "killed")
    set_params(folder, grid={"method": ["random"]}, acquisition={"rounds": 6}, train={"epochs": 30})
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    working = subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not list(folder.glob("runs/state/*/round-02.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(working.pid, signal.SIGKILL)
    working.wait()
    first = next(folder.glob("runs/state/*/round-02.json")).read_bytes()
    output = call("dvc", "repro", cwd=folder)
    assert "going on after round" in output
    assert next(folder.glob("runs/state/*/round-02.json")).read_bytes() == first
    assert len(call("fkal", "runs", "--json", cwd=folder).split('"fingerprint"')) <= 2
