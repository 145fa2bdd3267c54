"""Labels from files of other programs: all or nothing, a line per problem, joined by digest, path or unique name."""

import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fkal.data.errors import MissingData
from fkal.errors import ConfigError, LabelsMissing
from fkal.labeling import rounds
from fkal.labeling.answers import label_rows, label_store
from fkal.labeling.batch import Batch
from fkal.labeling.importing import Imported, ImportRules, import_labels
from fkal.labeling.label_store import PAGE, LabelRow, current_rows, last_action
from fkal.labeling.listing import ListedImage, write_listing
from fkal.labeling.project import Project, write_classes

PARTIAL = ImportRules(partial=True, annotator="Ann")


def imported(project: Project, *files: Path, **rules) -> Imported:
    said: list[str] = []
    return import_labels(project, files, replace(PARTIAL, **rules), say=said.append)


def labels(project: Project) -> dict[str, str]:
    return {row.path: row.label or row.status for row in current_rows(label_rows(project))}


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def problems(project: Project, *files: Path, **rules) -> list[str]:
    with pytest.raises(ConfigError) as error:
        imported(project, *files, **rules)
    assert not project.labels_path.exists()
    return str(error.value).splitlines()


@pytest.fixture
def project(labeling_project) -> Project:
    return labeling_project


def filled(project: Project, given: dict[str, str]) -> Path:
    """to_label.csv as a person fills it."""
    path = project.rounds_path / "01" / "to_label.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    images = Batch.read(path.parent).images
    rows = [line + given.get(image.path, "") for line, image in zip(lines[1:], images, strict=True)]
    return written(path, "\n".join([lines[0], *rows]))


def test_the_filled_list_of_a_batch_answers_it(project):
    given = dict(zip(project.pool.paths[:6], ["cat", "dog", "owl", "none_of_these", "cat", "dog"], strict=True))
    found = imported(project, filled(project, given), partial=False)
    assert labels(project) == given
    assert found.missing == {"01": 0} and found.count("labeled") == 5 and found.count("none_of_these") == 1
    row = label_rows(project)[0]
    assert (row.round, row.batch, row.source, row.annotator) == ("1", "r01", "import to_label.csv", "Ann")
    assert row.time.endswith("+00:00") and len({row.time for row in label_rows(project)}) == 1


def test_missing_labels_are_named_unless_the_import_is_partial(project):
    path = filled(project, {"a.png": "cat"})
    with pytest.raises(LabelsMissing) as error:
        imported(project, path, partial=False)
    assert "b c.png: has no label, and batch 01 asks for one" in str(error.value).splitlines()
    assert not project.labels_path.exists()
    assert imported(project, path).missing == {"01": 5}


def test_a_list_without_any_label_says_what_is_missing(project):
    with pytest.raises(LabelsMissing, match="has no label, and batch 01 asks for one"):
        imported(project, filled(project, {}), partial=False)
    assert imported(project, filled(project, {})).missing == {"01": 6}


def test_a_path_names_what_its_file_is_now(project, tmp_path):
    """A file whose content changed is a later row of the pool, beside the row of its content before."""
    before = list(project.pool)
    after = replace(before[0], digest="a" * 64)
    write_listing(project.listing_path("pool"), [*before, after])
    again = Project.open(project.folder)
    assert again.pool.positions_of_paths([after.path, before[1].path, "no.png"]) == [len(before), 1, None]
    assert again.pool.repeated_paths([after.path]) == set() and 0 not in again.pool.last_rows
    whole = str(tmp_path / "images" / after.path)
    for given in (after.path, whole):
        file = written(tmp_path / "labels-of-one.csv", f"path,label\n{given},cat\n")
        assert [row.digest for row in imported(again, file, accept_extra=True, annotator=given).rows] == ["a" * 64]
    written(again.labels_path, f"path,digest,label,status\n{after.path},,cat,labeled\n")
    assert [row.digest for row in label_rows(again)] == ["a" * 64]


def test_the_same_import_twice_brings_nothing_new(project):
    path = filled(project, {"a.png": "cat"})
    imported(project, path)
    before = project.labels_path.read_bytes()
    found = imported(project, path)
    assert (found.rows, found.known) == ((), 1) and project.labels_path.read_bytes() == before


