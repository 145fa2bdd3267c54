"""Simulated rounds are those of people, to the bit."""

from dataclasses import fields, replace

import pytest
import torch

from fkal.engine.rounds import Selection
from fkal.errors import ConfigError
from fkal.labeling.label_store import LabelRow, LabelStore, now
from fkal.labeling.rounds import SelectOptions, next_, select, train
from fkal.labeling.simulating import Oracle, SimulationOptions, simulate
from fkal.labeling.trainings import read_round, trainings
from fkal.notify import PLAIN, Display
from fkal.results.checkpoint import Checkpoint


def truth_file(signs, tmp_path, **said):
    path = tmp_path / "truth.csv"
    answers = {**signs.truth, **said}
    path.write_text("path,label\n" + "".join(f"{name},{answers[name]}\n" for name in answers))
    return path


def by_people(signs, rounds: int, options: SelectOptions, **said) -> list:
    """What `rounds` rounds leave where a script reads to_label.csv; a label that is empty is a skip."""
    asked = select(signs.project, options)
    for b in range(rounds):
        rows = []
        for image in asked.batch.images:
            label = said.get(image.path, signs.truth[image.path])
            status = label if label in ("skipped", "none_of_these") else "labeled"
            rows.append(
                LabelRow(
                    image.path,
                    image.digest,
                    label if status == "labeled" else "",
                    status,
                    batch=asked.batch.name,
                    time=now(),
                )
            )
        LabelStore(signs.project.folder).append(rows)
        if b < rounds - 1:
            asked = next_(signs.again(), options)[1]
    train(signs.again())
    project = signs.again()
    return [read_round(project, each) for each in trainings(project)]


def kept(simulated) -> list:
    with Checkpoint(simulated.folder.parents[1], simulated.folder.name) as state:
        return state.rounds(PLAIN.notify)


def assert_same(human, simulated) -> None:
    assert len(human) == len(simulated)
    for one, other in zip(human, simulated, strict=True):
        for field in fields(Selection):
            a, b = getattr(one.selection, field.name), getattr(other.selection, field.name)
            assert (a is None and b is None) or torch.equal(a, b), field.name
        assert one.weights.keys() == other.weights.keys()
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
        assert one.metrics == other.metrics
        assert one.train_loss == other.train_loss
        assert (one.forward_images, one.backward_images) == (other.forward_images, other.backward_images)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fisher_coverage", "margin", "random"])
def test_people_and_an_oracle_pick_the_same_images_and_train_the_same_weights_to_the_bit(signs, tmp_path, method):
    made = signs(settings="", groups=lambda i: f"track {i // 4}" if i % 5 else None)
    settings = ("acquisition.rounds=3",)
    (simulated,) = simulate(
        made.project, truth_file(made, tmp_path), SimulationOptions((method,), assignments=settings)
    )
    assert_same(by_people(made, 3, SelectOptions(method=method, assignments=settings)), kept(simulated))


@pytest.mark.slow
@pytest.mark.parametrize("bound", [2**31, 0], ids=["in memory", "streamed"])
@pytest.mark.parametrize("method", ["fisher_coverage", "margin"])
def test_on_a_frozen_backbone_people_and_an_oracle_are_the_same_to_the_bit(
    signs, tmp_path, weights, monkeypatch, method, bound
):
    monkeypatch.setattr("fkal.data.listed.IN_MEMORY", bound)
    made = signs(backbone=weights, groups=lambda i: f"track {i // 4}" if i % 5 else None, test=9)
    settings = ("acquisition.rounds=3",)
    (simulated,) = simulate(
        made.project, truth_file(made, tmp_path), SimulationOptions((method,), assignments=settings)
    )
    assert_same(by_people(made, 3, SelectOptions(method=method, assignments=settings)), kept(simulated))


@pytest.mark.slow
def test_images_that_are_streamed_give_the_rounds_of_those_in_memory(signs, tmp_path, weights, monkeypatch):
    made = signs(backbone=weights, test=9)
    (held,) = simulate(made.project, truth_file(made, tmp_path))
    monkeypatch.setattr("fkal.data.listed.IN_MEMORY", 0)
    again = signs("streamed", backbone=weights, test=9)
    (streamed,) = simulate(again.project, truth_file(again, tmp_path))
    assert_same(kept(held), kept(streamed))


