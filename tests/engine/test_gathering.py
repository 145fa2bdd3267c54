from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields, replace
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from fkal.acquisition.cost import Sizes
from fkal.acquisition.registry import BY_MATCHING
from fkal.acquisition.settings import AcquisitionConfig
from fkal.core.epig import epig
from fkal.core.evidence import (
    Calibrated,
    Coverage,
    Evidence,
    Features,
    FisherScores,
    LastLayer,
    Nothing,
    Posteriors,
    Predictions,
    PredictiveInformation,
    Queried,
    Revealed,
    Supervised,
    Uncertainty,
    WeighedPosteriors,
    WeighedScores,
)
from fkal.core.kernels import R_ZG
from fkal.core.labels import PSEUDO_LABELS
from fkal.core.pseudo_labels import PoolBatch, Reference
from fkal.core.whitening import WHITENINGS
from fkal.data.images import TensorImages
from fkal.engine.describing import Describer
from fkal.engine.gathering import GATHERERS, EvidenceConfig, RoundContext, gather, target_rows
from fkal.engine.metering import Meter
from fkal.engine.sampling import sampled_uncertainty
from fkal.engine.settings import VaalConfig
from fkal.engine.views import perturbations, view_of
from fkal.models.dropout import monte_carlo_dropout

LENET = ("conv1", "conv2", "fc1")
POOL, VALIDATION, LABELED = (torch.tensor(rows) for rows in ([1, 4, 8, 10, 3], [0, 2, 5, 6, 7, 9], [11, 12]))
K = 3
TINY_VAAL = VaalConfig(iterations=2, batch_size=2, latent=3, width=2)


def one_image(images, index: int) -> Tensor:
    return next(images.batches([torch.tensor([index])], device="cpu")).double()


def described(outcome, model, images, indices, labels, meter, *, with_grad=True):
    """What the describer leaves, under the labels given by dataset index."""
    describer = Describer(model, images, LENET, 3, meter)
    return outcome(
        describer.describe(indices, lambda b: labels[b.indices], labels="true", with_grad=with_grad, what="pool")
    )


def context_of(
    network: nn.Module | Sequence[nn.Module], pictures, meter, *, name: str = "joint", seed: int = 0, **changed
) -> RoundContext:
    """Five open images, six of validation, two labeled."""
    settings = {"taps": LENET, "batch_size": 4, "samples": K, **changed}
    return RoundContext(
        members=list(network) if isinstance(network, Sequence) else [network],
        images=pictures,
        open_pool=POOL,
        labeled=LABELED,
        y=pictures.labels[LABELED],
        validation=VALIDATION,
        config=EvidenceConfig(AcquisitionConfig(pseudo_label=name, **settings), TINY_VAAL),
        generator=torch.Generator().manual_seed(seed),
        meter=meter,
    )


def gathered(outcome, network, pictures, needs, meter, *, pseudo_label="joint", **changed):
    return outcome(gather(context_of(network, pictures, meter, name=pseudo_label, **changed), needs))


def own_predictions(network, pictures) -> list[int]:
    network = deepcopy(network).double().eval()
    with torch.no_grad():
        return [int(network(one_image(pictures, i)).argmax()) for i in range(len(pictures))]


def test_nothing_needs_no_pass(outcome, images, model, meter):
    network = model("lenet", seed=14)
    network.register_forward_pre_hook(lambda *_: pytest.fail("a forward pass"))
    evidence, rows = gathered(outcome, network, images(13, seed=14), Nothing, meter)
    assert evidence == Nothing(5)
    assert len(rows) == 0


@pytest.mark.parametrize("needs", [Features, FisherScores])
def test_targets_are_the_misclassified_validation_images_under_their_true_labels(outcome, images, model, meter, needs):
    pictures, network = images(13, seed=15), model("lenet", seed=15)
    evidence, rows = gathered(outcome, network, pictures, needs, meter)
    y_hat, validation = own_predictions(network, pictures), VALIDATION.tolist()
    wrong = [row for row, i in enumerate(validation) if y_hat[i] != int(pictures.labels[i])]
    assert 0 < len(wrong) < len(validation)
    assert rows.tolist() == wrong
    indices = torch.tensor(validation)[wrong]
    with_grad = needs is FisherScores
    alone = described(outcome, network, pictures, indices, pictures.labels, meter, with_grad=with_grad).descriptors
    for tap in LENET:
        assert_close(evidence.targets.z[tap], alone.z[tap], rtol=1e-3, atol=1e-5)
        if with_grad:
            assert_close(evidence.targets.g[tap], alone.g[tap], rtol=1e-3, atol=1e-5)
    assert set(evidence.targets.g) == (set(LENET) if with_grad else set())


