"""The rounds of a project: select, label, train, again; what is refused; what a second call does."""

import json
from dataclasses import replace

import pytest
import torch

from fkal.errors import ConfigError, LabelsMissing
from fkal.labeling.batch import all_batches
from fkal.labeling.books import Books
from fkal.labeling.label_store import LabelRow, LabelStore, now
from fkal.labeling.listing import read_listing, write_listing
from fkal.labeling.rounds import SelectOptions, audit, cancel, next_, relabel, select, train
from fkal.labeling.trainings import read_round, trainings


def two_rounds(signs) -> list:
    """Two rounds by a script; the trainings with their weights."""
    signs.answer(select(signs.project).batch)
    trained, asked = next_(signs.again())
    signs.answer(asked.batch)
    train(signs.again())
    project = signs.again()
    return [read_round(project, each) for each in trainings(project)]


def paths_of(batch) -> list[str]:
    return [image.path for image in batch.images]


def test_a_script_labels_two_rounds_and_every_image_is_asked_for_once(signs):
    made = signs()
    first, second = two_rounds(made)
    assert [first.b, second.b] == [1, 2]
    assert [first.labels_used, second.labels_used] == [6, 12]
    asked = [path for batch in all_batches(made.project.rounds_path) for path in paths_of(batch)]
    assert len(asked) == len(set(asked)) == 12
    by_class = dict(zip(made.project.classes, second.labeled_counts, strict=True))
    assert by_class == {name: sum(made.truth[path] == name for path in asked) for name in made.project.classes}


def test_a_setting_that_is_not_given_again_is_named_when_the_round_is_trained_again(signs, capsys):
    made = signs()
    made.answer(select(made.project).batch)
    train(made.again(), ["train.epochs=2"])
    epochs = made.project.config().train.epochs
    capsys.readouterr()
    assert train(made.again(), ["train.epochs=2"]).is_new is False
    assert "trained again" not in capsys.readouterr().err
    assert train(made.again()).is_new
    said = capsys.readouterr().err
    assert f"round 1 is trained again: train.epochs is {epochs}, and was 2; a --set is for one command" in said


def test_what_is_not_known_is_not_measured(signs):
    """No test set and no labels of the pool: accuracies are those on validation images alone."""
    _, last = two_rounds(signs())
    assert last.measured == "val"
    assert all(name.startswith(("val/", "select/targets")) for name in last.metrics)


def test_with_a_test_set_it_is_measured(signs):
    _, last = two_rounds(signs(test=9))
    assert last.measured == "test"
    assert int(last.confusion.sum()) == 9


def test_the_same_project_made_twice_picks_and_trains_the_same_to_the_bit(signs):
    one, other = two_rounds(signs("one")), two_rounds(signs("other"))
    for a, b in zip(one, other, strict=True):
        assert a.selection.indices.tolist() == b.selection.indices.tolist()
        assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_the_same_call_shows_the_open_batch_and_another_call_is_refused(signs):
    made = signs()
    first = select(made.project, SelectOptions(n=5))
    again = select(made.project, SelectOptions(n=5))
    assert first.is_new and not again.is_new
    assert again.batch == first.batch
    assert select(made.project).batch == first.batch
    for other in (SelectOptions(n=4), SelectOptions(n=5, method="random"), SelectOptions(n=5, dedup=0.99)):
        with pytest.raises(ConfigError, match=r"rounds/01: this batch is open .* --cancel, or .* --more"):
            select(made.project, other)


def test_an_open_batch_by_a_methods_long_name_is_known_by_its_short_one(signs):
    made = signs()
    options = SelectOptions(n=5, method="noisy_or")
    first = select(made.project, options).batch
    request = first.folder / "request.json"
    assert '"noisy_or"' in request.read_text()
    request.write_text(request.read_text().replace('"noisy_or"', '"pfk_joint_shift_grid:noisy_or"'))
    again = select(made.again(), options)
    assert not again.is_new and again.batch.name == first.name


