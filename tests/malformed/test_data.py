"""Malformed data, as `fkal split` and the readers of split files answer them: an exit code and one line, no hang."""

import gzip
import io
import json
import os
import shutil
import socket
import struct
import tarfile
import zlib
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from fkal.cli.exit import MISSING, WRONG, cli_errors
from fkal.cli.main import app
from fkal.data.splits import read_split

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data"),
]


def image(kind="PNG", mode="RGB"):
    file = io.BytesIO()
    Image.linear_gradient("L").resize((20, 16)).convert(mode).save(file, kind)
    return file.getvalue()


def write_tree(tree, classes=("cat", "dog")):
    for part in ("train", "test"):
        for name in classes:
            (tree / part / name).mkdir(parents=True)
            for k in range(3):
                (tree / part / name / f"{k}.png").write_bytes(image())
    return tree


def split_of(name, root, *settings):
    with chdir(root):
        arguments = ["split", "--preset", "digits", "--out", "out", "--set", "data.validation_per_class=1"]
        options = {each.partition("=")[0]: each for each in (f"data.name={name}", f"data.root={root}", *settings)}
        return CliRunner().invoke(app, [*arguments, *(word for each in options.values() for word in ("--set", each))])


def assert_one_line(code, output, expected, names):
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert code == expected, output
    assert len(errors) == 1 and "Traceback" not in output, output
    for name in names:
        assert name in errors[0], output
    assert len(errors[0]) < 1500 and errors[0].isprintable()


def in_place(content):
    """Writes the content in place of a good image."""

    def spoil(path):
        path.write_bytes(content)

    return spoil


def linked(target):
    def spoil(path):
        path.unlink()
        path.symlink_to(target)

    return spoil


def replaced_by(make):
    def spoil(path):
        path.unlink()
        make(path)

    return spoil


def renamed_to(name, content):
    def spoil(path):
        path.unlink()
        path.with_name(os.fsdecode(name)).write_bytes(content)

    return spoil


def listening(path):
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**31)


def png_head(width, height):
    head = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + checked + b"\0\0\0\4IDAT0000"


def float_image():
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(file, "TIFF")
    return file.getvalue()


