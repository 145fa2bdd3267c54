"""Files for other programs, held against the forms that these programs document."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from PIL import Image

from fkal.errors import ConfigError
from fkal.labeling.answers import label_store
from fkal.labeling.batch import Batch
from fkal.labeling.contact_sheet import write_contact_sheet
from fkal.labeling.exporting import FORMATS, Exported, batch_items, export, labeled_items
from fkal.labeling.importing import ImportRules, import_labels
from fkal.labeling.label_store import LabelRow
from fkal.labeling.label_studio_tasks import labeling_config
from fkal.labeling.project import Project


@pytest.fixture
def project(labeling_project) -> Project:
    return labeling_project


def label(project: Project, position: int, name: str, **changes: Any) -> None:
    row = LabelRow(project.pool.paths[position], project.pool.digests[position], name, batch="r01", **changes)
    label_store(project).append([row])


def exported(project: Project, to: str, place: Path, *, labeled: bool = False, **options: Any) -> Exported:
    batch = Batch.read(project.rounds_path / "01")
    items = labeled_items(project) if labeled else batch_items(project, batch)
    return export(project, items, to=to, place=place, say=print, **options)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_csv_has_the_waiting_images_and_an_empty_label(project, tmp_path):
    label(project, 0, "cat")
    exported(project, "csv", tmp_path / "x" / "out.csv")
    rows = list(csv.DictReader((tmp_path / "x" / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == [
        "path", "digest", "rank", "score", "guess", "guess_probability", "matched_validation", "duplicates", "label",
    ]  # fmt: skip
    assert [row["path"] for row in rows] == list(project.pool.paths[1:6])
    assert {row["label"] for row in rows} == {""} and rows[0]["guess"] == "dog"


def test_without_guesses_nothing_sways_people(project, tmp_path):
    exported(project, "csv", tmp_path / "out.csv", guesses=False)
    for row in csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()):
        assert (row["guess"], row["guess_probability"], row["matched_validation"]) == ("", "", "")


def test_an_image_folder_is_sorted_by_guess_and_comes_back_by_content(project, tmp_path):
    exported(project, "imagefolder", tmp_path / "sort")
    folders = {path.name for path in (tmp_path / "sort").iterdir()}
    assert folders == {"cat", "dog", "owl", "_unsorted"}
    names = sorted(path.name for path in (tmp_path / "sort").glob("*/*"))
    assert names[0] == "1_a.png" and len(names) == 6
    (tmp_path / "sort" / "cat" / "1_a.png").rename(tmp_path / "sort" / "owl" / "other name.png")
    found = import_labels(project, [tmp_path / "sort"], ImportRules(), say=print)
    assert [row.label for row in found.rows if row.path == "a.png"] == ["owl"] and len(found.rows) == 6


def test_coco_has_a_box_around_each_labeled_image(project, tmp_path):
    label(project, 2, "dog")
    label(project, 4, "owl")
    exported(project, "coco", tmp_path / "coco", labeled=True)
    file = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert [each["name"] for each in file["categories"]] == ["cat", "dog", "owl"]
    assert {"info", "licenses", "images", "annotations", "categories"} == set(file)
    categories = {each["id"]: each["name"] for each in file["categories"]}
    images = {each["id"]: each for each in file["images"]}
    assert len(images) == 2 == len(file["annotations"]) and min(categories) == 1
    for each in file["annotations"]:
        image = images[each["image_id"]]
        assert each["bbox"] == [0, 0, 24, 24] == [0, 0, image["width"], image["height"]]
        assert each["area"] == 576 and each["iscrowd"] == 0
        assert digest(tmp_path / "coco" / "images" / image["file_name"]) == image["fkal_digest"]
    assert [categories[each["category_id"]] for each in file["annotations"]] == ["dog", "owl"]
    assert not (tmp_path / "coco" / "guesses.json").exists()


def test_coco_guesses_are_results(project, tmp_path):
    exported(project, "coco", tmp_path / "coco")
    assert json.loads((tmp_path / "coco" / "annotations.json").read_text())["annotations"] == []
    results = json.loads((tmp_path / "coco" / "guesses.json").read_text())
    assert [set(each) for each in results] == [{"image_id", "category_id", "bbox", "score"}] * 6
    assert results[0] == {"image_id": 1, "category_id": 1, "bbox": [0, 0, 24, 24], "score": 0.9}


@pytest.mark.parametrize("labeled", [True, False])
def test_fiftyone_finds_each_label_by_the_name_of_its_image(project, tmp_path, labeled):
    label(project, 1, "owl")
    exported(project, "fiftyone", tmp_path / "51", labeled=labeled)
    file = json.loads((tmp_path / "51" / "labels.json").read_text())
    stems = {path.stem for path in (tmp_path / "51" / "data").iterdir()}
    assert set(file) == {"classes", "labels"} and set(file["labels"]) == stems
    names = [file["classes"][each["label"]] for each in file["labels"].values()]
    assert names == (["owl"] if labeled else ["cat", "owl", "cat", "dog", "owl"])
    assert all(("confidence" in each) != labeled for each in file["labels"].values())


def test_hugging_face_has_a_line_per_file_beside_the_images(project, tmp_path):
    label(project, 1, "owl")
    exported(project, "hf", tmp_path / "hf", labeled=True)
    exported(project, "hf", tmp_path / "waiting")
    lines = [json.loads(line) for line in (tmp_path / "hf" / "train" / "metadata.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == ["owl"]
    waiting = (tmp_path / "waiting" / "train" / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in waiting] == [None] * 5
    assert len({frozenset(json.loads(line)) for line in waiting}) == 1
    for line in lines:
        assert digest(tmp_path / "hf" / "train" / line["file_name"]) == line["fkal_digest"]


def test_label_studio_gets_tasks_in_order_with_quoted_addresses(project, tmp_path):
    exported(project, "labelstudio", tmp_path / "ls", document_root=tmp_path)
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    paths = [unquote(task["data"]["image"].removeprefix("/data/local-files/?d=")) for task in tasks]
    assert all((tmp_path / path).is_file() for path in paths) and paths[2] == "images/d&e%.png"
    assert tasks[2]["data"]["image"].endswith("/d%26e%25.png")
    assert [task["data"]["fkal_rank"] for task in tasks] == list(range(6))
    (prediction,) = tasks[0]["predictions"]
    assert prediction["score"] == 0.9 and prediction["result"][0]["value"] == {"choices": ["cat"]}
    config = ElementTree.parse(tmp_path / "ls" / "labeling_config.xml").getroot()
    assert [each.get("value") for each in config.iter("Choice")] == ["cat", "dog", "owl", "none_of_these"]


@pytest.mark.parametrize(("n", "has_filter"), [(2, False), (19, False), (20, True), (300, True)])
def test_many_classes_get_a_filter_and_few_a_key_each(n, has_filter):
    names = [f"{i} <\"&'>" for i in range(n)]
    root = ElementTree.fromstring(labeling_config(names))
    choices = list(root.iter("Choice"))
    assert [each.get("value") for each in choices] == [*names, "none_of_these"]
    keys = [each.get("hotkey") for each in choices]
    assert (root.find("Filter") is not None) == has_filter == (keys[0] is None)
    assert has_filter or len(set(keys)) == n + 1


@pytest.mark.parametrize(("root", "said"), [(None, "--document-root: not given"), ("other", "is not below it")])
def test_local_images_need_the_document_root_above_them(project, tmp_path, root, said):
    with pytest.raises(ConfigError, match=said):
        exported(project, "labelstudio", tmp_path / "ls", document_root=root and tmp_path / root)
    assert not (tmp_path / "ls").exists()


@pytest.mark.parametrize("to", FORMATS)
def test_what_people_may_have_sorted_is_not_overwritten(project, tmp_path, to):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        exported(project, to, tmp_path / "out", document_root=tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_format_names_the_nearest(project, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'coco'"):
        exported(project, "cocoa", tmp_path / "out")


def test_an_image_that_vanished_is_left_out_and_named(project, tmp_path):
    (tmp_path / "images" / "a.png").unlink()
    found = exported(project, "imagefolder", tmp_path / "sort")
    assert found.images == 5 and "a.png: No such file" in found.left_out[0]


def test_annotators_who_disagree_are_named_before_anything_is_written(project, tmp_path):
    label(project, 1, "owl", annotator="Ann")
    label(project, 1, "cat", annotator="Bo")
    with pytest.raises(ConfigError, match="Ann: owl, Bo: cat"):
        exported(project, "hf", tmp_path / "out", labeled=True)


def test_a_contact_sheet_holds_all_it_shows(project, tmp_path):
    project.add_classes(["<b>"])
    batch = Batch.read(project.rounds_path / "01")
    images = (replace(batch.images[0], guess="<script>alert(1)</script>"), *batch.images[1:])
    batch = Batch.write(batch.folder, batch.request, images)
    (tmp_path / "images" / "ü.png").unlink()
    Image.new("L", (4, 4)).save(tmp_path / "images" / "sub" / "a.png")
    text = write_contact_sheet(project, batch).read_text(encoding="utf-8")
    assert text.count('<img src="data:image/png;base64,') == 4 and text.count('class="match"') == 3
    assert "<script" not in text and "http://" not in text and "https://" not in text
    assert "its content has changed" in text and "90%" in text
