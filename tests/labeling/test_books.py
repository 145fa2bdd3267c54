"""Which answer counts, of labels that came with the project and those that people gave."""

import pytest

from fkal.errors import ConfigError
from fkal.labeling.books import Books
from fkal.labeling.importing import ImportRules, import_labels
from fkal.labeling.label_store import INIT, LabelRow, LabelStore, now, taken_back
from fkal.notify import PLAIN


@pytest.fixture
def given(labeling_project):
    """Appends a row for an image that no batch asks for, and returns it."""

    def append(label, *, annotator="", source="", status="labeled"):
        image = labeling_project.pool[9]
        row = LabelRow(image.path, image.digest, label, status, annotator=annotator, source=source, time=now())
        LabelStore(labeling_project.folder).append([row])
        return row

    return append


def answer(project):
    books = Books.of(project)
    return books.labels().get(project.pool.digests[9])


def test_a_named_person_corrects_a_label_that_came_with_init(labeling_project, given, tmp_path):
    given("cat", source=INIT)
    (tmp_path / "fix.csv").write_text(f"path,label\n{labeling_project.pool.paths[9]},dog\n")
    rules = ImportRules(accept_extra=True, annotator="Ann")
    import_labels(labeling_project, [tmp_path / "fix.csv"], rules, say=PLAIN.notify)
    assert answer(labeling_project) == "dog"


def test_the_label_of_init_is_back_once_the_correction_is_taken_back(labeling_project, given):
    given("cat", source=INIT)
    correction = given("dog", annotator="Ann", source="import fix.csv")
    LabelStore(labeling_project.folder).append([taken_back(correction, time=now())])
    assert answer(labeling_project) == "cat"


def test_an_init_after_the_correction_changes_nothing_and_a_skip_corrects_nothing(labeling_project, given):
    given("", annotator="Bob", status="skipped")
    given("cat", source=INIT)
    assert answer(labeling_project) == "cat"
    given("dog", annotator="Ann")
    given("owl", source=INIT)
    assert answer(labeling_project) == "dog"


def test_people_who_disagree_still_do(labeling_project, given):
    for label, who, source in (("cat", "", INIT), ("dog", "Ann", ""), ("owl", "Bob", "")):
        given(label, annotator=who, source=source)
    with pytest.raises(ConfigError, match="Ann: dog, Bob: owl"):
        answer(labeling_project)
    assert "cat" not in str(Books.of(labeling_project).answers.conflicts[0])
