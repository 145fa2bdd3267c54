"""What `fkal status` says of a project."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from fkal.errors import ConfigError
from fkal.labeling.intervals import Interval, paired_gain
from fkal.labeling.label_store import LabelRow, LabelStore, now
from fkal.labeling.rounds import SelectOptions, audit, next_, select, train
from fkal.labeling.status import advice, status
from fkal.labeling.trainings import trainings
from fkal.notify import PLAIN, Display


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


@pytest.mark.parametrize("backbone", [False, True], ids=["from scratch", "frozen"])
def test_validation_images_that_are_trained_on_count_by_models_that_were_not_trained_on_them(signs, weights, backbone):
    made = signs(backbone=weights if backbone else "")
    made.answer(select(made.project).batch)
    train(made.again(), ["train.on_validation=true"])
    said, (last,) = status(made.again()), trainings(made.again())
    assert said.on_validation
    assert said.curve[-1].validation.value == pytest.approx(last.metrics["val/accuracy"])
    assert said.balanced == last.metrics["val/macro_accuracy"]


def test_a_frozen_model_is_held_to_a_head_on_the_validation_images_alone(signs, weights, monkeypatch):
    made = signs(backbone=weights)
    told = []
    monkeypatch.setattr("fkal.experiment.experiment.NOTES_SAID", set())  # what this process said before
    made.answer(select(made.project, display=Display(told.append, PLAIN.one, PLAIN.many)).batch)
    train(made.again())
    said = status(made.again())
    assert not said.on_validation
    assert said.validation_alone is not None
    (line,) = [each for each in told if "feature check" in each]
    assert f"has {100 * said.validation_alone:.1f} % balanced accuracy" in line
    assert said.tree["validation_alone"] == said.validation_alone


def test_a_network_that_learns_is_not_held_to_it(signs):
    made = signs()
    made.answer(select(made.project).batch)
    train(made.again())
    assert status(made.again()).validation_alone is None


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
    last = batch.images[5]
    rows = [
        LabelRow(last.path, last.digest, other, source="init"),
        LabelRow(last.path, last.digest, other, annotator="bob"),
    ]
    LabelStore(made.project.folder).append(rows)
    assert status(made.again()).between_people == (1, 2), "a label that came with init is nobody's"


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


def test_advice_says_where_validation_images_are_too_few_to_show_a_small_gain():
    for images, too_few in ((60, True), (380, True), (381, False), (1000, False)):
        same = paired_gain([True] * images, [True] * images)
        said = advice([same, same], images)
        assert said.do == ("go on" if too_few else "stop")
        assert (f"{images} validation images are too few" in said.why) is too_few


@pytest.fixture(scope="module")
def once_trained(tmp_path_factory, made_signs):
    """A project after its first training, for tests that damage a copy of it."""
    made = made_signs(tmp_path_factory.mktemp("trained"))
    made.answer(select(made.project).batch)
    train(made.again())
    return made


@pytest.mark.parametrize(
    ("place", "value", "part"),
    [
        (("facts", "validation_right"), 5, "facts.validation_right"),
        (("facts", "validation_right"), "12x", "facts.validation_right"),
        (("facts", "validation_right"), ["1"], "facts.validation_right"),
        (("facts", "validation_right"), "", "facts.validation_right"),
        (("facts", "validation_alone"), "x", "facts.validation_alone"),
        (("facts", "validation_alone"), 1.5, "facts.validation_alone"),
        (("facts", "mix"), [1], "facts.mix"),
        (("facts", "mix"), None, "facts.mix"),
        (("facts", "mix"), {"a": "x"}, "facts.mix.a"),
        (("facts", "mix"), {"a": None}, "facts.mix.a"),
        (("facts", "mix"), {"a": float("nan")}, "facts.mix.a"),
        (("facts", "dedup"), [], "facts.dedup"),
        (("facts", "dedup"), {}, "facts.dedup.similarity"),
        (("facts", "dedup"), {"similarity": "x", "left_out": 1}, "facts.dedup.similarity"),
        (("facts", "test_images"), "x", "facts.test_images"),
        (("facts", "test_images"), -5, "facts.test_images"),
        (("facts",), [["a", "b"]], "facts"),
        (("classes",), "abc", "classes"),
        (("classes",), [1], "classes.0"),
        (("classes",), [], "classes"),
        (("round",), 3, "round"),
        (("round", "labels_used"), "6", "changed after it was written"),
        (("time",), None, "time"),
        (("time",), "\x1b]0;x\x07", "time"),
        (("made_of",), None, "made_of"),
        (("nosuch",), 1, "nosuch"),
    ],
)
def test_a_damaged_training_is_named_with_what_is_wrong_and_the_way_out(once_trained, place, value, part):
    path = once_trained.project.rounds_path / "01" / "trained.json"
    whole = path.read_bytes()
    document = json.loads(whole)
    inner = document
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    try:
        path.write_text(json.dumps(document))
        with pytest.raises(ConfigError) as refused:
            status(once_trained.again())
    finally:
        path.write_bytes(whole)
    message = str(refused.value)
    assert message.startswith(f"{path}: is not what fkal wrote (") and part in message
    assert message.endswith("remove it and run fkal train") and "\n" not in message and "\x1b" not in message


@pytest.mark.parametrize("left", [0, 1])
def test_classes_that_the_model_knows_and_the_file_has_no_more_are_named(once_trained, left):
    path = once_trained.project.classes_path
    whole = path.read_bytes()
    try:
        path.write_text("".join(f"{name}\n" for name in once_trained.project.classes[:left]))
        with pytest.raises(ConfigError, match=rf"classes.txt: line {left + 1} is missing, and was "):
            status(once_trained.again())
    finally:
        path.write_bytes(whole)


def test_a_training_of_another_round_is_refused(once_trained):
    path = once_trained.project.rounds_path / "01" / "trained.json"
    path.parent.with_name("02").mkdir()
    try:
        path.parent.with_name("02").joinpath("trained.json").write_bytes(path.read_bytes())
        with pytest.raises(ConfigError, match=r"is of round 1; give its folder that number"):
            status(once_trained.again())
    finally:
        path.parent.with_name("02").joinpath("trained.json").unlink()
        path.parent.with_name("02").rmdir()


def test_a_status_needs_no_torch(signs):
    made = signs(n=6)
    program = (
        "import sys; from pathlib import Path; from fkal.labeling.project import Project; "
        "from fkal.labeling.status import status; status(Project.open(Path(sys.argv[1]))); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(made.project.folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
