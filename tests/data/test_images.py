import time

import pytest
import torch

from fkal.data.errors import CorruptImage
from fkal.data.files import folder_files
from fkal.data.images import FolderImages, ImageSet, TensorImages

INDICES = [torch.tensor([3, 1]), torch.tensor([7]), torch.tensor([0, 2, 4])]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tree(tmp_path, write_tree):
    return write_tree(tmp_path / "pets")


@pytest.fixture
def streamed(tree):
    def make(workers: int = 0, size: int = 8) -> FolderImages:
        return FolderImages(folder_files(tree, "train"), mean=(0.5,), std=(0.25,), size=size, workers=workers)

    return make


@pytest.fixture(params=["tensor", "folder"])
def images(request, tiny_images, streamed) -> ImageSet:
    return tiny_images() if request.param == "tensor" else streamed()


def all_batches(images, **options):
    return list(images.batches(INDICES, device="cpu", **options))


def test_both_kinds_are_image_sets(images):
    assert isinstance(images, ImageSet)
    assert len(images.digest) == 32
    assert len(images) == len(images.labels) == len(images.names)


def test_a_batch_holds_the_normalised_images_of_its_indices(images):
    mean, std = (0.5, 0.5) if isinstance(images, TensorImages) else (0.5, 0.25)
    for indices, batch in zip(INDICES, all_batches(images), strict=True):
        assert batch.shape == (len(indices), *images.shape) and batch.dtype == torch.float32
        torch.testing.assert_close(batch, (images.pixels(indices).float() / 255 - mean) / std)


def test_another_interpolation_is_another_content(tree):
    def made(how: str) -> FolderImages:
        return FolderImages(folder_files(tree, "train"), mean=(0.5,), std=(0.5,), size=8, interpolation=how)

    known = [made(how) for how in ("bilinear", "bicubic", "nearest")]
    assert len({each.digest for each in known}) == 3
    assert len({bytes(each.content_ids(INDICES[0]).flatten().tolist()) for each in known}) == 3
    views = [torch.cat(list(each.batches(INDICES, device="cpu", augment=seeded()))) for each in known]
    assert not any(torch.equal(views[0], other) for other in views[1:])


def test_indices_beyond_the_set_are_refused(images):
    with pytest.raises(ValueError, match="use 0 to"):
        list(images.batches([torch.tensor([len(images)])], device="cpu"))
    with pytest.raises(ValueError, match="use 0 to"):
        images.pixels(torch.tensor([-1]))


