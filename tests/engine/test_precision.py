"""What passes compute in, and picks that are ranked again in float32."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fkal.acquisition.registry import ACQUISITIONS
from fkal.acquisition.settings import AcquisitionConfig
from fkal.core.descriptors import Descriptors, standardised
from fkal.core.evidence import Calibrated, Coverage, FisherScores, LastLayer, Posteriors, Predictions, Queried
from fkal.core.picks import Picks
from fkal.core.row_stream import RowStream, StreamedDescriptors
from fkal.engine.embedding import Embedding
from fkal.engine.gathering import EvidenceConfig, RoundContext, gather
from fkal.engine.memory import MemoryBound
from fkal.engine.metering import Meter
from fkal.engine.precision import computing, exact, resolved
from fkal.engine.ranking_again import MOST_TURNS, ranked_again
from fkal.engine.rounds import Round
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit, scaler_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TAPS = ("conv1", "conv2", "fc1")
POOL = torch.tensor([1, 4, 8, 10, 3, 13, 14, 15, 16, 17, 18, 19])
VALIDATION, LABELED = torch.tensor([0, 2, 5, 6, 7, 9]), torch.tensor([11, 12])


def context_of(network, pictures, precision, **settings) -> RoundContext:
    acquisition = AcquisitionConfig(taps=TAPS, batch_size=5, **settings)
    return RoundContext(
        members=[network],
        images=pictures,
        open_pool=POOL,
        labeled=LABELED,
        y=pictures.labels[LABELED],
        validation=VALIDATION,
        config=EvidenceConfig(acquisition, precision=precision),
        generator=torch.Generator().manual_seed(0),
        meter=Meter(CPU),
    )


@pytest.mark.parametrize("given", [None, "float32", "bfloat16", "float16"])
def test_a_cpu_computes_in_what_it_is_given(given):
    assert resolved(given, CPU) == given


def test_mixed_is_bfloat16_on_a_cpu():
    assert resolved("mixed", CPU) == "bfloat16"


@pytest.mark.parametrize(
    ("precision", "device", "reason"),
    [("tf32", "cpu", "cpu has no TF32"), ("tf32", "mps", "mps has no TF32"), ("mixed", "mps", "mps is not tried")],
)
def test_what_a_device_does_not_compute_in_is_refused(precision, device, reason):
    with pytest.raises(ValueError, match=f"{reason}.*give float32"):
        resolved(precision, torch.device(device))


def test_exact_passes_are_those_without_autocast():
    given = (None, "float32", "tf32", "mixed", "bfloat16", "float16")
    assert [exact(name) for name in given] == [None, "float32", "tf32", "float32", "float32", "float32"]


@pytest.mark.parametrize(("precision", "word"), [("float32", "ieee"), ("tf32", "tf32")])
def test_a_gpu_multiplies_as_it_is_set_and_then_as_before(precision, word):
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision
    with computing(precision, CUDA):
        assert (matmul.fp32_precision, conv.fp32_precision) == (word, word)
    assert (matmul.fp32_precision, conv.fp32_precision) == before
    with computing(None, CUDA):
        assert (matmul.fp32_precision, conv.fp32_precision) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_z_and_g_of_the_pool_are_those_of_an_autocast_pass_and_validation_is_exact(outcome, images, model, dtype):
    pictures, network = images(20, seed=1), model("lenet", seed=1).eval()
    name = str(dtype).removeprefix("torch.")
    context = context_of(network, pictures, name, pseudo_label="predicted")
    evidence, rows = outcome(gather(context, FisherScores))
    (x,) = pictures.batches([POOL[:5]], device="cpu")
    caught = {}
    handles = [
        network.get_submodule(tap).register_forward_hook(lambda _, __, out, tap=tap: caught.update({tap: out}))
        for tap in TAPS
    ]
    with torch.autocast("cpu", dtype):
        loss = F.cross_entropy(network(x).float(), evidence.pseudo_labels[:5], reduction="sum")
        gradients = torch.autograd.grad(1024 * loss, [caught[tap] for tap in TAPS])
    for handle in handles:
        handle.remove()
    for tap, gradient in zip(TAPS, gradients, strict=True):
        assert caught[tap].dtype == dtype
        for found, block in ((evidence.pool.z, caught[tap].detach()), (evidence.pool.g, gradient)):
            flat = block.float()
            expected = standardised(flat.mean(dim=(2, 3)) if flat.dim() == 4 else flat)
            assert_close(found[tap][:5], expected, rtol=0, atol=0.06)
            assert found[tap].dtype == torch.float32
    whole, _ = outcome(gather(context_of(network, pictures, None, pseudo_label="predicted"), FisherScores))
    for tap in TAPS:
        assert torch.equal(evidence.targets.z[tap], whole.targets.z[tap])
        assert torch.equal(evidence.targets.g[tap], whole.targets.g[tap])
        assert not torch.equal(evidence.pool.z[tap], whole.pool.z[tap])


def test_float32_on_a_cpu_is_what_torch_does_unasked(outcome, images, model):
    pictures, network = images(20, seed=2), model("lenet", seed=2)
    unasked, asked = (outcome(gather(context_of(network, pictures, p), FisherScores))[0] for p in (None, "float32"))
    for tap in TAPS:
        assert torch.equal(unasked.pool.z[tap], asked.pool.z[tap])
        assert torch.equal(unasked.pool.g[tap], asked.pool.g[tap])


def rows_of(evidence) -> dict[str, torch.Tensor]:
    """All that evidence holds a row per pool image of, by name."""
    match evidence:
        case Predictions():
            return {"logits": evidence.logits}
        case Coverage() | Queried():
            return {"pool": evidence.pool[:]}
        case LastLayer() | Calibrated():
            return {"logits": evidence.pool.logits, "features": evidence.pool.features[:]}
    pool = evidence.pool[:]
    return {**{f"z.{tap}": pool.z[tap] for tap in pool.z}, **{f"g.{tap}": pool.g[tap] for tap in pool.g}}


def first_and_last(evidence) -> Picks:
    return Picks(torch.tensor([11, 0, 5]))


KINDS = (FisherScores, Posteriors, Coverage, Predictions, LastLayer, Calibrated, Queried)


@pytest.mark.parametrize("whitening", ["none", "shrunk"])
@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("needs", KINDS)
def test_the_rows_of_picks_are_made_again_in_float32_and_no_others(
    outcome, images, model, tmp_path, needs, is_streamed, whitening
):
    pictures, network = images(20, seed=3), model("lenet", seed=3)
    settings = {"pseudo_label": "predicted", "whitening": whitening}
    contexts = [context_of(network, pictures, p, **settings) for p in ("bfloat16", None)]
    if is_streamed:
        contexts = [replace(context, bound=MemoryBound(0.0, tmp_path)) for context in contexts]
    low, whole = (outcome(gather(context, needs))[0] for context in contexts)
    if isinstance(whole, FisherScores):  # g under the labels that the evidence has
        same = replace(contexts[1], config=replace(contexts[1].config))
        labels = low.pseudo_labels
        described = outcome(
            same.describer.describe(
                POOL,
                lambda b: labels[[POOL.tolist().index(i) for i in b.indices.tolist()]],
                labels="estimated",
                with_grad=True,
                what="pool",
            )
        )
        whole = replace(whole, pool=whole.whiten(described.descriptors))
    found = outcome(ranked_again(contexts[0], low, first_and_last))
    assert found.passed_again == 3
    assert type(found.evidence) is type(low)
    again = torch.tensor([11, 0, 5])
    others = torch.tensor([row for row in range(len(POOL)) if row not in again])
    before, after, right = rows_of(low), rows_of(found.evidence), rows_of(whole)
    assert set(after) == set(before)
    rounding = 1e-5 if whitening == "none" else 1e-4  # the inverse of a small deviation makes it larger
    for name in after:
        assert_close(after[name][again], right[name][again], rtol=1e-4, atol=rounding)
        assert not torch.allclose(before[name][again], right[name][again], rtol=1e-4, atol=rounding)
        assert torch.equal(after[name][others], before[name][others])
        assert not torch.equal(before[name][again], right[name][again])


def test_a_stream_stays_one(outcome, images, model, tmp_path):
    context = context_of(model("lenet", seed=3), images(20, seed=3), "bfloat16", pseudo_label="predicted")
    context = replace(context, bound=MemoryBound(0.0, tmp_path))
    evidence, _ = outcome(gather(context, FisherScores))
    assert isinstance(evidence.pool, StreamedDescriptors)
    found = outcome(ranked_again(context, evidence, first_and_last))
    assert isinstance(found.evidence.pool, StreamedDescriptors)
    assert all(isinstance(block, RowStream) for block in found.evidence.pool.z.values())


def test_picks_change_until_each_one_has_passed_in_float32(outcome, images, model):
    """By the largest logit of class 0, whose order bfloat16 does not keep."""
    pictures, network = images(20, seed=4), model("lenet", seed=4)
    context = context_of(network, pictures, "bfloat16")
    evidence, _ = outcome(gather(context, Predictions))
    seen = []

    def choose(found) -> Picks:
        picks = Picks(found.logits[:, 0].topk(4).indices)
        seen.append(picks.positions.tolist())
        return picks

    found = outcome(ranked_again(context, evidence, choose))
    whole, _ = outcome(gather(context_of(network, pictures, None), Predictions))
    picked = found.picks.positions
    assert_close(found.evidence.logits[picked], whole.logits[picked], rtol=1e-4, atol=1e-5)
    assert picked.tolist() == seen[-1]
    assert found.passed_again == len(set().union(*seen[:-1]))
    assert set(seen[-1]) <= set().union(*seen[:-1])


def test_picks_that_never_settle_end(outcome, images, model):
    context = context_of(model("lenet", seed=4), images(20, seed=4), "bfloat16")
    evidence, _ = outcome(gather(context, Predictions))
    turns = iter(range(100))
    found = outcome(ranked_again(context, evidence, lambda _: Picks(torch.tensor([next(turns)]))))
    assert found.passed_again == MOST_TURNS
    assert found.picks.positions.tolist() == [MOST_TURNS]


@pytest.mark.parametrize("precision", [None, "float32"])
def test_evidence_in_float32_is_picked_from_once(outcome, images, model, precision):
    context = context_of(model("lenet", seed=4), images(20, seed=4), precision)
    evidence, _ = outcome(gather(context, Predictions))
    found = outcome(ranked_again(context, evidence, first_and_last))
    assert found.evidence is evidence and found.passed_again == 0


@pytest.mark.parametrize("name", ["pfk", "pcc", "margin", "coreset", "badge", "varr"])
def test_a_round_of_a_method_under_autocast_says_how_many_passed_again(learning, name):
    loop = learning(name, rounds=2)
    config = replace(loop.method.config, precision="bfloat16")
    rounds = [e for e in replace(loop, method=replace(loop.method, config=config)).rounds() if isinstance(e, Round)]
    assert len(rounds) == 2
    for this in rounds[int(ACQUISITIONS[name].random_first) :]:
        assert ("select/ranked_again" in this.metrics) == (name != "varr")
        assert this.metrics.get("select/ranked_again", 4) >= 4


def trained(network, pictures, **settings):
    config = TrainConfig(epochs=4, batch_size=4, lr=0.05, decay_epochs=(), **settings)
    generator = torch.Generator().manual_seed(0)
    indices = torch.arange(len(pictures))
    return list(fit(network, pictures, indices, pictures.labels, config=config, generator=generator, meter=Meter(CPU)))


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "mixed"])
def test_training_under_autocast_is_near_that_in_float32_and_keeps_weights_in_float32(images, model, precision):
    pictures, network = images(12, seed=5), model("with norm", seed=5)
    whole = deepcopy(network)
    losses, low = trained(whole, pictures), trained(network, pictures, precision=precision)
    assert low != losses
    assert low == pytest.approx(losses, rel=0.05)
    for parameter, other in zip(network.parameters(), whole.parameters(), strict=True):
        assert parameter.dtype == torch.float32
        assert_close(parameter, other, rtol=0.1, atol=0.05)


def test_float16_training_scales_its_loss_and_others_do_not():
    assert [scaler_of(p, CPU).is_enabled() for p in (None, "float32", "bfloat16", "float16")] == [False] * 3 + [True]


def test_a_first_step_whose_gradients_overflow_is_left_out(images, model):
    """The scale is halved until they do not."""
    pictures, network = images(12, seed=9), model("with norm", seed=9)
    with torch.no_grad():
        network.head.weight.mul_(40)
    losses = trained(network, pictures, precision="float16", momentum=0.9)
    assert all(map(math.isfinite, losses))
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())


def test_training_in_float32_is_what_torch_does_unasked(images, model):
    pictures, network = images(12, seed=6), model("with norm", seed=6)
    other = deepcopy(network)
    assert trained(network, pictures) == trained(other, pictures, precision="float32")
    assert all(map(torch.equal, network.state_dict().values(), other.state_dict().values()))


def test_embeddings_are_those_of_an_autocast_pass_as_float32(outcome, images, model):
    pictures, network = images(7, seed=7), model("with norm", seed=7)
    indices = torch.arange(7)
    rows = outcome(Embedding(network, Meter(CPU), precision="bfloat16").rows(pictures, indices, what="pool"))
    whole = outcome(Embedding(network, Meter(CPU)).rows(pictures, indices, what="pool"))
    assert rows.dtype == torch.float32 and not torch.equal(rows, whole)
    assert_close(rows, whole, rtol=0.05, atol=0.02)
    assert torch.equal(rows, rows.bfloat16().float())


def test_descriptors_are_a_record_of_float32(outcome, images, model):
    context = context_of(model("lenet", seed=8), images(20, seed=8), "float16", pseudo_label="predicted")
    evidence, _ = outcome(gather(context, FisherScores))
    assert isinstance(evidence.pool, Descriptors)
    assert {block.dtype for block in (*evidence.pool.z.values(), *evidence.pool.g.values())} == {torch.float32}
