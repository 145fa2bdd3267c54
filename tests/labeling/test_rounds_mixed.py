"""Rounds of a project where several ways of its images, labels and settings meet."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from fkal.cli import project_status
from fkal.errors import ConfigError, LabelsMissing
from fkal.labeling.books import Books
from fkal.labeling.exporting import export, labeled_items
from fkal.labeling.importing import ImportRules, import_labels
from fkal.labeling.intervals import Interval
from fkal.labeling.label_store import LabelRow, LabelStore, now
from fkal.labeling.listing import write_listing
from fkal.labeling.page_images import BatchImages
from fkal.labeling.predicting import predict
from fkal.labeling.rounds import SelectOptions, audit, cancel, relabel, select, train
from fkal.labeling.status import advice, status
from fkal.labeling.validation import add_validation, start_validation
from fkal.notify import PLAIN

RANDOM = SelectOptions(n=12, method="random")


def answer(made, batch, label_of, annotator=""):
    """Labels a batch as one annotator; `label_of` takes an image of it."""
    LabelStore(made.project.folder).append(
        [
            LabelRow(image.path, image.digest, label_of(image), batch=batch.name, annotator=annotator, time=now())
            for image in batch.images
        ]
    )


def truth(made):
    return lambda image: made.truth[image.path]


def other(made):
    return lambda image: next(name for name in made.project.classes if name != made.truth[image.path])


def set_params(made, before, after):
    path = made.project.params_path
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_batch_is_matched_with_validation_images_that_the_pool_had(signs):
    made = signs()
    started = start_validation(made.again(), 30, PLAIN, seed=0, workers=0).batch
    made.answer(started)
    batch = select(made.again(), SelectOptions(n=6, method="pcc")).batch
    project = made.again()
    images = BatchImages(project, batch)
    of_pool = [
        row
        for row, image in enumerate(batch.images)
        if project.validation[project.validation.positions_of_paths([image.matched_validation])[0]].batch is not None
    ]
    assert of_pool
    for row in of_pool:
        assert (
            images.matched(row, 100).content
            == (project.folder.parent / "images" / batch.images[row].matched_validation).read_bytes()
        )


def test_an_audit_on_which_people_disagree_has_no_figure(signs):
    made = signs()
    made.answer(select(made.project, RANDOM).batch)
    train(made.again())
    asked = audit(made.again(), 10).batch
    answer(made, asked, truth(made), "Ann")
    alone = status(made.again())
    assert alone.audit is not None and alone.conflicts == 0
    guesses = asked.request.facts["guesses"]
    answer(made, asked, lambda image: guesses[image.digest], "Bo")
    both = status(made.again())
    wrong = sum(guesses[image.digest] != made.truth[image.path] for image in asked.images)
    assert wrong and (both.audit, both.conflicts) == (None, wrong)


def checked(made):
    """A project whose first labels are wrong, trained, with an open check of three of them."""
    batch = select(made.project, RANDOM).batch
    answer(made, batch, other(made), "Ann")
    train(made.again())
    asked = relabel(made.again(), 3)
    assert asked is not None
    return batch, asked.batch


def test_labels_that_come_in_once_more_are_no_second_look(signs, tmp_path):
    made = signs()
    batch, check = checked(made)
    rows = [(image.path, other(made)(image)) for image in batch.images]
    (tmp_path / "all.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    again = import_labels(made.again(), [tmp_path / "all.csv"], ImportRules(annotator="Ann"), say=PLAIN.notify)
    assert not again.rows and check.state(Books.of(made.again()).live) == "open"
    own = {image.path for image in check.images}
    few = "".join(f"{path},{label}\n" for path, label in rows if path in own)
    (tmp_path / "check.csv").write_text("path,label\n" + few)
    confirmed = import_labels(made.again(), [tmp_path / "check.csv"], ImportRules(annotator="Ann"), say=PLAIN.notify)
    assert len(confirmed.rows) == 3 and check.state(Books.of(made.again()).live) == "done"


def labels_file(tmp_path, name, rows):
    (tmp_path / name).write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    return tmp_path / name


def imported(made, file, said, **rules):
    found = import_labels(made.again(), [file], ImportRules(annotator="Ann", **rules), say=said.append)
    return len(found.rows)


def answers(made):
    return Books.of(made.again()).labels()


def test_an_answered_check_is_changed_by_its_own_file_and_by_no_other(signs, tmp_path):
    made = signs()
    batch, check = checked(made)
    first = labels_file(tmp_path, "all.csv", [(image.path, other(made)(image)) for image in batch.images])
    sheet, said = check.folder / "to_label.csv", []

    def filled(label_of):
        rows = list(csv.DictReader(sheet.read_text().splitlines()))
        path_of = {image.digest: image for image in check.images}
        with sheet.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows({**row, "label": label_of(path_of[row["digest"]])} for row in rows)
        return imported(made, sheet, said)

    digests = [image.digest for image in check.images]
    assert (filled(truth(made)), filled(truth(made))) == (3, 0)
    right = answers(made)
    assert all(right[image.digest] == made.truth[image.path] for image in check.images)
    assert imported(made, first, said) == 0 and answers(made) == right and not said
    third = next(name for name in made.project.classes if name != right[digests[0]])
    late = labels_file(tmp_path, "late.csv", [(check.images[0].path, third)])
    import_labels(made.again(), [late], ImportRules(annotator="Bo", partial=True), say=said.append)
    assert answers(made) == right
    (line,) = said
    assert "a label of an image that a check has answered is left out" in line and str(sheet) in line
    assert (filled(other(made)), filled(other(made))) == (3, 0), "the check said too much"
    assert all(answers(made)[image.digest] == other(made)(image) for image in check.images)
    assert check.state(Books.of(made.again()).live) == "done"


def test_labels_that_no_batch_asked_for_do_not_answer_a_check(signs, tmp_path, batch_maker):
    made = signs()
    made.answer(select(made.project, RANDOM).batch)
    train(made.again())
    asked = {image.path for image in select(made.again(), SelectOptions(n=4, method="random")).batch.images}
    labeled = {row.path for row in LabelStore(made.project.folder).rows()}
    extra = [(image.path, "top") for image in made.project.pool if image.path not in asked | labeled][:4]
    assert imported(made, labels_file(tmp_path, "extra.csv", extra[:3]), [], accept_extra=True, partial=True) == 3
    places = [made.project.pool.positions_of_paths([path])[0] for path, _ in extra[:2]]
    check = batch_maker(made.project, "01-2", places, kind="relabel")
    assert imported(made, labels_file(tmp_path, "more.csv", extra), [], accept_extra=True, partial=True) == 1
    assert check.state(Books.of(made.again()).live) == "open"


def test_what_a_check_says_counts_beside_a_validation_batch_and_in_exports(signs):
    made = signs()
    made.answer(start_validation(made.project, 9, PLAIN, seed=0, workers=0).batch)
    check = checked(made)[1]
    answer(made, check, truth(made), "Bo")
    assert not Books.of(made.again()).answers.conflicts
    train(made.again())
    select(made.again(), SelectOptions(n=4, method="random"))
    written = {item.image.digest: item.image.label for item in labeled_items(made.again())}
    assert [written[image.digest] for image in check.images] == [made.truth[image.path] for image in check.images]


def test_a_second_check_leaves_the_first_one_done_and_asks_for_no_confirmed_label(signs):
    made = signs()
    batch = select(made.project, RANDOM).batch
    answer(made, batch, other(made), "Ann")
    train(made.again())
    first = relabel(made.again(), 3).batch
    answer(made, first, other(made), "Ann")  # the labels are confirmed
    second = relabel(made.again(), 12)
    assert second is None or not {i.digest for i in second.batch.images} & {i.digest for i in first.images}
    if second is not None:
        answer(made, second.batch, other(made), "Ann")
    row = first.images[0]
    LabelStore(made.project.folder).append(
        [LabelRow(row.path, row.digest, truth(made)(row), batch=batch.name, source="page", annotator="Ann", time=now())]
    )
    books = Books.of(made.again())
    assert first.state(books.live) == "done" and not books.open_of("relabel")
    assert books.answers.rows[row.digest].label == truth(made)(row), "the later row counts"
    again = relabel(made.again(), 12)
    assert again is None or {image.digest for image in again.batch.images} <= {row.digest}


@pytest.mark.parametrize(("kind", "word"), [("relabel", "check"), ("audit", "audit")])
def test_a_check_and_an_audit_can_be_withdrawn(signs, kind, word):
    made = signs()
    answer(made, select(made.project, RANDOM).batch, other(made), "Ann")
    train(made.again())
    asked = {"relabel": relabel, "audit": audit}[kind](made.again(), 3).batch
    with pytest.raises(ConfigError, match=rf"fkal {kind} --cancel"):
        start_validation(made.again(), 5, PLAIN, seed=0, workers=0)
    assert cancel(made.again(), kind=kind).name == asked.name
    with pytest.raises(ConfigError, match=f"no {word} is open; fkal {kind} opens one"):
        cancel(made.again(), kind=kind)
    assert start_validation(made.again(), 5, PLAIN, seed=0, workers=0).batch


def test_a_row_after_a_check_counts_again(signs):
    made = signs()
    check = checked(made)[1]
    answer(made, check, truth(made), "Bo")
    image = check.images[0]
    LabelStore(made.project.folder).append([LabelRow(image.path, image.digest, other(made)(image), annotator="Cem")])
    (conflict,) = Books.of(made.again()).answers.conflicts
    assert {row.annotator for row in conflict.rows} == {"Bo", "Cem"}


def test_a_csv_of_labeled_images_has_their_labels_and_one_of_a_batch_has_none(signs, tmp_path):
    made = signs()
    made.answer(select(made.project, RANDOM).batch)
    export(made.again(), labeled_items(made.again()), to="csv", place=tmp_path / "labeled.csv", say=PLAIN.notify)
    with (tmp_path / "labeled.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and all(row["label"] == made.truth[row["path"]] for row in rows)


def test_images_of_a_validation_batch_are_no_labels_of_the_pool(signs):
    made = signs()
    made.answer(start_validation(made.project, 9, PLAIN, seed=0, workers=0).batch)
    made.answer(select(made.again(), RANDOM).batch)
    train(made.again())
    said = status(made.again())
    assert (said.labeled, sum(said.labeled_counts.values()), said.curve[-1].labels) == (12, 12, 12)


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        ("image_size: 16", "image_size: 12", "data.image_size = 12, and was 16 when round 1 was trained; set it back"),
        ("{name: lenet}", "{name: resnet10}", "model.name = 'resnet10', and was 'lenet'"),
    ],
)
def test_a_model_is_not_asked_by_settings_that_it_was_not_trained_with(signs, tmp_path, before, after, part):
    made = signs()
    made.answer(select(made.project, RANDOM).batch)
    train(made.again())
    set_params(made, before, after)
    for ask in (
        lambda: predict(made.again(), str(made.project.folder.parent / "images"), tmp_path / "out.csv"),
        lambda: audit(made.again(), 5),
        lambda: relabel(made.again(), 5),
        lambda: select(made.again(), RANDOM),
    ):
        with pytest.raises(ConfigError, match=part):
            ask()
    assert train(made.again()).is_new
    assert predict(made.again(), str(made.project.folder.parent / "images"), tmp_path / "out.csv").images == 48


def test_weights_may_move_to_another_folder(signs, tmp_path, weights):
    moved = tmp_path / "elsewhere" / "resnet10.safetensors"
    moved.parent.mkdir()
    moved.write_bytes(Path(weights).read_bytes())
    made = signs(backbone=weights)
    made.answer(select(made.project, RANDOM).batch)
    train(made.again())
    set_params(made, weights, str(moved))
    assert audit(made.again(), 5).is_new


def test_another_number_of_networks_is_another_training(signs):
    made = signs()
    made.answer(select(made.project, RANDOM).batch)
    train(made.again())
    assert not train(made.again()).is_new
    set_params(made, "acquisition: {", "acquisition: {name: varr, ensemble: 2, samples: 2, ")
    with pytest.raises(ConfigError, match=r"acquisition.ensemble as they were, or train again"):
        select(made.again(), SelectOptions(n=4))
    assert train(made.again()).is_new
    assert select(made.again(), SelectOptions(n=4)).is_new


def test_a_class_that_validation_images_taught_has_a_share(signs, weights):
    made = signs(backbone=weights, n=60)
    rows = [
        LabelRow(image.path, image.digest, made.truth[image.path], time=now())
        for image in list(made.project.pool)[:30]
        if made.truth[image.path] != "top"
    ]
    LabelStore(made.project.folder).append(rows)
    assert list(made.truth.values()).count("top") == 20
    assert train(made.again()).training.facts["mix"]["top"] == 0
    assert train(made.again(), ["train.on_validation=true"]).training.facts["mix"]["top"] > 0


@pytest.mark.parametrize("on_validation", [False, True], ids=["on labels", "on validation too"])
def test_shares_of_classes_are_those_of_a_model_that_is_calibrated(signs, on_validation):
    """Its own posteriors, of four epochs on twelve images, are far from what they claim to be."""
    made = signs(n=60)
    made.answer(select(made.project, SelectOptions(n=12, method="random")).batch)
    mix = train(made.again(), [f"train.on_validation={str(on_validation).lower()}"]).training.facts["mix"]
    labeled = Books.of(made.again()).labels()
    opened = [made.truth[image.path] for image in made.project.pool if image.digest not in labeled]
    for name in made.project.classes:
        assert mix[name] == pytest.approx(opened.count(name) / len(opened), abs=0.1)


def test_no_gain_is_said_where_the_validation_set_has_changed(signs, tmp_path, capsys):
    made = signs()
    for _ in range(2):
        made.answer(select(made.again(), SelectOptions(n=6, method="random")).batch)
        train(made.again())
    assert status(made.again()).gain is not None
    extra = [made.project.folder.parent / "test" / "top" / "new.png"]
    extra[0].parent.mkdir(parents=True)
    extra[0].write_bytes((made.project.folder.parent / "validation" / "top" / "002.png").read_bytes() + b"\0")
    add_validation(made.again(), [str(extra[0])], PLAIN, label="top", drop_leaks=False, workers=0)
    made.answer(select(made.again(), SelectOptions(n=6, method="random")).batch)
    train(made.again())
    said = status(made.again())
    assert said.gain is None and [point.validation_images for point in said.curve] == [18, 18, 19]
    project_status.show(said, as_json=False)
    shown = capsys.readouterr().out
    assert "of images" in shown and "gain of the last round" not in shown


def test_gains_that_are_not_known_stop_nothing():
    small = Interval(0.001, -0.004, 0.006)
    assert advice([small, None, small]).do == "go on"
    assert "1 of the last gains are known" in advice([small, None, small]).why
    assert advice([None, small, small]).do == "stop"


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "from scratch"])
def test_a_frozen_model_is_trained_again_once_the_pool_has_grown(signs, weights, frozen):
    """Embeddings are centred and scaled by the whole pool; a network that learns reads each image by itself."""
    made = signs(backbone=weights if frozen else "")
    pool = list(made.project.pool)
    write_listing(made.project.listing_path("pool"), pool[:40])
    made.answer(select(made.again(), SelectOptions(n=6, method="random")).batch)
    train(made.again())
    write_listing(made.project.listing_path("pool"), pool)
    assert train(made.again()).is_new == frozen


@pytest.mark.parametrize("lost", ["file", "fact"])
def test_without_its_map_a_frozen_model_of_other_images_is_not_asked(signs, weights, tmp_path, lost):
    made = signs(backbone=weights)
    with made.project.params_path.open("a") as params:
        params.write("features:\n  pca: 64\n")
    pool = list(made.project.pool)
    write_listing(made.project.listing_path("pool"), pool[:40])
    made.answer(select(made.again(), SelectOptions(n=12, method="random")).batch)
    train(made.again())
    if lost == "file":
        (kept,) = made.project.state_path.glob("standardising-*")
        kept.write_bytes(b"")
    else:
        path = made.project.rounds_path / "01" / "trained.json"
        told = json.loads(path.read_text())
        del told["facts"]["standardising"]
        path.write_text(json.dumps(told))
    images = str(made.project.folder.parent / "images")
    predict(made.again(), images, tmp_path / "before.csv")
    write_listing(made.project.listing_path("pool"), pool)
    with pytest.raises(LabelsMissing, match=r"images have changed since round 1, .*; run fkal train"):
        predict(made.again(), images, tmp_path / "after.csv")
    with pytest.raises(LabelsMissing, match="weights of round 1 cannot be used any more; fkal train makes them again"):
        relabel(made.again())
    with pytest.raises(LabelsMissing, match="weights of round 1 cannot be used any more; fkal train makes them again"):
        select(made.again(), SelectOptions(n=6, method="random"))
    assert train(made.again()).is_new
    predict(made.again(), images, tmp_path / "after.csv")
    assert len(select(made.again(), SelectOptions(n=6, method="random")).batch.images) == 6


def test_a_map_of_another_backbone_is_no_matter_of_shapes(signs, weights, tmp_path):
    """Its settings are refused where a model is asked; a training starts from what fits."""
    made = signs(backbone=weights)
    made.answer(select(made.again(), SelectOptions(n=6, method="random")).batch)
    train(made.again())
    content = save({"mean": torch.zeros(7, dtype=torch.float64), "deviation": torch.ones(7, dtype=torch.float64)})
    digest = hashlib.sha256(content).hexdigest()
    (made.project.state_path / f"standardising-{digest}.safetensors").write_bytes(content)
    path = made.project.rounds_path / "01" / "trained.json"
    told = json.loads(path.read_text())
    told["facts"]["standardising"] = digest
    path.write_text(json.dumps(told))
    made.answer(select(made.again(), SelectOptions(n=6, method="random")).batch)
    assert train(made.again()).training.b == 2


@pytest.mark.parametrize("pca", ["", "features.pca=8"], ids=["all features", "components"])
def test_a_frozen_model_predicts_the_same_once_the_pool_has_grown(signs, weights, tmp_path, pca):
    """Embeddings are centred and scaled otherwise then; the head goes on from the map of its training."""
    made = signs(backbone=weights)
    if pca:
        with made.project.params_path.open("a") as params:
            params.write("features:\n  pca: 8\n")
    pool = list(made.project.pool)
    write_listing(made.project.listing_path("pool"), pool[:40])
    made.answer(select(made.again(), SelectOptions(n=12, method="random")).batch)
    train(made.again())

    def predicted(name):
        predict(made.again(), str(made.project.folder.parent / "images"), tmp_path / name)
        rows = list(csv.DictReader((tmp_path / name).read_text().splitlines()))
        return [row["label"] for row in rows], [float(row["probability"]) for row in rows]

    before = predicted("before.csv")
    write_listing(made.project.listing_path("pool"), pool)
    after = predicted("after.csv")
    assert after[1] != before[1], "the map is another"
    assert after[0] == before[0]
    assert after[1] == pytest.approx(before[1], abs=0.05 if pca else 1e-4)
