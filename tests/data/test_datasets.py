import gzip
import hashlib
import os
import shutil
import socket
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST, SVHN

from fkal.data import trees
from fkal.data.datasets import CorruptData, CorruptImage, Dataset, MissingData, load
from fkal.data.images import FolderImages, TensorImages
from fkal.data.registry import DATASETS, DatasetEntry, entry_of
from fkal.data.settings import DataConfig

MNIST_COUNTS = {"train": 5, "t10k": 3}


def config(name, root, **settings):
    return DataConfig(name=name, root=str(root), **settings)


def folder_config(tree, **settings):
    return config("folder", tree.parent, folder=tree.name, **settings)


def write_mnist(root):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for word, n in MNIST_COUNTS.items():
        pixels = np.full((n, 28, 28), n, np.uint8)
        sides = np.array([n, 28, 28], ">i4").tobytes()
        (raw / f"{word}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + sides + pixels.tobytes())
        (raw / f"{word}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, n]) + bytes(range(n)))
    return raw


def test_digits_need_no_files():
    dataset = load(DataConfig())
    assert (len(dataset.train), len(dataset.test)) == (1297, 500)
    assert (dataset.channels, dataset.train.shape, len(dataset.digest)) == (1, (1, 8, 8), 32)
    assert dataset.train.pixels(torch.arange(9)).max() == 255
    assert dataset.train.labels.bincount().min() > 100
    batch = next(dataset.train.batches([torch.arange(1297)], device="cpu"))
    assert abs(batch.mean()) < 0.05 and abs(batch.std() - 1) < 0.05


def test_tensors_take_another_size_and_normalisation():
    dataset = load(DataConfig(image_size=12, mean=(0.0,), std=(1.0,)))
    assert dataset.train.shape == (1, 12, 12)
    batch = next(dataset.train.batches([torch.arange(50)], device="cpu"))
    assert 0 <= batch.min() < batch.max() <= 1
    assert dataset.digest != load(DataConfig()).digest


def test_real_mnist_is_read_whole(real_root):
    dataset = load(config("mnist", real_root), download=False)
    assert (len(dataset.train), len(dataset.test), dataset.cut_rule) == (60_000, 10_000, "second_half")
    assert dataset.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    batch = next(dataset.train.batches([torch.arange(5000)], device="cpu"))
    assert abs(batch.mean()) < 0.02 and abs(batch.std() - 1) < 0.02


def test_small_files_of_mnists_format_are_read(tmp_path):
    write_mnist(tmp_path)
    dataset = load(config("mnist", tmp_path), download=False)
    assert dataset.train.labels.tolist() == [0, 1, 2, 3, 4]
    assert dataset.test.pixels(torch.tensor([0])).unique().tolist() == [3]


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("train-images-idx3-ubyte", lambda data: data[:-1], "3935 bytes where its header says 3936"),
        ("train-images-idx3-ubyte", lambda data: b"", "not an idx file"),
        ("t10k-labels-idx1-ubyte", lambda data: b"<html>" + data, "not an idx file"),
        ("t10k-labels-idx1-ubyte", lambda data: data[:-1] + b"\x63", "beyond 0 to 9"),
        ("t10k-labels-idx1-ubyte", lambda data: bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1]), "2 labels for 3 images"),
    ],
)
def test_a_spoilt_mnist_file_is_named(tmp_path, file, spoil, message):
    path = write_mnist(tmp_path) / file
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CorruptData, match=f"{file}: .*{message}"):
        load(config("mnist", tmp_path), download=False)


def test_missing_files_are_listed_with_their_origin(tmp_path):
    raw = write_mnist(tmp_path)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(MissingData) as raised:
        load(config("mnist", tmp_path), download=False)
    message = str(raised.value)
    assert "MNIST/raw/t10k-labels-idx1-ubyte" in message and "train-images" not in message
    assert "https://ossci-datasets" in message and "\n" not in message


@pytest.mark.parametrize("name", ["mnist", "svhn", "cifar10"])
@pytest.mark.usefixtures("no_network")
def test_no_network_ends_in_a_message_that_says_what_to_put_where(tmp_path, name):
    with pytest.raises(MissingData, match=r"the download failed.*put there: .*, from http"):
        load(config(name, tmp_path))


@pytest.mark.parametrize("name", ["imagenet", "tinyimagenet"])
def test_what_cannot_be_downloaded_says_what_to_put_where(tmp_path, name):
    with pytest.raises(MissingData, match=r"put there: .*train.*val.*, from http"):
        load(config(name, tmp_path))


