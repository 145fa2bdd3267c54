"""`fkal label` and the commands below it, as they are given: what they say and how they end."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fkal.cli.label_page import PageOptions, serve
from fkal.cli.main import app
from fkal.errors import ConfigError
from fkal.labeling.answers import label_rows
from fkal.labeling.batch import Batch, BatchImage, BatchRequest
from fkal.labeling.label_store import current_rows
from fkal.labeling.listing import ListedImage, write_listing
from fkal.labeling.project import Project, write_classes


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Project:
    """Three images, of which batch 01 asks for two; the working folder is below the project's."""
    folder = tmp_path / "pets"
    (folder / ".fkal").mkdir(parents=True)
    (folder / "notes").mkdir()
    (folder / "params.yaml").write_text("project: {name: pets, pools: [images]}\n")
    images = [ListedImage(name, f"{i:064x}") for i, name in enumerate(("a.png", "b.png", "c.png"))]
    write_listing(folder / "pool.parquet", images)
    write_classes(folder / "classes.txt", ("cat", "dog"))
    asked = [BatchImage(image.path, str(image.digest), rank) for rank, image in enumerate(images[:2])]
    Batch.write(folder / "rounds" / "01", BatchRequest("select", 1, "r01"), asked)
    monkeypatch.chdir(folder / "notes")
    return Project.open(folder)


def fkal(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def lines(result: Result) -> list[str]:
    return result.output.splitlines()


def table(folder: Path, text: str) -> Path:
    path = folder / "labels of mine.csv"
    path.write_text(text)
    return path


def test_labels_come_in_and_are_taken_back(project, tmp_path):
    path = table(tmp_path, "path;label\na.png;cat\nb.png;dog\n")
    told = fkal("label", "import", path, "--annotator", "Ann")
    assert told.exit_code == 0
    assert lines(told) == ["2 labels", "batch 01: all images have their answer"]
    assert lines(fkal("label", "import", path, "--annotator", "Ann"))[0] == "0 labels, 2 known before"
    told = fkal("label", "undo")
    assert told.exit_code == 0 and lines(told)[0].startswith("took back 2 labels of import labels of mine.csv, from 20")
    assert current_rows(label_rows(project)) == []
    assert lines(fkal("label", "undo")) == ["there is nothing to take back"]
    assert json.loads(fkal("label", "undo", "--json").stdout) == {"taken_back": 0, "source": None}


def test_json_has_the_counts(project, tmp_path):
    path = table(tmp_path, "path,label,status,reason\na.png,,skipped,dark\nb.png,lynx,,\n")
    told = json.loads(fkal("label", "import", path, "--allow-new-class", "--json").stdout)
    assert told == {
        "labeled": 1, "skipped": 1, "none_of_these": 0, "known": 0, "new_classes": ["lynx"], "missing": {"01": 0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("path,label\na.png,cat\n", 5, "error: b.png: has no label, and batch 01 asks for one"),
        ("path,label\na.png,catt\nb.png,dog\n", 2, "did you mean 'cat'?"),
        ("path,label\na.png,cat\nb.png,dog\nc.png,cat\n", 2, "c.png: no batch asks for it; --accept-extra"),
        ("path,label\nz.png,cat\n", 2, "'z.png': no image of the pool has this content"),
    ],
)
def test_an_import_that_is_not_whole_says_why_and_changes_nothing(project, tmp_path, text, code, said):
    told = fkal("label", "import", table(tmp_path, text))
    assert told.exit_code == code and said in told.output and not project.labels_path.exists()
    assert all(line.startswith("error: ") for line in lines(told))


def test_partial_extra_and_new_classes_are_accepted_when_asked_for(project, tmp_path):
    told = fkal(
        "label", "import", table(tmp_path, "path,label\na.png,lynx\nc.png,cat\n"),
        "--partial", "--accept-extra", "--allow-new-class",
    )  # fmt: skip
    assert (told.exit_code, lines(told)) == (
        0,
        [
            "2 labels",
            "new class: lynx; it needs validation images: fkal val add",
            "batch 01: 1 images wait for a label",
        ],
    )


def test_a_file_that_is_not_there_is_one_line(project):
    told = fkal("label", "import", "none.csv")
    assert (told.exit_code, lines(told)) == (4, ["error: none.csv: there is no such file or folder; check the name"])


def test_an_export_goes_below_the_project_and_is_not_overwritten(project):
    told = fkal("label", "export", "--to", "csv")
    assert told.exit_code == 0 and "export/01-csv.csv: 2 images" in told.output.replace("\n", "")
    assert (project.folder / "export" / "01-csv.csv").is_file()
    assert fkal("label", "export", "--to", "csv").exit_code == 2
    assert "give one of csv, labelstudio" in fkal("label", "export", "--to", "xml").output


def test_without_an_open_batch_there_is_nothing_to_label(project):
    Batch.read(project.rounds_path / "01").withdraw()
    told = fkal("label", "--no-browser")
    assert (told.exit_code, lines(told)) == (0, ["nothing to label: no batch is open; fkal select -n 100 makes one"])
    assert fkal("label", "export", "--to", "csv").exit_code == 2
    told = fkal("label", "--batch", "01")
    assert told.exit_code == 2 and "it was withdrawn" in told.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "07"], "--batch '07': there is no such batch; there are: 01"),
        (["--overlap", "3"], "--overlap: needs more than one --annotator"),
        (["--annotator", "Ann", "--annotator", "Ann"], "one of them is there twice"),
        (["--annotator", "a\nb"], "give a name of 1 to 100 letters"),
        (["--host", "192.0.2.1"], "give an address of this machine"),
        (["--port", "70000"], "--port"),
    ],
)
def test_options_of_the_page_that_cannot_be_are_refused(project, options, said):
    told = fkal("label", "--no-browser", *options)
    assert told.exit_code == 2 and said in " ".join(lines(told))


def test_options_before_a_command_are_refused(project):
    told = fkal("label", "--port", "1", "undo")
    assert told.exit_code == 2 and "options follow the command: fkal label undo --option" in told.output


def test_a_port_in_use_names_the_way_out(project):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = PageOptions(None, ("Ann",), 0, "127.0.0.1", taken.getsockname()[1], None, False, False)
        with pytest.raises(ConfigError, match="--port 0 for a free one"):
            serve(project, options)


def test_outside_a_project_the_way_in_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["undo"], ["import", "x.csv"], ["export", "--to", "csv"]):
        told = fkal("label", *arguments)
        assert told.exit_code == 2 and "fkal init" in told.output


@pytest.mark.parametrize("command", ["push", "pull"])
def test_label_studio_needs_a_token_and_an_address(project, monkeypatch, command):
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    told = fkal("label", command, "--url", "http://127.0.0.1:9", "--project-id", "1")
    assert told.exit_code == 2 and "LABEL_STUDIO_API_KEY: not set" in told.output
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a-secret-of-mine")
    told = fkal("label", command, "--url", "ftp://me:word@x", "--project-id", "1")
    assert told.exit_code == 2 and "such as http://localhost:8080" in told.output and "word" not in told.output
    root = ["--document-root", project.folder.parent] if command == "push" else []
    told = fkal("label", command, "--url", "http://127.0.0.1:9", "--project-id", "1", *root)
    assert told.exit_code == 1 and re.search(r"does not answer \(\w+\)", told.output)
    assert "a-secret-of-mine" not in told.output
