"""A batch: its two files, what answers it, and the order of batches."""

import csv
import json
from dataclasses import replace

import pytest

from fkal.errors import ConfigError
from fkal.labeling.batch import (
    Batch,
    BatchImage,
    BatchRequest,
    all_batches,
    batch_id,
    next_folder,
    open_batches,
)
from fkal.labeling.label_store import LabelRow

FIRST, SECOND, OTHER = "1" * 64, "2" * 64, "3" * 64
IMAGES = (
    BatchImage("=a b.jpg", FIRST, 0, 0.25, "cat", 0.1 + 0.2, "val/cat/1.jpg", ("x,y.jpg", "z.jpg")),
    BatchImage("ü/b.jpg", SECOND, 1),
)


def request(folder_name: str = "01", **changes) -> BatchRequest:
    return BatchRequest(**{"kind": "select", "round": 1, "batch": batch_id(folder_name), "method": "pfk", **changes})


def answer(digest: str, **changes) -> LabelRow:
    return LabelRow("x", digest, changes.pop("label", "cat"), **changes)


def test_a_batch_comes_back_as_it_was_written(tmp_path):
    batch = Batch.write(tmp_path / "01", request(seed=3, facts={"budget": 2}), IMAGES)
    assert Batch.read(tmp_path / "01") == batch
    assert all_batches(tmp_path) == [batch]
    before = (tmp_path / "01" / "request.json").read_bytes()
    Batch.write(tmp_path / "01", request(seed=3, facts={"budget": 2}), IMAGES)
    assert (tmp_path / "01" / "request.json").read_bytes() == before


def test_to_label_has_the_columns_of_the_format_and_no_formula(tmp_path):
    Batch.write(tmp_path / "01", request(), IMAGES)
    first, second = csv.DictReader((tmp_path / "01" / "to_label.csv").read_text().splitlines())
    assert ",".join(first) == "path,digest,rank,score,guess,guess_probability,matched_validation,duplicates,label"
    assert first["path"] == "'=a b.jpg" and json.loads(first["duplicates"]) == ["x,y.jpg", "z.jpg"]
    assert float(first["guess_probability"]) == 0.1 + 0.2 and first["label"] == ""
    assert (second["score"], second["guess"], second["duplicates"]) == ("", "", "")


def test_what_people_do_to_to_label_does_not_change_the_batch(tmp_path):
    batch = Batch.write(tmp_path / "01", request(), IMAGES)
    (tmp_path / "01" / "to_label.csv").write_text("path;label\nb.jpg;cat\n")
    assert Batch.read(tmp_path / "01") == batch


def test_a_folder_without_a_request_is_no_batch(tmp_path):
    Batch.write(tmp_path / "01", request(), IMAGES)
    (tmp_path / "02").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "01" / "request.json").rename(tmp_path / "02" / "to_label.csv")
    assert all_batches(tmp_path) == [] == all_batches(tmp_path / "none")


@pytest.mark.parametrize("status", ["labeled", "skipped", "none_of_these"])
def test_a_batch_is_done_when_each_image_has_an_answer(tmp_path, status):
    batch = Batch.write(tmp_path / "01", request(), IMAGES)
    assert batch.state([]) == "open" and batch.missing([]) == list(IMAGES)
    rows = [answer(FIRST, status=status), answer(OTHER)]
    assert batch.missing(rows) == [IMAGES[1]]
    assert batch.state([*rows, answer(SECOND, annotator="Ann")]) == "done"
    assert open_batches(tmp_path, rows) == [batch] and open_batches(tmp_path, [*rows, answer(SECOND)]) == []


def test_a_relabel_batch_is_answered_by_its_own_rows_alone(tmp_path):
    batch = Batch.write(tmp_path / "02", request("02", kind="relabel", round=2), IMAGES)
    assert len(batch.missing([answer(FIRST), answer(SECOND, batch="r01")])) == 2
    assert batch.missing([answer(FIRST, batch="r02"), answer(SECOND, batch="r01")]) == [IMAGES[1]]


def test_a_withdrawn_batch_asks_for_nothing_and_keeps_its_images(tmp_path):
    Batch.write(tmp_path / "01", request(), IMAGES).withdraw()
    batch = Batch.read(tmp_path / "01")
    assert batch.state([]) == "withdrawn" and batch.images == IMAGES
    assert open_batches(tmp_path, []) == []


def test_batches_are_in_the_order_of_rounds(tmp_path):
    for name in ("10", "02", "02-10", "02-2", "100"):
        Batch.write(tmp_path / name, request(name, round=int(name.partition("-")[0])), IMAGES)
    assert [batch.folder.name for batch in all_batches(tmp_path)] == ["02", "02-2", "02-10", "10", "100"]
    assert [next_folder(tmp_path, n).name for n in (1, 2, 10)] == ["01", "02-3", "10-2"]