def test_a_batch_is_chosen_in_parts_of_the_pool(signs):
    """What rests on best matches is the same in parts; a method that needs the whole pool is refused, and asks none."""
    in_parts = SelectOptions(method="pcc", assignments=["acquisition.parts=3"])
    whole = select(signs("whole").project, SelectOptions(method="pcc")).batch
    assert paths_of(select(signs("parts").project, in_parts).batch) == paths_of(whole)
    made = signs("covered")
    covered = select(made.project, SelectOptions(assignments=["acquisition.parts=3", "acquisition.matching=coverage"]))
    assert len(set(paths_of(covered.batch))) == 6
    with pytest.raises(ConfigError, match=r"acquisition.parts = 3: random does not choose in parts; take pcc, "):
        select(signs("refused").project, replace(in_parts, method="random"))


def test_a_further_batch_asks_for_other_images_and_both_are_trained_on(signs):
    made = signs()
    first = select(made.project).batch
    further = select(made.project, SelectOptions(n=4, more=True)).batch
    assert further.folder.name == "01-2"
    assert not set(paths_of(first)) & set(paths_of(further))
    made.answer(first)
    with pytest.raises(LabelsMissing, match=r"rounds/01-2: 4 of 4 images have no label"):
        train(made.again())
    made.answer(further)
    trained = train(made.again()).training
    assert trained.labels_used == 10
    finished = read_round(made.again(), trained)
    assert sorted(made.project.pool.paths[i] for i in finished.selection.indices) == sorted(
        paths_of(first) + paths_of(further)
    )


def test_a_withdrawn_batch_asks_for_nothing_and_its_labels_stay(signs):
    made = signs()
    batch = select(made.project).batch
    half = replace(batch, images=batch.images[:3])
    made.answer(half)
    assert cancel(made.again()).request.withdrawn
    other = select(made.again()).batch
    assert other.folder.name == "01-2"
    assert not set(paths_of(half)) & set(paths_of(other))
    made.answer(other)
    assert train(made.again()).training.labels_used == 9
    with pytest.raises(ConfigError, match="no selection is open"):
        cancel(made.again())


def test_a_labeled_round_is_trained_before_the_next_selection(signs):
    made = signs()
    made.answer(select(made.project).batch)
    with pytest.raises(ConfigError, match="round 1 is labeled and not trained yet; run fkal next"):
        select(made.again())


def test_missing_labels_are_counted(signs):
    made = signs()
    with pytest.raises(LabelsMissing, match="nothing is labeled"):
        train(made.project)
    select(made.project)
    with pytest.raises(LabelsMissing, match=r"rounds/01: 6 of 6 images have no label"):
        next_(made.again())


def test_training_again_does_nothing_until_a_label_changes(signs):
    made = signs()
    batch = select(made.project).batch
    made.answer(batch)
    first = train(made.again())
    assert first.is_new
    assert not train(made.again()).is_new
    other = next(name for name in made.project.classes if name != made.truth[batch.images[0].path])
    row = LabelRow(batch.images[0].path, batch.images[0].digest, other, batch=batch.name, source="script", time=now())
    LabelStore(made.project.folder).append([row])
    again = train(made.again())
    assert again.is_new and again.training.b == 1
    assert again.training.round["labeled_counts"] != first.training.round["labeled_counts"]


def test_methods_and_numbers_may_differ_from_round_to_round(signs):
    made = signs()
    made.answer(select(made.project, SelectOptions(n=5, method="random")).batch)
    _, asked = next_(made.again(), SelectOptions(n=7, method="margin"))
    assert (asked.batch.request.method, len(asked.batch.images)) == ("margin", 7)
    made.answer(asked.batch)
    _, asked = next_(made.again(), SelectOptions(n=3, method="coreset"))
    assert (asked.batch.request.method, len(asked.batch.images)) == ("coreset", 3)
    assert [each.labels_used for each in trainings(made.again())] == [5, 12]


