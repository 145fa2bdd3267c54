"""Every class's gradients in small batches against all classes in one, on LeNet's three taps and made-up images.

    python benchmarks/views.py [--images 500] [--views 10]

Each view is made in both ways, in turns; the figure is the ratio of processor seconds in this run. Both sides must
agree on every bit.
"""

import argparse
import time
from unittest import mock

import torch
from torch import Tensor

from fkal.core.views import View
from fkal.engine import views
from fkal.engine.metering import Meter
from fkal.models import build

TAPS = (("conv2",), ("conv1", "conv2", "fc1"))


def agree(a: View, b: View) -> bool:
    return all(
        torch.equal(one[tap], other[tap])
        for one, other in ((a.z, b.z), (a.jacobian, b.jacobian), (a.products, b.products))
        for tap in a.z
    )


def ratio(model: torch.nn.Module, images: list[Tensor], taps: tuple[str, ...]) -> float:
    meter, sizes = Meter(torch.device("cpu")), {"few": views.GRADIENT_ENTRIES["cpu"], "all": 1 << 40}
    seconds = dict.fromkeys(sizes, 0.0)
    views.view_of(model, images[0], taps, meter)  # warm
    for x in images:
        made = {}
        for name, entries in sizes.items():
            with mock.patch.dict(views.GRADIENT_ENTRIES, cpu=entries):
                start = time.process_time()
                made[name] = views.view_of(model, x, taps, meter)
                seconds[name] += time.process_time() - start
        assert agree(made["few"], made["all"]), "the gradients differ"
    return seconds["few"] / seconds["all"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--views", type=int, default=10)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build("lenet", (1, 28, 28), 10)
    images = [torch.randn(given.images, 1, 28, 28) for _ in range(given.views)]
    for taps in TAPS:
        print(f"{'+'.join(taps)}: some classes / all classes at once: {ratio(model, images, taps):.2f} of the time")


if __name__ == "__main__":
    main()