def test_a_changed_request_is_refused_with_the_field_and_the_way_out(tmp_path):
    Batch.write(tmp_path / "01", request(), IMAGES)
    path = tmp_path / "01" / "request.json"
    document = json.loads(path.read_text())
    document["images"][0]["rank"] = "first"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"request.json: is not what fkal wrote \(images.0.rank"):
        Batch.read(tmp_path / "01")
    path.write_text("{")
    with pytest.raises(ConfigError, match="restore it"):
        Batch.read(tmp_path / "01")
    path.write_text("null")
    with pytest.raises(ConfigError, match=r"not what fkal wrote \(None: give keys with values\)"):
        Batch.read(tmp_path / "01")
    (tmp_path / "01").rename(tmp_path / "03")
    Batch.write(tmp_path / "01", request(), IMAGES)
    (tmp_path / "01" / "request.json").replace(tmp_path / "03" / "request.json")
    with pytest.raises(ConfigError, match="is of batch 'r01'"):
        Batch.read(tmp_path / "03")


def changed(value: str) -> dict:
    """The document with one value changed, said as `images.0.rank=-1`."""
    key, _, said = value.partition("=")
    *places, last = key.split(".")
    document = json.loads(DOCUMENT)
    place = document
    for each in places:
        place = place[int(each) if each.isdecimal() else each]
    place[last] = json.loads(said)
    return document


DOCUMENT = json.dumps(
    {
        "format": "fkal-batch-1",
        "request": {"kind": "select", "round": 1, "batch": "r01"},
        "images": [{"path": "a.jpg", "digest": FIRST, "rank": 0, "score": 0.5, "guess_probability": 0.5}],
    }
)


@pytest.mark.parametrize(
    "change",
    [
        "request.round=0",
        "request.round=2",
        'request.kind="train"',
        "images=[]",
        'images.0.path=""',
        r'images.0.path="a\u0000.jpg"',
        r'images.0.path="\u001b[2J"',
        'images.0.digest="ffff"',
        f'images.0.digest="../{FIRST}"',
        "images.0.rank=-1",
        "images.0.score=NaN",
        "images.0.score=Infinity",
        "images.0.guess=5",
        "images.0.guess_probability=NaN",
        "images.0.guess_probability=1.5",
        'images.0.duplicates="x"',
    ],
)
def test_values_that_no_command_writes_are_refused(tmp_path, change):
    path = tmp_path / "01" / "request.json"
    path.parent.mkdir()
    path.write_text(DOCUMENT)
    assert len(Batch.read(path.parent).images) == 1
    path.write_text(json.dumps(changed(change)))
    with pytest.raises(ConfigError, match="restore it"):
        Batch.read(path.parent)


@pytest.mark.parametrize(
    "facts",
    [
        {"wish": 5},
        {"wish": []},
        {"near": 5},
        {"near": {"a": 5}},
        {"near": {"a": [1]}},
        {"guesses": 5},
        {"guesses": {"a": 5}},
        {"guesses": {"a": ["b"]}},
        {"pool_images": "x"},
        {"pool_images": -1},
    ],
)
def test_facts_that_no_command_writes_are_refused(tmp_path, facts):
    Batch.write(tmp_path / "01", request(), IMAGES)
    path = tmp_path / "01" / "request.json"
    document = json.loads(path.read_text())
    document["request"]["facts"] = facts
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=rf"is not what fkal wrote \({next(iter(facts))}"):
        Batch.read(tmp_path / "01")


def test_a_request_for_an_image_twice_is_refused(tmp_path):
    Batch.write(tmp_path / "01", request(), IMAGES)
    path = tmp_path / "01" / "request.json"
    document = json.loads(path.read_text())
    document["images"].append(document["images"][0])
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="asks for an image twice"):
        Batch.read(tmp_path / "01")


def test_an_image_is_asked_for_once(tmp_path):
    with pytest.raises(ValueError, match="asked for twice"):
        Batch.write(tmp_path / "01", request(), [IMAGES[0], replace(IMAGES[1], digest=FIRST)])


def test_a_plain_file_in_the_place_of_a_round_is_named_with_the_way_out(tmp_path):
    Batch.write(tmp_path / "rounds" / "01", request(), IMAGES)
    (tmp_path / "rounds" / "05").write_text("x")
    with pytest.raises(ConfigError, match=r"rounds/05: is no folder.*remove it, or give it another name"):
        all_batches(tmp_path / "rounds")
    (tmp_path / "rounds" / "05").rename(tmp_path / "rounds" / "notes")
    assert len(all_batches(tmp_path / "rounds")) == 1
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"file: is a file, and the rounds.*remove it"):
        all_batches(tmp_path / "file")