@pytest.mark.slow
def test_skips_and_images_of_no_class_are_the_same_too(signs, tmp_path):
    made = signs()
    first = select(made.project).batch
    said = {first.images[0].path: "skipped", first.images[2].path: "none_of_these"}
    path = truth_file(made, tmp_path, **said)
    assignments = ("acquisition.rounds=3",)
    (simulated,) = simulate(made.project, path, SimulationOptions(assignments=assignments))
    assert_same(by_people(made, 3, SelectOptions(), **said), kept(simulated))


def test_labels_that_a_project_begins_with_are_known_to_both(signs, tmp_path):
    made = signs()
    rows = [
        LabelRow(image.path, image.digest, made.truth[image.path], source="init", time=now())
        for image in (made.project.pool[i] for i in range(5))
    ]
    LabelStore(made.project.folder).append(rows)
    (simulated,) = simulate(made.project, truth_file(made, tmp_path))
    train(made.again())
    for _ in range(2):
        made.answer(next_(made.again())[1].batch)
    train(made.again())
    project = made.again()
    assert_same([read_round(project, each) for each in trainings(project)], kept(simulated))
    assert [each.labels_used for each in simulated.rounds] == [5, 11, 17]


def test_the_projects_own_labels_are_a_truth_with_what_was_taken_back_and_corrected(signs, tmp_path):
    made = signs()
    wrong = {image.path: "left" for image in made.project.pool if made.truth[image.path] != "left"}
    store = LabelStore(made.project.folder)
    for said in (wrong, made.truth):  # nobody is named, so the later label of an image corrects the one before
        store.append(
            [LabelRow(i.path, i.digest, said[i.path], time=now()) for i in made.project.pool if i.path in said]
        )
    store.undo(lambda rows: rows[-1:], time=now())
    last = made.project.pool[len(made.project.pool) - 1]
    store.append([LabelRow(last.path, last.digest, made.truth[last.path], time=now())])
    oracle = Oracle.read(made.project.labels_path, made.again())
    assert oracle == replace(
        Oracle.read(truth_file(made, tmp_path), made.again()), origin=str(made.project.labels_path)
    )


def test_a_simulation_writes_no_label_and_no_batch_and_goes_on_where_it_was_stopped(signs, tmp_path):
    made = signs()
    path = truth_file(made, tmp_path)
    (one,) = simulate(made.project, path)
    assert not made.project.labels_path.exists() and not made.project.rounds_path.exists()
    (one.folder / "round-02.json").unlink()
    before = (one.folder / "round-01.json").read_bytes()
    (again,) = simulate(made.again(), path)
    assert (one.folder / "round-01.json").read_bytes() == before
    assert [each.metrics for each in again.rounds] == [each.metrics for each in one.rounds]


def test_more_rounds_go_on_after_those_that_are_finished(signs, tmp_path):
    made = signs()
    path, told = truth_file(made, tmp_path), []
    display = Display(told.append, PLAIN.one, PLAIN.many)
    of = [SimulationOptions(("margin",), assignments=(f"acquisition.rounds={n}",)) for n in (1, 2, 3)]
    simulate(made.project, path, of[1], display)
    (more,) = simulate(made.again(), path, of[2], display)
    (fewer,) = simulate(made.again(), path, of[0], display)
    assert [line.partition(",")[0] for line in told if "margin s0" in line] == [
        f"margin s0: round {b} of {n}" for b, n in ((1, 2), (2, 2), (3, 3))
    ]
    assert "18 labels, validation accuracy " in told[-1]
    (whole,) = simulate(signs("whole").project, path, of[2])
    assert_same(kept(whole), kept(more))
    assert [each.metrics for each in fewer.rounds] == [whole.rounds[0].metrics]


