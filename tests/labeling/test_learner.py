"""Keys of a project's trainings: later settings that nobody set are no part of them."""

import pytest

from fkal.config.layers import from_assignments, merged
from fkal.config.schema import digest_of
from fkal.labeling.learner import acquisition_settings, training_settings

OWN = ("data.name=folder", "data.folder=x")
LATER = {
    "data.interpolation": "bicubic",
    "data.decoding": "draft",
    "model.compile": "true",
    "features.precision": "mixed",
    "pretrain.precision": "mixed",
    "train.precision": "mixed",
}


def key(*assignments: str) -> str:
    return digest_of(training_settings(merged([from_assignments([*OWN, *assignments])])))


def test_the_key_is_that_of_the_first_projects():
    """Else each project there is would train its last round again."""
    assert key() == "8c819ba85d950a94aceb2bf14fff920b"


@pytest.mark.parametrize("setting", list(LATER))
def test_a_later_setting_is_in_the_key_once_it_is_set(setting):
    assert key(f"{setting}={LATER[setting]}") != key()


def test_parts_of_a_choice_are_in_the_key_of_simulated_rounds_once_they_are_set():
    unset, in_parts = merged([from_assignments(OWN)]), merged([from_assignments([*OWN, "acquisition.parts=4"])])
    assert acquisition_settings(in_parts) == acquisition_settings(unset) | {"parts": 4}
    assert training_settings(in_parts) == training_settings(unset)  # the batches say what was chosen
