"""Monte Carlo dropout: k stochastic passes of each model of an ensemble.

Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, fx, nn

from fkal.core.epig import epig
from fkal.core.evidence import PredictiveInformation, Uncertainty
from fkal.core.uncertainty import uncertainty
from fkal.data.images import ImageSet
from fkal.engine.describing import Gathered
from fkal.engine.metering import Meter
from fkal.engine.processes import ALONE, Processes
from fkal.engine.progress import Progress
from fkal.models.dropout import MonteCarloDropout, monte_carlo_dropout
from fkal.models.modes import evaluating

Prefix = Callable[[Tensor], tuple[Tensor, ...]]
Suffix = Callable[..., Tensor]


def sampled_uncertainty(
    members: Sequence[nn.Module],
    images: ImageSet,
    indices: Int[Tensor, " n"],
    *,
    k: int,
    batch_size: int,
    generator: torch.Generator,
    meter: Meter,
) -> Generator[Progress, None, Uncertainty]:
    """How unsure k passes of each of the members are of the images, `batch_size` at a time."""
    draws = torch.Generator(meter.device).manual_seed(generator.initial_seed())
    batches = indices.split(batch_size)
    samplers = [Sampler(member, meter) for member in members]
    parts: list[Uncertainty] = []
    for done, x in enumerate(images.batches(batches, device=meter.device), start=1):
        parts.append(uncertainty(torch.cat([sampler(x, k, draws) for sampler in samplers])))
        yield Progress("Monte Carlo passes", done, len(batches), "batches")
    return Uncertainty(*(torch.cat(column) for column in zip(*map(_columns, parts), strict=True)))


def predictive_information(
    model: nn.Module,
    images: ImageSet,
    indices: Int[Tensor, " n"],
    targets: Int[Tensor, " m"],
    *,
    k: int,
    batch_size: int,
    generator: torch.Generator,
    meter: Meter,
    processes: Processes = ALONE,
) -> Generator[Progress, None, PredictiveInformation]:
    """How much the labels of the images say about the targets' predictions, k drawn networks seeing both.

    Several processes share the images; the first one has the result, the others have none of it.
    """
    seeds = torch.randint(1 << 62, (k,), generator=generator).tolist()
    sampler = Sampler(model, meter)
    p_targets = torch.cat(
        [sampler.networks(x, seeds) for x in images.batches(targets.split(batch_size), device=meter.device)], dim=1
    )
    gathered, done = Gathered(len(indices), meter.device), 0
    batches = indices.split(batch_size)
    own = processes.own(batches)
    made = ({"epig": epig(sampler.networks(x, seeds), p_targets)} for x in images.batches(own, device=meter.device))
    for turn in processes.in_order(len(batches), made, to_all=False, device=meter.device):
        for part in turn:
            gathered.add(part)
        done = min(done + processes.count, len(batches))
        yield Progress("Monte Carlo passes", done, len(batches), "batches")
    meter.forward(k * (len(indices) - sum(map(len, own))))
    gathered.receive_names(processes)
    return PredictiveInformation(gathered.tensors["epig"])


class Sampler:
    """Draws class probabilities of a model under dropout.

    What precedes the first dropout is computed once an image, not k times. Each of the k passes
    counts as one forward pass, as in Table 1.
    """

    def __init__(self, model: nn.Module, meter: Meter) -> None:
        self._model = model
        self._meter = meter
        self._split: tuple[Prefix, Suffix] | None = None

    def __call__(self, x: Float[Tensor, "n c h w"], k: int, generator: torch.Generator) -> Float[Tensor, "k n d"]:
        """Each image in each pass under a mask of its own."""
        return self._passes(x, k, sampled(self._model, generator), lambda i: None)

    def networks(self, x: Float[Tensor, "n c h w"], seeds: Sequence[int]) -> Float[Tensor, "k n d"]:
        """All images through one network a seed, the same network for the same seed whatever the batch."""
        draws = torch.Generator(self._meter.device)
        dropout = monte_carlo_dropout(self._model, draws, shared=True)
        return self._passes(x, len(seeds), dropout, lambda i: draws.manual_seed(seeds[i]))

    @torch.no_grad()
    def _passes(
        self, x: Tensor, k: int, dropout: AbstractContextManager[object], before: Callable[[int], object]
    ) -> Float[Tensor, "k n d"]:
        with evaluating(self._model):
            self._split = self._split or checked_split(self._model, x)
            prefix, suffix = self._split
            with dropout:
                known = [_channels_last(value) for value in prefix(x)]
                p = []
                for i in range(k):
                    before(i)
                    p.append(suffix(*known).softmax(dim=1))
                    self._meter.forward(len(x))
        return torch.stack(p)


def sampled(model: nn.Module, generator: torch.Generator) -> AbstractContextManager[object]:
    """Dropout from the generator; a model without it is one that only an ensemble can sample."""
    has_dropout = any(isinstance(layer, MonteCarloDropout) for layer in model.modules())
    return monte_carlo_dropout(model, generator) if has_dropout else nullcontext()


def checked_split(model: nn.Module, x: Float[Tensor, "n c h w"]) -> tuple[Prefix, Suffix]:
    """`split_at_dropout`, tried on some images without dropout.

    A model whose forward pass torch.fx does not follow (one that branches on values or types), or whose later layers
    write into what was computed before, is not split: its prefix passes the images on.
    """
    some = x[:2]
    try:
        prefix, suffix = split_at_dropout(model)
        known = prefix(some)
        before = [value.clone() for value in known]
        is_whole = torch.allclose(suffix(*known), model(some), rtol=1e-4, atol=1e-6)
        if is_whole and all(map(torch.equal, known, before)):
            return prefix, suffix
    except Exception:  # whatever a stranger's forward pass may raise under tracing
        pass
    return lambda x: (x,), model


def split_at_dropout(model: nn.Module) -> tuple[Prefix, Suffix]:
    """Two functions: what no dropout touches, and the rest, which takes what the first returns.

    `suffix(*prefix(x))` is `model(x)`; both share the model's modules. Raises ValueError for a model that
    overwrites what it needs elsewhere, and what torch.fx raises for a forward pass that it cannot trace.
    """
    graph = _Tracer().trace(model)
    overwritten = [node.name for node in graph.nodes if _is_in_place(node, model) and len(node.args[0].users) > 1]
    if overwritten:
        raise ValueError(f"{overwritten} overwrite what is used elsewhere; the order of both halves would tell")
    stochastic = _stochastic_nodes(graph, model)
    frontier = [n for n in graph.nodes if n not in stochastic and any(user in stochastic for user in n.users)]
    return _prefix(model, graph, frontier), _suffix(model, graph, frontier)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, MonteCarloDropout) or super().is_leaf_module(module, qualified_name)


def _is_in_place(node: fx.Node, model: nn.Module) -> bool:
    """Whether it writes into its first argument."""
    if not node.args or not isinstance(node.args[0], fx.Node):
        return False
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    named = getattr(node.target, "__name__", "")
    is_operator = getattr(node.target, "__module__", "") == "_operator" and named.startswith("i")
    return node.op == "call_function" and (
        is_operator or named.endswith("_") or bool(node.kwargs.get("inplace", False))
    )


def _stochastic_nodes(graph: fx.Graph, model: nn.Module) -> set[fx.Node]:
    """The dropout layers and all that depends on them."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        draws = node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), MonteCarloDropout)
        if draws or node.op == "output" or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def _prefix(model: nn.Module, graph: fx.Graph, frontier: Sequence[fx.Node]) -> fx.GraphModule:
    kept = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    ancestors = _ancestors(frontier)
    for node in graph.nodes:
        if node in ancestors:
            copies[node] = kept.node_copy(node, copies.__getitem__)
    kept.output(tuple(copies[node] for node in frontier))
    return fx.GraphModule(model, kept)


def _suffix(model: nn.Module, graph: fx.Graph, frontier: Sequence[fx.Node]) -> fx.GraphModule:
    kept = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in frontier:
        copies[node] = kept.placeholder(node.name)
    (output,) = (node for node in graph.nodes if node.op == "output")
    needed = _ancestors([output], until=set(frontier))
    for node in graph.nodes:
        if node in needed and node not in copies:
            copies[node] = kept.node_copy(node, copies.__getitem__)
    return fx.GraphModule(model, kept)


def _ancestors(nodes: Sequence[fx.Node], until: set[fx.Node] | frozenset[fx.Node] = frozenset()) -> set[fx.Node]:
    """The nodes and all that they are computed from; what stands in `until` is taken as given."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [] if node in until else node.all_input_nodes
    return found


def _channels_last(value: Tensor) -> Tensor:
    """Feature maps in the layout in which poolings and masks run fastest: k passes repay the copy."""
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


def _columns(part: Uncertainty) -> tuple[Tensor, ...]:
    return part.variation_ratio, part.entropy, part.mutual_information, part.mean_std