@pytest.mark.parametrize("name", list(PSEUDO_LABELS))
def test_g_of_the_pool_is_that_of_the_pseudo_labels(outcome, images, model, meter, name):
    pictures, network = images(13, seed=16), model("lenet", seed=16)
    evidence, _ = gathered(outcome, network, pictures, FisherScores, meter, pseudo_label=name)
    labels = torch.full((13,), -1)
    labels[POOL] = evidence.pseudo_labels
    alone = described(outcome, network, pictures, POOL, labels, meter).descriptors
    for tap in LENET:
        assert_close(evidence.pool.g[tap], alone.g[tap], rtol=1e-3, atol=1e-5)
    expected = {"true": pictures.labels, "predicted": torch.tensor(own_predictions(network, pictures))}
    if name in expected:
        assert torch.equal(evidence.pseudo_labels, expected[name][POOL])


@pytest.mark.parametrize("name", list(PSEUDO_LABELS))
def test_g_of_the_targets_is_that_of_their_true_labels_or_of_the_estimators_own(outcome, images, model, meter, name):
    """Decision 006: then pool and validation are compared under one rule."""
    pictures, network = images(13, seed=19), model("lenet", seed=19)
    evidence, rows = gathered(outcome, network, pictures, FisherScores, meter, pseudo_label=name)
    targets = VALIDATION[rows]
    labels = pictures.labels.clone()
    if PSEUDO_LABELS[name].own_g_v:  # as for pool images
        context = replace(context_of(network, pictures, meter, name=name), open_pool=VALIDATION)
        as_pool, _ = outcome(gather(context, FisherScores))
        labels[VALIDATION] = as_pool.pseudo_labels
    if name == "predicted":
        assert labels[VALIDATION].tolist() == [own_predictions(network, pictures)[i] for i in VALIDATION.tolist()]
    alone = described(outcome, network, pictures, targets, labels, meter).descriptors
    for tap in LENET:
        assert_close(evidence.targets.g[tap], alone.g[tap], rtol=1e-3, atol=1e-5)


def test_joint_looks_at_all_validation_images_not_at_the_misclassified_alone(outcome, images, model, meter):
    network, pictures = model("lenet", seed=17), images(13, seed=17)
    perfect = images(13, seed=17, labels=pictures.labels)
    perfect.labels = torch.tensor(own_predictions(network, pictures))
    perfect.labels[0] = (perfect.labels[0] + 1) % 3  # the only target
    evidence, rows = gathered(outcome, network, perfect, FisherScores, meter)
    assert rows.tolist() == [0]
    everything = described(outcome, network, perfect, torch.arange(13), perfect.labels, meter).descriptors.z
    z = torch.cat([everything[tap] for tap in LENET], dim=1)
    validation = VALIDATION
    expected = []
    for i in POOL.tolist():
        similarity = [float(z[i].double() @ z[v].double()) for v in validation]
        expected.append(int(perfect.labels[validation[similarity.index(max(similarity))]]))
    assert evidence.pseudo_labels.tolist() == expected


@pytest.mark.parametrize("needs", [Features, FisherScores])
def test_where_the_model_makes_no_mistake_all_validation_images_are_targets(outcome, images, model, meter, needs):
    pictures, network = images(13, seed=18), model("lenet", seed=18)
    pictures.labels = torch.tensor(own_predictions(network, pictures))
    evidence, rows = gathered(outcome, network, pictures, needs, meter)
    assert rows.tolist() == list(range(6))
    assert len(evidence.targets) == 6


def test_target_rows_are_those_where_prediction_and_truth_differ():
    assert target_rows(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 2, 2, 1])).tolist() == [1, 3]
    assert target_rows(torch.tensor([0, 1]), torch.tensor([0, 1])).tolist() == [0, 1]


def members_and_pictures(images, model, seed: int, n: int = 2):
    return [model("lenet", seed=seed + e) for e in range(n)], images(13, seed=seed)


