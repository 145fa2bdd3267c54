"""Rows beyond the bound of memory are mapped from files that have no name, and what is made of them is the same."""

import os
import resource
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from fkal.acquisition.registry import BY_MATCHING
from fkal.acquisition.settings import AcquisitionConfig
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import Coverage, Features, FisherScores
from fkal.core.row_stream import RowStream, StreamedDescriptors
from fkal.engine.embedded_images import EmbeddedImages
from fkal.engine.embedding import Embedding, embedded_problem
from fkal.engine.gathering import EvidenceConfig, RoundContext, gather
from fkal.engine.loop import ActiveLearning, Problem, Round
from fkal.engine.memory import MemoryBound
from fkal.engine.metering import Meter

CPU = torch.device("cpu")
LENET = ("conv1", "conv2", "fc1")


def smallest(folder: Path) -> MemoryBound:
    """A bound that any rows exceed."""
    return MemoryBound(1e-12, folder)


def test_rows_within_the_bound_are_in_memory_and_no_file_is_made(tmp_path):
    bound = MemoryBound(1.0, tmp_path / "rows")
    rows = bound.empty((3, 2), torch.float32)
    assert rows.shape == (3, 2) and not (tmp_path / "rows").exists()
    assert bound.read(rows, CPU) is rows


def test_rows_beyond_it_are_a_file_without_a_name(tmp_path):
    bound = smallest(tmp_path)
    rows = bound.empty((300, 20), torch.float32)
    rows[:] = torch.arange(6000.0).view(300, 20)
    assert list(tmp_path.iterdir()) == []
    assert f"{tmp_path}/rows-" in Path("/proc/self/maps").read_text()
    stream = bound.read(rows, CPU)
    assert isinstance(stream, RowStream)
    assert_close(stream[torch.tensor([7, 3])], rows[[7, 3]])
    stream[2:4].zero_()  # of its own
    assert_close(torch.cat(list(stream.split(64))), torch.arange(6000.0).view(300, 20))


def test_a_full_disk_is_an_error_and_no_signal(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            smallest(tmp_path).empty((1 << 12, 1 << 12), torch.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def context_of(network, pictures, bound, **settings) -> RoundContext:
    return RoundContext(
        members=[network],
        images=pictures,
        open_pool=torch.arange(20),
        labeled=torch.tensor([40, 41]),
        y=pictures.labels[[40, 41]],
        validation=torch.arange(20, 40),
        config=EvidenceConfig(AcquisitionConfig(**{"taps": LENET, "batch_size": 4} | settings)),
        generator=torch.Generator().manual_seed(0),
        meter=Meter(CPU),
        bound=bound,
    )


@pytest.mark.parametrize("label", ["joint", "joint_shift_grid", "predicted"])
@pytest.mark.parametrize("needs", [Features, FisherScores, *(entry.needs.record for entry in BY_MATCHING.values())])
def test_streamed_evidence_is_that_of_memory(needs, label, outcome, images, model, tmp_path):
    network, pictures = model("lenet", seed=3), images(42, seed=3)
    settings = {"pseudo_label": label, "whitening": "shrunk"}
    (whole, rows), (streamed, again) = (
        outcome(gather(context_of(network, pictures, bound, **settings), needs))
        for bound in (MemoryBound(), smallest(tmp_path))
    )
    assert isinstance(streamed.pool, StreamedDescriptors)
    assert_close(again, rows)
    pool: Descriptors = streamed.pool[torch.arange(20)]
    for tap in LENET:
        assert_close(pool.z[tap], whole.pool.z[tap])
    assert pool.g.keys() == whole.pool.g.keys()
    assert_close(streamed.targets.z, whole.targets.z)
    for name in {field.name for field in fields(whole)} & {"pseudo_labels", "posterior", "prior", "doubt"}:
        assert_close(getattr(streamed, name), getattr(whole, name))


def test_streamed_features_of_a_pool_are_those_of_memory(outcome, images, model, tmp_path):
    network, pictures = model("lenet", seed=3), images(42, seed=3)
    (whole, _), (streamed, _) = (
        outcome(gather(context_of(network, pictures, bound), Coverage)) for bound in (MemoryBound(), smallest(tmp_path))
    )
    assert isinstance(streamed.pool, RowStream)
    assert_close(streamed.pool[:20], whole.pool)
    assert_close(streamed.labeled, whole.labeled)


def rounds_of(learning: ActiveLearning) -> list[Round]:
    return [event for event in learning.rounds() if isinstance(event, Round)]


@pytest.mark.parametrize(
    "name",
    [
        "pfk",
        "pcc",
        "coreset",
        "random",
        "margin",
        "softmax_entropy",
        "flqmi",
        "gcmi",
        "badge",
        "bait",
        "direct",
        "galaxy",
        "probcover",
        "maxherding",
        "uherding",
        "typiclust",
        "dropquery",
    ],
)
def test_rounds_pick_the_same_images_with_streamed_rows(name, learning, tmp_path):
    whole = learning(name, pseudo_label="joint_shift")
    streamed = replace(learning(name, pseudo_label="joint_shift"), bound=smallest(tmp_path))
    for one, other in zip(rounds_of(whole), rounds_of(streamed), strict=True):
        assert other.selection.indices.tolist() == one.selection.indices.tolist()
        assert other.metrics == one.metrics
        assert other.forward_images == one.forward_images


@pytest.mark.parametrize("pca", [None, 3])
def test_embeddings_beyond_the_bound_are_those_of_memory(pca, images, outcome, tmp_path):
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    train, test = images(40, seed=0), images(20, seed=1)
    problem = Problem(train, test, torch.arange(30), torch.arange(30, 40), torch.arange(20), ())
    whole, mapped = (
        outcome(embedded_problem(problem, Embedding(body, Meter(CPU), bound=bound), pca)).problem
        for bound in (MemoryBound(), smallest(tmp_path))
    )
    for one, other in ((whole.train, mapped.train), (whole.test_images, mapped.test_images)):
        assert isinstance(one, EmbeddedImages) and isinstance(other, EmbeddedImages)
        assert_close(other.rows(torch.arange(20)), one.rows(torch.arange(20)))
