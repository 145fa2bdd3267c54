"""What a scan lists, what it sets aside, and that one bad file never stops it."""

import io
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fkal.config.layers import Layer
from fkal.data.errors import MissingData
from fkal.errors import ConfigError
from fkal.labeling.file_facts import FILES_A_JOB, FileFacts
from fkal.labeling.listing import ListedImage
from fkal.labeling.places import Looker, scan_places
from fkal.labeling.project import LabelSettings, Project, ProjectSettings
from fkal.labeling.quarantine import read_quarantine
from fkal.labeling.scan import Leak
from fkal.notify import PLAIN, Unseen


def pixels(seed, shape=(8, 8, 3), dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)
    return path


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def scan(tmp_path):
    """Scans places of one part after the other, as `fkal init` does; returns the project and the summary."""

    def scanned(part="pool", *, drop_leaks=False, groups=None, **places):
        places = {key: tuple(str(tmp_path / place) for place in value) for key, value in places.items()}
        settings = ProjectSettings(**{"name": "pets", "pools": (str(tmp_path / "pool"),), **places})
        data = {} if groups is None else {"data": {"groups": groups}}
        (tmp_path / "project").mkdir(exist_ok=True)
        project = Project(tmp_path / "project", settings, LabelSettings(), Layer("test", data))
        with Looker(project.facts_path, PLAIN, workers=0, drop_leaks=drop_leaks) as looker:
            summary = scan_places(project, part, range(len(settings.sources(part))), looker)
        return project.reread(), summary

    return scanned


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


