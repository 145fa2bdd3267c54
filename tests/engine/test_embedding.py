"""Embedding: each image passes once, is found again by its content, and does not depend on its company."""

from collections.abc import Generator
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from fkal.data.images import TensorImages
from fkal.data.vectors import VectorSet
from fkal.engine.embedding import BATCHES, Embedding, embedded_problem
from fkal.engine.loop import Problem
from fkal.engine.metering import Meter

CPU = torch.device("cpu")


class Memory:
    """A cache in memory that says what was asked and kept."""

    def __init__(self) -> None:
        self.rows: dict[bytes, torch.Tensor] = {}
        self.written: list[int] = []

    def lock(self):
        return nullcontext()

    def read(self, ids, rows):
        keys = [row.tobytes() for row in ids.numpy()]
        is_known = torch.tensor([key in self.rows for key in keys])
        known = [self.rows[key] for key in keys if key in self.rows]
        if not known:
            return is_known, torch.empty(0, 0)
        found = rows(len(known[0]))
        found[is_known] = torch.stack(known)
        return is_known, found

    @property
    def next_number(self) -> int:
        return len(self.written)

    def write(self, ids, rows, number=None):
        self.written.append(len(ids))
        self.rows |= {key.tobytes(): row for key, row in zip(ids.numpy(), rows, strict=True)}


class Body(nn.Module):
    """Counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.sizes: list[int] = []

    def forward(self, x):
        self.sizes.append(len(x))
        return self.conv(x).relu().mean(dim=(2, 3))


def result(work: Generator):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.fixture
def body() -> Body:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Body()


def test_an_image_is_embedded_once_whatever_is_asked_for_later(body, images):
    cache, some = Memory(), images(30, seed=0)
    embedding = Embedding(body, Meter(CPU), cache)
    first = result(embedding.rows(some, torch.arange(20), what="pool"))
    again = result(embedding.rows(some, torch.arange(10, 25), what="pool"))
    assert cache.written == [20, 5]
    torch.testing.assert_close(again[:10], first[10:], rtol=0, atol=0)


def test_an_embedding_is_the_same_in_any_company(body, images):
    some = images(100, seed=0)
    embedding = Embedding(body, Meter(CPU))
    together = result(embedding.rows(some, torch.arange(100), what="pool"))
    alone = result(embedding.rows(some, torch.tensor([77]), what="pool"))
    torch.testing.assert_close(alone[0], together[77], rtol=0, atol=0)
    assert set(body.sizes) == {BATCHES["cpu"]}


def test_what_was_embedded_is_kept_when_work_stops_and_made_once(body, images):
    cache, some = Memory(), images(200, seed=0)
    embedding = Embedding(body, Meter(CPU), cache)
    work = embedding.rows(some, torch.arange(200), what="pool")
    assert [next(work).done, next(work).done] == [64, 128]
    work.close()
    assert cache.written == [128]
    found = result(embedding.rows(some, torch.arange(200), what="pool"))
    assert cache.written == [128, 72]
    torch.testing.assert_close(found, result(Embedding(body, Meter(CPU)).rows(some, torch.arange(200), what="pool")))


def test_long_work_is_kept_now_and_then(body, images, monkeypatch):
    monkeypatch.setattr("fkal.engine.embedding.KEPT_SECONDS", 0.0)
    cache = Memory()
    result(Embedding(body, Meter(CPU), cache).rows(images(150, seed=0), torch.arange(150), what="pool"))
    assert cache.written == [64, 64, 22]


def test_passes_count_whether_or_not_they_were_kept(body, images):
    cache, some = Memory(), images(30, seed=0)
    for _ in range(2):
        meter = Meter(CPU)
        with meter.phase("descriptors"):
            result(Embedding(body, meter, cache).rows(some, torch.arange(20), what="pool"))
        assert dict(meter.forward_images) == {"descriptors": 20}


def test_the_same_picture_under_another_name_is_the_same_image(body, images):
    cache, some = Memory(), images(30, seed=0)
    turned = torch.arange(29, -1, -1)
    other = TensorImages(some.pixels(turned), some.labels, "abc", mean=(0.5,), std=(0.25,), names="other")
    embedding = Embedding(body, Meter(CPU), cache)
    result(embedding.rows(some, torch.arange(30), what="pool"))
    result(embedding.rows(other, torch.arange(30), what="pool"))
    assert cache.written == [30]


def test_own_embeddings_pass_nothing():
    rows = torch.randn(6, 4)
    own = VectorSet(rows, torch.arange(6) % 2, "ab", [str(i) for i in range(6)])
    meter = Meter(CPU)
    found = result(Embedding(None, meter).rows(own, torch.tensor([3, 1]), what="pool"))
    torch.testing.assert_close(found, rows[[3, 1]])
    assert not meter.forward_images


def test_standardising_sees_pool_and_validation_and_no_test_image(body, images):
    train, test = images(40, seed=0), images(20, seed=1)
    problem = Problem(train, test, torch.arange(30), torch.arange(30, 40), torch.arange(20), ())
    seen = result(embedded_problem(problem, Embedding(body, Meter(CPU)), None))
    rows = seen.problem.train.rows(torch.arange(40))
    torch.testing.assert_close(rows.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    assert seen.ahead.forward_images == {"descriptors": 40, "evaluate": 20}
    other = Problem(train, test, torch.arange(5), torch.arange(30, 40), torch.arange(20), ())
    fewer = result(embedded_problem(other, Embedding(body, Meter(CPU)), None)).problem.train
    with pytest.raises(AssertionError, match="not embedded"):
        fewer.rows(torch.tensor([7]))
