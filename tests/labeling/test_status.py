"""What `fkal status` says of a project."""

import json
from dataclasses import replace

import pytest

from fkal.labeling.intervals import Interval
from fkal.labeling.label_store import LabelRow, LabelStore, now
from fkal.labeling.rounds import SelectOptions, audit, next_, select, train
from fkal.labeling.status import advice, status
from fkal.labeling.trainings import trainings


def test_a_new_project_has_nothing_to_say_yet(signs):
    said = status(signs().project)
    assert (said.pool, said.validation, said.labeled, said.curve) == (48, 18, 0, ())
    assert said.gain is None and said.forecast is None and said.audit is None
    assert said.advice.do == "go on"
    assert said.next_labels == 6


def test_labels_seconds_curve_and_classes_are_those_of_the_files(signs):
    made = signs()
    made.answer(select(made.project).batch)
    asked = next_(made.again())[1]
    made.answer(asked.batch)
    train(made.again())
    said = status(made.again())
    assert (said.labeled, said.seconds) == (12, 24.0)
    assert [(each.round, each.labels) for each in said.curve] == [(1, 6), (2, 12)]
    last = trainings(made.again())[-1]
    assert said.curve[-1].validation.value == pytest.approx(last.metrics["val/accuracy"])
    assert said.curve[-1].validation.low < said.curve[-1].validation.value < said.curve[-1].validation.high
    assert said.gain is not None
    assert said.gain.value == pytest.approx(said.curve[1].validation.value - said.curve[0].validation.value)
    assert said.labeled_counts == {
        name: n
        for name in made.project.classes
        if (n := last.round["labeled_counts"][made.project.classes.index(name)])
    }
    assert sum(said.pool_mix.values()) == pytest.approx(1)
    assert said.validation_mix == pytest.approx(dict.fromkeys(made.project.classes, 1 / 3))
    guessed = [image for image in asked.batch.images if image.guess]
    right = sum(image.guess == made.truth[image.path] for image in guessed)
    assert said.with_guesses.of >= len(guessed) and said.with_guesses.same >= right
    assert json.loads(json.dumps(said.tree))["curve"][1]["labels"] == 12


def test_with_a_test_set_its_accuracy_has_an_interval_too(signs):
    made = signs(test=9)
    made.answer(select(made.project).batch)
    train(made.again())
    point = status(made.again()).curve[0]
    assert point.test is not None
    assert point.test.value == pytest.approx(trainings(made.again())[0].metrics["test/accuracy"])


def test_an_audit_is_counted_by_what_the_model_took_its_images_for(signs):
    made = signs()
    made.answer(select(made.project).batch)
    train(made.again())
    batch = audit(made.again(), 10).batch
    assert status(made.again()).audit is None
    made.answer(batch)
    said = status(made.again())
    guesses = batch.request.facts["guesses"]
    right = sum(guesses[image.digest] == made.truth[image.path] for image in batch.images)
    assert said.audit is not None and said.audit.value == pytest.approx(right / 10)
    assert said.audit_round == 1
    train(made.again())
    assert status(made.again()).audit == said.audit


def test_open_batches_and_people_who_disagree_are_counted(signs):
    made = signs()
    batch = select(made.project).batch
    made.answer(replace(batch, images=batch.images[:4]))
    said = status(made.again())
    assert [(each.kind, each.images, each.missing) for each in said.batches] == [("select", 6, 2)]
    image = batch.images[0]
    other = next(name for name in made.project.classes if name != made.truth[image.path])
    LabelStore(made.project.folder).append(
        [
            LabelRow(image.path, image.digest, other, annotator="bob", time=now()),
            LabelRow(batch.images[1].path, batch.images[1].digest, made.truth[batch.images[1].path], annotator="bob"),
        ]
    )
    assert status(made.again()).between_people == (1, 2)


def test_a_forecast_needs_four_rounds(signs):
    made = signs(settings="")
    asked = select(made.project, SelectOptions(method="random"))
    for _ in range(4):
        made.answer(asked.batch)
        _, asked = next_(made.again(), SelectOptions(method="random"))
    said = status(made.again())
    assert len(said.curve) == 4
    errors = [1 - each.validation.value for each in said.curve]
    if said.forecast is not None:
        assert said.forecast.low <= said.forecast.value <= said.forecast.high
        assert min(errors) > 0


def test_advice_names_its_rule_and_stops_after_two_small_gains():
    small, large = Interval(0.001, -0.004, 0.006), Interval(0.02, 0.0, 0.04)
    assert advice([small]).do == "go on"
    assert advice([large, small]).do == "go on"
    assert advice([large, small, small]).do == "stop"
    assert "percentage point" in advice([small, small]).rule
