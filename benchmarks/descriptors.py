"""Descriptors in batches against one image at a time, on LeNet and made-up 28x28 images.

    python benchmarks/descriptors.py [--images 2000] [--batch 500]

The baseline takes each image's gradient on its own, through the whole network. The figure is the
ratio of seconds in this run; both sides must agree on every gradient.
"""

import argparse
import time

import torch
import torch.nn.functional as F

from fkal.core.descriptors import pooled, standardised
from fkal.data.images import TensorImages
from fkal.engine.describing import Describer
from fkal.engine.metering import Meter
from fkal.models.registry import build
from fkal.models.taps import Taps

TAPS = ("conv1", "conv2", "fc1")


def batched(model: torch.nn.Module, images: TensorImages, batch: int) -> dict[str, torch.Tensor]:
    describer = Describer(model, images, TAPS, batch, Meter(torch.device("cpu")))
    work = describer.describe(
        torch.arange(len(images)), lambda seen: images.labels[seen.indices], labels="true", with_grad=True, what="pool"
    )
    while True:
        try:
            next(work)
        except StopIteration as end:
            return dict(end.value.descriptors.g)


def one_by_one(model: torch.nn.Module, images: TensorImages) -> dict[str, torch.Tensor]:
    model.eval()
    rows: dict[str, list[torch.Tensor]] = {tap: [] for tap in TAPS}
    for index, x in enumerate(images.batches(torch.arange(len(images)).split(1), device="cpu")):
        with Taps(model, TAPS, with_grad=True) as taps:
            loss = F.cross_entropy(model(x), images.labels[index : index + 1])
        for tap, gradient in zip(TAPS, torch.autograd.grad(loss, [taps.outputs[t] for t in TAPS]), strict=True):
            rows[tap].append(pooled(gradient))
    return {tap: standardised(torch.cat(parts)) for tap, parts in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build("lenet", (1, 28, 28), 10)
    pixels = torch.randint(256, (arguments.images, 1, 28, 28), dtype=torch.uint8)
    labels = torch.arange(arguments.images) % 10
    images = TensorImages(pixels, labels, [str(k) for k in range(10)], mean=(0.5,), std=(0.5,))
    start = time.perf_counter()
    slow = one_by_one(model, images)
    middle = time.perf_counter()
    fast = batched(model, images, arguments.batch)
    end = time.perf_counter()
    for tap in TAPS:
        torch.testing.assert_close(fast[tap], slow[tap], rtol=1e-3, atol=1e-4)
    print(f"one by one: {middle - start:.2f} s; batches of {arguments.batch}: {end - middle:.2f} s")
    print(f"batched / one by one: {(end - middle) / (middle - start):.2f} of the time")


if __name__ == "__main__":
    main()