def test_every_evidence_can_be_gathered():
    assert set(GATHERERS) == set(get_args(Evidence))


@pytest.mark.parametrize("name", ["trace", "mutual_information", "mutual_information_diagonal"])
def test_monte_carlo_labels_come_from_the_same_views_of_every_image_whatever_its_batch(
    outcome, images, model, meter, name
):
    """Held against the estimator asked with all images at once."""
    pictures, network = images(13, seed=24), model("lenet", seed=24)
    evidence, _ = gathered(outcome, network, pictures, FisherScores, meter, pseudo_label=name, batch_size=2)
    draws = torch.Generator().manual_seed(0)
    drawn = perturbations(K, pictures.shape, degrees=5.0, noise=0.01, generator=draws)
    x = next(pictures.batches([POOL], device="cpu"))
    whole = described(outcome, network, pictures, POOL, pictures.labels, meter).descriptors
    batch = PoolBatch(
        network(x).detach(), whole, pictures.labels[POOL], [view_of(network, turn(x), LENET, meter) for turn in drawn]
    )
    known = described(outcome, network, pictures, VALIDATION, pictures.labels, meter).descriptors
    expected = PSEUDO_LABELS[name].estimate(batch, Reference(known, pictures.labels[VALIDATION]))
    assert torch.equal(evidence.pseudo_labels, expected)


def least_alike(targets, pool) -> Tensor:
    return -R_ZG["product"](targets, pool)


@pytest.mark.parametrize("kernel", [*R_ZG.values(), least_alike])
def test_joint_zg_compares_by_the_methods_own_kernel_under_true_validation_labels(
    outcome, images, model, meter, monkeypatch, kernel
):
    monkeypatch.setattr("fkal.engine.gathering.R_ZG", {"sum": kernel})
    pictures, network = images(13, seed=25), model("lenet", seed=25)
    evidence, _ = gathered(
        outcome, network, pictures, FisherScores, meter, pseudo_label="joint_zg", combine="sum", batch_size=2
    )
    known = described(outcome, network, pictures, VALIDATION, pictures.labels, meter).descriptors
    y_v, best = pictures.labels[VALIDATION], []
    for d in range(3):
        labels = torch.full((13,), d)
        under_d = described(outcome, network, pictures, POOL, labels, meter).descriptors
        best.append(kernel(under_d, known)[:, y_v == d].max(dim=1).values)
    assert torch.equal(evidence.pseudo_labels, torch.stack(best).argmax(dim=0))


