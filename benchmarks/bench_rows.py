"""The rows of benchmarks/bench.py: each makes its inputs and returns two functions that are timed in turns."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fkal.acquisition import badge, coreset, coverage, typiclust
from fkal.acquisition.fisher import by_coverage, select_pfk
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import Coverage, FisherScores, LastLayer, Outputs, Supervised
from fkal.core.facility_location import facility_location, max_targets
from fkal.core.kernels import BLOCK_ENTRIES, r_zg_product, top_matches

T = TypeVar("T")

PICKS = 125
LENET = {"conv1": 10, "conv2": 20, "fc1": 50}
"""Widths of the taps of the MNIST experiment."""


@dataclass(frozen=True)
class Sides:
    """What is timed, what it is held against, and what is said beside the figures.

    `seconds` gives those of both sides where a process of its own has to take them.
    """

    ours: Callable[[], object] = bool
    other: Callable[[], object] = bool
    note: Callable[[], str] | None = None
    seconds: Callable[[], tuple[float, float]] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table; `full_size` is measured once, and only when asked for."""

    what: str
    beside: str
    target: str
    make: Callable[[torch.device, str], Sides]
    memory: bool = False
    full_size: bool = False


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(n: int, width: int, seed: int, spread: float = 1.0) -> Tensor:
    """Features of ten classes, half of them zero as after a ReLU."""
    draws = drawn(seed)
    centers = torch.randn(10, width, generator=drawn(99))
    rows = centers[torch.randint(10, (n,), generator=draws)] + spread * torch.randn(n, width, generator=draws)
    return rows.clamp_(min=0)


def described(n: int, widths: Mapping[str, int], seed: int, device: torch.device) -> Descriptors:
    z = {tap: made(n, width, seed).to(device) for tap, width in widths.items()}
    g = {tap: made(n, width, seed + 1).sub_(0.5).to(device) for tap, width in widths.items()}
    return Descriptors.of(z, g)


def core_set(device: torch.device, root: str) -> Sides:
    pool = made(50_000, 512, 1).to(device)
    evidence = Coverage(pool, pool[:0])

    def products() -> None:
        for i in range(PICKS):
            torch.mv(pool, pool[i])

    return Sides(lambda: coreset.select(evidence, PICKS, drawn()), products)