def test_images_that_a_file_excludes_are_not_asked_for(signs, tmp_path):
    made = signs()
    usual = paths_of(select(made.project).batch)
    cancel(made.project)
    left_out = tmp_path / "left out.csv"
    left_out.write_text("path;why\n" + "".join(f"{path};blurred\n" for path in usual[:4]))
    batch = select(made.again(), SelectOptions(exclude=left_out)).batch
    assert not set(paths_of(batch)) & set(usual[:4])
    left_out.write_text("nowhere.png\n")
    with pytest.raises(ConfigError, match=r"1 are no images of the pool: 'nowhere.png'"):
        select(made.again(), SelectOptions(exclude=left_out, more=True))


def test_skipped_images_are_neither_trained_on_nor_asked_for_again(signs):
    made = signs()
    batch = select(made.project).batch
    made.answer(replace(batch, images=batch.images[2:]))
    skipped = [
        LabelRow(i.path, i.digest, "", "skipped", reason="blurred", batch=batch.name, source="script", time=now())
        for i in batch.images[:2]
    ]
    LabelStore(made.project.folder).append(skipped)
    trained, asked = next_(made.again(), SelectOptions(n=42))
    assert trained.training.labels_used == 4
    assert trained.training.facts["skipped"] == 2
    assert not {row.path for row in skipped} & set(paths_of(asked.batch))
    with pytest.raises(ConfigError, match="0 images of the pool are open; add some: fkal pool add PATH"):
        select(made.again(), SelectOptions(n=1, more=True))


def test_images_that_were_labeled_before_the_first_selection_are_trained_on(signs):
    made = signs()
    some = [made.project.pool[i] for i in range(9)]
    rows = [LabelRow(i.path, i.digest, made.truth[i.path], source="init", time=now()) for i in some]
    LabelStore(made.project.folder).append(rows)
    trained, asked = next_(made.again())
    assert (trained.training.b, trained.training.labels_used) == (1, 9)
    assert asked.batch.request.round == 2
    assert all(image.guess_probability is not None for image in asked.batch.images)
    assert not {row.path for row in rows} & set(paths_of(asked.batch))


def test_labels_of_before_are_said_where_nothing_is_trained_on_them(signs, capsys):
    made = signs()
    image = made.project.pool[0]
    LabelStore(made.project.folder).append(
        [LabelRow(image.path, image.digest, made.truth[image.path], source="init", time=now())]
    )
    select(made.again())
    assert "1 images have labels, and no model is trained on them: fkal next does it first" in capsys.readouterr().err


def test_planned_rounds_beyond_the_pool_stop_no_command(signs):
    made = signs(n=12)
    more = ("acquisition.rounds=20",)
    made.answer(select(made.project, SelectOptions(assignments=more)).batch)
    trained, asked = next_(made.again(), SelectOptions(assignments=more))
    assert trained.training.labels_used == 6 and len(asked.batch.images) == 6


def test_a_pool_that_its_groups_hold_out_is_refused_by_name(signs):
    made = signs()
    text = made.project.params_path.read_text()
    made.project.params_path.write_text(text.replace("workers: 0", "workers: 0, groups: '[.](png)'"))
    with pytest.raises(ConfigError, match=r"48 are listed, 48 of them held out.*correct data.groups = '\[\.\]\(png\)'"):
        select(made.again())


def test_a_training_is_given_away_where_nothing_can_be_selected_after_it(signs):
    made, given = signs(n=12), []
    made.answer(select(made.project).batch)
    with pytest.raises(ConfigError, match="6 images of the pool are open"):
        next_(made.again(), SelectOptions(n=7), when_refused=given.append)
    assert [each.training.labels_used for each in given] == [6]