def test_another_seed_of_the_generator_draws_other_views_and_masks(outcome, images, model, meter):
    members, pictures = members_and_pictures(images, model, 26)
    a, b, c = (gathered(outcome, members, pictures, Uncertainty, meter, seed=s)[0].entropy for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_uncertainty_is_that_of_all_members_passes(outcome, images, model, meter):
    members, pictures = members_and_pictures(images, model, 27)
    evidence, rows = gathered(outcome, members, pictures, Uncertainty, meter)
    alone = outcome(
        sampled_uncertainty(
            members, pictures, POOL, k=K, batch_size=4, generator=torch.Generator().manual_seed(0), meter=meter
        )
    )
    for field in fields(Uncertainty):
        assert torch.equal(getattr(evidence, field.name), getattr(alone, field.name))
    assert len(rows) == 0


def test_coverage_holds_the_first_members_features_of_open_and_labeled_images(outcome, images, model, meter):
    members, pictures = members_and_pictures(images, model, 28)
    evidence, rows = gathered(outcome, members, pictures, Coverage, meter)
    describer = Describer(members[0], pictures, LENET, 4, meter)
    assert torch.equal(evidence.pool, outcome(describer.features(POOL, what="pool")))
    assert torch.equal(evidence.labeled, outcome(describer.features(LABELED, what="labeled images")))
    assert evidence.pool.shape == (5, 80)
    assert len(rows) == 0


def test_coverage_of_nothing_labeled_has_no_labeled_rows(outcome, images, model, meter):
    context = context_of(model("lenet", seed=29), images(13, seed=29), meter)
    evidence, _ = outcome(gather(replace(context, labeled=POOL[:0], y=POOL[:0]), Coverage))
    assert evidence.labeled.shape == (0, 80)


def at_the_head(network, pictures, indices) -> tuple[Tensor, Tensor]:
    """Logits and the features that enter the last layer, image by image in float64."""
    network = deepcopy(network).double().eval()
    logits, features = [], []
    for i in indices.tolist():
        conv2 = network.conv2(F.max_pool2d(network.conv1(one_image(pictures, i)), 2))
        features.append(network.fc1(F.max_pool2d(conv2, 2).flatten(1)).detach())
        logits.append(network.fc2(features[-1]).detach())
    return torch.cat(logits).float(), torch.cat(features).float()


def test_what_is_known_of_the_last_layer_is_what_enters_and_leaves_it(outcome, images, model, meter):
    members, pictures = members_and_pictures(images, model, 33)
    known = {indices: at_the_head(members[0], pictures, indices) for indices in (POOL, LABELED, VALIDATION)}
    predictions, _ = gathered(outcome, members, pictures, Predictions, meter)
    assert_close(predictions.logits, known[POOL][0])
    last, rows = gathered(outcome, members, pictures, LastLayer, meter)
    assert_close((last.pool.logits, last.pool.features), known[POOL])
    assert torch.equal(last.weight, members[0].fc2.weight)
    calibrated, _ = gathered(outcome, members, pictures, Calibrated, meter)
    supervised, _ = gathered(outcome, members, pictures, Supervised, meter)
    for evidence in (calibrated, supervised):
        assert_close((evidence.pool.logits, evidence.pool.features), known[POOL])
        assert_close((evidence.labeled.logits, evidence.labeled.features), known[LABELED])
        assert torch.equal(evidence.y, pictures.labels[LABELED])
    assert_close(calibrated.validation_logits, known[VALIDATION][0])
    assert torch.equal(calibrated.y_v, pictures.labels[VALIDATION])
    assert len(rows) == 0


def test_an_oracle_sees_the_labels_of_the_pool(outcome, images, model, meter):
    members, pictures = members_and_pictures(images, model, 33)
    seen, rows = gathered(outcome, members, pictures, Revealed, meter)
    for part, indices in ((seen.pool, POOL), (seen.labeled, LABELED), (seen.known, VALIDATION)):
        assert_close((part.logits, part.features), at_the_head(members[0], pictures, indices))
    for y, indices in ((seen.y_pool, POOL), (seen.y, LABELED), (seen.y_v, VALIDATION)):
        assert torch.equal(y, pictures.labels[indices])
    assert torch.equal(seen.weight, members[0].fc2.weight) and len(rows) == 0


def test_an_oracle_of_a_pool_without_labels_is_refused(outcome, images, model, meter):
    members, unlabeled = members_and_pictures(images, model, 33)
    unlabeled.labels = torch.full_like(unlabeled.labels, -1)
    with pytest.raises(ValueError, match=r"acquisition\.name = .*which nobody knows; take another one"):
        gathered(outcome, members, unlabeled, Revealed, meter)


def test_queries_are_the_misclassified_validation_images(outcome, images, model, meter):
    pictures, network = images(13, seed=15), model("lenet", seed=15)
    evidence, rows = gathered(outcome, network, pictures, Queried, meter)
    y_hat = own_predictions(network, pictures)
    wrong = torch.tensor([i for i in VALIDATION.tolist() if y_hat[i] != int(pictures.labels[i])])
    assert 0 < len(wrong) < len(VALIDATION)
    assert_close(evidence.pool, at_the_head(network, pictures, POOL)[1])
    assert_close(evidence.queries, at_the_head(network, pictures, wrong)[1])
    assert len(rows) == 0


def test_before_the_first_label_there_are_no_labeled_rows(outcome, images, model, meter):
    context = context_of(model("lenet", seed=29), images(13, seed=29), meter)
    evidence, _ = outcome(gather(replace(context, labeled=POOL[:0], y=POOL[:0]), Supervised))
    assert evidence.labeled.features.shape == (0, 50)
    assert evidence.labeled.logits.shape == (0, 3)
    assert len(evidence.y) == 0


@pytest.mark.parametrize("batch_size", [2, 5])
def test_predictive_information_is_over_networks_that_pool_and_targets_share(outcome, images, model, meter, batch_size):
    """The same networks whatever the batch: held against drawing each of them once for all images."""
    pictures, network = images(13, seed=34), model("lenet", seed=34)
    evidence, _ = gathered(outcome, network, pictures, PredictiveInformation, meter, batch_size=batch_size)
    draws = torch.Generator().manual_seed(0)
    order = VALIDATION[torch.randperm(6, generator=draws)]
    seeds = torch.randint(1 << 62, (K,), generator=draws).tolist()
    x = next(pictures.batches([torch.cat([POOL, order])], device="cpu"))
    p = []
    for seed in seeds:
        with torch.no_grad(), monte_carlo_dropout(network.eval(), torch.Generator().manual_seed(seed), shared=True):
            p.append(network(x).softmax(dim=1))
    both = torch.stack(p)
    assert_close(evidence.epig, epig(both[:, :5], both[:, 5:]))
    assert (evidence.epig > 0).all()


@pytest.mark.parametrize(
    ("needs", "name", "members", "forward", "backward"),
    [
        (Nothing, "joint", 1, 0, 0),
        (Features, "joint", 1, 6 + 5, 0),
        (FisherScores, "joint", 1, 6 + 5, 6 + 5),
        (FisherScores, "predicted", 1, 6 + 5, 6 + 5),
        (FisherScores, "joint_zg", 1, 6 + 5 + 5, 6 + 5 + 3 * 5),
        (FisherScores, "trace", 1, (1 + K) * (6 + 5), (1 + K * 3) * (6 + 5)),
        (FisherScores, "mutual_information", 1, (1 + K) * (6 + 5), (1 + K * 3) * (6 + 5)),
        (FisherScores, "mutual_information_diagonal", 1, (1 + K) * (6 + 5), (1 + K * 3) * (6 + 5)),
        (Uncertainty, "joint", 1, K * 5, 0),
        (Uncertainty, "joint", 4, 4 * K * 5, 0),
        (Coverage, "joint", 1, 5 + 2, 0),
        (Predictions, "joint", 1, 5, 0),
        (LastLayer, "joint", 1, 5, 0),
        (Supervised, "joint", 1, 5 + 2, 0),
        (Calibrated, "joint", 1, 6 + 5 + 2, 0),
        (Revealed, "joint", 1, 6 + 5 + 2, 0),
        (Queried, "joint", 1, 6 + 5, 0),
        (PredictiveInformation, "joint", 1, K * (5 + 6), 0),
    ],
)
def test_the_passes_of_each_evidence_are_those_of_table_1(
    outcome, images, model, meter, needs, name, members, forward, backward
):
    networks, pictures = members_and_pictures(images, model, 30, members)
    with meter.phase("descriptors"):
        gathered(outcome, networks, pictures, needs, meter, pseudo_label=name)
    assert sum(meter.forward_images.values()) == forward
    assert sum(meter.backward_images.values()) == backward


@pytest.mark.parametrize("needs", [needs for needs in GATHERERS if needs is not Nothing])
@pytest.mark.parametrize("name", ["joint", "joint_zg", "trace"])
@pytest.mark.parametrize("training", [True, False])
def test_gathering_leaves_models_and_the_global_generator_as_they_were(
    outcome, images, model, meter, needs, name, training
):
    members, pictures = members_and_pictures(images, model, 31)
    before = [{key: value.clone() for key, value in member.train(training).state_dict().items()} for member in members]
    state = torch.get_rng_state()
    gathered(outcome, members, pictures, needs, meter, pseudo_label=name)
    assert torch.equal(torch.get_rng_state(), state)
    for member, weights in zip(members, before, strict=True):
        assert all(torch.equal(value, weights[key]) for key, value in member.state_dict().items())
        assert member.training is training
        assert all(p.requires_grad and p.grad is None for p in member.parameters())
        assert all(layer.training is training for layer in member.modules())


def test_a_gathering_that_is_given_up_leaves_the_model_as_it_was_too(images, model):
    for needs in (Features, FisherScores, Uncertainty, Coverage, Supervised, PredictiveInformation):
        network, pictures = model("lenet", seed=32).train(), images(13, seed=32)
        steps = gather(context_of(network, pictures, Meter(torch.device("cpu")), name="trace", batch_size=2), needs)
        next(steps)
        steps.close()
        assert network.training
        assert all(p.requires_grad for p in network.parameters())
        x = torch.zeros(1, *pictures.shape)
        assert torch.equal(network(x), network(x))  # no dropout


class Glimpse(nn.Module):
    """A map of brightness and one of darkness, then a head over their means."""

    def __init__(self) -> None:
        super().__init__()
        self.bright = nn.Identity()
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bright(torch.cat([x, 1 - x], dim=1)).mean(dim=(2, 3)))