def test_a_correction_on_the_page_stays_until_a_file_says_something_new(project, tmp_path):
    """Ann corrects on the page what her file said. The same file is no new answer, another label in it is."""
    first = written(tmp_path / "x.csv", "path,label\na.png,cat\n")
    imported(project, first)
    corrected = replace(label_rows(project)[0], label="dog", source=PAGE)
    label_store(project).append([corrected])

    said: list[str] = []
    again = written(tmp_path / "y.csv", "path,label\na.png,cat\nb c.png,owl\n")
    found = import_labels(project, [again], PARTIAL, say=said.append)
    assert labels(project) == {"a.png": "dog", "b c.png": "owl"} and (len(found.rows), found.known) == (1, 1)
    assert said == [
        "a label says what came in before and was corrected on the page since ('a.png'): the correction stays; "
        "change it on the page"
    ]
    imported(project, written(tmp_path / "z.csv", "path,label\na.png,owl\n"))
    assert labels(project)["a.png"] == "owl"
    imported(project, first)
    assert labels(project)["a.png"] == "cat"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_spreadsheet_of_names_alone_is_joined_by_unique_names(project, tmp_path, encoding):
    text = 'sep=;\r\nPath;Label;Seconds\r\n"C:\\photos\\b c.png";dog;1,5\r\n"g\'h"".png";cat;\r\nü.png;owl;\r\n;;\r\n'
    imported(project, written(tmp_path / "x.csv", text, encoding))
    assert labels(project) == {"b c.png": "dog", "g'h\".png": "cat", "ü.png": "owl"}
    assert label_rows(project)[0].seconds == 1.5


def test_every_problem_has_a_line_and_nothing_is_imported(project, tmp_path):
    text = (
        "path,digest,label,status\n"
        "a.png,,catt,\n"
        "nowhere.png,,cat,\n"
        "x/a.png,,cat,\n"
        "k.png,,cat,\n"
        "ü.png,,cat,\n"
        "ü.png,,dog,\n"
        "b c.png,,,labeled\n"
        "d&e%.png,,\x1bx,\n"
    )
    found = problems(project, written(tmp_path / "x.csv", text))
    where = f"{tmp_path}/x.csv"
    expected = [
        f"{where}: line 3: 'nowhere.png': no image of the pool has this content",
        f"{where}: line 4: 'x/a.png': 2 images of the pool have this name",
        f"{where}: line 5: k.png: no batch asks for it; --accept-extra",
        f"{where}: line 7: ü.png: dog, but {where}: line 6 says cat",
        f"{where}: line 8: b c.png: status labeled, and no label",
        f"{where}: line 2: class 'catt' is not in classes.txt; did you mean 'cat'?",
        f"{where}: line 9: class '\\x1bx': a class has a name of one line",
        "no label was imported",
    ]
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected


def test_a_digest_counts_before_a_path_and_a_path_before_a_name(project, tmp_path):
    digest = project.pool.digests[1]
    text = f"path,digest,label\nd&e%.png,{digest.upper()},cat\nsub/a.png,{'0' * 64},dog\n"
    imported(project, written(tmp_path / "x.csv", text))
    assert labels(project) == {"b c.png": "cat", "sub/a.png": "dog"}


def test_extra_images_and_new_classes_come_in_when_asked(project, tmp_path):
    path = written(tmp_path / "x.csv", "path,label\nk.png,lynx\na.png,cat\n")
    found = imported(project, path, accept_extra=True, allow_new_class=True)
    assert found.new_classes == ("lynx",) and project.classes == ("cat", "dog", "owl", "lynx")
    assert labels(project) == {"k.png": "lynx", "a.png": "cat"}
    assert label_rows(project)[0].batch == ""


@pytest.mark.parametrize("name", ["skipped", "undone", "labeled"])
def test_a_new_class_is_not_called_as_a_status_is(project, tmp_path, name):
    path = written(tmp_path / "x.csv", f"path,label\nk.png,{name}\n")
    said = "\n".join(problems(project, path, accept_extra=True, allow_new_class=True))
    assert f"x.csv: line 2: class '{name}': is the name of a status" in said and "name the class otherwise" in said
    assert project.classes == ("cat", "dog", "owl")


def test_skips_keep_their_reason_and_are_answers(project, tmp_path):
    path = written(tmp_path / "x.csv", "path,label,status,reason,annotator\na.png,,skipped,blurred,Bo\n")
    assert imported(project, path).missing == {"01": 5}
    (row,) = label_rows(project)
    assert (row.status, row.reason, row.label, row.annotator) == ("skipped", "blurred", "", "Bo")


