"""Which files of a tree are its images, and what is said of the others."""

import os
import statistics
import tarfile

import pytest
import torch
from PIL import Image

from fkal.data import trees
from fkal.data.datasets import load
from fkal.data.errors import CorruptData, IncompleteData, printable
from fkal.data.files import folder_files, tar_parts
from fkal.data.images import FolderImages
from fkal.data.settings import DataConfig


@pytest.fixture
def tree(tmp_path, write_tree):
    return write_tree(tmp_path / "pets", per_class=3)


def renamed(path, name):
    """To a name of any bytes."""
    path.rename(path.with_name(os.fsdecode(name)))


def own(tree, **settings):
    return load(DataConfig(name="folder", root=str(tree.parent), folder=tree.name, workers=0, **settings))


def test_what_programs_leave_behind_is_no_class_and_no_image(tree):
    before = own(tree).digest
    for folder in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        (tree / "train" / folder).mkdir()
        (tree / "train" / folder / "0.jpg").write_bytes(b"")
    (tree / "train" / "cat" / ".hidden").mkdir()
    for name in (".DS_Store", "Thumbs.db", "._0000.jpg", ".0.jpg"):
        (tree / "train" / "cat" / name).write_bytes(b"junk")
    (tree / "train" / "dog" / "labels.csv").write_text("a,b")
    (tree / "train" / "dog" / "README").write_text("a")
    (tree / "train" / "list.txt").write_text("a")
    found = own(tree)
    assert found.classes == ("cat", "dog") and found.digest == before
    assert found.notes == (
        f"{tree}, train: left out: 8 hidden or left by other programs, 1 outside classes, "
        "1 files without an extension, 1 .csv files",
    )


def test_what_programs_leave_behind_is_left_out_of_a_tar(tree, tar_of, tmp_path):
    for name in ("._0000.jpg", "notes.txt"):
        (tree / "train" / "cat" / name).write_bytes(b"junk")
    (tree / "train" / "__MACOSX").mkdir()
    (tree / "train" / "__MACOSX" / "0.jpg").write_bytes(b"junk")
    train, test = tar_parts(tar_of(tree, tmp_path / "x.tar"), "train", "test")
    assert (train.classes, len(train), len(test)) == (("cat", "dog"), 6, 6)
    assert train.left_out == {"hidden or left by other programs": 2, ".txt files": 1} and not test.left_out


@pytest.mark.parametrize("suffix", ["jfif", "gif", "JPE", "pbm"])
def test_an_image_of_any_known_extension_is_one(tree, suffix):
    kind = {"gif": "GIF", "pbm": "PPM"}.get(suffix, "JPEG")
    Image.new("L", (20, 16)).save(tree / "train" / "cat" / f"z.{suffix}", kind)
    assert own(tree).train.names[3] == f"train/cat/z.{suffix}"