def test_a_download_that_fails_in_any_way_is_missing_data(tmp_path, monkeypatch):
    for error in (URLError("no host"), RuntimeError("Error downloading\nno mirror"), TimeoutError("timed out")):

        def fails(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr(MNIST, "download", fails)
        with pytest.raises(MissingData, match=r"no host|no mirror|timed out"):
            load(config("mnist", tmp_path))


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server on this machine that offers MNIST's files, packed as published; yields its folder."""
    raw = write_mnist(tmp_path / "mirror")
    resources = []
    for path in sorted(raw.iterdir()):
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        resources.append((packed.name, hashlib.md5(packed.read_bytes()).hexdigest()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(raw)))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(MNIST, "resources", resources)
    yield raw
    server.shutdown()
    server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.usefixtures("mirror")
def test_a_download_lands_where_it_is_read(tmp_path):
    assert len(load(config("mnist", tmp_path / "new")).train) == 5
    assert len(load(config("mnist", tmp_path / "new"), download=False).test) == 3


def test_a_download_of_other_content_is_refused(tmp_path, mirror):
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(MissingData, match=r"the download failed.*put there: MNIST/raw/train-images"):
        load(config("mnist", tmp_path / "new"))


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("fkal.data.published.PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        with pytest.raises(MissingData, match="timed out"):
            load(config("mnist", tmp_path))
    assert socket.getdefaulttimeout() is None


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        load(DataConfig(name="mnits"))


def test_a_third_partys_entry_point_is_found(monkeypatch):
    class Point:
        name, value = "ours", "ours:entry"

        def load(self):
            return DATASETS["digits"]

    monkeypatch.setattr("fkal.object_references.entry_points", lambda group: [Point()])
    assert load(DataConfig(name="ours")).name == "ours"
    monkeypatch.setattr(Point, "load", lambda self: "something else")
    with pytest.raises(ValueError, match="no DatasetEntry"):
        entry_of("ours")


@pytest.mark.parametrize("subfolder", ["svhn", "."])
def test_svhn_files_of_other_content_are_read_by_their_format(tmp_path, write_svhn, subfolder):
    labels = write_svhn(tmp_path / subfolder)
    dataset = load(config("svhn", tmp_path), download=False)
    expected = np.concatenate([labels["train"], labels["extra"]]).ravel() % 10
    assert dataset.train.labels.tolist() == expected.tolist()
    assert (len(dataset.train), len(dataset.test), dataset.train.shape) == (25, 14, (3, 32, 32))


def test_published_svhn_files_are_read_by_torchvision_and_alike(tmp_path, write_svhn, monkeypatch):
    write_svhn(tmp_path)
    by_format = load(config("svhn", tmp_path), download=False)
    published = {
        part: [url, file, hashlib.md5((tmp_path / file).read_bytes()).hexdigest()]
        for part, (url, file, _) in SVHN.split_list.items()
    }
    monkeypatch.setattr(SVHN, "split_list", published)
    monkeypatch.setattr("fkal.data.published._mat_piece", None)
    assert load(config("svhn", tmp_path), download=False).digest == by_format.digest


def test_svhn_pixels_stand_upright(tmp_path, write_svhn):
    from scipy.io import savemat

    write_svhn(tmp_path)
    pixels = np.zeros((32, 32, 3, 2), np.uint8)
    pixels[4, 7, 1, 1] = 200  # row, column, channel, image
    savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.array([[1], [2]], np.uint8)})
    test = load(config("svhn", tmp_path), download=False).test
    assert test.pixels(torch.tensor([1]))[0].nonzero().tolist() == [[1, 4, 7]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:500]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("<html>not found</html>" * 50),
        lambda path: __import__("scipy.io").io.savemat(path, {"Z": np.zeros(3)}),
        lambda path: __import__("scipy.io").io.savemat(
            path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1]])}
        ),
    ],
)
def test_a_spoilt_svhn_file_is_named(tmp_path, write_svhn, spoil):
    write_svhn(tmp_path)
    spoil(tmp_path / "extra_32x32.mat")
    with pytest.raises(CorruptData, match=r"extra_32x32\.mat: "):
        load(config("svhn", tmp_path), download=False)


def test_cifar10_pickles_of_others_are_never_opened(tmp_path, monkeypatch):
    def opened(*args, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.load", opened)
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CorruptData, match="data_batch_1: not the published file"):
        load(config("cifar10", tmp_path))


def test_published_cifar10_batches_are_read(tmp_path, monkeypatch):
    import pickle

    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    for name in ("data_batch_1", "test_batch"):
        (batches / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1, 2, 9]}))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in batches.iterdir()}
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    dataset = load(config("cifar10", tmp_path), download=False)
    assert torch.equal(dataset.train.pixels(torch.tensor([2])), torch.from_numpy(pixels[2]).reshape(1, 3, 32, 32))
    assert dataset.train.labels.tolist() == [0, 1, 2, 9] and dataset.classes[9] == "truck"