def task(project: Project, position: int, annotations: list[dict]) -> dict:
    data = {"image": "/data/local-files/?d=x", "fkal_path": "moved", "fkal_digest": project.pool.digests[position]}
    return {"id": position + 40, "data": data, "annotations": annotations}


def annotation(*choices: str, **changes) -> dict:
    result = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}]
    return {"result": result, "was_cancelled": False, "completed_by": 1, "lead_time": 2.5, **changes}


def test_label_studio_json_is_joined_by_our_own_fields(project, tmp_path):
    tasks = [
        task(project, 0, [annotation("cat", updated_at="1"), annotation("dog", updated_at="2")]),
        task(project, 1, [annotation("cat", completed_by={"id": 3, "email": "bo@x.org"}), annotation("owl")]),
        task(project, 2, [{**annotation(), "result": [], "was_cancelled": True}]),
        task(project, 3, [annotation("none_of_these")]),
        task(project, 4, []),
    ]
    imported(project, written(tmp_path / "x.json", json.dumps(tasks)))
    rows = [(row.path, row.annotator, row.label or row.status) for row in label_rows(project)]
    assert rows == [
        ("a.png", "1", "dog"),
        ("b c.png", "bo@x.org", "cat"),
        ("b c.png", "1", "owl"),
        ("d&e%.png", "1", "skipped"),
        ("sub/a.png", "1", "none_of_these"),
    ]
    assert label_rows(project)[3].reason == "skipped in Label Studio"
    assert label_rows(project)[0].seconds == 2.5


def test_label_studio_json_min_and_csv_are_read(project, tmp_path):
    digests = project.pool.digests
    small = [{"image": "x", "fkal_digest": digests[0], "fkal_path": "a.png", "id": 1, "annotator": 7, "label": "cat"}]
    imported(project, written(tmp_path / "min.json", json.dumps(small)))
    table = (
        f"annotator,fkal_digest,fkal_path,id,image,label,lead_time\n7,{digests[1]},b c.png,2,/data?d=b%20c,dog,1.5\n"
    )
    imported(project, written(tmp_path / "ls.csv", table))
    assert [(row.path, row.label, row.annotator, row.seconds) for row in label_rows(project)] == [
        ("a.png", "cat", "7", None),
        ("b c.png", "dog", "7", 1.5),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "not a list of tasks"),
        ("[{", "not valid JSON"),
        ('[{"data": {"image": "x"}, "annotations": []}]', "task 1: has no fkal_digest"),
        ('[{"fkal_digest": "1", "label": {"choices": ["a", "b"]}}]', "each image has one class"),
        ('[{"data": {"fkal_digest": "1"}, "annotations": [{"result": 1}]}]', "an annotation has no result"),
        ("name,label\na,b\n", "has no columns path or digest"),
        ("", "is empty"),
        ('path,label\n"a,b\n', "save the file as CSV again"),
        ("path,label\na,b,c\n", "line 2: has 3 cells"),
        ("path,label,status\na,b,done\n", "status 'done'"),
        ("path,label\nä,b\n".encode("latin-1"), "not UTF-8; save the file as CSV UTF-8"),
    ],
)
def test_files_of_no_known_form_are_refused_in_one_line(project, tmp_path, content, said):
    path = tmp_path / "x"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (line,) = [line for line in problems(project, path) if "no label was" not in line]
    assert said in line and str(path) in line


def test_a_file_that_is_not_there_is_named(project, tmp_path):
    with pytest.raises(MissingData, match=r"none\.csv: there is no such file"):
        problems(project, tmp_path / "none.csv")


def test_a_folder_per_class_is_joined_by_content(project, tmp_path):
    images = tmp_path / "images"
    for name, target in (
        ("sub/a.png", "dog/renamed.png"),
        ("b c.png", "cat/b c.png"),
        ("ü.png", "_unsorted/1.png"),
        ("d&e%.png", "_none_of_these/x.png"),
    ):
        (tmp_path / "sorted" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images / name, tmp_path / "sorted" / target)
    imported(project, tmp_path / "sorted")
    assert labels(project) == {"sub/a.png": "dog", "b c.png": "cat", "d&e%.png": "none_of_these"}


