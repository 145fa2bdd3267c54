"""JPEG files decoded as drafts and by torchvision's decoder, beside files decoded whole."""

import numpy as np
import pytest
import torch
from PIL import Image

from fkal.data import gpu_decoding
from fkal.data.decoding import covering_view, evaluation_view
from fkal.data.errors import CorruptImage
from fkal.data.files import folder_files
from fkal.data.images import FolderImages

SIZE = 64
SIZES = [(640, 480), (300, 410), (70, 80), (60, 64), (1000, 140)]
ALL = torch.arange(8)


@pytest.fixture
def tree(tmp_path):
    """Five photographs, a grey one, one on its side by EXIF, and a PNG."""
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    coarse = [Image.fromarray(draws.integers(0, 255, (6, 8, 3), dtype=np.uint8)) for _ in range(8)]
    smooth = [each.resize(SIZES[i % 5], Image.Resampling.BICUBIC) for i, each in enumerate(coarse)]
    for i, image in enumerate(smooth[:5]):
        image.save(folder / f"{i}.jpg", quality=92)
    smooth[5].convert("L").save(folder / "5.jpg", quality=92)
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth[6].save(folder / "6.jpg", quality=92, exif=turned)
    smooth[7].save(folder / "7.png")
    return folder_files(tmp_path, "train")


def images(files, decoding=None, evaluated=evaluation_view, workers=0) -> FolderImages:
    return FolderImages(
        files, mean=(0.0,), std=(1 / 255,), size=SIZE, workers=workers, decoding=decoding, evaluated=evaluated
    )


def seen(files, decoding, evaluated=evaluation_view, **options) -> torch.Tensor:
    return torch.cat(list(images(files, decoding, evaluated, **options).batches(ALL.split(3), device="cpu")))


@pytest.mark.parametrize("evaluated", [evaluation_view, covering_view])
@pytest.mark.parametrize("decoding", ["draft", "gpu"])
def test_other_ways_of_decoding_give_almost_the_same_pixels(tree, decoding, evaluated):
    whole, other = seen(tree, None, evaluated), seen(tree, decoding, evaluated)
    assert other.shape == whole.shape == (8, 3, SIZE, SIZE)
    by_image = (other - whole).abs().mean(dim=(1, 2, 3))
    assert 0 < float(by_image.max()) < 1.5  # of 255
    assert float(by_image[7]) == (0 if decoding == "draft" else pytest.approx(0, abs=0.5))  # a PNG


def test_a_draft_is_used_where_it_has_pixels_enough(tree):
    """Of the five sizes those at least twice as large as the shorter side needs, 73 pixels, come at a part of it."""
    changed = (seen(tree, "draft") - seen(tree, None)).abs().amax(dim=(1, 2, 3)) > 0
    assert changed[:5].tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("decoding", ["draft", "gpu"])
def test_random_training_views_and_pixels_are_those_of_whole_files(tree, decoding):
    def views(how):
        draws = torch.Generator().manual_seed(3)
        return torch.cat(list(images(tree, how).batches([ALL], device="cpu", augment=draws)))

    assert torch.equal(views(decoding), views(None))
    assert torch.equal(images(tree, decoding).pixels(ALL), images(tree).pixels(ALL))


def test_a_view_of_another_decoding_is_another_content(tree):
    ids = [images(tree, how).content_ids(ALL[:1]).tolist() for how in (None, "draft", "gpu")]
    assert ids[0] != ids[1] != ids[2] != ids[0]
    assert len({images(tree, how).digest for how in (None, "draft", "gpu")}) == 1


@pytest.mark.parametrize("decoding", ["draft", "gpu"])
@pytest.mark.parametrize("content", [b"", b"no picture", "cut"])
def test_a_broken_file_is_named(tree, tmp_path, decoding, content):
    path = tmp_path / "train" / "a" / "1.jpg"
    path.write_bytes(path.read_bytes()[:600] if content == "cut" else content)
    with pytest.raises(CorruptImage, match=r"a/1\.jpg"):
        list(images(tree, decoding).batches([ALL], device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("decoding", ["draft", "gpu"])
def test_workers_change_nothing(tree, decoding):
    assert torch.equal(seen(tree, decoding, workers=2), seen(tree, decoding))


def test_a_cpu_is_no_gpu():
    assert gpu_decoding.why_not(torch.device("cpu")) == "cpu decodes no JPEG files"