def test_a_grid_tells_where_and_an_average_does_not(outcome, meter):
    """Class 0 is bright on the left, class 1 as bright on the right: both have the same average."""
    draws = torch.Generator().manual_seed(0)
    y = torch.arange(80) % 2
    pixels = torch.randint(0, 60, (80, 1, 8, 8), generator=draws)
    pixels[y == 0, :, :, :4] += 150
    pixels[y == 1, :, :, 4:] += 150
    pictures = TensorImages(pixels.to(torch.uint8), y, "ab", mean=(0.5,), std=(0.25,))
    network = Glimpse().requires_grad_(False)
    context = replace(
        context_of(network, pictures, meter, taps=("bright",)),
        open_pool=torch.arange(40),
        labeled=torch.arange(0),
        y=torch.arange(0),
        validation=torch.arange(40, 80),
    )

    def right(name: str) -> float:
        asked = replace(context, config=EvidenceConfig(replace(context.settings, pseudo_label=name)))
        evidence, _ = outcome(gather(asked, FisherScores))
        assert evidence.pool.z["bright"].shape == (40, 2)  # what is matched stays as it is
        return float((evidence.pseudo_labels == y[:40]).double().mean())

    assert right("joint_shift_grid") == 1
    assert right("joint_shift") < 0.8


