"""labels.csv: what counts, what people may do to the file, and what a kill leaves of it."""

import csv
import hashlib
import io
import threading
from dataclasses import replace

import pytest

from fkal.errors import ConfigError
from fkal.labeling.label_store import (
    COLUMNS,
    LabelRow,
    LabelStore,
    current_rows,
    last_action,
    live_rows,
    resolved,
    taken_back,
    unknown_classes,
)

TIME = "2026-11-26T20:00:00+00:00"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def row(path: str, label: str = "cat", **changes) -> LabelRow:
    status = changes.pop("status", "labeled")
    return LabelRow(path, digest(path), label if status == "labeled" else "", status, **{"time": TIME, **changes})


@pytest.fixture
def store(tmp_path) -> LabelStore:
    return LabelStore(tmp_path)


def written(store: LabelStore) -> list[LabelRow]:
    return [replace(each, line=0) for each in store.rows()]


def test_rows_come_back_as_they_were_appended(store):
    rows = [
        row("a b&%'\".jpg", "=cat", annotator="Ann", seconds=1.25, source="page", batch="r01", round="1"),
        row("猫.jpg", status="skipped", reason="two, or more"),
        row("c.jpg", status="none_of_these"),
    ]
    store.append(rows[:1])
    store.append(rows[1:])
    assert written(store) == rows
    assert [each.line for each in store.rows()] == [2, 3, 4]
    header = store.path.read_text(encoding="utf-8").splitlines()[0]
    assert header == "path,digest,label,status,reason,round,batch,source,annotator,seconds,time" == ",".join(COLUMNS)


def test_a_line_break_in_a_reason_stays_on_its_row(store):
    store.append([row("a.jpg", status="skipped", reason="one\ntwo", source="page")])
    assert len(store.path.read_text().splitlines()) == 2
    assert store.rows()[0].reason == r"one\ntwo"


def test_no_file_means_no_rows(store):
    assert store.rows() == []
    store.append([])
    assert not store.path.exists()


def test_the_last_row_of_an_image_and_annotator_counts():
    rows = [row("a", "cat"), row("b", "owl"), row("a", "dog"), row("a", "elk", annotator="Ann")]
    assert [(each.path, each.label) for each in current_rows(rows)] == [("b", "owl"), ("a", "dog"), ("a", "elk")]


def test_undone_lets_the_row_before_count_again():
    first, second = row("a", "cat"), row("a", "dog")
    undone = taken_back(second, time=TIME)
    assert current_rows([first, second, undone]) == [first]
    assert current_rows([first, second, undone, taken_back(first, time=TIME)]) == []
    assert current_rows([first, second, undone, row("a", "elk")])[0].label == "elk"
    assert live_rows([taken_back(first, time=TIME), first]) == [first]


def test_undone_takes_back_the_row_of_its_own_source():
    page, imported = row("a", "cat", source="page", batch="r01"), row("a", "dog", source="import x.csv")
    assert current_rows([page, imported, taken_back(page, time=TIME)]) == [imported]
    by_hand = replace(taken_back(page, time=TIME), source="", batch="")
    assert current_rows([page, imported, by_hand]) == [page]


def test_undo_takes_back_imports_and_batches_one_after_another(store):
    page = [row(name, source="page", batch="r01", time=f"2026-11-26T20:00:0{i}+00:00") for i, name in enumerate("abc")]
    imported = [row(name, "dog", source="import x.csv", time="2026-11-26T21:00:00+00:00") for name in "ad"]
    for each in page:
        store.append([each])
    store.append(imported)
    assert {each.path for each in store.undo(last_action, time=TIME)} == {"a", "d"}
    assert [(each.path, each.label) for each in current_rows(store.rows())] == [(n, "cat") for n in "abc"]
    assert {each.path for each in store.undo(last_action, time=TIME)} == {"a", "b", "c"}
    assert current_rows(store.rows()) == [] == store.undo(last_action, time=TIME)
    assert len(store.rows()) == 10


def test_two_imports_of_one_file_are_two_actions():
    rows = [row("a", source="import x.csv", time="t1"), row("a", "dog", source="import x.csv", time="t2")]
    assert last_action(rows) == rows[1:]
    assert last_action([rows[0], replace(rows[1], annotator="Ann")], annotator="") == rows[:1]


@pytest.mark.parametrize(
    ("rule", "label", "conflicts"), [("error", None, 1), ("latest", "dog", 0), ("majority", "cat", 0)]
)
def test_annotators_who_disagree_are_resolved_by_the_rule(rule, label, conflicts):
    rows = [row("a", "cat", annotator="1"), row("a", "cat", annotator="2"), row("a", "dog", annotator="3")]
    found = resolved(rows, rule)
    assert found.labels.get(digest("a")) == label
    assert len(found.conflicts) == conflicts


def test_a_tie_is_a_conflict_that_names_who_said_what():
    rows = [row("a", "cat", annotator="Ann"), row("a", annotator="Bo", status="none_of_these")]
    with pytest.raises(ConfigError, match=r"disagree on a: Ann: cat, Bo: none_of_these\n.*labels.resolve"):
        resolved(rows, "majority").refuse_conflicts()


