"""Selection on one's own arrays: the same picks as the engine's functions, and messages that say what is missing."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import fkal
from fkal.acquisition.fisher import select_pfk
from fkal.acquisition.noisy_or import select_noisy_or
from fkal.acquisition.registry import ACQUISITIONS
from fkal.acquisition.weighted_coverage import select_wcov_zg
from fkal.core.descriptors import Descriptors, loss_gradient
from fkal.core.evidence import FisherScores, WeighedPosteriors, WeighedScores
from fkal.core.randomness import stream
from fkal.core.softmax import margin, wrongness
from fkal.labeling.arrays import MAKERS, RUN_A_MODEL

N, M, WIDTH, CLASSES = 60, 9, 6, 3


def rows(seed: int, n: int, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def probabilities(seed: int, n: int) -> np.ndarray:
    scores = np.exp(rows(seed, n, CLASSES))
    return scores / scores.sum(axis=1, keepdims=True)


EVERYTHING = {
    "pool": rows(0, N),
    "targets": rows(1, M),
    "pool_gradients": rows(2, N),
    "target_gradients": rows(3, M),
    "target_labels": np.arange(M) % CLASSES,
    "probabilities": probabilities(4, N),
    "target_probabilities": probabilities(5, M),
    "labeled": rows(6, 12),
    "labels": np.arange(12) % CLASSES,
    "labeled_probabilities": probabilities(7, 12),
}
ON_ARRAYS = [
    name
    for name, entry in ACQUISITIONS.items()
    if entry.needs.name in MAKERS and name not in RUN_A_MODEL and entry.has_schedule
]


BY_PROBABILITIES = [
    "pfk_joint_shift_grid:ecov",
    "pfk_joint:ecov",
    "pfk_predicted:noisy_or",
    "pfk_predicted:wcov",
    "pfk_joint_shift:wcov_zg",
    "pfk_joint_shift:noisy_or",
    "pfk_joint_shift_grid:tail_first",
]


@pytest.mark.parametrize("method", [*ON_ARRAYS, "fisher_coverage", "pfk_joint", *BY_PROBABILITIES])
def test_each_method_picks_distinct_rows_and_the_same_ones_again(method):
    picks = fkal.select(**EVERYTHING, n=10, method=method, seed=3)
    again = fkal.select(**EVERYTHING, n=10, method=method, seed=3)
    assert len(set(picks.positions.tolist())) == 10
    assert picks.positions.min() >= 0 and picks.positions.max() < N
    assert picks.positions.tolist() == again.positions.tolist()


@pytest.mark.parametrize("method", ["pcc", "fisher_coverage", "margin", "typiclust"])
def test_numpy_and_torch_arrays_give_the_same_picks(method):
    as_torch = {name: torch.from_numpy(np.array(value)) for name, value in EVERYTHING.items()}
    expected = fkal.select(**EVERYTHING, n=7, method=method)
    assert fkal.select(**as_torch, n=7, method=method).positions.tolist() == expected.positions.tolist()


def test_fisher_coverage_picks_what_its_function_picks_of_the_same_descriptors():
    known = {k: torch.from_numpy(EVERYTHING[k]) for k in ("pool", "targets", "pool_gradients", "target_gradients")}
    pool = Descriptors.of({"a": known["pool"]}, {"a": known["pool_gradients"]})
    targets = Descriptors.of({"a": known["targets"]}, {"a": known["target_gradients"]})
    evidence = FisherScores(pool, targets, torch.zeros(N, dtype=torch.long))
    expected = select_pfk(evidence, 8, stream(0, "select", "arrays"), combine="product", matching="coverage")
    assert fkal.select(**known, n=8).positions.tolist() == expected.positions.tolist()


def test_without_gradients_those_at_the_logits_are_made_of_probabilities():
    few = {k: EVERYTHING[k] for k in ("pool", "targets", "target_labels", "probabilities", "target_probabilities")}
    made = fkal.select(**few, n=8, method="pfk_predicted:coverage")
    p, p_v = (torch.from_numpy(few[k]).double() for k in ("probabilities", "target_probabilities"))
    gradients = loss_gradient(p.log(), p.argmax(dim=1)).float()
    of_targets = loss_gradient(p_v.log(), torch.from_numpy(few["target_labels"])).float()
    given = fkal.select(
        few["pool"],
        few["targets"],
        n=8,
        method="pfk_predicted:coverage",
        pool_gradients=gradients,
        target_gradients=of_targets,
    )
    assert made.positions.tolist() == given.positions.tolist()


def test_matchings_by_class_probabilities_need_no_gradient_and_read_what_is_labeled():
    few = {name: EVERYTHING[name] for name in ("pool", "targets", "target_labels")}
    of_labeled = ("labeled", "labels", "probabilities", "target_probabilities", "labeled_probabilities")
    labeled = {name: EVERYTHING[name] for name in of_labeled}
    for matching in ("ecov", "noisy_or", "wcov", "tail_first"):
        plain = fkal.select(**few, n=8, method=f"pfk_joint:{matching}").positions.tolist()
        assert len(set(plain)) == 8
        steered = fkal.select(**few, **labeled, n=8, method=f"pfk_joint:{matching}").positions.tolist()
        assert (steered == plain) is (matching not in ("noisy_or", "wcov"))


def test_noisy_or_picks_what_its_function_picks_of_the_same_evidence():
    known = {name: torch.from_numpy(np.array(value)) for name, value in EVERYTHING.items()}
    p, p_v = (known[name].double().log() for name in ("probabilities", "target_probabilities"))
    evidence = WeighedPosteriors(
        pool=Descriptors.of({"a": known["pool"]}),
        targets=Descriptors.of({"a": known["targets"]}),
        y_t=known["target_labels"],
        posterior=p.softmax(dim=1).float(),
        pseudo_labels=p.argmax(dim=1),
        prior=None,
        weights=wrongness(p_v, known["target_labels"]),
        doubt=margin(p),
        labeled=Descriptors.of({"a": known["labeled"]}),
        y=known["labels"],
        labeled_doubt=margin(known["labeled_probabilities"].double().log()),
        logits=p,
    )
    expected = select_noisy_or(evidence, 8, stream(0, "select", "arrays"))
    made = fkal.select(**EVERYTHING, n=8, method="pfk_predicted:noisy_or")
    assert made.positions.tolist() == expected.positions.tolist()


def test_weighted_coverage_by_the_kernel_picks_what_its_function_picks_of_the_same_evidence():
    known = {name: torch.from_numpy(np.array(value)) for name, value in EVERYTHING.items()}
    p, p_v = (known[name].double().log() for name in ("probabilities", "target_probabilities"))
    y, y_v = p.argmax(dim=1), known["target_labels"]
    evidence = WeighedScores(
        pool=Descriptors.of({"a": known["pool"]}, {"a": loss_gradient(p, y).float()}),
        targets=Descriptors.of({"a": known["targets"]}, {"a": loss_gradient(p_v, y_v).float()}),
        pseudo_labels=y,
        y_t=y_v,
        weights=wrongness(p_v, y_v),
        logits=p,
    )
    given = {name: rows for name, rows in EVERYTHING.items() if "gradients" not in name}
    made = fkal.select(**given, n=8, method="pfk_predicted:wcov_zg").positions.tolist()
    assert made == select_wcov_zg(evidence, 8, stream(0, "select", "arrays"), combine="product").positions.tolist()
    nothing_labeled = {name: rows for name, rows in given.items() if "labeled" not in name and name != "labels"}
    first = fkal.select(**nothing_labeled, n=8, method="pfk_predicted:wcov_zg").positions.tolist()
    evidence = replace(evidence, weights=torch.ones(len(y_v)).double(), logits=None)
    assert first == select_wcov_zg(evidence, 8, stream(0, "select", "arrays"), combine="product").positions.tolist()


@pytest.mark.parametrize(
    ("method", "given", "missing"),
    [
        ("fisher_coverage", ["targets"], "pool_gradients and target_gradients"),
        ("fisher_coverage", ["targets", "probabilities"], "target_probabilities"),
        ("fisher_coverage", ["targets", "pool_gradients"], "target_gradients"),
        ("pcc", [], "targets"),
        ("margin", [], "probabilities"),
        ("pfk_joint:ecov", ["targets"], "target_labels"),
        ("pfk_joint:noisy_or", ["targets", "target_labels", "labeled", "labels"], "target_probabilities"),
        ("pfk_joint:wcov", ["targets", "target_labels", "labeled", "labels"], "target_probabilities"),
        ("pfk_joint:wcov_zg", ["targets"], "pool_gradients and target_gradients"),
        ("pfk_joint:wcov_zg", ["targets", "pool_gradients", "target_gradients"], "target_labels"),
        ("galaxy", ["probabilities"], "labeled"),
        ("uherding", ["probabilities", "labeled", "labels", "labeled_probabilities"], "target_labels"),
    ],
)
def test_what_a_method_lacks_is_named(method, given, missing):
    with pytest.raises(ValueError, match=missing):
        fkal.select(EVERYTHING["pool"], n=3, method=method, **{name: EVERYTHING[name] for name in given})


@pytest.mark.parametrize("method", ["varr", "vaal", "epig", "base"])
def test_methods_that_run_a_model_refuse_arrays(method):
    with pytest.raises(ValueError, match=r"fkal\.Project"):
        fkal.select(**EVERYTHING, n=3, method=method)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("pool", np.zeros((0, 3)), "no rows"),
        ("pool", np.zeros(3), "2 dimensions"),
        ("pool", np.full((3, 2), np.nan), "NaN"),
        ("pool", "images/", "no array"),
        ("target_labels", np.array([0.5] * M), "whole numbers"),
        ("target_labels", np.array([-1] * M), "whole numbers"),
        ("probabilities", probabilities(1, N - 1), f"{N - 1} rows"),
        ("probabilities", -probabilities(1, N), "class probabilities"),
        ("targets", rows(1, M, WIDTH + 1), f"{WIDTH + 1} numbers and those of pool {WIDTH}"),
        ("labeled", rows(6, 12, WIDTH - 1), "same model and layer"),
        ("target_probabilities", np.ones((M, CLASSES + 1)), f"those of probabilities {CLASSES}"),
        ("labeled_probabilities", np.ones((12, CLASSES - 1)), f"those of probabilities {CLASSES}"),
        ("target_labels", np.arange(M), f"class {M - 1}, but probabilities has {CLASSES} columns"),
        ("labels", np.arange(12) % CLASSES + 1, f"class {CLASSES}, but probabilities has {CLASSES} columns"),
        ("targets", np.full((M, WIDTH), 1e300), "NaN or infinite"),
        ("n", 2.5, "whole number"),
        ("n", 0, "from 1 on"),
        ("parts", 1.5, "whole number"),
        ("parts", 0, "from 1 on"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(name, value, told):
    given = {**EVERYTHING, "pool_gradients": None, "target_gradients": None, "n": 3, name: value}
    with pytest.raises(ValueError, match=told) as refused:
        fkal.select(**given)
    assert name in str(refused.value)


def test_gradients_of_another_width_are_refused():
    with pytest.raises(ValueError, match="target_gradients: its rows have 7 numbers"):
        fkal.select(**{**EVERYTHING, "target_gradients": rows(3, M, 7)}, n=3)


@pytest.mark.parametrize("method", [*ON_ARRAYS, "fisher_coverage", "pfk_joint", *BY_PROBABILITIES])
@pytest.mark.parametrize("names", [["pool"], ["targets", "target_gradients", "labeled"]])
def test_numpys_float64_beside_float32_picks_as_float32_alone(method, names):
    mixed = {**EVERYTHING, **{name: EVERYTHING[name].astype(np.float64) for name in names}}
    found, wanted = (fkal.select(**given, n=5, method=method).positions for given in (mixed, EVERYTHING))
    assert sorted(found.tolist()) == sorted(wanted.tolist())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int64])
def test_classes_may_be_of_any_whole_type(dtype):
    given = {**EVERYTHING, **{name: EVERYTHING[name].astype(dtype) for name in ("target_labels", "labels")}}
    wanted = fkal.select(**EVERYTHING, n=np.int64(5), method="galaxy").positions
    assert fkal.select(**given, n=5, method="galaxy").positions.tolist() == wanted.tolist()


def test_before_the_first_label_labeled_may_be_empty_and_of_any_width():
    given = {**EVERYTHING, "labeled": np.zeros((0, 0)), "labels": np.zeros(0, dtype=int), "labeled_probabilities": None}
    assert len(fkal.select(**given, n=5, method="coreset").positions) == 5


def test_importing_fkal_imports_no_torch():
    program = "import sys, fkal; assert fkal.__version__; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
