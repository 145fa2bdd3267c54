"""A pool that is read in blocks gives the picks of the same pool in memory, to the last one."""

import numpy as np
import pytest
import torch

import fkal
from fkal.acquisition.registry import ACQUISITIONS
from fkal.core.row_stream import RowStream
from fkal.labeling.array_rows import STREAMED, rows_of
from fkal.labeling.arrays import MAKERS, RUN_A_MODEL

N, M, WIDTH, CLASSES = 9_000, 40, 12, 3
ON_ARRAYS = [
    name
    for name, entry in ACQUISITIONS.items()
    if entry.needs.name in MAKERS and name not in RUN_A_MODEL and entry.has_schedule
]
VARIANTS = [
    "fisher_coverage",
    "fisher_coverage:whiten",
    "pfk_joint",
    "pfk_joint_shift:whiten",
    "pfk_predicted:coverage",
    "pfk_joint_shift_grid:ecov",
    "pfk_predicted:noisy_or",
    "pfk_predicted:wcov",
    "pfk_predicted:wcov_zg",
]


def rows(seed: int, n: int, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float16)


def probabilities(seed: int, n: int) -> np.ndarray:
    scores = np.exp(rows(seed, n, CLASSES).astype(np.float32))
    return scores / scores.sum(axis=1, keepdims=True)


EVERYTHING = {
    "pool": rows(0, N),
    "targets": rows(1, M),
    "target_labels": np.arange(M) % CLASSES,
    "probabilities": probabilities(4, N),
    "target_probabilities": probabilities(5, M),
    "labeled": rows(6, 12),
    "labels": np.arange(12) % CLASSES,
    "labeled_probabilities": probabilities(7, 12),
}
GRADIENTS = {"pool_gradients": rows(2, N), "target_gradients": rows(3, M)}


def mapped(folder, given):
    """The arguments, those of pool rows as read-only files."""

    def file(name):
        np.save(folder / f"{name}.npy", given[name])
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    return {name: file(name) if name in STREAMED else value for name, value in given.items()}


def picked(given, method, n=25, **options):
    picks = fkal.select(**given, n=n, method=method, seed=3, **options)
    return {name: value.tolist() for name, value in vars(picks).items() if value is not None}


@pytest.mark.parametrize("method", [*ON_ARRAYS, *VARIANTS])
@pytest.mark.parametrize("gradients", [{}, GRADIENTS], ids=["no gradients", "gradients"])
def test_a_streamed_file_gives_the_picks_of_the_array(method, gradients, tmp_path):
    given = EVERYTHING | gradients
    whole, streamed = picked(given, method), picked(mapped(tmp_path, given), method, stream_above_gb=0)
    for name in ("positions", "ranks", "targets"):
        assert streamed.get(name) == whole.get(name)
    torch.testing.assert_close(torch.tensor(streamed.get("scores", [])), torch.tensor(whole.get("scores", [])))


@pytest.mark.parametrize("method", ["fisher_coverage", "pfk_joint", "pcc"])
def test_more_targets_than_picks_and_fewer_stream_alike(method, tmp_path):
    for n in (5, 60):
        streamed = picked(mapped(tmp_path, EVERYTHING), method, n, stream_above_gb=0)
        assert streamed["positions"] == picked(EVERYTHING, method, n)["positions"]


def test_core_set_streams_while_nothing_is_labeled(tmp_path):
    few = {"pool": EVERYTHING["pool"]}
    assert picked(mapped(tmp_path, few), "coreset", stream_above_gb=0) == picked(few, "coreset")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fisher_coverage", "coreset", "gcmi"])
def test_tensors_of_any_precision_stream_as_arrays_do(method):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        features = {name: torch.from_numpy(EVERYTHING[name]).to(dtype) for name in ("pool", "targets", "labeled")}
        given = EVERYTHING | features
        assert picked(given, method, stream_above_gb=0)["positions"] == picked(given, method)["positions"]


@pytest.mark.parametrize("method", ["coreset", "fisher_coverage", "flqmi"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused_wherever_it_is(method, value, tmp_path):
    pool = EVERYTHING["pool"].copy()
    pool[N - 1, 2] = value
    with pytest.raises(ValueError, match=r"pool: a value is NaN or infinite"):
        picked(mapped(tmp_path, EVERYTHING | {"pool": pool}), method, stream_above_gb=0)


def test_lengths_that_do_not_fit_are_refused_without_reading_the_file(tmp_path):
    given = mapped(tmp_path, EVERYTHING | {"probabilities": EVERYTHING["probabilities"][1:]})
    with pytest.raises(ValueError, match=f"probabilities has {N - 1} rows and pool {N}"):
        picked(given, "margin", stream_above_gb=0)


def test_the_bound_counts_half_precision_as_float32():
    size = N * WIDTH * 4 / 1e9
    pool = EVERYTHING["pool"]
    assert isinstance(rows_of("pool", pool, stream_above_gb=size), torch.Tensor)
    assert isinstance(rows_of("pool", pool, stream_above_gb=0.99 * size), RowStream)


IN_PARTS = ["fisher_coverage", "pfk_joint:coverage", "pfk_joint_shift_grid:ecov", "flqmi"]


@pytest.mark.parametrize("method", IN_PARTS)
def test_a_streamed_file_is_chosen_from_in_parts_as_the_array_is(method, tmp_path):
    given = EVERYTHING | GRADIENTS
    whole = picked(given, method, parts=3)
    streamed = picked(mapped(tmp_path, given), method, stream_above_gb=0, parts=3)
    assert streamed["positions"] == whole["positions"]
    assert len(set(whole["positions"])) == 25


@pytest.mark.parametrize("method", ["pcc", "pfk_joint", "pfk_joint_shift_grid:transport"])
@pytest.mark.parametrize("above", [0, 2])
def test_what_rests_on_best_matches_is_the_same_in_parts(method, above, tmp_path):
    given = mapped(tmp_path, EVERYTHING | GRADIENTS)
    whole = picked(given, method, stream_above_gb=above)
    assert picked(given, method, stream_above_gb=above, parts=3) == whole


def test_one_part_is_the_whole_pool():
    given = EVERYTHING | GRADIENTS
    assert picked(given, "fisher_coverage", parts=1) == picked(given, "fisher_coverage")