def matches(device: torch.device, root: str) -> Sides:
    targets, pool = (described(n, {"tap": 80}, seed, device) for n, seed in ((1000, 1), (100_000, 2)))

    def plain() -> None:
        for _, block in pool.blocks(BLOCK_ENTRIES // len(targets)):
            kernel = targets.z["tap"] @ block.z["tap"].T
            targets.g["tap"] @ block.g["tap"].T
            kernel.topk(32, dim=1)

    return Sides(lambda: top_matches(targets, pool, 32, kernel=r_zg_product), plain)


def products_with(pool: Descriptors, targets: Descriptors) -> Callable[[], None]:
    """Each tap's and factor's products of all candidates with all targets, and nothing else."""

    def products() -> None:
        for _, block in pool.blocks(max(1, (1 << 18) // len(targets))):
            for tap in pool.z:
                block.z[tap] @ targets.z[tap].T
                block.g[tap] @ targets.g[tap].T

    return products


def objective(pool: Descriptors, targets: Descriptors, positions: Tensor) -> float:
    parts = targets.blocks(max(1, BLOCK_ENTRIES // len(positions)))
    return sum(float(r_zg_product(part, pool[positions]).amax(dim=1).clamp(min=0).sum()) for _, part in parts)


def covering(n: int, m: int, p: int, widths: Mapping[str, int]) -> Callable[[torch.device, str], Sides]:
    def make(device: torch.device, root: str) -> Sides:
        pool, targets = (described(count, widths, seed, device) for count, seed in ((n, 3), (m, 5)))
        evidence = FisherScores(pool, targets, torch.zeros(n, dtype=torch.long))
        found: dict[str, Any] = {}

        def kernel(candidates: Descriptors, columns: Descriptors) -> Tensor:
            found["worked out"] += len(candidates) / n
            return r_zg_product(candidates, columns)

        def ours() -> None:
            found["worked out"] = 0.0
            found["picks"] = by_coverage(evidence, p, drawn(), kernel).positions

        def note() -> str:
            chance = objective(pool, targets, torch.randperm(n, generator=drawn(1))[:p].to(device))
            reached = objective(pool, targets, found["picks"])
            at_most = f"{min(m, max_targets(p)):,} targets, each candidate worked out {found['worked out']:.1f} times"
            return f"objective {reached / chance:.3f} of that of {p:,} random picks; {at_most}"

        return Sides(ours, products_with(pool, targets), note)

    return make


def algorithm_1(device: torch.device, root: str) -> Sides:
    """PFK's choice as the published program makes it: all centers beside all targets at each pick, then all images."""
    pool, targets = (described(n, LENET, seed, device) for n, seed in ((25_000, 3), (8_800, 5)))
    evidence = FisherScores(pool, targets, torch.zeros(len(pool), dtype=torch.long))
    rows, columns = (torch.cat([*of.z.values(), *of.g.values()], dim=1) for of in (pool, targets))  # R_z + R_g

    def published() -> None:
        centers = [0]
        while len(centers) < PICKS:
            centers.append(int((columns[centers] @ columns.T).amax(dim=0).argmin()))
        best = (rows @ columns[centers].T).topk(32, dim=0)
        best.indices.gather(1, best.values.argsort(dim=1, descending=True))

    return Sides(lambda: select_pfk(evidence, PICKS, drawn(), combine="sum"), published)


def clusters(device: torch.device, root: str) -> Sides:
    from skactiveml.pool import TypiClust

    rows = normalize(made(5000, 64, 7), dim=1)
    x, y = rows.double().numpy(), [float("nan")] * len(rows)
    outputs = Outputs(torch.zeros(len(rows), 10), rows)
    evidence = Supervised(outputs, outputs[:0], torch.zeros(0, dtype=torch.long))
    return Sides(
        lambda: typiclust.select(evidence, 20, drawn()),
        lambda: TypiClust(random_state=0, k=20).query(x, y, batch_size=20),
    )


def gradients(device: torch.device, root: str) -> Sides:
    pool = Outputs(4 * made(10_000, 10, 8).to(device), made(10_000, 512, 9).to(device))
    evidence = LastLayer(pool, torch.zeros(10, 512))
    a = pool.logits.softmax(dim=1)

    def products() -> None:
        """What each pick cannot do without: the products of both factors with those of the pick."""
        for i in range(20):
            torch.mv(a, a[i]) * torch.mv(pool.features, pool.features[i])

    return Sides(lambda: badge.select(evidence, 20, drawn()), products)


def herding(device: torch.device, root: str) -> Sides:
    from skactiveml.pool import MaxHerding

    return _beside_scikit_activeml(coverage.select_maxherding, MaxHerding(random_state=0))


def balls(device: torch.device, root: str) -> Sides:
    from skactiveml.pool import ProbCover

    return _beside_scikit_activeml(coverage.select_probcover, ProbCover(n_classes=10, random_state=0))


def _beside_scikit_activeml(select: Callable[..., object], strategy: object) -> Sides:
    rows = normalize(made(2000, 64, 10), dim=1)
    x, y = rows.double().numpy(), [float("nan")] * len(rows)
    outputs = Outputs(torch.zeros(len(rows), 10), rows)
    evidence = Supervised(outputs, outputs[:0], torch.zeros(0, dtype=torch.long))
    query = strategy.query  # type: ignore[attr-defined]
    return Sides(lambda: select(evidence, 20, drawn()), lambda: query(x, y, batch_size=20))


def beside_apricot(device: torch.device, root: str) -> Sides:
    from apricot import FacilityLocationSelection

    kernel = _all_pairs()
    theirs, selection = kernel.double().numpy(), FacilityLocationSelection(50, metric="precomputed", optimizer="lazy")
    return Sides(lambda: _covered(kernel), lambda: selection.fit(theirs))


def beside_submodlib(device: torch.device, root: str) -> Sides:
    from submodlib import FacilityLocationFunction

    kernel = _all_pairs()
    matrix = kernel.double().numpy()

    def theirs() -> None:
        function = FacilityLocationFunction(n=len(matrix), mode="dense", sijs=matrix, separate_rep=False)
        function.maximize(budget=50, optimizer="LazyGreedy", show_progress=False)

    return Sides(lambda: _covered(kernel), theirs)


def _all_pairs() -> Tensor:
    pool = normalize(made(4000, 64, 11), dim=1)
    return pool @ pool.T


def _covered(kernel: Tensor) -> object:
    n = len(kernel)
    ones, zeros = torch.ones(n), torch.zeros(n)
    return facility_location(
        lambda rows: kernel[rows], n, 50, weights=ones, covered=zeros, generator=drawn(), epsilon=coverage.EPSILON
    )


def first_choice(device: torch.device, root: str) -> Sides:
    """The first round's choice on MNIST, from theta^0: evidence and selection, without training."""
    from fkal.config.layers import from_assignments, from_file, merged, preset
    from fkal.config.method_spec import method_layer
    from fkal.experiment.experiment import prepare

    out = Path(tempfile.mkdtemp(prefix="fkal-bench-"))
    if not Path(root).is_dir():
        raise FileNotFoundError(f"{root}: no folder of datasets; give --data-root")

    def choice(method: str) -> Callable[[], object]:
        base = [from_file(preset("mnist"), "preset mnist"), method_layer(method)]
        settings = from_assignments([f"data.root={root}", "pretrain.epochs=1", "pretrain.decay_epochs=[]"])
        experiment = prepare(merged([*base, settings]), out, lambda message: None)
        loop = finished(experiment.loop())
        return lambda: finished(loop.select(loop.state()))

    return Sides(choice("fisher_coverage"), choice("pfk_joint"))


def tracked(device: torch.device, root: str) -> Sides:
    """Start and tracking of four rounds on MNIST, in a new process each time: imports happen once in a process."""
    if not Path(root).is_dir():
        raise FileNotFoundError(f"{root}: no folder of datasets; give --data-root")
    script = Path(__file__).resolve().parent / "tracking.py"
    figures = Path(tempfile.mkdtemp(prefix="fkal-bench-")) / "tracking.json"
    command = [sys.executable, str(script), "--data-root", root, "--rounds", "4", "--json", str(figures)]

    def seconds() -> tuple[float, float]:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(figures.read_text())
        return found["own"], found["libraries"]

    return Sides(seconds=seconds)


def finished(steps: Generator[object, None, T]) -> T:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stopped:
            value: T = stopped.value
            return value


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "top_matches": Row(
            what="`top_matches`, 1,000 targets, pool of 100,000, 80 features, k = 32",
            beside="its products and a plain top-k",
            target="1.25, 64 MB",
            make=matches,
            memory=True,
        ),
        "coreset": Row(
            what="core-set, N = 50,000, 512 features, P = 125",
            beside="a matrix-vector product per pick",
            target="1.3",
            make=core_set,
        ),
        "coverage": Row(
            what="`by_coverage`, N = 25,000, 8,800 targets, LeNet's taps, P = 125",
            beside="its products with all targets",
            target="1.3",
            make=covering(25_000, 8_800, PICKS, LENET),
        ),
        "coverage_few": Row(
            what="the same with 1,300 targets",
            beside="its products with all targets",
            target="1.3",
            make=covering(25_000, 1_300, PICKS, LENET),
        ),
        "fisher_coverage": Row(
            what="a choice of `fisher_coverage`, MNIST, ir = 100, b = 1",
            beside="a choice of `pfk_joint`",
            target="2",
            make=first_choice,
        ),
        "algorithm_1": Row(
            what="a choice of `pfk:sum`, N = 25,000, 8,800 targets, LeNet's taps, P = 125",
            beside="the published program's steps, written again",
            target="1",
            make=algorithm_1,
        ),
        "facility_location": Row(
            what="`by_coverage`, N = 64,100, 12,000 targets, 96 features, P = 6,400",
            beside="its products with all targets",
            target="objective kept",
            make=covering(64_100, 12_000, 6_400, {"tap": 48}),
        ),
        "typiclust": Row(what="TypiClust, 5,000 images, 20 picks", beside="scikit-activeml", target="1", make=clusters),
        "badge": Row(
            what="BADGE, 10,000 images, 512 features, 20 picks",
            beside="the products of each pick",
            target="1.3",
            make=gradients,
        ),
        "maxherding": Row(
            what="MaxHerding, 2,000 images, 20 picks", beside="scikit-activeml", target="0.1", make=herding
        ),
        "probcover": Row(what="ProbCover, 2,000 images, 20 picks", beside="scikit-activeml", target="1", make=balls),
        "apricot": Row(
            what="facility location, 4,000 images, 50 picks, from a kernel matrix",
            beside="apricot's lazy greedy",
            target="1",
            make=beside_apricot,
        ),
        "submodlib": Row(
            what="the same",
            beside="submodlib's lazy greedy",
            target="1",
            make=beside_submodlib,
        ),
        "tracking": Row(
            what="start and tracking of four rounds on MNIST, without the imports of torch, torchvision and mlflow",
            beside="these imports",
            target="3 s",
            make=tracked,
        ),
        "tenth_of_full_size": Row(
            what="`by_coverage`, N = 64,100, 6,500 targets, 1,536 features, P = 6,400 (once)",
            beside="its products with all targets",
            target="objective kept",
            make=covering(64_100, 6_500, 6_400, {"stage3": 256, "stage4": 512}),
            full_size=True,
        ),
        "full_size": Row(
            what="`by_coverage`, N = 641,000, 65,000 targets, 1,536 features, P = 64,000 (once)",
            beside="its products with all targets",
            target="objective kept",
            make=covering(641_000, 65_000, 64_000, {"stage3": 256, "stage4": 512}),
            full_size=True,
        ),
    }
)
