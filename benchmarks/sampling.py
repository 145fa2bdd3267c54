"""Monte Carlo dropout with what precedes it computed once, against k whole passes, on LeNet and made-up 28x28 images.

    python benchmarks/sampling.py [--images 2000] [--batch 500] [--passes 32]

The figure is the ratio of seconds in this run; both sides must agree on every mean probability up to what k draws
scatter.
"""

import argparse
import time

import torch
from torch import Tensor

from fkal.engine.metering import Meter
from fkal.engine.sampling import Sampler
from fkal.models import build, evaluating, monte_carlo_dropout


def split_passes(model: torch.nn.Module, batches: list[Tensor], k: int) -> Tensor:
    sampler, draws = Sampler(model, Meter(torch.device("cpu"))), torch.Generator().manual_seed(1)
    return torch.cat([sampler(x, k, draws).mean(dim=0) for x in batches])


@torch.no_grad()
def whole_passes(model: torch.nn.Module, batches: list[Tensor], k: int) -> Tensor:
    draws = torch.Generator().manual_seed(2)
    with evaluating(model), monte_carlo_dropout(model, draws):
        return torch.cat([torch.stack([model(x).softmax(dim=1) for _ in range(k)]).mean(dim=0) for x in batches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--passes", type=int, default=32)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build("lenet", (1, 28, 28), 10)
    batches = list(torch.randn(given.images, 1, 28, 28).split(given.batch))
    seconds, means = {}, {}
    for name, passes in (("split", split_passes), ("whole", whole_passes)):
        passes(model, batches[:1], 2)  # warm
        start = time.perf_counter()
        means[name] = passes(model, batches, given.passes)
        seconds[name] = time.perf_counter() - start
    scatter = (means["split"] - means["whole"]).abs().mean()
    assert scatter < 1 / given.passes**0.5, f"mean probabilities differ by {scatter:.3f}"
    print(f"split / whole passes: {seconds['split'] / seconds['whole']:.2f} of the time")


if __name__ == "__main__":
    main()