WITHOUT_GRADIENT = {
    "ecov": Posteriors,
    "noisy_or": WeighedPosteriors,
    "wcov": WeighedPosteriors,
    "tail_first": Posteriors,
}


@pytest.mark.parametrize("matching", list(WITHOUT_GRADIENT))
@pytest.mark.parametrize("name", list(PSEUDO_LABELS))
def test_posteriors_are_the_estimators_and_no_gradient_is_gathered(outcome, images, model, meter, name, matching):
    pictures, network = images(13, seed=40), model("lenet", seed=40)
    evidence, rows = gathered(outcome, network, pictures, WITHOUT_GRADIENT[matching], meter, pseudo_label=name)
    by_gradient, wrong = gathered(outcome, network, pictures, FisherScores, Meter(meter.device), pseudo_label=name)
    assert rows.tolist() == (list(range(6)) if WITHOUT_GRADIENT[matching] is WeighedPosteriors else wrong.tolist())
    for tap in LENET:
        assert_close(evidence.pool.z[tap], by_gradient.pool.z[tap])
    assert evidence.pool.g == evidence.targets.g == {}
    assert torch.equal(evidence.y_t, pictures.labels[VALIDATION[rows]])
    assert torch.equal(evidence.pseudo_labels, by_gradient.pseudo_labels)
    assert torch.equal(evidence.posterior.argmax(dim=1), evidence.pseudo_labels)
    assert_close(evidence.posterior.sum(dim=1), torch.ones(5))
    assert bool((evidence.posterior.amax(dim=1) < 1).all()) is (
        name in ("predicted", "joint_shift", "joint_shift_grid")
    )


@pytest.mark.parametrize("matching", list(WITHOUT_GRADIENT))
@pytest.mark.parametrize("name", list(PSEUDO_LABELS))
def test_passes_without_gradients_are_those_of_the_formula(outcome, images, model, meter, name, matching):
    """LeNet on 8 x 8 images knows no gradient in closed form, so all passes happen."""
    gathered(
        outcome, model("lenet", seed=41), images(13, seed=41), WITHOUT_GRADIENT[matching], meter, pseudo_label=name
    )
    sizes = Sizes(
        unlabeled=5,
        labeled_before=2,
        labeled=3,
        validation=6,
        test=1,
        classes=3,
        epochs=1,
        samples=K,
        members=1,
    )
    assert meter.passes == tuple(BY_MATCHING[matching].cost(name, members=1).passes(sizes))


