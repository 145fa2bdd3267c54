"""How often each Monte Carlo pseudo-label is right, by reading of its formula: the figures of decision 007.

    python benchmarks/pseudo_labels.py --data-root ~/datasets [--seed 0] [--views 32] [--images 1000]

Trains the `mnist` preset with random labels for three rounds and asks, after each, for the labels of
validation images, which nothing was trained on. Prints the accuracy (%) of the arg max.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fkal.config.layers import load, preset
from fkal.core.information import RIDGE, information
from fkal.core.randomness import stream
from fkal.core.views import View
from fkal.engine.metering import Meter
from fkal.engine.rounds import Round
from fkal.engine.views import perturbations, perturbed_views
from fkal.experiment.experiment import Experiment, prepare

TAPS = (("conv2",), ("conv1", "conv2", "fc1"))


def readings(views: list[View]) -> Iterator[tuple[str, Tensor]]:
    """Each reading's name and its values `(d n)`."""
    whole = torch.stack([view.trace(tap) for view in views for tap in view.z]).sum(dim=0)
    yield "trace of the whole tensors, Fisher score", whole
    yield "trace of the whole tensors, loss gradient", -whole
    yield "trace of the pooled rows, Fisher score", torch.stack([_pooled_trace(view) for view in views]).sum(dim=0)
    yield "I, covariances", information(views, diagonal=False)
    yield "I, covariances, diagonals", information(views, diagonal=True)
    yield "I, uncentred moments", uncentred_information(views, relative=True)
    yield "I, uncentred, absolute ridge", uncentred_information(views, relative=False)


def uncentred_information(views: list[View], *, relative: bool) -> Tensor:
    """I from second moments about zero, the ridge relative to their mean diagonal or absolute."""
    total = torch.zeros(())
    for tap in views[0].z:
        z = torch.stack([view.z[tap].double() for view in views])  # (k n l)
        g = torch.stack([view.fisher_scores(tap) for view in views])  # (k d n l)
        if relative:
            z, g = z / _root_mean_square(z), g / _root_mean_square(g)
        both = torch.cat([z[:, None].expand_as(g), g], dim=-1)
        c = torch.einsum("kdni,kdnj->dnij", both, both) / len(views)
        c = c + RIDGE * torch.eye(c.shape[-1], dtype=c.dtype)
        half = z.shape[-1]
        parts = c[..., :half, :half], c[..., half:, half:], c
        log_zz, log_gg, log_both = (torch.linalg.slogdet(part).logabsdet for part in parts)
        total = total + 0.5 * (log_zz + log_gg - log_both)
    return total


def _pooled_trace(view: View) -> Tensor:
    traces = [torch.einsum("nl,dnl->dn", view.z[tap].double(), view.fisher_scores(tap)) for tap in view.z]
    return torch.stack(traces).sum(dim=0)


def _root_mean_square(values: Tensor) -> Tensor:
    size = (values**2).mean(dim=(0, -1), keepdim=True).sqrt()
    return torch.where(size > 0, size, 1.0)


def accuracies(experiment: Experiment, k: int, n: int) -> Iterator[tuple[str, float]]:
    """Of the experiment's model as it is now."""
    train, some = experiment.dataset.train, experiment.split.validation[:n]
    (x,), y = train.batches([some], device="cpu"), train.labels[some]
    with torch.no_grad():
        yield "predicted", _right(experiment.model(x).T, y)
    drawn = perturbations(k, train.shape, degrees=5.0, noise=0.01, generator=stream(experiment.seed, "views"))
    for taps in TAPS:
        views = list(perturbed_views(experiment.model, x, taps, drawn, Meter(torch.device("cpu"))))
        for name, values in readings(views):
            yield f"{name} ({'+'.join(taps)})", _right(values, y)


def _right(values: Tensor, y: Tensor) -> float:
    return 100 * float((values.argmax(dim=0) == y).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--views", type=int, default=32)
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    settings = [f"data.root={given.data_root}", f"seed={given.seed}", "acquisition.name=random", "acquisition.rounds=3"]
    chosen = load(preset("mnist"), environment={}, assignments=settings)
    table: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as out:
        experiment = prepare(chosen, Path(out), print)
        for event in experiment.events():
            if isinstance(event, Round):
                for name, value in accuracies(experiment, given.views, given.images):
                    table.setdefault(name, []).append(value)
    for name, values in table.items():
        print(f"{name:55}", "  ".join(f"{value:5.1f}" for value in values))


if __name__ == "__main__":
    main()
