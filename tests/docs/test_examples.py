"""Docstrings of what users call: Args, Returns and Raises as the function has them, and examples that hold."""

import doctest
import importlib
import inspect
import re

import pytest

CALLED = {
    "fkal.config.layers": ["load", "preset", "presets"],
    "fkal.config.schema": ["Config"],
    "fkal.experiment.experiment": ["prepare", "prepare_split", "Experiment.events"],
    "fkal.data.datasets": ["load"],
    "fkal.data.splits": ["draw_split", "read_split", "write_split"],
    "fkal.models.registry": ["build"],
    "fkal.core.descriptors": ["pooled", "standardised", "loss_gradient", "Descriptors.of"],
    "fkal.core.kernels": [
        "r_z",
        "r_g",
        "r_zg_product",
        "r_zg_product_of_sums",
        "r_zg_sum",
        "top_matches",
        "merged_matches",
        "closest",
    ],
    "fkal.core.pseudo_labels": ["true", "predicted", "joint", "joint_shift", "trace", "mutual_information"],
    "fkal.core.uncertainty": ["variation_ratio", "entropy", "mutual_information", "mean_std", "uncertainty"],
    "fkal.core.picks": ["largest", "best_distinct"],
    "fkal.core.partitioned_cover": ["partitioned_cover"],
    "fkal.core.partitioned_matches": ["partitioned_matches"],
    "fkal.core.centers": ["k_center"],
    "fkal.core.facility_location": ["facility_location"],
    "fkal.acquisition.fisher": ["select_pcc", "select_pfk"],
    "fkal.acquisition.uncertainty": ["select_variation_ratio", "select_entropy", "select_bald", "select_mean_std"],
    "fkal.acquisition.confidence": ["select_least_confidence", "select_margin", "select_entropy"],
    "fkal.acquisition.coreset": ["select"],
    "fkal.acquisition.random": ["select"],
    "fkal.acquisition.badge": ["select"],
    "fkal.acquisition.registry": ["acquisition"],
    "fkal.report.load.local": ["from_runs"],
    "fkal.report.load.pipeline": ["from_pipeline"],
    "fkal.report.load.mlflow": ["from_mlflow"],
    "fkal.report.load.csv": ["from_curves"],
}
"""What a notebook calls, by module."""


def called(module, name):
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in CALLED.items() for name in names])
def test_the_docstring_names_every_argument(module, name):
    function = called(module, name)
    if inspect.isclass(function):
        return
    text = inspect.getdoc(function)
    named = re.findall(r"^    (\w+): ", text.partition("Args:")[2].partition("\n\n")[0], flags=re.MULTILINE)
    assert named == [each for each in inspect.signature(function).parameters if each != "self"]


@pytest.mark.parametrize("module", sorted(CALLED))
def test_the_examples_of_a_module_hold(module, monkeypatch):
    found = importlib.import_module(module)
    runner, out = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE), []
    for test in doctest.DocTestFinder(exclude_empty=True).find(found, module):
        runner.run(test, out=out.append)
    assert runner.failures == 0, "".join(out)


def test_most_of_what_users_call_has_an_example():
    texts = [inspect.getdoc(called(module, name)) for module, names in CALLED.items() for name in names]
    assert sum(">>>" in text for text in texts) > len(texts) / 2