def test_a_pool_that_grows_keeps_its_rounds(signs):
    made = signs(n=30)
    made.answer(select(made.project).batch)
    other = signs("more", n=40)
    grown = [*read_listing(made.project.listing_path("pool")), *(other.project.pool[i] for i in range(30, 40))]
    for image in grown[30:]:
        source = other.project.folder.parent / "images" / image.path
        (made.project.folder.parent / "images" / image.path).write_bytes(source.read_bytes())
    write_listing(made.project.listing_path("pool"), grown)
    trained, asked = next_(made.again(), SelectOptions(n=34))
    finished = read_round(made.again(), trained.training)
    validation = made.again().validation.paths
    assert [validation[i - 40] for i in finished.selection.matches] == [
        image.matched_validation for image in all_batches(made.project.rounds_path)[0].images
    ]
    assert {image.path for image in grown[30:]} <= set(paths_of(asked.batch))
    first, second = all_batches(made.project.rounds_path)
    assert first.request.pool_digest != second.request.pool_digest


def test_a_clone_without_state_trains_again_on_all_labels(signs):
    made = signs()
    two_rounds(made)
    for path in made.project.state_path.iterdir():
        path.unlink()
    again = train(made.again())
    assert again.is_new and again.training.labels_used == 12
    assert read_round(made.again(), again.training) is not None


def test_an_audit_is_a_random_sample_whose_guesses_nobody_sees(signs):
    made = signs()
    with pytest.raises(LabelsMissing, match="no model is trained"):
        audit(made.project, 5)
    made.answer(select(made.project).batch)
    train(made.again())
    asked = audit(made.again(), 12)
    assert not audit(made.again(), 12).is_new
    assert all(image.guess == "" and image.matched_validation == "" for image in asked.batch.images)
    assert asked.batch.request.facts["guesses"].keys() == {image.digest for image in asked.batch.images}
    labeled = set(Books.of(made.again()).labels())
    assert not labeled & {image.digest for image in asked.batch.images}
    assert "guess" in json.loads((asked.batch.folder / "request.json").read_text())["images"][0]


def test_labels_that_the_model_disagrees_with_are_asked_for_again_and_the_check_counts(signs):
    made = signs(settings="", n=60)
    batch = select(made.project, SelectOptions(n=30, method="random")).batch
    wrong = batch.images[0].path
    label = next(name for name in made.project.classes if name != made.truth[wrong])
    LabelStore(made.project.folder).append(
        [
            LabelRow(
                image.path,
                image.digest,
                label if image.path == wrong else made.truth[image.path],
                batch=batch.name,
                source="script",
                annotator="ann",
                time=now(),
            )
            for image in batch.images
        ]
    )
    train(made.again(), ["train.epochs=6"])
    asked = relabel(made.again(), 5)
    assert asked is not None
    assert wrong in paths_of(asked.batch)
    LabelStore(made.project.folder).append(
        [
            LabelRow(i.path, i.digest, made.truth[i.path], batch=asked.batch.name, annotator="bob", time=now())
            for i in asked.batch.images
        ]
    )
    again = train(made.again(), ["train.epochs=6"])
    assert again.is_new
    counts = dict(zip(made.project.classes, again.training.round["labeled_counts"], strict=True))
    assert counts == {name: sum(made.truth[p] == name for p in paths_of(batch)) for name in made.project.classes}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (SelectOptions(n=0), "ask for 1 to 48"),
        (SelectOptions(n=49), "ask for 1 to 48"),
        (SelectOptions(dedup=1.5), "--dedup 1.5"),
        (SelectOptions(share_labels=True), "give --dedup as well"),
        (SelectOptions(method="all"), "labels the whole pool at once"),
        (SelectOptions(method="validation_only"), "asks for no label"),
        (SelectOptions(method="pfk_true"), "which nobody knows"),
        (SelectOptions(method="fisher_covrage"), "did you mean 'fisher_coverage'"),
        (SelectOptions(assignments=("protocol=paper",)), "keeps the last epoch"),
    ],
)
def test_what_cannot_be_selected_is_refused_and_leaves_no_batch(signs, options, told):
    made = signs()
    with pytest.raises(ValueError, match=told):
        select(made.project, options)
    assert all_batches(made.project.rounds_path) == []