def test_a_tar_and_its_tree_hold_the_same_images(tmp_path, write_tree, tar_of):
    (tmp_path / "tar").mkdir()
    tree = write_tree(tmp_path / "cifar10")
    tar_of(tree, tmp_path / "tar" / "cifar10-imagefolder.tar")
    from_tree, from_tar = (load(config("cifar10", tmp_path / part), download=False) for part in ("", "tar"))
    assert isinstance(from_tar.train, TensorImages)
    assert from_tree.digest == from_tar.digest
    assert list(from_tree.train.names) == list(from_tar.train.names)
    assert torch.equal(from_tree.train.pixels(torch.arange(12)), from_tar.train.pixels(torch.arange(12)))
    assert os.listdir(tmp_path / "tar") == ["cifar10-imagefolder.tar"]


def test_tiny_imagenet_tests_on_val(tmp_path, write_tree, tar_of):
    tar_of(write_tree(tmp_path / "tinyimagenet100", test="val"), tmp_path / "tinyimagenet100-imagefolder.tar")
    shutil.rmtree(tmp_path / "tinyimagenet100")
    dataset = load(config("tinyimagenet", tmp_path))
    assert dataset.test.names[0] == "val/cat/0000.jpg" and dataset.cut_rule == "random_half"


@pytest.mark.parametrize("end", [-10240, 5000, 513, 0])
def test_a_truncated_tar_is_named(tmp_path, write_tree, tar_of, end):
    tar = tar_of(write_tree(tmp_path / "cifar10"), tmp_path / "cifar10-imagefolder.tar")
    shutil.rmtree(tmp_path / "cifar10")
    tar.write_bytes(tar.read_bytes().rstrip(b"\0")[:end])
    with pytest.raises(CorruptData, match=r"cifar10-imagefolder\.tar: "):
        load(config("cifar10", tmp_path))


def test_workers_decode_what_this_process_decodes(tmp_path, write_tree, monkeypatch):
    tree = write_tree(tmp_path / "pets")
    alone = load(folder_config(tree, workers=0))
    monkeypatch.setattr(trees, "WORTH_WORKERS", 1)
    monkeypatch.setattr(trees, "CHUNK_BYTES", 3000)
    together = load(folder_config(tree, workers=2))
    assert alone.digest == together.digest
    assert torch.equal(alone.train.pixels(torch.arange(12)), together.train.pixels(torch.arange(12)))


def test_imagenet_streams_from_its_tree(tmp_path, write_tree):
    write_tree(tmp_path / "imagenet", test="val", classes=("n01440764", "n01443537"), per_class=2)
    dataset = load(config("imagenet", tmp_path, workers=0))
    assert isinstance(dataset.train, FolderImages)
    assert (dataset.train.shape, dataset.cut_rule) == ((3, 224, 224), "random_half")
    assert next(dataset.test.batches([torch.arange(3)], device="cpu")).shape == (3, 3, 224, 224)


def test_a_folder_takes_the_size_of_its_images(tmp_path, write_tree):
    dataset = load(folder_config(write_tree(tmp_path / "pets")))
    assert isinstance(dataset.train, TensorImages)
    assert (dataset.train.shape, dataset.classes, dataset.cut_rule) == ((3, 16, 20), ("cat", "dog"), "second_half")


def test_a_folder_of_grey_images_has_one_channel(tmp_path, write_tree):
    tree = write_tree(tmp_path / "scans", channels=1)
    assert load(folder_config(tree, image_size=8)).train.shape == (1, 8, 8)
    Image.new("RGB", (9, 9)).save(tree / "train" / "cat" / "0001.jpg")
    assert load(folder_config(tree, image_size=8)).train.shape == (3, 8, 8)


def test_a_folder_tests_on_val_where_there_is_no_test(tmp_path, write_tree):
    assert load(folder_config(write_tree(tmp_path / "pets", test="val"))).test.names[0].startswith("val/")


def test_a_large_folder_is_streamed(tmp_path, write_tree, monkeypatch):
    tree = write_tree(tmp_path / "pets")
    monkeypatch.setattr(trees, "IN_MEMORY", 1000)
    dataset = load(folder_config(tree, image_size=10))
    assert isinstance(dataset.train, FolderImages) and dataset.train.shape == (3, 10, 10)


