"""GTSRB in torchvision's layout, made small; and as a tree with named classes."""

import shutil

import pytest
from PIL import Image

from fkal.data.datasets import load
from fkal.data.errors import CorruptData, MissingData
from fkal.data.registry import GTSRB_NAMES
from fkal.data.settings import DataConfig
from fkal.data.sources import gtsrb as gtsrb_sources

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def write_published(root, *, frames: int = 2) -> None:
    """root/gtsrb as torchvision leaves it, one track per class and a test image per class, in reversed order."""
    training, test = root / "gtsrb/GTSRB/Training", root / "gtsrb/GTSRB/Final_Test/Images"
    test.mkdir(parents=True)
    for c in range(43):
        (training / f"{c:05}").mkdir(parents=True)
        (training / f"{c:05}" / f"GT-{c:05}.csv").write_text(HEADER + "\n")
        for frame in range(frames):
            Image.new("RGB", (30 + c, 25), (c, frame, 0)).save(training / f"{c:05}" / f"00000_{frame:05}.ppm")
        Image.new("RGB", (40, 41), (42 - c, 0, 9)).save(test / f"{c:05}.ppm")
    rows = [f"{c:05}.ppm;40;41;5;5;35;36;{42 - c}" for c in range(43)]
    (root / "gtsrb/GT-final_test.csv").write_text("\n".join([HEADER, *rows]) + "\n")


@pytest.fixture
def published(tmp_path, no_network):
    write_published(tmp_path)
    return tmp_path


def test_torchvision_s_layout_has_named_classes_and_the_labels_of_its_csv(published):
    dataset = load(DataConfig(name="gtsrb", root=str(published)))
    assert dataset.classes == GTSRB_NAMES
    assert dataset.train.shape == (3, 32, 32)
    assert dataset.train.labels.tolist() == [c for c in range(43) for _ in range(2)]
    assert dataset.test.labels.tolist() == list(range(42, -1, -1))
    assert dataset.train.names[2] == "Training/00001/00000_00000.ppm"


def test_what_torchvision_reads_is_what_is_read(published):
    from torchvision.datasets import GTSRB

    dataset = load(DataConfig(name="gtsrb", root=str(published)))
    for part, images in (("train", dataset.train), ("test", dataset.test)):
        theirs = GTSRB(published, part)
        assert [label for _, label in theirs._samples] == images.labels.tolist()
        assert [path.rpartition("/")[2] for path, _ in theirs._samples] == [n.rpartition("/")[2] for n in images.names]


def test_frames_of_a_track_are_one_group_and_the_csv_files_are_no_notes(published):
    dataset = load(DataConfig(name="gtsrb", root=str(published), groups=r"([^/]+)/(\d+)_"))
    assert dataset.groups.tolist() == [c for c in range(43) for _ in range(2)]
    assert not any("csv" in note for note in dataset.notes)


def test_its_sources_are_all_its_files(published):
    sources = gtsrb_sources(DataConfig(name="gtsrb", root=str(published)))
    assert len(sources.names) == 43 * 3 + 1
    assert all((sources.root / name).is_file() for name in sources.names)


def test_without_the_labels_of_the_test_images_it_says_what_to_bring(published):
    (published / "gtsrb/GT-final_test.csv").unlink()
    with pytest.raises(MissingData, match=r"GT-final_test.csv"):
        load(DataConfig(name="gtsrb", root=str(published)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../../x.ppm;1;1;1;1;1;1;3", "Filename = '../../x.ppm'"),
        ("00000.ppm;1;1;1;1;1;1;43", "ClassId = '43': give 0 to 42"),
        ("00000.ppm;1;1;1;1;1;1;stop", "ClassId = 'stop'"),
        ("00000.ppm", "ClassId = ''"),
    ],
)
def test_a_wrong_row_of_the_labels_is_named(published, row, message):
    (published / "gtsrb/GT-final_test.csv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        load(DataConfig(name="gtsrb", root=str(published)))


def test_a_missing_class_folder_is_named(published):
    shutil.rmtree(published / "gtsrb/GTSRB/Training/00007")
    with pytest.raises(CorruptData, match="class folders 00007 are absent or not known"):
        load(DataConfig(name="gtsrb", root=str(published)))


def test_an_absent_download_says_what_to_put_where(tmp_path, no_network):
    with pytest.raises(
        MissingData, match=r"put there: gtsrb/GTSRB/ or .*gtsrb-imagefolder.tar, from https://benchmark"
    ):
        load(DataConfig(name="gtsrb", root=str(tmp_path)))


def test_a_tree_with_named_classes_is_numbered_as_the_publishers_number_it(write_tree, tmp_path):
    write_tree(tmp_path / "gtsrb", classes=GTSRB_NAMES, per_class=1)
    dataset = load(DataConfig(name="gtsrb", root=str(tmp_path)))
    assert dataset.classes == GTSRB_NAMES
    by_name = {
        name.split("/")[1]: label
        for name, label in zip(dataset.train.names, dataset.train.labels.tolist(), strict=True)
    }
    assert by_name == {name: number for number, name in enumerate(GTSRB_NAMES)}


def test_a_tree_of_other_classes_is_refused(write_tree, tmp_path):
    write_tree(tmp_path / "gtsrb")
    with pytest.raises(CorruptData, match="absent or not known; GTSRB has 43"):
        load(DataConfig(name="gtsrb", root=str(tmp_path)))
