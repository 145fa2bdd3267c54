"""Passes of a compiled model, and the model as it is where that fails."""

import os
import subprocess
import sys
from copy import deepcopy

import pytest
import torch

from fkal.engine.compiling import compiled, why_not

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)


@pytest.fixture
def without_compiler(tmp_path, monkeypatch):
    """A machine on which no C++ compiler starts, and nothing is left of earlier programs."""
    import torch._dynamo
    import torch._inductor.config as config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    with config.patch({"cpp.cxx": ("/nonexistent/g++",), "fx_graph_cache": False}):
        yield
    torch._dynamo.reset()


def test_a_model_that_is_not_to_be_compiled_is_itself(model):
    network = model("lenet", seed=0)
    assert compiled(network, compiles=False) is network


@pytest.mark.parametrize("learns", [False, True])
def test_where_there_is_no_compiler_a_line_says_why_and_the_model_is_as_it_was(model, without_compiler, learns):
    network = model("with norm", seed=0)
    before = deepcopy(network.state_dict())
    why = why_not(network, SHAPE, CPU, learns=learns)
    assert why is not None and "/nonexistent" in why and "\n" not in why
    assert all(map(torch.equal, network.state_dict().values(), before.values()))
    assert network.training and all(parameter.grad is None for parameter in network.parameters())


PROGRAM = """
from copy import deepcopy

import torch

from fkal.data.images import TensorImages
from fkal.engine.compiling import why_not
from fkal.engine.embedding import Embedding
from fkal.engine.metering import Meter
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit
from fkal.models.registry import build

torch.manual_seed(0)
meter = Meter(torch.device("cpu"))
pixels = torch.randint(0, 256, (13, 1, 8, 8), dtype=torch.uint8)
images, indices = TensorImages(pixels, torch.arange(13) % 3, "abc", mean=(0.5,), std=(0.25,)), torch.arange(13)
network = build("lenet", (1, 8, 8), 3)
print("why not:", why_not(network, (1, 8, 8), meter.device, learns=True))


def trained(network, compiles):
    config = TrainConfig(epochs=2, batch_size=5, lr=0.05, decay_epochs=())  # the last batch is smaller
    draws = torch.Generator().manual_seed(0)
    list(fit(network, images, indices, images.labels, config=config, generator=draws, meter=meter, compiles=compiles))
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def embedded(compiles):
    work = Embedding(network, meter, compiles=compiles).rows(images, indices, what="images")
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


plain, *compiled = [trained(deepcopy(network), compiles) for compiles in (False, True, True)]
print("trained:", float((compiled[0] - plain).abs().max()), torch.equal(*compiled))
print("embedded:", float((embedded(True) - embedded(False)).abs().max()))
"""


@pytest.mark.slow
def test_compiled_training_and_embeddings_are_those_of_the_model(tmp_path):
    """In a process of its own, as the checks of shapes that tests add are no part of a program."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=280)
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert told["why not"] == "None", done.stderr
    moved, is_same = told["trained"].split()
    assert 0 <= float(moved) < 1e-4 and is_same == "True"
    assert 0 <= float(told["embedded"]) < 1e-4