IMAGES = {
    "pipe": (replaced_by(os.mkfifo), ["1.png", "pipe"]),
    "socket": (replaced_by(listening), ["1.png", "socket"]),
    "folder": (replaced_by(Path.mkdir), ["1.png", "folder"]),
    "endless device": (linked("/dev/zero"), ["1.png", "device"]),
    "null device": (linked("/dev/null"), ["1.png", "device"]),
    "link to itself": (linked("1.png"), ["1.png", "symbolic links"]),
    "link to nothing": (linked("nowhere.png"), ["1.png", "link to nothing"]),
    "link out of the tree to text": (linked("/etc/passwd"), ["1.png", "not an image file"]),
    "zero bytes": (in_place(b""), ["1.png", "empty"]),
    "truncated JPEG": (in_place(image("JPEG")[:-20]), ["1.png", "truncated"]),
    "truncated PNG": (in_place(image()[:60]), ["1.png", "truncated"]),
    "truncated GIF": (in_place(image("GIF")[:40]), ["1.png"]),
    "truncated WebP": (in_place(image("WEBP")[:60]), ["1.png"]),
    "truncated TIFF": (in_place(image("TIFF")[:100]), ["1.png"]),
    "truncated BMP": (in_place(image("BMP")[:100]), ["1.png", "truncated"]),
    "truncated PPM": (in_place(image("PPM")[:100]), ["1.png", "truncated"]),
    "only a start of image": (in_place(b"\xff\xd8\xff"), ["1.png", "not an image file"]),
    "text": (in_place(b"not an image"), ["1.png", "not an image file"]),
    "web page": (in_place(b"<html>not found</html>"), ["1.png", "not an image file"]),
    "PostScript": (in_place(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), ["1.png", "not an image file"]),
    "SVG": (in_place(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ["1.png", "not an image file"]),
    "zeros": (in_place(bytes(5000)), ["1.png", "not an image file"]),
    "bomb": (in_place(png_head(100_000, 100_000)), ["1.png", "10,000,000,000 pixels", "179 megapixels"]),
    "bomb by one side": (in_place(png_head(2**31 - 1, 1)), ["1.png", "179 megapixels"]),
    "no pixels": (in_place(png_head(0, 0)), ["1.png"]),
    "PPM bomb": (in_place(b"P6 99999999 99999999 255\n"), ["1.png", "179 megapixels"]),
    "PPM of endless digits": (in_place(b"P6 " + b"9" * 5000), ["1.png"]),
    "HEIC": (in_place(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), ["1.png", "pillow-heif"]),
    "32-bit floats": (in_place(float_image()), ["1.png", "mode F"]),
    "sparse giant": (in_place(b"") if os.name == "nt" else replaced_by(sparse), ["1.png", "2,147,483,648 bytes"]),
    "name with a newline": (renamed_to(b"a\nerror: b.png", b""), ["a\\nerror: b.png", "empty"]),
    "name of no UTF-8": (renamed_to(b"\xff\xfe.png", b"junk"), ["\\xff\\xfe.png", "not an image file"]),
    "name with escapes": (renamed_to(b"\x1b]0;owned\x07.png", b"junk"), ["\\x1b]0;owned\\x07.png"]),
    "name of 255 letters": (renamed_to(b"x" * 251 + b".png", b"junk"), ["x" * 251]),
}


@pytest.mark.parametrize("case", IMAGES)
def test_a_malformed_image_is_named_with_its_reason(tmp_path, monkeypatch, case):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    spoil, names = IMAGES[case]
    spoil(write_tree(tmp_path / "pets") / "train" / "cat" / "1.png")
    result = split_of("folder", tmp_path, "data.folder=pets")
    assert_one_line(result.exit_code, result.output, WRONG, ["train/cat/", *names])


def without(*parts):
    def spoil(tree):
        for part in parts:
            shutil.rmtree(tree / part)

    return spoil


def emptied(folder):
    def spoil(tree):
        for path in (tree / folder).iterdir():
            path.unlink()

    return spoil


def with_folder(name):
    def spoil(tree):
        (tree / name).mkdir(parents=True)
        (tree / name / "0.png").write_bytes(image())

    return spoil


def flattened(tree):
    shutil.rmtree(tree / "train")
    (tree / "train").mkdir()
    (tree / "train" / "0.png").write_bytes(image())


def only_text(tree):
    emptied("train/dog")(tree)
    (tree / "train" / "dog" / "a.txt").write_text("a")


def class_link_loop(tree):
    for part in ("train", "test"):
        (tree / part / "eel").symlink_to(tree / part)


def part_is_a_file(tree):
    shutil.rmtree(tree / "train")
    (tree / "train").write_text("")


TREES = {
    "no tree": (without("."), MISSING, ["pets/train/CLASS"]),
    "no train": (without("train"), MISSING, ["pets/train"]),
    "no test": (without("test"), MISSING, ["pets", "neither test/ nor val/"]),
    "train is a file": (part_is_a_file, MISSING, ["pets/train", "Not a directory"]),
    "no class folders": (flattened, MISSING, ["pets/train", "no class folders", "1 image files"]),
    "one class": (without("train/dog", "test/dog"), WRONG, ["'cat' is its only class", "two classes"]),
    "class that test lacks": (without("test/dog"), WRONG, ["train/dog", "same class folders"]),
    "class that train lacks": (with_folder("test/eel"), WRONG, ["test/eel", "same class folders"]),
    "class without training images": (emptied("train/dog"), MISSING, ["train/dog", "remove the class"]),
    "class without test images": (emptied("test/dog"), MISSING, ["test/dog", "remove the class from every part"]),
    "class of text": (only_text, MISSING, ["train/dog", "1 .txt files"]),
    "class that links to its part": (class_link_loop, MISSING, ["train/eel"]),
}


@pytest.mark.parametrize("case", TREES)
def test_a_malformed_tree_is_named_with_the_way_out(tmp_path, case):
    spoil, code, names = TREES[case]
    spoil(write_tree(tmp_path / "pets"))
    result = split_of("folder", tmp_path, "data.folder=pets")
    assert_one_line(result.exit_code, result.output, code, names)


FOLDERS = {
    "300 letters": ("x" * 300, MISSING, ["data.folder", "neither", "is a folder"]),
    "5,000 letters": ("x/" * 2500, WRONG, ["at most"]),
    "nobody's home": ("~no_such_user_here/pets", WRONG, ["no_such_user_here", "home"]),
    "device": ("/dev/null", MISSING, ["/dev/null"]),
    "folder of the system": ("/proc/self/fd", MISSING, ["/proc/self/fd"]),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_cannot_be_one_is_named(tmp_path, case):
    folder, code, names = FOLDERS[case]
    result = split_of("folder", tmp_path, f"data.folder={folder}")
    assert_one_line(result.exit_code, result.output.replace(folder, folder[:100]), code, names)


def idx(*sides, content=None, magic=None):
    head = bytes([0, 0, 8, len(sides)]) if magic is None else magic
    filled = bytes(int(np.prod(sides))) if content is None else content
    return head + b"".join(side.to_bytes(4, "big") for side in sides) + filled


def write_mnist(root):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for word in ("train", "t10k"):
        (raw / f"{word}-images-idx3-ubyte").write_bytes(idx(20, 28, 28))
        (raw / f"{word}-labels-idx1-ubyte").write_bytes(idx(20, content=bytes(range(10)) * 2))
    return raw


TRAIN_IMAGES, TEST_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "train-labels-idx1-ubyte"
MNIST_FILES = {
    "test images of another size": (TEST_IMAGES, in_place(idx(20, 32, 32)), [TRAIN_IMAGES, "28x28", "32x32"]),
    "fewer labels than images": (TRAIN_LABELS, in_place(idx(19)), ["19 labels for 20 images"]),
    "more labels than images": (TRAIN_LABELS, in_place(idx(21)), ["21 labels for 20 images"]),
    "labels beyond 9": (TRAIN_LABELS, in_place(idx(20, content=bytes([10] * 20))), ["beyond 0 to 9"]),
    "wrong magic number": (TRAIN_IMAGES, in_place(idx(20, 28, 28, magic=b"\0\0\x0d\3")), ["not an idx file"]),
    "labels in place of images": (TRAIN_IMAGES, in_place(idx(20)), ["not an idx file"]),
    "truncated": (TRAIN_IMAGES, in_place(idx(20, 28, 28)[:-1]), ["15695 bytes", "15696"]),
    "too long": (TRAIN_IMAGES, in_place(idx(20, 28, 28) + b"0"), ["15697 bytes"]),
    "header alone": (TRAIN_IMAGES, in_place(idx(20, 28, 28)[:6]), ["6 bytes"]),
    "sides of 4 billion": (TRAIN_IMAGES, in_place(idx(2**32 - 1, 2**32 - 1, 2**32 - 1, content=b"")), ["16 bytes"]),
    "no images": (TRAIN_IMAGES, in_place(idx(0, 28, 28)), ["0 x 28 x 28"]),
    "images without pixels": (TRAIN_IMAGES, in_place(idx(20, 0, 28)), ["20 x 0 x 28"]),
    "zero bytes": (TRAIN_IMAGES, in_place(b""), ["not an idx file"]),
    "packed": (TRAIN_IMAGES, in_place(gzip.compress(idx(20, 28, 28))), ["gzip", "unpack"]),
    "packed and truncated": (TRAIN_IMAGES, in_place(gzip.compress(idx(20, 28, 28))[:20]), ["gzip", "unpack"]),
    "pipe": (TRAIN_IMAGES, replaced_by(os.mkfifo), ["pipe"]),
    "folder": (TRAIN_LABELS, replaced_by(Path.mkdir), ["folder"]),
    "device": (TRAIN_LABELS, linked("/dev/zero"), ["device"]),
}


@pytest.mark.parametrize("case", MNIST_FILES)
def test_a_malformed_file_of_mnist_is_named(tmp_path, case):
    name, spoil, names = MNIST_FILES[case]
    spoil(write_mnist(tmp_path) / name)
    result = split_of("mnist", tmp_path)
    assert_one_line(result.exit_code, result.output, WRONG, [str(tmp_path), *names])


def test_a_packed_file_beside_where_its_content_belongs_is_named(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.create_connection", refused)
    path = write_mnist(tmp_path) / TRAIN_IMAGES
    path.rename(f"{path}.gz")
    Path(f"{path}.gz").write_bytes(gzip.compress(b"cut off")[:9])
    result = split_of("mnist", tmp_path)
    assert_one_line(result.exit_code, result.output, MISSING, [f"MNIST/raw/{TRAIN_IMAGES}.gz", "unpack"])


def mat(**variables):
    def spoil(path):
        from scipy.io import savemat

        savemat(path, variables)

    return spoil


def svhn_labels(*labels, dtype=np.float64):
    return mat(X=np.zeros((32, 32, 3, len(labels)), np.uint8), y=np.array(labels, dtype)[:, None])


SVHN_FILES = {
    "half labels": (svhn_labels(1, 1.5), ["1.5", "whole numbers, 0 to 10"]),
    "label 11": (svhn_labels(1, 11), ["11", "whole numbers, 0 to 10"]),
    "label -1": (svhn_labels(-1, 1), ["-1", "whole numbers, 0 to 10"]),
    "label nan": (svhn_labels(1, np.nan), ["nan"]),
    "label inf": (svhn_labels(np.inf, 1), ["inf"]),
    "label of text": (mat(X=np.zeros((32, 32, 3, 2), np.uint8), y=np.array(["a", "b"])), ["a label of 'a'"]),
    "complex label": (svhn_labels(1j, 2, dtype=complex), ["1j"]),
    "float pixels": (mat(X=np.zeros((32, 32, 3, 2)), y=np.ones((2, 1))), ["of bytes"]),
    "other size": (mat(X=np.zeros((28, 28, 3, 2), np.uint8), y=np.ones((2, 1))), ["(32, 32, 3, n)"]),
    "fewer labels": (mat(X=np.zeros((32, 32, 3, 3), np.uint8), y=np.ones((2, 1))), ["y of n labels"]),
    "no labels": (mat(X=np.zeros((32, 32, 3, 3), np.uint8)), ["y of n labels"]),
    "no images": (mat(X=np.zeros((32, 32, 3, 0), np.uint8), y=np.ones((0, 1))), ["y of n labels"]),
    "zero bytes": (in_place(b""), ["not a whole MATLAB file"]),
    "web page": (in_place(b"<html>" * 100), ["MATLAB"]),
    "pipe": (replaced_by(os.mkfifo), ["pipe"]),
    "device": (linked("/dev/zero"), ["device"]),
}


@pytest.mark.parametrize("case", SVHN_FILES)
def test_a_malformed_file_of_svhn_is_named(tmp_path, case):
    spoil, names = SVHN_FILES[case]
    for part in ("train", "extra", "test"):
        svhn_labels(*range(1, 11))(tmp_path / f"{part}_32x32.mat")
    spoil(tmp_path / "extra_32x32.mat")
    result = split_of("svhn", tmp_path)
    assert_one_line(result.exit_code, result.output, WRONG, ["extra_32x32.mat", *names])


def tar_of(*members):
    def spoil(path):
        with tarfile.open(path, "w") as archive:
            for part in ("train", "test"):
                for name in ("cat", "dog"):
                    add(archive, f"cifar10/{part}/{name}/0.png", image())
            for member in members:
                add(archive, *member)

    return spoil


def add(archive, name, content=b"", kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, target
    archive.addfile(member, io.BytesIO(content))


def cut_tar(path):
    tar_of()(path)
    path.write_bytes(path.read_bytes()[:3000])


LONG = "x" * 300
TARS = {
    "link": (tar_of(("cifar10/train/cat/l.png", b"", tarfile.SYMTYPE, "/etc/passwd")), ["l.png", "link"]),
    "pipe": (tar_of(("cifar10/train/cat/l.png", b"", tarfile.FIFOTYPE)), ["l.png", "not a plain file"]),
    "text": (tar_of(("cifar10/train/cat/l.png", b"text")), ["l.png", "not an image file"]),
    "zero bytes in it": (tar_of(("cifar10/train/cat/l.png",)), ["l.png", "empty"]),
    "300 letters": (tar_of((f"cifar10/train/cat/{LONG}.png", b"text")), [LONG, "not an image file"]),
    "newline": (tar_of(("cifar10/train/cat/a\nb.png", b"text")), ["a\\nb.png"]),
    "class of train alone": (tar_of(("cifar10/train/eel/0.png", image())), ["train/eel"]),
    "cut off": (cut_tar, ["not a whole uncompressed tar"]),
    "no tar": (lambda path: path.write_bytes(b"junk" * 500), ["not a whole uncompressed tar"]),
    "packed": (lambda path: path.write_bytes(gzip.compress(bytes(10240))), ["not a whole uncompressed tar"]),
}


@pytest.mark.parametrize("case", TARS)
def test_a_malformed_tar_is_named(tmp_path, case):
    spoil, names = TARS[case]
    spoil(tmp_path / "cifar10-imagefolder.tar")
    result = split_of("cifar10", tmp_path)
    assert_one_line(result.exit_code, result.output, WRONG, ["cifar10-imagefolder.tar", *names])


def split_entries():
    return {
        "format": "fkal-split-1",
        "recipe": {
            "dataset": "tiny",
            "kind": "imbalance",
            "ratio": 2.0,
            "cut": [1],
            "fractions": None,
            "seed": 0,
            "validation_per_class": 1,
        },
        "cut": [1],
        "data_digest": "0" * 32,
        "class_counts": {"pool": [2, 1], "validation": [1, 1], "test": [1, 1]},
        "pool": [0, 1, 2],
        "validation": [3, 4],
        "test": [0, 1],
    }


SPLIT_ENTRIES = [
    ("format", None, "format"),
    ("pool", [0, 1, 1], "twice"),
    ("pool", [2, 1, 0], "sorted"),
    ("pool", [0, 1, -1], "below 0"),
    ("pool", [0, 1, 2.5], "whole numbers"),
    ("pool", [0, 1, "2"], "whole numbers"),
    ("pool", [[0], 1, 2], "whole numbers"),
    ("pool", {"0": 1}, "whole numbers"),
    ("pool", [0, 1, 2**63], "beyond"),
    ("pool", [0, 1, 3], "share"),
    ("pool", [0, 1], "add up"),
    ("test", None, "whole numbers"),
    ("cut", [2], "class 2"),
    ("cut", [10**400], "beyond"),
    ("data_digest", "0" * 31, "hexadecimal"),
    ("data_digest", "0" * 1_000_000, "hexadecimal"),
    ("data_digest", "../../precious", "hexadecimal"),
    ("data_digest", "A" * 32, "hexadecimal"),
    ("data_digest", 0, "hexadecimal"),
    ("class_counts", {"pool": [2, 1]}, "class_counts"),
    ("class_counts", {"pool": [3], "validation": [1, 1], "test": [1, 1]}, "number of classes"),
    ("class_counts", {"pool": [2, True], "validation": [1, 1], "test": [1, 1]}, "whole numbers"),
    ("recipe", None, "recipe"),
    ("recipe.dataset", "", "dataset"),
    ("recipe.dataset", 3, "dataset"),
    ("recipe.kind", "magic", "imbalance"),
    ("recipe.kind", "a\nb" * 100, "imbalance"),
    ("recipe.ratio", 0.5, "1 or more"),
    ("recipe.ratio", "2", "1 or more"),
    ("recipe.cut", [9], "class 9"),
    ("recipe.cut", ["a"], "classes"),
    ("recipe.cut", [1, 1], "once"),
    ("recipe.fractions", {"0": 2}, "0 to 1"),
    ("recipe.fractions", {"a": 1}, "0 to 1"),
    ("recipe.fractions", {"7": 1}, "class 7"),
    ("recipe.seed", -1, "seed"),
    ("recipe.seed", True, "seed"),
    ("recipe.seed", 1.0, "seed"),
    ("recipe.validation_per_class", 0, "1 or more"),
    ("more", 1, "more"),
]


def answer_of(capsys, path):
    with pytest.raises(typer.Exit) as ended, cli_errors(debug=False):
        read_split(path)
    return ended.value.exit_code, capsys.readouterr().err


@pytest.mark.parametrize(("key", "value", "message"), SPLIT_ENTRIES)
def test_a_malformed_entry_of_a_split_is_named(tmp_path, capsys, key, value, message):
    entries = split_entries()
    path = tmp_path / "split.json"
    path.write_text(json.dumps(entries))
    assert read_split(path).pool.tolist() == [0, 1, 2]
    holder, _, name = key.rpartition(".")
    (entries[holder] if holder else entries)[name] = value
    path.write_text(json.dumps(entries))
    assert_one_line(*answer_of(capsys, path), WRONG, [str(path), message, "draw the split again"])


SPLIT_FILES = {
    "nothing": (in_place(b""), "Expecting value"),
    "no UTF-8": (in_place(b"\xff\xfe\xff"), "decode"),
    "text": (in_place(b"hello"), "Expecting value"),
    "a list": (in_place(b"[]"), "not a split file"),
    "deep nesting": (in_place(b"[" * 200_000), "too deep"),
    "5,000 digits": (in_place(b'{"format": ' + b"9" * 5000 + b"}"), "4300 digits"),
    "nan": (in_place(b'{"format": NaN}'), "NaN"),
    "infinity": (in_place(b'{"format": -Infinity}'), "-Infinity"),
    "key twice": (in_place(b'{"format": "fkal-split-1", "format": "fkal-split-1"}'), "twice"),
    "pipe": (replaced_by(os.mkfifo), "pipe"),
    "device": (linked("/dev/zero"), "device"),
    "folder": (replaced_by(Path.mkdir), "folder"),
    "giant": (replaced_by(sparse), "2,147,483,648 bytes"),
    "link to nothing": (linked("nowhere"), "No such file"),
}


@pytest.mark.parametrize("case", SPLIT_FILES)
def test_a_malformed_split_file_is_named(tmp_path, capsys, case):
    spoil, message = SPLIT_FILES[case]
    path = tmp_path / "split.json"
    path.write_text(json.dumps(split_entries()))
    spoil(path)
    assert_one_line(*answer_of(capsys, path), WRONG, [str(path), message, "draw the split again"])


SETTINGS = [
    ("data.workers", "1000000000", "too large"),
    ("data.workers", "-1", "too small"),
    ("data.image_size", "0", "too small"),
    ("data.image_size", "100000", "too large"),
    ("data.folder", '"a\\0b"', "control characters"),
]


@pytest.mark.parametrize(("key", "value", "message"), SETTINGS)
def test_a_setting_of_data_that_cannot_be_is_named(tmp_path, key, value, message):
    write_tree(tmp_path / "pets")
    result = split_of("folder", tmp_path, "data.folder=pets", f"{key}={value}")
    assert_one_line(result.exit_code, result.output, WRONG, [key.split(".")[1], message])


def test_what_is_left_out_is_said_once_and_the_split_is_drawn(tmp_path):
    tree = write_tree(tmp_path / "pets")
    (tree / "train" / "cat" / ".DS_Store").write_bytes(b"junk")
    first, second = (split_of("folder", tmp_path, "data.folder=pets") for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    note = "pets, train: left out: 1 hidden or left by other programs"
    assert first.stderr.splitlines().count(note) == 1 and note not in second.output
