"""Tuned files: written, read back as a layer, and distrusted."""

from pathlib import Path

import pytest

from fkal.config.layers import Layer, merged
from fkal.config.schema import Config, ConfigError
from fkal.config.tuned import HandMade, read_tuned, refuse_hand_made, tuned_layer, tuned_path, write_tuned

VALUES = {"train.batch_size": 12, "acquisition.taps": ["conv1"]}
STUDY = {
    "name": "digits-ir20-pfk_joint-01234567",
    "objective": "aubc",
    "value": 0.8,
    "default": 0.7,
    "seeds": [0, 1],
    "trials": 30,
    "holdout": 6,
    "applied": True,
    "over": {"train.batch_size": 20, "acquisition.taps": ["conv1", "conv2", "fc1"]},
}
BASE = {"train": {"batch_size": 20}, "acquisition": {"taps": ["conv1", "conv2", "fc1"]}}


@pytest.fixture
def path(tmp_path) -> Path:
    path = tuned_path(tmp_path, "digits")
    write_tuned(path, VALUES, STUDY)
    return path


def layer(path: Path, base: dict = BASE, said: list[str] | None = None) -> Layer:
    return tuned_layer(base, path.stem, path.parent, (said if said is not None else []).append)


def test_what_was_written_is_read_back_and_not_taken_for_edited(path):
    tuned = read_tuned(path)
    assert tuned.values == VALUES and tuned.study is not None and tuned.study.over == STUDY["over"]
    assert not tuned.is_edited
    refuse_hand_made(path)


def test_an_applied_file_is_a_layer_over_the_params_file(path):
    config = merged([Layer("params.yaml", BASE), layer(path)])
    assert (config.train.batch_size, config.acquisition.taps) == (12, ("conv1",))


def test_a_file_that_is_not_applied_changes_nothing(tmp_path):
    path = tuned_path(tmp_path, "digits")
    write_tuned(path, VALUES, {**STUDY, "applied": False})
    assert layer(path).values == {}
    assert tuned_layer(BASE, "mnist", tmp_path, print).values == {}


def test_a_value_set_by_hand_since_is_kept_and_this_is_said(path):
    said: list[str] = []
    since = {"train": {"batch_size": 25}, "acquisition": BASE["acquisition"]}
    assert layer(path, since, said).values == {"acquisition": {"taps": ["conv1"]}}
    assert len(said) == 1 and "train.batch_size = 12 is left out, since 25" in said[0]


def test_a_key_that_the_params_file_leaves_out_stands_for_its_default(path):
    assert Config().train.batch_size != 20
    assert "train" not in layer(path, {"acquisition": BASE["acquisition"]}).values


def test_to_apply_by_hand_is_no_edit_but_another_value_is(path):
    path.write_text(path.read_text().replace("applied: true", "applied: false"))
    assert not read_tuned(path).is_edited
    path.write_text(path.read_text().replace("batch_size: 12", "batch_size: 13"))
    assert read_tuned(path).is_edited
    with pytest.raises(HandMade, match="edited since its study; move it away, or replace it with --force"):
        refuse_hand_made(path)


def test_a_file_made_by_hand_is_read_and_not_replaced(tmp_path):
    path = tuned_path(tmp_path, "digits")
    path.write_text("train: {lr: 0.2}\n")
    assert layer(path).values == {"train": {"lr": 0.2}}
    with pytest.raises(HandMade, match="made by hand"):
        refuse_hand_made(path)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("batch_size: 12", "batchsize: 12", "train.batchsize: unknown key; did you mean 'batch_size'"),
        ("\ntrain:", "\ntrian:", "'trian' is no section with values; did you mean 'train'"),
        ("trials: 30", "trials: many", "study.trials: input should be a valid integer"),
        ("  holdout: 6\n", "", "study.holdout: field required"),
        ("    train.batch_size: 20\n", "", "study.over and the values differ in train.batch_size"),
        ("value: 0.8", "value: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("objective: aubc", "objective: [", "not valid YAML"),
        ("trials: 30", "trials: 30\n  trials: 31", "stands twice"),
    ],
)
def test_a_file_that_no_study_wrote_is_refused_with_its_name(path, before, after, words):
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ConfigError) as refusal:
        layer(path)
    assert str(path) in str(refusal.value) and words in str(refusal.value)


@pytest.mark.parametrize("dataset", ["../digits", "/digits", "..", "", ".digits"])
def test_a_tuned_file_has_the_name_of_a_dataset(tmp_path, dataset):
    with pytest.raises(ValueError, match="name of a dataset"):
        tuned_path(tmp_path / "tuned", dataset)


SOURCE = "0123456789abcdef" * 2


@pytest.fixture
def sourced(tmp_path) -> Path:
    """A file whose study had these images."""
    path = tuned_path(tmp_path, "digits")
    write_tuned(path, VALUES, {**STUDY, "source": SOURCE})
    return path


@pytest.mark.parametrize("here", [SOURCE, ""])
def test_values_are_applied_to_the_images_of_their_study_and_to_images_that_are_not_here_yet(sourced, here):
    assert tuned_layer(BASE, "digits", sourced.parent, print, lambda: here).values["train"] == {"batch_size": 12}


def test_values_are_not_applied_to_other_images_and_this_is_said_with_the_way_out(sourced, said):
    assert tuned_layer(BASE, "digits", sourced.parent, said.append, lambda: "f" * 32).values == {}
    assert len(said) == 1 and "other images" in said[0] and "fkal tune --dataset digits" in said[0]


def test_without_its_source_a_file_is_applied_to_any_images(sourced, said):
    sourced.write_text(sourced.read_text().replace(f"  source: {SOURCE}\n", ""))
    assert tuned_layer(BASE, "digits", sourced.parent, said.append, lambda: "f" * 32).values
    assert len(said) == 1 and "edited since its study" in said[0]


def test_a_file_of_an_earlier_version_has_no_source_and_is_not_taken_for_edited(path, said):
    assert read_tuned(path).study.source is None and not read_tuned(path).is_edited
    assert tuned_layer(BASE, "digits", path.parent, said.append, lambda: "f" * 32).values and not said


def test_the_images_are_not_looked_at_where_no_study_names_any(path):
    def refused() -> str:
        raise AssertionError("the images were read")

    tuned_layer(BASE, "digits", path.parent, print, refused)