def test_pixels_move_to_a_device_once(tiny_images):
    images = tiny_images()
    assert images.to("cpu") is images.to("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_a_gpu_gives_the_batches_of_the_cpu(tiny_images, augmentation):
    images = tiny_images(augmentation=augmentation)
    on_cpu = all_batches(images, augment=seeded())
    on_gpu = list(images.batches(INDICES, device="cuda", augment=seeded()))
    assert images.to("cuda") is images.to("cuda:0")
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(cpu, gpu.cpu())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_files_stream_to_a_gpu(streamed):
    for cpu, gpu in zip(all_batches(streamed()), streamed(2).batches(INDICES, device="cuda"), strict=True):
        assert gpu.is_cuda
        torch.testing.assert_close(cpu, gpu.cpu())


def test_the_digest_knows_pixels_labels_and_class_names_but_not_image_names():
    pixels, labels = torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([0, 1])

    def digest(pixels=pixels, labels=labels, classes="ab", names="train"):
        return TensorImages(pixels, labels, classes, mean=(0.5,), std=(0.5,), names=names).digest

    assert digest() == digest(names="elsewhere")
    assert len({digest(), digest(pixels=pixels + 1), digest(labels=1 - labels), digest(classes="ac")}) == 4
    assert digest(pixels=pixels.reshape(2, 1, 9, 1)) != digest()


def test_a_tree_has_one_digest_wherever_and_whenever_it_was_written(tree, tmp_path):
    before = FolderImages(folder_files(tree, "train"), mean=(0.5,), std=(0.5,), size=8).digest
    moved = tree.rename(tmp_path / "moved")
    for path in moved.rglob("*.jpg"):
        path.touch()
    after = FolderImages(folder_files(moved, "train"), mean=(0.5,), std=(0.5,), size=8)
    assert after.digest == before
    (moved / "train" / "cat" / "0000.jpg").write_bytes((moved / "train" / "dog" / "0000.jpg").read_bytes())
    assert FolderImages(folder_files(moved, "train"), mean=(0.5,), std=(0.5,), size=8).digest != before


def test_sixty_thousand_digits_are_digested_in_a_moment():
    images = TensorImages(
        torch.zeros(60_000, 1, 28, 28, dtype=torch.uint8),
        torch.zeros(60_000, dtype=torch.int64),
        "a",
        mean=(0.5,),
        std=(0.5,),
    )
    start = time.process_time()
    assert images.digest
    assert time.process_time() - start < 0.3


def test_tensors_are_augmented_only_where_asked(tiny_images):
    plain = all_batches(tiny_images())
    for batch, same in zip(plain, all_batches(tiny_images(), augment=seeded()), strict=True):
        assert torch.equal(batch, same)
    cropped = all_batches(tiny_images(augmentation="crop_flip"), augment=seeded())
    assert not all(torch.equal(a, b) for a, b in zip(plain, cropped, strict=True))


def test_an_unknown_augmentation_is_refused(tiny_images):
    with pytest.raises(ValueError, match="choose one of none, crop_flip"):
        tiny_images(augmentation="blur")


def test_labels_that_do_not_fit_are_refused():
    pixels = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="2 images need 2 int64 labels"):
        TensorImages(pixels, torch.tensor([0]), "ab", mean=(0.5,), std=(0.5,))
    with pytest.raises(ValueError, match="use 0 to 1"):
        TensorImages(pixels, torch.tensor([0, 2]), "ab", mean=(0.5,), std=(0.5,))


def test_normalisation_of_other_channels_is_refused():
    pixels = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"std.*one value or 3"):
        TensorImages(pixels, torch.tensor([0]), "a", mean=(0.5,), std=(0.5, 0.5))


@pytest.mark.parametrize("augment", [False, True])
def test_the_number_of_workers_changes_nothing(streamed, augment):
    few, many = (all_batches(streamed(workers), augment=seeded() if augment else None) for workers in (0, 2))
    for a, b in zip(few, many, strict=True):
        assert torch.equal(a, b)


def test_augmented_files_follow_their_generator(streamed):
    def first(seed):
        return next(streamed().batches(INDICES, device="cpu", augment=seeded(seed)))

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


def test_the_generator_moves_on_equally_however_many_batches_are_taken(images):
    generators = seeded(), seeded()
    next(iter(images.batches(INDICES, device="cpu", augment=generators[0])))
    all_batches(images, augment=generators[1])
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_file_is_named_when_it_is_met(tree, streamed, workers):
    broken = tree / "train" / "cat" / "0001.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(CorruptImage, match=r"train/cat/0001\.jpg.*replace it") as raised:
        all_batches(streamed(workers))
    assert "Traceback" not in str(raised.value)


def test_corrupt_files_are_found_ahead(tree, streamed):
    assert streamed().corrupt() == []
    (tree / "train" / "cat" / "0001.jpg").write_bytes(b"")
    (tree / "train" / "dog" / "0002.jpg").write_text("not an image")
    assert streamed().corrupt() == [f"{tree}/train/cat/0001.jpg", f"{tree}/train/dog/0002.jpg"]


def test_a_file_that_has_gone_is_named(tree, streamed):
    images = streamed()
    (tree / "train" / "cat" / "0001.jpg").unlink()
    with pytest.raises(CorruptImage, match=r"cannot read .*0001\.jpg"):
        all_batches(images)


def test_numbered_names_count_from_the_part(tiny_images):
    assert tiny_images().names[3] == "train/3"
    assert tiny_images().names[1:3] == ["train/1", "train/2"]