def test_own_images_take_the_median_size(tree):
    for k, size in enumerate([(3, 90), (20, 16), (24, 18), (30, 12), (20, 18)]):
        Image.new("RGB", size).save(tree / "train" / "cat" / f"{k:04}.jpg")
    (tree / "train" / "cat" / "9.jpg").write_bytes((tree / "train" / "cat" / "0000.jpg").read_bytes())
    with Image.open(tree / "train" / "cat" / "0000.jpg") as first:
        assert first.size == (3, 90)
    widths, heights = [3, 20, 24, 30, 20, 3, 20, 20, 20], [90, 16, 18, 12, 18, 90, 16, 16, 16]
    found = own(tree)
    assert found.train.shape == (3, statistics.median_low(heights), statistics.median_low(widths)) == (3, 16, 20)
    assert found.notes == (f"{tree}, train: of 9 images 5 scaled and cropped to the size of the others",)
    assert own(tree, image_size=8).notes == ()


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, at the EXIF data that it wrote itself
def test_the_median_knows_upright_sizes_and_decodes_nothing(tree):
    for path in (tree / "train").rglob("*.jpg"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.linear_gradient("L").resize((20, 16)).rotate(30).save(path, exif=exif, quality=100)
        path.write_bytes(path.read_bytes()[:-20])  # the pixels are cut off, the header is whole
    assert trees.median_size(folder_files(tree, "train"), workers=0) == (20, 16)


@pytest.mark.parametrize("change", ["turned", "transparent"])
def test_a_tree_whose_pixels_are_decoded_otherwise_than_before_has_another_digest(tree, monkeypatch, change):
    """Else a run that was finished with the pixels of before would be taken for one with these."""
    path = tree / "train" / "cat" / "0000.png"
    (tree / "train" / "cat" / "0000.jpg").unlink()
    exif = Image.Exif()
    exif[0x0112] = 3
    if change == "turned":
        Image.new("RGB", (20, 16)).save(path, exif=exif)
    else:
        Image.new("RGBA", (20, 16)).save(path)
    for in_memory in (True, False):
        monkeypatch.setattr(trees, "IN_MEMORY", 2**31 if in_memory else 0)
        found = own(tree)
        assert isinstance(found.train, FolderImages) is not in_memory
        with monkeypatch.context() as before:
            for module in ("trees", "images"):
                before.setattr(f"fkal.data.{module}.NEW_PIXELS", 0)
            assert own(tree).digest != found.digest
        (note,) = found.notes
        assert f"of 6 images 1 {'turned' if change == 'turned' else 'with transparency'}" in note


def test_links_to_files_and_folders_are_followed_and_circles_end(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in "ab":
        Image.new("RGB", (20, 16)).save(outside / f"{name}.png")
    cat = tree / "train" / "cat"
    (cat / "linked.png").symlink_to(outside / "a.png")
    (cat / "more").symlink_to(outside)
    (cat / "again").symlink_to(outside)
    (cat / "up").symlink_to(tree / "train")
    (cat / "root").symlink_to("/")
    (outside / "back").symlink_to(outside)
    found = folder_files(tree, "train")
    expected = ["0000.jpg", "0001.jpg", "0002.jpg", "linked.png", "again/a.png", "again/b.png"]
    assert [name for name in found.names if "/cat/" in name] == [f"train/cat/{name}" for name in expected]
    assert found.left_out["links to folders that are read already"] == 4


def test_a_class_may_be_a_link_to_a_folder(tree, tmp_path):
    before = own(tree).digest
    (tree / "train" / "cat").rename(tmp_path / "cats")
    (tree / "train" / "cat").symlink_to(tmp_path / "cats")
    assert own(tree).digest == before


def test_a_class_that_links_to_its_own_tree_has_no_images(tree):
    (tree / "train" / "eel").symlink_to(tree / "train")
    with pytest.raises(IncompleteData, match="train/eel"):
        own(tree)


def test_names_are_shown_on_one_line_of_valid_text(tree):
    for name in (b"new\nline.png", b"\xff\xfe.png", b"\x1b[31mred.png"):
        Image.new("RGB", (20, 16)).save(tree / "train" / "cat" / "z.png")
        renamed(tree / "train" / "cat" / "z.png", name)
    for part in ("train", "test"):
        renamed(tree / part / "dog", b"dog\xe9")
    found = own(tree)
    assert set(found.train.names) >= {f"train/cat/{name}" for name in ("new\\nline.png", "\\xff\\xfe.png")}
    assert found.classes == ("cat", "dog\\xe9")
    "".join([*found.train.names, *found.classes]).encode()
    assert found.train.pixels(torch.arange(len(found.train))).shape[0] == 9


def test_two_classes_that_are_shown_alike_are_refused(tree):
    for part in ("train", "test"):
        renamed(tree / part / "cat", b"dog\xe9")
        (tree / part / "dog").rename(tree / part / "dog\\xe9")
    with pytest.raises(CorruptData, match="both shown as"):
        own(tree)


@pytest.mark.parametrize("name", ["cat", "Große Katze", "猫", "👩‍🔬", "a b", "x\u00a0y"])
def test_ordinary_names_stay_as_they_are(name):
    assert printable(name) == name


def test_a_link_in_a_tar_is_refused(tree, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tree, arcname="pets")
        link = tarfile.TarInfo("pets/train/cat/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "0000.jpg"
        archive.addfile(link)
    with pytest.raises(CorruptData, match=r"link\.jpg: in the tar it is a link"):
        tar_parts(tmp_path / "x.tar", "train")