def test_weights_and_doubts_are_the_models_and_labeled_images_come_with_their_classes(outcome, images, model, meter):
    pictures, network = images(13, seed=42), model("lenet", seed=42)
    evidence, _ = gathered(outcome, network, pictures, WeighedPosteriors, meter)
    parts = (VALIDATION, POOL, LABELED)
    of_validation, *of_others = (at_the_head(network, pictures, part)[0].double() for part in parts)
    p = of_validation.softmax(dim=1)
    assert_close(evidence.weights, 1 - p[torch.arange(6), pictures.labels[VALIDATION]], rtol=1e-4, atol=1e-6)
    for doubt, logits in zip((evidence.doubt, evidence.labeled_doubt), of_others, strict=True):
        best = logits.softmax(dim=1).sort(dim=1, descending=True).values
        assert_close(doubt, 1 - (best[:, 0] - best[:, 1]), rtol=1e-4, atol=1e-6)
    assert_close(evidence.logits.double(), of_others[0], rtol=1e-4, atol=1e-6)
    alone = described(outcome, network, pictures, LABELED, pictures.labels, meter, with_grad=False).descriptors
    for tap in LENET:
        assert_close(evidence.labeled.z[tap], alone.z[tap])
    assert torch.equal(evidence.y, pictures.labels[LABELED])


def test_before_anything_is_labeled_all_weigh_the_same_and_no_labeled_image_is_described(outcome, images, model, meter):
    context = context_of(model("lenet", seed=43), images(13, seed=43), meter)
    evidence, _ = outcome(gather(replace(context, labeled=POOL[:0], y=POOL[:0]), WeighedPosteriors))
    assert evidence.weights.tolist() == [1.0] * 6
    assert evidence.doubt.tolist() == [1.0] * 5
    assert len(evidence.labeled) == len(evidence.y) == len(evidence.labeled_doubt) == 0
    assert evidence.logits is None


def test_weights_of_validation_images_that_were_learned_from_are_cross_fitted(outcome, images, model, meter):
    crossed = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    pictures = images(13, seed=44)
    context = replace(context_of(model("lenet", seed=44), pictures, meter), cross_fitted=crossed)
    evidence, _ = outcome(gather(context, WeighedPosteriors))
    p = crossed.double().softmax(dim=1)
    assert_close(evidence.weights, 1 - p[torch.arange(6), pictures.labels[VALIDATION]])


def test_whitened_posteriors_are_by_features_that_vary_alike(outcome, images, model, meter):
    pictures, network = images(13, seed=45), model("lenet", seed=45)
    evidence, rows = gathered(outcome, network, pictures, WeighedPosteriors, meter, whitening="shrunk")
    known = described(outcome, network, pictures, VALIDATION, pictures.labels, meter, with_grad=False).descriptors
    assert_close(evidence.targets.z, dict(WHITENINGS["shrunk"](known)(known).z))


def test_weighed_scores_are_fisher_scores_of_all_validation_images_with_the_models_opinion(
    outcome, images, model, meter
):
    pictures, network = images(13, seed=46), model("lenet", seed=46)
    evidence, rows = gathered(outcome, network, pictures, WeighedScores, meter, pseudo_label="joint_shift_grid")
    assert rows.tolist() == list(range(6))
    plain, wrong = gathered(
        outcome, network, pictures, FisherScores, Meter(meter.device), pseudo_label="joint_shift_grid"
    )
    for tap in LENET:
        assert_close(evidence.pool.z[tap], plain.pool.z[tap])
        assert_close(evidence.pool.g[tap], plain.pool.g[tap])
        assert_close(evidence.targets.g[tap][wrong], plain.targets.g[tap])
    assert torch.equal(evidence.pseudo_labels, plain.pseudo_labels)
    assert torch.equal(evidence.y_t, pictures.labels[VALIDATION])
    by_posterior, _ = gathered(outcome, network, pictures, WeighedPosteriors, Meter(meter.device))
    assert_close(evidence.weights, by_posterior.weights)
    assert_close(evidence.logits, by_posterior.logits)
    crossed = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    context = context_of(network, pictures, meter)
    other, _ = outcome(gather(replace(context, cross_fitted=crossed), WeighedScores))
    assert_close(other.weights, 1 - crossed.double().softmax(dim=1)[torch.arange(6), pictures.labels[VALIDATION]])
    first, _ = outcome(gather(replace(context, labeled=POOL[:0], y=POOL[:0]), WeighedScores))
    assert first.weights.tolist() == [1.0] * 6 and first.logits is None