def test_a_folder_may_lie_outside_the_root(tmp_path, write_tree):
    tree = write_tree(tmp_path / "pets")
    assert len(load(DataConfig(name="folder", root="elsewhere", folder=str(tree))).train) == 12


def test_a_folder_of_many_classes_cuts_a_random_half(tmp_path, write_tree):
    tree = write_tree(tmp_path / "pets", classes=tuple("abcdefghijk"), per_class=1)
    assert load(folder_config(tree)).cut_rule == "random_half"


def test_a_folder_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(
        MissingData, match=f"neither nothing nor {tmp_path}/nothing is a folder; put nothing/train/CLASS"
    ):
        load(config("folder", tmp_path, folder="nothing"))


def test_a_folder_is_looked_for_as_typed_first_and_then_below_the_root(tmp_path, write_tree, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "root" / "pets", per_class=3)
    below_root = load(DataConfig(name="folder", root="root", folder="pets"))
    write_tree(tmp_path / "pets", per_class=4)
    typed = load(DataConfig(name="folder", root="root", folder="pets"))
    assert (len(below_root.train), len(typed.train)) == (6, 8)


def test_a_tree_without_test_images_is_refused_with_the_reason(tmp_path, write_tree):
    tree = write_tree(tmp_path / "pets")
    (tree / "test").rename(tree / "spare")
    with pytest.raises(MissingData, match=r"neither test/ nor val/; accuracy is measured on images that neither"):
        load(folder_config(tree, validation="pets/spare"))


def test_a_tree_that_nobody_named_is_asked_for():
    with pytest.raises(ValueError, match=r"folder: not set: .*--set data\.folder=PATH"):
        load(DataConfig(name="folder"))


def own_validation(tmp_path, write_tree):
    """pets/{train,test} of 6 images per class, and others/{train,val} of 4."""
    write_tree(tmp_path / "others", test="val", per_class=4)
    return write_tree(tmp_path / "pets")


def test_images_of_a_validation_folder_come_behind_the_training_images(tmp_path, write_tree):
    tree = own_validation(tmp_path, write_tree)
    dataset = load(folder_config(tree, validation="others/val"))
    assert dataset.validation.tolist() == list(range(12, 20))
    assert dataset.train.labels[12:].tolist() == [0] * 4 + [1] * 4
    assert dataset.train.names[12] == "../others/val/cat/0000.jpg"
    alone = load(folder_config(tmp_path / "others", image_size=16)), load(folder_config(tree, image_size=16))
    both = load(folder_config(tree, image_size=16, validation="others/val"))
    assert torch.equal(both.train.pixels(dataset.validation), alone[0].test.pixels(torch.arange(8)))
    assert torch.equal(both.train.pixels(torch.arange(12)), alone[1].train.pixels(torch.arange(12)))
    assert both.digest != alone[1].digest and alone[1].validation is None


def test_a_streamed_folder_has_its_validation_images_too(tmp_path, write_tree, monkeypatch):
    monkeypatch.setattr(trees, "IN_MEMORY", 100)
    dataset = load(folder_config(own_validation(tmp_path, write_tree), image_size=8, validation="others/val"))
    assert isinstance(dataset.train, FolderImages) and dataset.validation.tolist() == list(range(12, 20))
    assert dataset.train.pixels(dataset.validation).shape == (8, 3, 8, 8)


def copied(tree, *, to, names):
    for place, name in enumerate(names):
        (to / f"copy{place}.jpg").write_bytes((tree / name).read_bytes())


@pytest.mark.parametrize("streamed", [False, True])
def test_images_of_two_parts_are_counted_and_named(tmp_path, write_tree, monkeypatch, streamed):
    if streamed:
        monkeypatch.setattr(trees, "IN_MEMORY", 100)
    tree, own = write_tree(tmp_path / "pets"), tmp_path / "own"
    for label in ("cat", "dog"):
        (own / label).mkdir(parents=True)
        copied(tree, to=own / label, names=[f"train/{label}/0003.jpg", f"train/{label}/0005.jpg"])
    copied(tree, to=own / "dog", names=["test/cat/0002.jpg"])  # of another class, and over one of the copies
    copied(tree, to=tree / "test" / "cat", names=["train/dog/0000.jpg", "train/dog/0000.jpg"])
    dataset = load(folder_config(tree, image_size=16, validation="own"))
    assert dataset.notes == (
        "warning: 3 of 4 validation images are training images too (../own/cat/copy0.jpg is train/cat/0003.jpg, "
        "../own/cat/copy1.jpg is train/cat/0005.jpg, ../own/dog/copy1.jpg is train/dog/0005.jpg); "
        "keep each image in one part",
        "warning: 2 of 14 test images are training images too (test/cat/copy0.jpg is train/dog/0000.jpg, "
        "test/cat/copy1.jpg is train/dog/0000.jpg); keep each image in one part",
        "warning: 1 of 14 test images are validation images too (test/cat/0002.jpg is ../own/dog/copy0.jpg); "
        "keep each image in one part",
    )


