"""Several processes against one: weights to the bit, rows in their order."""

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from fkal.engine.batch_parts import WHOLE, BatchParts
from fkal.engine.batch_statistics import SharedStatistics
from fkal.engine.processes import ALONE, Processes, current_processes
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit

LABELED = torch.tensor([11, 2, 7, 0, 14, 5, 9])
"""In batches of three, of which the last would be a single image and joins the one before."""
KINDS = ("lenet", "dropping", "with norm")


def training(kind: str) -> TrainConfig:
    """Two whole batches where batch normalisation is held against one process, to which rounding then adds little."""
    epochs, size = (1, 7) if kind == "with norm" else (3, 3)
    return TrainConfig(epochs=epochs, batch_size=size, lr=0.05, momentum=0.9, decay_epochs=(2,), loss="class_balanced")


def dropping_model() -> nn.Module:
    """With a dropout of its own, and no batch normalisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = {
            "flat": nn.Flatten(),
            "first": nn.Linear(64, 12),
            "dropout": nn.Dropout(0.5),
            "head": nn.Linear(12, 3),
        }
        return nn.Sequential(OrderedDict(layers))


@pytest.fixture
def trained(images, model, meter):
    """Weights and losses of one process."""

    def weights(kind: str, parts: BatchParts, config: TrainConfig | None = None) -> dict[str, torch.Tensor]:
        pictures = images(16, seed=3)
        network = dropping_model() if kind == "dropping" else model(kind, seed=0)
        settings = {"config": config or training(kind), "generator": torch.Generator().manual_seed(4)}
        epochs = fit(network, pictures, LABELED, pictures.labels[LABELED], meter=meter, parts=parts, **settings)
        losses = torch.tensor(list(epochs), dtype=torch.float64)
        return {"losses": losses, **network.state_dict()}

    return weights


def test_without_torchrun_a_process_is_alone():
    assert current_processes() == ALONE
    assert ALONE.leads and ALONE.own([1, 2, 3]) == [1, 2, 3]


def test_a_process_alone_has_all_rows_in_order_and_sends_nothing():
    made = iter([{"rows": torch.tensor([0])}, {"rows": torch.tensor([1])}])
    turns = list(ALONE.in_order(2, made, to_all=False, device=torch.device("cpu")))
    assert [[int(part["rows"]) for part in turn] for turn in turns] == [[0], [1]]
    assert ALONE.from_first("value") == "value"
    assert ALONE.summed(torch.tensor([3])).tolist() == [3]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8])
def test_the_batches_of_all_processes_are_all_batches_once(n):
    processes = [Processes(rank, 3) for rank in range(3)]
    own = [each.own(range(n)) for each in processes]
    in_turns = [batches[turn] for turn in range(n) for batches in own if turn < len(batches)]
    assert in_turns == list(range(n))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_shares_of_uneven_parts_add_up_and_an_empty_part_has_none(count, images):
    pictures, rows = images(9, seed=0), torch.tensor([8, 1, 4])
    parts = BatchParts(count)
    (step,) = parts.steps(
        pictures,
        torch.arange(9),
        [rows],
        labeled=lambda x, r: (x, pictures.labels[r]),
        augment=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
    )
    assert step.n == 3 and [part.place for part in step.parts] == list(range(count))
    assert sum(part.share for part in step.parts) == pytest.approx(1)
    counted = torch.cat([part.y for part in step.parts if part.share])
    assert torch.equal(counted, pictures.labels[rows])
    assert all(len(part.y) == max(1, round(3 * part.share)) for part in step.parts)


@pytest.mark.parametrize("loss", ["plain", "class_balanced", "balanced_softmax"])
def test_the_gradients_of_uneven_parts_sum_to_that_of_the_batch(loss, trained):
    """One step in float32, whose sums the parts take in another order."""
    config = TrainConfig(epochs=1, batch_size=7, lr=0.1, loss=loss)
    whole = trained("lenet", WHOLE, config)
    for count in (2, 3, 7):
        in_parts = trained("lenet", BatchParts(count), config)
        for name, value in whole.items():
            assert_close(in_parts[name], value, rtol=1e-5, atol=1e-7)


def test_each_of_several_processes_computes_its_part_and_otherwise_all():
    assert list(BatchParts(2, Processes(1, 2)).mine) == [1]
    assert list(BatchParts(2, Processes(1, 3)).mine) == [0, 1]
    assert list(BatchParts(1, Processes(1, 2)).mine) == [0]
    assert list(BatchParts(3).mine) == [0, 1, 2]


def test_shared_statistics_leave_evaluation_alone(model, images):
    network, (x,) = model("with norm", seed=0).eval(), images(5, seed=0).batches([torch.arange(5)], device="cpu")
    expected = network(x)
    with SharedStatistics():
        assert torch.equal(network(x), expected)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """What each of two processes had in the end."""
    out = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script), str(out)]
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=250)
    assert ended.returncode == 0, ended.stderr
    return [load_file(out / f"{rank}.safetensors") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lenet", "dropping"])
def test_two_processes_train_to_the_bit_what_one_does_in_two_parts(kind, trained, found):
    """The draws of a model's own dropout belong to the part, whoever computes it."""
    for name, value in trained(kind, BatchParts(2)).items():
        for each in found:
            assert torch.equal(each[f"{kind}.{name}"], value), name


@pytest.mark.slow
def test_batch_normalisation_of_two_processes_sees_the_whole_batch(trained, found):
    for name, value in trained("with norm", WHOLE).items():
        for each in found:
            assert_close(each[f"with norm.{name}"], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_both_processes_end_with_the_same_weights(found):
    first, second = found
    for name in first:
        if name != "of first":
            assert torch.equal(first[name], second[name]), name


@pytest.mark.slow
def test_the_first_process_has_all_rows_in_order_and_the_others_none(found):
    first, second = found
    assert first["of first"].tolist() == [0, 1, 2, 3, 4]
    assert second["of first"].tolist() == []
    assert first["of all"].tolist() == second["of all"].tolist() == [0, 1, 2, 3, 4]
    assert second["sent"].tolist() == [0, 1, 2, 3, 4]
    assert second["sum"].tolist() == [2, 1]
