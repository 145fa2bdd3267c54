"""The folder of a project."""

import threading

import pytest

from fkal.data.addresses import is_url, joined
from fkal.errors import ConfigError, MissingSettings
from fkal.identifiers import UnsafeName
from fkal.labeling.label_store import LabelRow, LabelStore
from fkal.labeling.listing import ListedImage
from fkal.labeling.project import NoProject, Project, base_of, read_classes, write_classes
from fkal.labeling.rounds import SelectOptions, select
from fkal.labeling.status import status

PARAMS = """\
project: {name: signs, pools: [../images, s3://bucket/more.csv]}
data: {image_size: 32}
train: {lr: 0.25}
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "signs"
    (folder / ".fkal").mkdir(parents=True)
    (folder / "params.yaml").write_text(PARAMS)
    return folder


def test_a_project_is_found_from_folders_below_it(folder):
    below = folder / "rounds" / "01"
    below.mkdir(parents=True)
    assert Project.find(below).folder == Project.find(folder).folder == folder


def test_where_there_is_none_the_way_to_make_one_is_named(tmp_path):
    with pytest.raises(NoProject, match="fkal init DIR --pool"):
        Project.find(tmp_path)
    with pytest.raises(NoProject, match="no \\.fkal/"):
        Project.open(tmp_path)


def test_a_project_without_params_file_says_so(folder):
    (folder / "params.yaml").unlink()
    with pytest.raises(MissingSettings, match="missing; take it back"):
        Project.open(folder)


def test_settings_come_from_the_file_the_environment_and_set_in_this_order(folder):
    project = Project.open(folder)
    config = project.config(environment={})
    assert (config.data.name, config.data.image_size, config.bias.kind, config.train.lr) == ("signs", 32, "none", 0.25)
    assert project.config(environment={"FKAL_TRAIN__LR": "0.5"}).train.lr == 0.5
    assert project.config(["train.lr=1"], environment={"FKAL_TRAIN__LR": "0.5"}).train.lr == 1
    assert project.label_settings.resolve == "error"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("project: {name: a}", "project.pools: not set"),
        ("project: {name: a, pools: x}", r"project.pools = 'x': give a list, say \[x\]"),
        ("project: {name: a, pools: [x], pool: y}", "project.pool: unknown key; did you mean 'pools'"),
        ("project: {name: ../a, pools: [x]}", "project.name: '../a'"),
        ("project: [a]", "give keys with values"),
        ("project: {name: a, pools: [x]}\nlabels: {resolve: oldest}", "labels.resolve = 'oldest'"),
        ("project: {name: a, pools: [x]}\ndata: {name: mnist}", "data.name: project.name names"),
        ("project: {name: a, pools: [x]}\ntrian: {lr: 1}", "'trian': unknown section; did you mean 'train'"),
    ],
)
def test_a_wrong_params_file_is_refused_with_key_and_value(folder, text, message):
    (folder / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Project.open(folder)


def test_rows_are_found_in_the_place_that_they_count(folder):
    project = Project.open(folder)
    assert project.location("pool", ListedImage("a b.jpg", root=0)) == str(folder / "../images/a b.jpg")
    assert project.location("pool", ListedImage("a/b.jpg", root=1)) == "s3://bucket/a/b.jpg"
    assert project.location("pool", ListedImage("https://host/b.jpg", root=0)) == "https://host/b.jpg"
    with pytest.raises(ConfigError, match="pool has 2 places"):
        project.location("pool", ListedImage("a.jpg", root=2))


@pytest.mark.parametrize("part", ["pool", "validation"])
def test_a_list_that_was_made_and_is_gone_is_missing_and_not_empty(labeling_project, part):
    labeling_project.listing_path(part).unlink()
    with pytest.raises(MissingSettings, match=rf"{part}.parquet: missing; take it back from git"):
        status(labeling_project.reread())


def test_an_unknown_method_is_one_of_the_settings(labeling_project):
    with pytest.raises(ConfigError, match=r"acquisition.name = 'pfk,random': unknown method 'pfk,random'"):
        select(labeling_project, SelectOptions(method="pfk,random"))


def test_paths_of_a_manifest_start_beside_it(tmp_path):
    (tmp_path / "list.csv").write_text("path\n")
    assert base_of(tmp_path, "list.csv") == str(tmp_path)
    assert base_of(tmp_path, "s3://bucket/folder/") == "s3://bucket/folder/"
    assert joined(str(tmp_path), "/abs/a.jpg") == "/abs/a.jpg"
    assert is_url("s3://a") and is_url("gs+x://a") and not is_url("C:/a") and not is_url("a/b://c")


def test_classes_are_appended_and_keep_their_place(folder):
    project = Project.open(folder)
    assert project.classes == () and project.add_classes(["stop", "give way", "stop"]) == ("stop", "give way")
    assert project.add_classes(["yield", "stop"]) == ("yield",)
    assert project.classes == ("stop", "give way", "yield")
    assert project.classes_path.read_text() == "stop\ngive way\nyield\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\nb\na\n", "line 1.*twice"), ("a\n\nb\n", "line 2.*needs a name"), ("a\tb\n", "control"), ("x" * 201, "200")],
)
def test_wrong_classes_are_refused_with_their_line(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_classes(tmp_path / "classes.txt")


def test_many_lines_of_classes_are_read_at_once(tmp_path):
    """Each line once, however many there are and however many empty ones follow."""
    names = [f"c{n}" for n in range(100_000)]
    (tmp_path / "classes.txt").write_text("\n".join(names) + 1_000_000 * "\n")
    assert read_classes(tmp_path / "classes.txt") == tuple(names)


def test_a_file_of_classes_from_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "classes.txt").write_bytes("\ufeffcat\r\ndog \r\n\r\n".encode())
    assert read_classes(tmp_path / "classes.txt") == ("cat", "dog")


def test_no_name_of_two_lines_is_written(tmp_path):
    with pytest.raises(ConfigError, match="one line"):
        write_classes(tmp_path / "classes.txt", ["a\u2028b"])


def test_files_of_a_project_are_not_written_through_links(folder, tmp_path):
    (tmp_path / "elsewhere").write_text("")
    (folder / "classes.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeName, match="symbolic link"):
        Project.open(folder).add_classes(["a"])


def test_a_second_command_waits_for_the_first(folder):
    project, order = Project.open(folder), []

    def second():
        with Project.open(folder).lock(order.append):
            order.append("second")

    with project.lock(order.append):
        other = threading.Thread(target=second)
        other.start()
        other.join(timeout=0.2)
        order.append("first")
    other.join()
    assert [each for each in order if "waiting" not in each] == ["first", "second"]


STATUS_NAMES = ("labeled", "skipped", "none_of_these", "undone", "_unsorted", "_skipped", "_none_of_these")


@pytest.mark.parametrize("name", STATUS_NAMES)
def test_no_new_class_is_called_as_a_status_is(folder, name):
    project = Project.open(folder)
    with pytest.raises(ConfigError, match=f"class '{name}': is the name of a status.*name the class otherwise"):
        project.add_classes(["cat", name])
    assert not project.classes_path.exists()
    project.classes_path.write_text(f"cat\n{name}\n")
    with pytest.raises(ConfigError, match=f"classes.txt: line 2: '{name}': is the name of a status"):
        _ = project.classes


def test_a_project_that_has_labels_of_such_a_class_goes_on_and_says_so(labeling_project):
    labeling_project.classes_path.write_text("cat\ndog\nowl\nskipped\n")
    image = next(iter(labeling_project.pool))
    LabelStore(labeling_project.folder).append([LabelRow(image.path, image.digest, "skipped")])
    assert labeling_project.classes == ("cat", "dog", "owl", "skipped")
    assert labeling_project.add_classes(["lynx"]) == ("lynx",)
    assert status(labeling_project).ambiguous == ("skipped",)