def test_of_many_images_of_two_parts_the_first_are_named(tmp_path, write_tree):
    tree = write_tree(tmp_path / "pets")
    copied(tree, to=tree / "test" / "dog", names=[f"train/dog/{n:04}.jpg" for n in range(5)])
    (note,) = load(folder_config(tree, image_size=16)).notes
    assert note.startswith("warning: 5 of 17 test images are training images too (test/dog/copy0.jpg is")
    assert note.endswith("test/dog/copy2.jpg is train/dog/0002.jpg and 2 more); keep each image in one part")


def test_a_validation_folder_of_other_classes_is_refused(tmp_path, write_tree):
    tree = own_validation(tmp_path, write_tree)
    (tmp_path / "others" / "val" / "dog").rename(tmp_path / "others" / "val" / "eel")
    with pytest.raises(CorruptData, match=r"train/dog, val/eel .*same class folders"):
        load(folder_config(tree, validation="others/val"))


@pytest.mark.parametrize(("part", "what"), [("train", "training"), ("val", "test")])
def test_a_validation_folder_that_is_a_part_of_the_tree_is_refused(tmp_path, write_tree, part, what):
    tree = write_tree(tmp_path / "pets", test="val")
    with pytest.raises(CorruptData, match=f"holds the {what} images of the tree"):
        load(folder_config(tree, validation=f"pets/{part}"))


def test_a_validation_folder_that_is_not_there_is_missing(tmp_path, write_tree):
    with pytest.raises(MissingData, match=r"data\.validation: neither gone nor .*/gone is a folder"):
        load(folder_config(write_tree(tmp_path / "pets"), validation="gone"))


def test_an_empty_class_is_named(tmp_path, write_tree):
    tree = write_tree(tmp_path / "pets")
    (tree / "train" / "eel").mkdir()
    with pytest.raises(MissingData, match="eel"):
        load(folder_config(tree))


def test_parts_with_other_classes_are_refused(tmp_path, write_tree):
    tree = write_tree(tmp_path / "pets")
    (tree / "test" / "dog").rename(tree / "test" / "eel")
    with pytest.raises(CorruptData, match=r"train/dog, test/eel .*same class folders"):
        load(folder_config(tree))


def test_all_corrupt_images_are_named(tmp_path, write_tree):
    tree = write_tree(tmp_path / "pets")
    (tree / "train" / "cat" / "0003.jpg").write_bytes(b"\xff\xd8\xff")
    (tree / "train" / "dog" / "0004.jpg").write_bytes(b"")
    with pytest.raises(CorruptImage, match=r"cat/0003\.jpg, .*dog/0004\.jpg.*replace them"):
        load(folder_config(tree))


def test_sixteen_bit_images_are_divided_by_257(tmp_path, write_tree):
    tree = write_tree(tmp_path / "pets", channels=1)
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tree / "train" / "cat" / "0000.png")
    (tree / "train" / "cat" / "0000.jpg").unlink()
    dataset = load(folder_config(tree, image_size=8))
    assert dataset.train.pixels(torch.tensor([0])).unique().tolist() == [156]
    assert dataset.notes == (f"{tree}, train: of 12 images 1 reduced from 16 bits",)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK"])
def test_eight_bit_images_of_any_mode_are_read(tmp_path, write_tree, mode):
    tree = write_tree(tmp_path / "pets")
    Image.new("RGB", (20, 16), (10, 200, 30)).convert(mode).save(tree / "train" / "cat" / "0000.tiff")
    assert load(folder_config(tree)).train.shape == (3, 16, 20)


@pytest.mark.slow
def test_the_real_cifar10_tar_is_read_whole(real_root):
    dataset = load(config("cifar10", real_root), download=False)
    assert isinstance(dataset, Dataset)
    assert dataset.train.labels.bincount().tolist() == [5000] * 10
    assert dataset.test.labels.bincount().tolist() == [1000] * 10
    batch = next(dataset.train.batches([torch.arange(0, 50_000, 10)], device="cpu"))
    assert batch.mean().abs() < 0.05 and (batch.std() - 1).abs() < 0.05


def test_every_entry_says_what_it_is_and_where_it_comes_from():
    for entry in DATASETS.values():
        assert isinstance(entry, DatasetEntry)
        assert entry.about and entry.origin