def test_undo_after_an_import_lets_the_labels_before_it_count(project, tmp_path):
    imported(project, written(tmp_path / "x.csv", "path,label\na.png,cat\n"))
    imported(project, written(tmp_path / "y.csv", "path,label\na.png,dog\nb c.png,owl\n"))
    label_store(project).undo(last_action, time="2026-11-26T20:00:00.000+00:00")
    assert labels(project) == {"a.png": "cat"}


def test_a_hand_edit_counts_in_the_next_import(project, tmp_path):
    imported(project, written(tmp_path / "x.csv", "path,label\na.png,cat\n"))
    with project.labels_path.open("a", encoding="utf-8") as file:
        file.write("ü.png,,dog,labeled\n")
    path = filled(project, dict.fromkeys(["b c.png", "d&e%.png", "sub/a.png", "g'h\".png"], "owl"))
    assert imported(project, path, partial=False).missing == {"01": 0}


def test_a_withdrawn_batch_asks_for_nothing(project, tmp_path):
    Batch.read(project.rounds_path / "01").withdraw()
    assert "no batch asks for it" in problems(project, written(tmp_path / "x.csv", "path,label\na.png,cat\n"))[0]


def test_two_imports_at_once_wait_for_each_other(project, tmp_path):
    files = [written(tmp_path / f"{i}.csv", f"path,label\n{name},cat\n") for i, name in enumerate(["a.png", "ü.png"])]
    threads = [threading.Thread(target=imported, args=(Project.open(project.folder), file)) for file in files]
    with project.lock(print):
        for each in threads:
            each.start()
        assert label_rows(project) == []
    for each in threads:
        each.join()
    assert labels(project) == {"a.png": "cat", "ü.png": "cat"}


def test_rows_of_an_import_are_those_of_the_file(project, tmp_path):
    found = imported(project, written(tmp_path / "x.csv", "path,label\na.png,cat\n"))
    (row,) = found.rows
    assert isinstance(row, LabelRow) and [replace(each, line=0) for each in label_rows(project)] == [row]


@pytest.fixture
def cams(tmp_path):
    """Two places with files of the same names."""
    folder = tmp_path / "cams"
    (folder / ".fkal").mkdir(parents=True)
    (folder / "params.yaml").write_text("project: {name: cams, pools: [../cam1, ../cam2], validation: []}\n")
    names = [(root, f"{n}.png") for root in (0, 1) for n in range(3)]
    images = []
    for seed, (root, name) in enumerate(names):
        path = tmp_path / f"cam{root + 1}" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 20 * seed, dtype=np.uint8)).save(path)
        images.append(ListedImage(name, hashlib.sha256(path.read_bytes()).hexdigest(), root))
    write_listing(folder / "pool.parquet", images)
    write_classes(folder / "classes.txt", ("cat", "dog"))
    return Project.open(folder)


def test_a_path_that_two_places_have_names_no_image_alone(cams, tmp_path):
    (line, last) = problems(cams, written(tmp_path / "x.csv", "path,label\n1.png,cat\n"), accept_extra=True)
    assert line.endswith(
        "'1.png': 2 images in several places have this path; put its folder in front, or give the digest"
    )
    assert last == "no label was imported"


@pytest.mark.parametrize("form", ["cam2/1.png", "./cam2/1.png", "cam2\\1.png", "{}/cam2/1.png"])
def test_the_folder_in_front_tells_two_places_apart(cams, tmp_path, form):
    text = f"path,label\n{form.format(tmp_path)},cat\n"
    imported(cams, written(tmp_path / "x.csv", text), accept_extra=True)
    (row,) = label_rows(cams)
    assert row.digest == cams.pool[4].digest and row.label == "cat"


def test_a_row_by_hand_whose_path_two_places_have_is_refused(cams):
    cams.labels_path.write_text("path,digest,label,status\n1.png,,cat,labeled\n")
    with pytest.raises(ConfigError, match=r"'1\.png': images of several places have it; give the digest"):
        label_rows(cams)


def test_an_excluded_path_leaves_all_images_of_it_out(cams, tmp_path):
    listed = written(tmp_path / "out.txt", "1.png\n")
    assert rounds._excluded(listed, cams.pool) == ["1.png"]
    assert cams.pool.rows_of_paths(["1.png"]) == [1, 4] and cams.pool.positions_of_paths(["1.png"]) == [None]