JPEG = encoded(Image.fromarray(pixels(1, (40, 40, 3))), "JPEG")
WRONG = {
    "zero bytes": (b"", "empty", "the file is empty"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "broken", "truncated"),
    "text": (b"These are words.\n" * 20, "unknown format", "not an image file"),
    "400 megapixels": (b"P4 20000 20000\n", "too large", "400,000,000 pixels"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "needs a package", "pip install pillow-heif"),
}
FINE = {
    "CMYK": encoded(Image.fromarray(pixels(2, (8, 6, 4)), "CMYK"), "JPEG"),
    "16 bit": encoded(Image.fromarray(pixels(3, (8, 6), np.uint16)), "PNG"),
    "palette with alpha": encoded(
        Image.fromarray(pixels(4, (8, 6, 3))).convert("P"), "PNG", transparency=bytes(range(256))
    ),
    "EXIF rotation": encoded(Image.fromarray(pixels(5, (6, 8, 3))), "JPEG", exif=orientation(6)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_bad_file_is_set_aside_and_the_others_are_listed(kind, scan, tmp_path):
    content, flaw, reason = WRONG[kind]
    picture(tmp_path / "pool" / "good.png")
    (tmp_path / "pool" / "bad.jpg").write_bytes(content)
    project, summary = scan()
    assert list(project.pool.paths) == ["good.png"] and summary.set_aside == {flaw: 1}
    (row,) = read_quarantine(project.quarantine_path)
    assert (row.path, row.flaw, row.part, row.root) == ("bad.jpg", flaw, "pool", 0) and reason in row.reason


@pytest.mark.parametrize("kind", FINE)
def test_unusual_images_are_listed_with_the_size_that_they_are_shown_in(kind, scan, tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "a.img.jpg").write_bytes(FINE[kind])
    project, _ = scan()
    assert (project.pool[0].width, project.pool[0].height) == (6, 8)


def test_pipes_dead_links_and_names_without_text_are_set_aside(scan, tmp_path):
    picture(tmp_path / "pool" / "good.png")
    os.mkfifo(tmp_path / "pool" / "pipe.jpg")
    (tmp_path / "pool" / "dead.jpg").symlink_to(tmp_path / "nothing")
    picture(tmp_path / "pool" / "x.png").rename(tmp_path / "pool" / os.fsdecode(b"\xff.png"))
    project, summary = scan()
    reasons = {row.path: row.reason for row in read_quarantine(project.quarantine_path)}
    assert list(project.pool.paths) == ["good.png"] and summary.set_aside == {"unlisted": 3}
    assert reasons["pipe.jpg"] == "it is a pipe, not a file" and reasons["dead.jpg"] == "it is a link to nothing"
    assert reasons[r"\udcff.png"] == "its name is not UTF-8; rename it"


def test_links_in_circles_end(scan, tmp_path):
    picture(tmp_path / "pool" / "deep" / "a.png")
    (tmp_path / "pool" / "deep" / "up").symlink_to(tmp_path / "pool")
    (tmp_path / "pool" / "self").symlink_to("self")
    project, summary = scan()
    assert list(project.pool.paths) == ["deep/a.png"] and sum(summary.left_out.values()) == 2


def test_odd_names_are_listed_as_they_are(scan, tmp_path):
    names = sorted(["a b.png", "c&d.png", "100%.png", "q'u\"o.png", "grün/日本.png", "=1+1.png", "line\nbreak.png"])
    for seed, name in enumerate(names):
        picture(tmp_path / "pool" / name, seed)
    project, _ = scan()
    assert sorted(project.pool.paths) == names
    assert all(Path(project.location("pool", image)).is_file() for image in project.pool)


def test_exact_copies_are_one_image(scan, tmp_path):
    for name in ("b.png", "a.png", "c/a.png"):
        picture(tmp_path / "pool" / name)
    picture(tmp_path / "more" / "z.png")
    project, summary = scan(pools=["pool", "more"])
    (image,) = project.pool
    assert (image.path, image.duplicates) == ("a.png", ("b.png", "c/a.png", str(tmp_path / "more" / "z.png")))
    assert (summary.listed, summary.duplicates, summary.found) == (1, 3, 4)


def test_a_second_scan_changes_no_byte(scan, tmp_path):
    for seed in range(3):
        picture(tmp_path / "pool" / f"{seed}.png", seed)
    (tmp_path / "pool" / "bad.png").write_bytes(b"bad")
    project, _ = scan()
    files = (project.listing_path("pool"), project.quarantine_path)
    before = [path.read_bytes() for path in files]
    scan()
    assert [path.read_bytes() for path in files] == before


def test_new_images_join_behind_the_others(scan, tmp_path):
    picture(tmp_path / "pool" / "m.png", 1)
    before, _ = scan()
    first = tuple(before.pool)
    picture(tmp_path / "pool" / "a.png", 2)
    picture(tmp_path / "pool" / "copy.png", 1)
    project, summary = scan()
    assert list(project.pool.paths) == ["m.png", "a.png"] and summary.added == 1
    assert project.pool[0] == ListedImage(**{**vars(first[0]), "duplicates": ("copy.png",)})


def test_an_image_of_validation_in_the_pool_is_refused_or_dropped(scan, tmp_path):
    picture(tmp_path / "pool" / "a.png", 1)
    picture(tmp_path / "pool" / "b.png", 2)
    picture(tmp_path / "val" / "cat" / "x.png", 2)
    scan("validation", validation=["val"])
    with pytest.raises(Leak, match=r"(?s)pool 'b.png': the same image is in validation: cat/x.png.*--drop-leaks"):
        scan(validation=["val"])
    assert not (tmp_path / "project" / "pool.parquet").exists()
    project, summary = scan(validation=["val"], drop_leaks=True)
    assert list(project.pool.paths) == ["a.png"] and summary.dropped == 1
    assert [row.flaw for row in read_quarantine(project.quarantine_path)] == ["leak"]


def test_labels_are_the_folders_and_copies_with_two_labels_are_set_aside(scan, tmp_path):
    picture(tmp_path / "val" / "cat" / "x.png", 1)
    picture(tmp_path / "val" / "cat" / "both.png", 2)
    picture(tmp_path / "val" / "dog" / "both.png", 2)
    project, summary = scan("validation", validation=["val"])
    assert [(image.path, image.label) for image in project.validation] == [("cat/x.png", "cat")]
    assert summary.per_class == {"cat": 1} and summary.set_aside == {"contradiction": 2}
    assert "cat, dog" in read_quarantine(project.quarantine_path)[0].reason


def test_groups_are_the_captures_together(scan, tmp_path):
    for seed, name in enumerate(("a/1_0.png", "a/1_1.png", "b/1_0.png", "b/other.png")):
        picture(tmp_path / "pool" / name, seed)
    project, _ = scan(groups=r"(\w+)/(\d+)_")
    assert list(project.pool.groups) == ["a\0001", "a\0001", "b\0001", None]


def test_a_pool_without_any_usable_image_is_refused(scan, tmp_path):
    (tmp_path / "pool").mkdir()
    with pytest.raises(MissingData, match="no images"):
        scan()
    (tmp_path / "pool" / "a.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"none of 1 images can be used; the first is 'a.png': the file is empty"):
        scan()
    with pytest.raises(MissingData, match="no such folder or file"):
        scan(pools=["nowhere"])


def test_a_scan_that_was_stopped_goes_on(tmp_path):
    files = [str(picture(tmp_path / "pool" / f"{seed:03d}.png", seed)) for seed in range(3 * FILES_A_JOB)]
    for name in files:
        os.utime(name, (1, 1))

    class Stopping(Unseen):
        def show(self, progress):
            if progress.done >= FILES_A_JOB:
                raise KeyboardInterrupt

    def settled(known):
        return sum(facts.flaw is None for facts in known)

    with FileFacts(tmp_path / "state" / "files.sqlite") as facts, pytest.raises(KeyboardInterrupt):
        facts.learn(files, len(files), workers=0, shown=Stopping(""), phase="reading")
    with FileFacts(tmp_path / "state" / "files.sqlite") as facts:
        assert settled(facts.of(files)) == FILES_A_JOB
        facts.learn(files, len(files), workers=0, shown=Unseen(""), phase="reading")
        assert settled(facts.of(files)) == len(files)


def test_a_file_of_facts_that_is_no_database_is_made_again(tmp_path):
    (tmp_path / "files.sqlite").write_bytes(b"no database" * 100)
    with FileFacts(tmp_path / "files.sqlite") as facts:
        name = str(picture(tmp_path / "a.png"))
        assert facts.learn([name], 1, workers=0, shown=Unseen(""), phase="reading") == 1
        assert facts.of([name])[0].format == "PNG"


def test_a_full_disk_names_the_file_of_facts(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OSError, match=r"disk I/O error: '.*files\.sqlite'"):
            FileFacts(tmp_path / "files.sqlite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_of_facts_that_is_damaged_further_in_says_what_to_do(tmp_path):
    path = tmp_path / "files.sqlite"
    image = tmp_path / "a.png"
    image.write_bytes(b"x")
    with FileFacts(path) as facts:
        facts.learn([str(image)], 1, workers=0, shown=Unseen(""), phase="files")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    with FileFacts(path) as facts, pytest.raises(ConfigError, match=r"files\.sqlite: .*malformed; remove it"):
        facts.of([str(image)])