def test_a_table_with_more_labels_goes_on_after_the_rounds_that_it_had_labels_for(signs, tmp_path):
    made = signs()
    path, lines = truth_file(made, tmp_path), []
    display = Display(lines.append, PLAIN.one, PLAIN.many)
    options = SimulationOptions(("margin",), assignments=("acquisition.rounds=3",))
    (whole,) = simulate(signs("whole").project, path, options)
    listing = made.project.pool
    asked = {listing.paths[row] for each in kept(whole)[:2] for row in each.selection.indices.tolist()}
    some = tmp_path / "some.csv"
    some.write_text("path,label\n" + "".join(f"{name},{made.truth[name]}\n" for name in asked))
    with pytest.raises(ConfigError, match="has no label of"):
        simulate(made.project, some, options, display)
    (more,) = simulate(made.again(), path, options, display)
    assert [line.partition(",")[0] for line in lines if "margin s0" in line] == [
        f"margin s0: round {b} of 3" for b in (1, 2, 3)
    ]
    assert_same(kept(whole), kept(more))


def test_a_label_that_changed_repeats_its_round_and_the_later_ones(signs, tmp_path):
    made = signs()
    path, lines = truth_file(made, tmp_path), []
    display = Display(lines.append, PLAIN.one, PLAIN.many)
    options = SimulationOptions(("margin",), assignments=("acquisition.rounds=3",))
    (before,) = simulate(made.project, path, options)
    row = int(kept(before)[1].selection.indices[0])
    changed = made.project.pool.paths[row]
    other = next(name for name in made.truth.values() if name != made.truth[changed])
    path = truth_file(made, tmp_path, **{changed: other})
    first = (before.folder / "round-01.json").read_bytes()
    (after,) = simulate(made.again(), path, options, display)
    assert [line.partition(",")[0] for line in lines if "margin s0" in line] == [
        f"margin s0: round {b} of 3" for b in (2, 3)
    ]
    assert (after.folder / "round-01.json").read_bytes() == first
    (fresh,) = simulate(signs("fresh").project, path, options)
    assert_same(kept(fresh), kept(after))


@pytest.mark.parametrize(
    ("method", "settings", "part"),
    [
        ("validation_only", (), "asks for no label"),
        ("all", (), "labels the whole pool at once"),
        ("random", ("holdout=1",), "leave epoch and holdout"),
        ("random", ("acquisition.rounds=9",), "give at most 8 rounds"),
    ],
)
def test_what_no_project_can_have_is_refused_before_any_round(signs, tmp_path, method, settings, part):
    made = signs()
    told = []
    options = SimulationOptions(("random", method), (0, 1), assignments=settings)
    with pytest.raises(ConfigError, match=part):
        simulate(made.project, truth_file(made, tmp_path), options, Display(told.append, PLAIN.one, PLAIN.many))
    assert not told and not (made.project.folder / ".fkal" / "simulated").exists()


def test_methods_and_seeds_each_have_rounds_of_their_own(signs, tmp_path):
    made = signs()
    options = SimulationOptions(("random", "coreset"), (0, 1), assignments=("acquisition.rounds=1", "train.epochs=1"))
    found = simulate(made.project, truth_file(made, tmp_path), options)
    assert [(each.method, each.seed) for each in found] == [
        ("random", 0), ("random", 1), ("coreset", 0), ("coreset", 1),
    ]  # fmt: skip
    assert len({each.folder for each in found}) == 4


def test_a_table_that_lacks_what_is_asked_for_or_names_unknown_classes_is_refused(signs, tmp_path):
    made = signs()
    path = tmp_path / "truth.csv"
    path.write_text("path,label\n000.png,top\n")
    with pytest.raises(ConfigError, match="has no label of"):
        simulate(made.project, path)
    path.write_text("path,label\n000.png,topp\n")
    with pytest.raises(ConfigError, match="did you mean 'top'"):
        simulate(made.project, path)
    path.write_text("path,label\nelsewhere.png,top\n")
    with pytest.raises(ConfigError, match="no image of it is in the pool"):
        simulate(made.project, path)


@pytest.mark.parametrize(
    ("row", "part"),
    [("{name},{other}", "keep one of the two"), ("{name},", "an empty label"), ("{name},nosuch", "classes.txt")],
)
def test_a_table_that_contradicts_itself_or_has_no_class_is_refused(signs, tmp_path, row, part):
    made = signs()
    path = truth_file(made, tmp_path)
    name, label = next(iter(made.truth.items()))
    other = next(each for each in made.truth.values() if each != label)
    content = path.read_text() if "other" in row else "path,label\n"
    path.write_text(content + row.format(name=name, other=other) + "\n")
    with pytest.raises(ConfigError, match=part):
        simulate(made.again(), path)
