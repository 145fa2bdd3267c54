"""Frozen runs end to end on digits: one pass per image, a head on embeddings, own embeddings, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.config.schema import Config, ConfigError
from fkal.core.randomness import stream
from fkal.engine.embedding import Embedding
from fkal.engine.metering import Meter
from fkal.engine.rounds import Round
from fkal.experiment.backbone import as_embeddings
from fkal.experiment.experiment import Experiment, prepare
from fkal.runner.cost import bill_of

MODEL = "shufflenet_v2_x0_5"
CHOSEN = {
    "device": "cpu",
    "train.layers": "frozen",
    "train.loss": "class_balanced",
    "data.image_size": 32,
    "features.pca": 32,
    "acquisition.rounds": 3,
    "acquisition.name": "pcc",
}


def saved_weights(file: Path, seed: int = 0) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torchvision.models.get_model(MODEL)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return file


def configured(**settings) -> Config:
    values = [f"{key}={value}" for key, value in {**CHOSEN, **settings}.items()]
    return merged([from_file(preset("digits"), "digits"), from_assignments(values)])


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    saved_weights(folder / "w.safetensors")
    return folder


def prepared(place: Path, **settings) -> Experiment:
    """With the weights of a file that was drawn at random."""
    model = {"model.name": f"torchvision:{MODEL}", "model.weights": place / "w.safetensors"}
    return prepare(configured(**{**model, **settings}), place, [].append)


def rounds_of(experiment: Experiment) -> list[Round]:
    return [event for event in experiment.events() if isinstance(event, Round)]


@pytest.fixture(scope="module")
def finished(place) -> tuple[Experiment, list[Round]]:
    experiment = prepared(place)
    return experiment, rounds_of(experiment)


def test_the_first_round_counts_each_image_once_and_later_rounds_none(finished):
    experiment, rounds = finished
    known = len(experiment.split.pool) + len(experiment.split.validation)
    assert rounds[0].forward_images == {"descriptors": known, "evaluate": len(experiment.split.test)}
    assert [dict(each.forward_images) for each in rounds[1:]] == [{}, {}]
    assert [dict(each.backward_images) for each in rounds] == [{}, {}, {}]


@pytest.mark.slow
def test_rows_beyond_the_bound_of_memory_change_neither_fingerprint_nor_picks(place, finished, monkeypatch):
    monkeypatch.setenv("FKAL_MEMORY_GB", "1e-9")
    pfk = {"acquisition.name": "pfk", "acquisition.pseudo_label": "joint_shift_grid"}
    for settings in ({}, pfk, {**pfk, "acquisition.matching": "coverage", "acquisition.parts": 5}):
        streamed = prepared(place, **settings)
        monkeypatch.delenv("FKAL_MEMORY_GB")
        whole = prepared(place, **settings)
        assert streamed.bound.gb == 1e-9 and streamed.fingerprint == whole.fingerprint
        for one, other in zip(rounds_of(whole), rounds_of(streamed), strict=True):
            assert other.selection.indices.tolist() == one.selection.indices.tolist()
            assert other.metrics == one.metrics
        monkeypatch.setenv("FKAL_MEMORY_GB", "1e-9")


def test_the_bill_of_a_frozen_run_expects_what_was_counted(finished, place):
    bill = bill_of(finished[0], place, print)
    expected = [each.figures["acquisition"].expected.forward for each in bill.iterations]
    assert expected == [finished[1][0].forward_images["descriptors"], 0, 0]


def test_later_rounds_call_no_backbone(finished, place):
    experiment = prepared(place)
    calls: list[int] = []
    embedder = experiment.backbone.embedder
    handle = embedder.register_forward_hook(lambda *_: calls.append(1))
    try:
        again = rounds_of(experiment)
    finally:
        handle.remove()
    assert not calls
    for one, other in zip(finished[1], again, strict=True):
        assert one.selection.indices.equal(other.selection.indices)


@pytest.mark.slow
def test_another_seed_embeds_only_what_no_seed_had(finished, place):
    folder = finished[0].embedding_files().path
    before = len(list(folder.glob("*.safetensors")))
    other = prepared(place, seed=1)
    rounds_of(other)
    assert other.embedding_files().path == folder
    assert len(list(folder.glob("*.safetensors"))) == before + 1


def test_before_the_first_label_all_validation_images_are_targets(finished):
    experiment, rounds = finished
    targets = [each.metrics["select/targets"] for each in rounds]
    assert targets[0] == len(experiment.split.validation)
    assert targets[1] < targets[0]


@pytest.mark.parametrize("method", ["flqmi", "coreset", "typiclust", "margin", "badge", "bald"])
def test_methods_of_each_kind_pick_and_learn(place, method):
    (first, *_) = rounds_of(prepared(place, **{"acquisition.name": method, "acquisition.rounds": 1}))
    assert len(first.selection.indices.unique()) == 20


def test_what_needs_predictions_first_picks_at_random(place):
    picks = [
        rounds_of(prepared(place, **{"acquisition.name": name, "acquisition.rounds": 1}))[0].selection.indices
        for name in ("random", "margin")
    ]
    assert picks[0].equal(picks[1])


@pytest.mark.slow
@pytest.mark.parametrize("label", ["joint", "joint_zg", "joint_shift_grid", "predicted"])
def test_labels_of_each_kind_are_estimated_from_embeddings(place, label):
    chosen = {"acquisition.name": "pfk", "acquisition.pseudo_label": label, "acquisition.rounds": 2}
    for each in rounds_of(prepared(place, **chosen)):
        assert each.selection.pseudo_labels is not None


def test_the_loadable_model_predicts_by_raw_embeddings_as_the_head_does(finished):
    experiment, rounds = finished
    model, weights, examples = experiment.loadable(rounds[-1].weights, 5)
    model.load_state_dict(dict(weights))
    seen = _result(experiment.embedded()).problem
    rows = seen.train.rows(experiment.split.validation[:5])
    expected = rows @ rounds[-1].weights["head.weight"].T + rounds[-1].weights["head.bias"]
    torch.testing.assert_close(model(examples), expected, atol=1e-3, rtol=1e-3)


def test_own_embeddings_give_the_picks_of_computed_ones(finished, place, tmp_path):
    experiment, rounds = finished
    embedding = Embedding(experiment.backbone.embedder, Meter(torch.device("cpu")), experiment.embedding_files())
    parts = {"train": experiment.dataset.train, "test": experiment.dataset.test}
    rows = {name: _result(embedding.rows(part, torch.arange(len(part)), what=name)) for name, part in parts.items()}
    np.savez(
        tmp_path / "digits.npz",
        features=torch.cat([*rows.values()]).numpy(),
        ids=[f"{name}/{i}" for name, part in parts.items() for i in range(len(part))],
        labels=torch.cat([part.labels for part in parts.values()]).numpy(),
        parts=[name for name, part in parts.items() for _ in range(len(part))],
    )
    of_file = configured(
        **{"data.name": "embeddings", "data.embeddings": tmp_path / "digits.npz", "model.name": "linear"}
    )
    with pytest.raises(ConfigError, match=r"data\.image_size = 32: own embeddings"):
        prepare(of_file, tmp_path, [].append)
    own = prepare(as_embeddings(of_file), tmp_path, [].append)
    found = rounds_of(own)
    for one, other in zip(rounds, found, strict=True):
        assert one.selection.indices.equal(other.selection.indices)
        assert one.metrics["test/accuracy"] == other.metrics["test/accuracy"]
    assert not found[0].forward_images


def test_the_fingerprint_knows_the_weights_and_not_their_place(place, tmp_path):
    same, other = tmp_path / "copy.safetensors", saved_weights(tmp_path / "other.safetensors", seed=1)
    same.write_bytes((place / "w.safetensors").read_bytes())
    prints = [prepared(place, **{"model.weights": file}).fingerprint for file in (place / "w.safetensors", same, other)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.slow
def test_the_feature_check_is_said_once_with_its_figure(place):
    said: list[str] = []
    model = {"model.name": f"torchvision:{MODEL}", "model.weights": place / "w.safetensors", "seed": 7}
    experiment = prepare(configured(**{**model, "acquisition.rounds": 1}), place, said.append)
    rounds_of(experiment)
    rounds_of(experiment)
    checks = [line for line in said if line.startswith("feature check of digits seed 7")]
    assert len(checks) == 1 and "balanced accuracy (5 folds)" in checks[0]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model.weights": "null"}, "random weights"),
        ({"acquisition.name": "vaal"}, "trains on images"),
        ({"acquisition.name": "pfk", "acquisition.pseudo_label": "trace"}, "turns images"),
        ({"acquisition.name": "varr", "acquisition.ensemble": 2}, "all the same"),
        ({"epoch": "best_on_test"}, "no epochs"),
        ({"acquisition.taps": "[layer4]"}, "no layer 'layer4'"),
        ({"train.layers": "all"}, "only a frozen embedding is reduced"),
        ({"features.tokens": "cls"}, "no tokens"),
    ],
)
def test_what_has_no_meaning_in_a_frozen_run_is_refused(place, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        prepared(place, **settings)


def test_pretrained_weights_train_whole_as_well(place):
    settings = {"train.layers": "all", "features.pca": "null", "acquisition.rounds": 1, "train.epochs": 1}
    experiment = prepared(place, **{**settings, "acquisition.name": "random"})
    assert experiment.config.acquisition.taps == ("stage3", "stage4")
    (only,) = rounds_of(experiment)
    assert only.weights["conv1.0.weight"].shape[1] == 3  # the stem of the file, for three channels
    drawn = stream(0, "init").initial_seed()
    assert drawn and "pretrain" not in {key.partition(".")[0] for key in experiment.read_params}


def _result(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


class InTurn:
    """An `Elsewhere` in this process, with files of 256 embeddings."""

    def __init__(self, again: Experiment) -> None:
        self._again = again
        self.made: list[tuple[str, int, int]] = []

    def embeddings(self, part, indices, first):
        for number, rows in enumerate(indices.split(256), start=first):
            self.made.append((part, number, len(rows)))
            yield from self._again.embedding_shard(part, rows, number)


def test_embeddings_made_elsewhere_are_those_made_here_and_made_once(place, tmp_path):
    model = {"model.weights": place / "w.safetensors", "model.name": f"torchvision:{MODEL}"}
    here, there = prepare(configured(**model), tmp_path / "here", [].append), tmp_path / "there"
    elsewhere = InTurn(prepare(configured(**model), there, [].append))
    away = replace(prepare(configured(**model), there, [].append), elsewhere=elsewhere)
    found, made = (run_to_end(each.embedded()).problem for each in (here, away))
    known = torch.cat([here.split.pool, here.split.validation])
    assert torch.equal(found.train.rows(known), made.train.rows(known))
    assert torch.equal(found.test_images.rows(found.test), made.test_images.rows(made.test))
    assert {part for part, _, _ in elsewhere.made} == {"train", "test"}
    assert sum(n for _, _, n in elsewhere.made) == len(known) + len(here.split.test)
    again = InTurn(elsewhere._again)
    run_to_end(replace(prepare(configured(**model), there, [].append), elsewhere=again).embedded())
    assert again.made == []


def run_to_end(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