def test_a_skip_counts_only_where_nobody_answered():
    skip = row("a", annotator="Ann", status="skipped", reason="blurred")
    assert resolved([row("a", "cat", annotator="Bo"), skip], "error").labels == {digest("a"): "cat"}
    assert resolved([skip], "error").rows[digest("a")].reason == "blurred"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_file_that_a_spreadsheet_saved_is_read_and_appended_to_in_its_form(store, encoding):
    text = (
        "Path;Digest;Label;Status;Reason;Round;Batch;Source;Annotator;Seconds;Time;Note\r\n"
        f'"a ""b"";c.jpg";{digest("1").upper()};Käse;labeled;;1;r01;page;;1,5;;mine\r\n;;;;;;;;;;;\r\n'
    )
    store.path.write_bytes(text.encode(encoding))
    before = store.rows()
    assert (before[0].path, before[0].digest, before[0].label, before[0].seconds) == (
        'a "b";c.jpg', digest("1"), "Käse", 1.5,
    )  # fmt: skip
    store.append([row("d;e.jpg", seconds=2.0)])
    store.append([row("f.jpg")])
    assert [each.path for each in store.rows()] == ['a "b";c.jpg', "d;e.jpg", "f.jpg"]
    content = store.path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") == (encoding != "utf-8")
    table = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=";"))
    assert table[0]["Note"] == "mine" and table[-1]["Path"] == "f.jpg"


def test_a_hand_edit_is_seen_and_may_lack_the_digest_and_the_last_line_feed(store):
    store.append([row("a.jpg")])
    with store.path.open("a") as file:
        file.write("b.jpg,,dog,")
    store = LabelStore(store.path.parent, {"b.jpg": digest("b.jpg")}.__getitem__)
    rows = store.rows()
    assert rows[1] == LabelRow("b.jpg", digest("b.jpg"), "dog", line=3)
    store.append([row("c.jpg")])
    assert [each.path for each in store.rows()] == ["a.jpg", "b.jpg", "c.jpg"]


def test_what_cannot_be_read_is_named_by_its_line(store):
    store.append([row("a.jpg")])
    with store.path.open("a") as file:
        given = digest("1")
        file.write(
            f"b.jpg,,dog,\nc.jpg,{given},,labeled\nd.jpg,{given},dog,labled\n\ne.jpg,{given},dog,,,,,,,soon,\n"
            f"f.jpg,{given[1:]},dog,\n"
        )
    with pytest.raises(ConfigError) as error:
        store.rows()
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["line 3", "line 4", "line 5", "line 7", "line 8"]
    assert "did you mean 'labeled'" in lines[2] and "give the 64 digits" in lines[4]


@pytest.mark.parametrize(
    "typed",
    [
        "b.jpg,,dog",
        f"b.jpg,{digest('b.jpg')},dog,,,,,,,,",
        f"b.jpg,{digest('b.jpg')},dog,labeled,,,,,Ann,,27 Nov",
        f"b.jpg,{digest('b.jpg')},dog,labeled,,,,page,Ann,1.5,{TIME}",
    ],
)
def test_a_last_line_that_a_person_typed_without_a_line_feed_counts_and_stays(store, typed):
    store.append([row("a.jpg")])
    with store.path.open("a") as file:
        file.write(typed)
    store = LabelStore(store.path.parent, digest)
    before = store.rows()
    assert [(each.path, each.digest, each.label) for each in before[1:]] == [("b.jpg", digest("b.jpg"), "dog")]
    store.append([row("c.jpg")])
    assert store.rows()[:2] == before and store.rows()[2].path == "c.jpg"


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_row_that_a_kill_tore_is_left_out_and_the_next_one_mends_the_file(store, cut):
    first, torn = row("a.jpg", source="page"), row("b,c.jpg", source="page", annotator="Ann", batch="r01", seconds=1.0)
    store.append([first])
    store.append([torn])
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[:-cut])
    if cut > 1:
        assert written(store) == [first]
    store.append([row("d.jpg", source="page")])
    kept = [first, torn] if cut == 1 else [first]
    assert written(store) == [*kept, row("d.jpg", source="page")]


def test_what_a_killed_process_left_is_removed(store):
    scratch = store.path.with_name(".labels.csv.123.tmp")
    scratch.write_text("half")
    store.append([row("a.jpg")])
    assert not scratch.exists()


def test_threads_that_append_at_once_lose_no_row(store):
    def work(name: int) -> None:
        for i in range(10):
            LabelStore(store.path.parent).append([row(f"{name}-{i}")] * (1 + i % 2))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(store.rows()) == 60


def test_a_link_is_not_written_through(store, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "labels.csv"
    other.write_text("mine")
    store.path.symlink_to(other)
    with pytest.raises(ValueError, match="symbolic link"):
        store.append([row("a")])
    assert other.read_text() == "mine"


def test_classes_that_the_project_lacks_are_named_once():
    rows = [replace(row(name, "catt"), line=i) for i, name in enumerate("abc", 2)] + [row("d", "dog")]
    assert unknown_classes(rows, ["cat", "dog"]) == [
        "labels.csv: line 2: class 'catt' (3 images) is not in classes.txt; did you mean 'cat'? "
        "correct the rows, or add the class to classes.txt"
    ]


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e400", "x", "1000000001"])
def test_seconds_that_no_label_takes_are_refused_with_their_line(tmp_path, seconds):
    (tmp_path / "labels.csv").write_text(f"path,digest,label,status,seconds\na.jpg,{'0' * 64},cat,labeled,{seconds}\n")
    with pytest.raises(ConfigError, match=f"line 2.*seconds '{seconds}': give a number from 0 to 1,000,000,000"):
        LabelStore(tmp_path).rows()
