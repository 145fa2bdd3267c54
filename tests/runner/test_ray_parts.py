"""The parts of a choice as tasks of a real Ray cluster of this machine."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.config.schema import Config
from fkal.core.partitioned_cover import partitioned_cover
from fkal.core.pool_parts import MapParts, Parts, one_by_one, parts_of

QUICK = ["--preset", "digits", "--method", "fisher_coverage,pcc", "--set", "pretrain.epochs=1",
         "--set", "train.epochs=4", "--set", "acquisition.rounds=2", "--set", "threads=1"]  # fmt: skip


@pytest.fixture(scope="module")
def over_parts() -> Iterator[MapParts]:
    from fkal.runner.plan import RayCluster
    from fkal.runner.ray_executor import _connected
    from fkal.runner.ray_parts import RayParts

    with _connected(RayCluster(), 2):
        yield RayParts("test", 1)


def pool() -> torch.Tensor:
    return torch.randn(200, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(600)
def test_a_cluster_picks_what_this_process_picks(over_parts):
    targets = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))

    def picks(over: MapParts):
        return partitioned_cover(
            pool(),
            6,
            similarity=lambda rows: rows @ targets.T,
            weights=torch.ones(20),
            covered=torch.zeros(20),
            generator=torch.Generator().manual_seed(2),
            parts=Parts(5, over),
            epsilon=0.3,
        )

    there, here = picks(over_parts), picks(one_by_one)
    assert torch.equal(there.positions, here.positions)
    assert torch.equal(there.scores, here.scores)


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(600)
def test_parts_are_done_in_other_processes_with_the_threads_of_this_one(over_parts):
    def facts(part):
        import os

        import torch

        return part.number, part.first, part.rows.sum().item(), torch.get_num_threads(), os.getpid()

    parts = parts_of(pool(), 7)
    found = over_parts(facts, parts)
    assert [each[:4] for each in found] == [
        (part.number, part.first, part.rows.sum().item(), torch.get_num_threads()) for part in parts
    ]
    assert os.getpid() not in {each[4] for each in found}


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(600)
def test_the_part_of_a_lost_worker_is_tried_again(over_parts, tmp_path):
    def dies_at_first(part):
        import os

        mark = tmp_path / f"{part.number}"
        if part.number == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return part.first

    assert over_parts(dies_at_first, parts_of(pool(), 4)) == [0, 50, 100, 150]
    assert [each.name for each in tmp_path.iterdir()] == ["1"]


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(600)
def test_what_a_part_fails_of_is_raised_and_not_tried_again(over_parts, tmp_path):
    def fails(part):
        with (tmp_path / "tries").open("a") as file:
            file.write(f"{part.number}\n")
        raise ValueError(f"part {part.number}: a similarity is NaN")

    with pytest.raises(ValueError, match=r"part [01]: a similarity is NaN"):
        over_parts(fails, parts_of(pool(), 2))
    tries = (tmp_path / "tries").read_text().splitlines()
    assert len(tries) == len(set(tries))


def run(*arguments: str) -> list:
    result = CliRunner().invoke(app, ["run", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return [(e["name"], e["fingerprint"], e["rounds"]) for e in json.loads(result.stdout)["experiments"]]


def tensors_of(folder: Path) -> dict[str, str]:
    """Picks, scores and weights of each round."""
    rounds = sorted(folder.glob("state/*/round-*.safetensors"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in rounds}


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(900)
def test_an_experiment_of_the_cluster_chooses_in_parts_as_one_of_this_process_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = ["--set", "acquisition.parts=3"]
    alone = run(*QUICK, *parts, "--out", "alone", "--tracking-uri", "sqlite:///alone.db")
    assert run(*QUICK, *parts, "--executor", "ray", "--jobs", "2") == alone
    assert tensors_of(tmp_path / "runs") == tensors_of(tmp_path / "alone") != {}


def test_an_experiment_on_a_gpu_goes_through_its_parts_itself():
    """Ray lends the CPUs of a task that waits to others, and not its GPU, so that parts on it would wait for ever."""
    from fkal.runner.ray_executor import _over_parts, _Site, _Task
    from fkal.runner.ray_parts import RayParts
    from fkal.runner.ray_tasks import Need

    def task(need: Need) -> _Task:
        site = _Site(1, Path("folder"), Path("out"), "marker")
        return _Task(site, 0, need, Config(), fingerprint=None, tracking="", wait=True)

    assert _over_parts(task(Need(2, 0.25))) is one_by_one
    over_parts = _over_parts(task(Need(2, 0.0)))
    assert isinstance(over_parts, RayParts) and over_parts.cpus == 2
