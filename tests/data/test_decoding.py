import io
import pickle
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fkal.data.decoding import FORMATS, Change, decode, described_changes, header, is_plain_jpeg, pixels_of
from fkal.data.errors import CorruptImage, Flaw

# Upright: rows (1 2 3) and (4 5 6). What each EXIF orientation stores of it, by the EXIF standard's table.
UPRIGHT = [[1, 2, 3], [4, 5, 6]]
STORED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[3, 6], [2, 5], [1, 4]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[4, 1], [5, 2], [6, 3]],
}


def file_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif_of(orientation, *, order="<"):
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, 1) + entry + b"\0\0\0\0"


def oriented(orientation, kind, *, order="<"):
    stored = Image.fromarray(np.array(STORED[orientation], np.uint8) * 40)
    if kind == "TIFF":
        return file_of(stored, kind, tiffinfo={0x0112: orientation})
    return file_of(stored, kind, exif=exif_of(orientation, order=order))


def values(data):
    return pixels_of(decode(data, "x").image).tolist()


def times(n, rows):
    return [[[n * value for value in row] for row in rows]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_comes_out_upright(orientation, kind):
    data = oriented(orientation, kind)
    assert values(data) == times(40, UPRIGHT)
    assert decode(data, "x").changes == (Change(0) if orientation == 1 else Change.ORIENTED)
    found = header(io.BytesIO(data), "x")
    assert (found.width, found.height, found.changes) == (3, 2, decode(data, "x").changes)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_jpeg_is_turned_as_its_exif_says(orientation, order):
    plain = np.zeros((8, 16), np.uint8)
    plain[:, 8:] = 255  # blocks of one value survive JPEG exactly
    plain[4:, :8] = 0
    image = Image.fromarray(plain)
    data = file_of(image, "JPEG", exif=exif_of(orientation, order=order), quality=100)
    expected = {1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1]}
    turned = {5: plain.T, 6: np.rot90(plain, -1), 7: plain[::-1, ::-1].T, 8: np.rot90(plain)}
    assert values(data) == [{**expected, **turned}[orientation].tolist()]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0XX*\0\x08\0\0\0",
        exif_of(0),
        exif_of(9),
        exif_of(6)[:-8],
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\0" * 30,
    ],
)
def test_an_orientation_that_cannot_be_read_changes_nothing(exif):
    image = Image.fromarray(np.full((8, 16), 128, np.uint8))
    found = decode(file_of(image, "JPEG", exif=exif), "x")
    assert (found.image.size, found.changes) == ((16, 8), Change(0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_divided_by_257_and_rounded(kind):
    sixteen = np.array([[0, 128, 129, 257], [385, 386, 40_000, 65_535]], np.uint16)
    found = decode(file_of(Image.fromarray(sixteen), kind), "x")
    assert pixels_of(found.image).tolist() == [[[0, 0, 1, 1], [1, 2, 156, 255]]]
    assert found.changes == Change.FROM_16_BITS


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_32_bits_are_refused(dtype):
    data = file_of(Image.fromarray(np.full((2, 2), 300, dtype)), "TIFF")
    with pytest.raises(CorruptImage, match="not 8 or 16 bits") as raised:
        decode(data, "deep.tif")
    assert raised.value.flaw is Flaw.UNSUPPORTED_PIXELS


def test_cmyk_becomes_rgb():
    data = file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")
    found = decode(data, "x")
    assert found.image.getpixel((3, 3)) == (255, 0, 0) and found.changes == Change.FROM_CMYK


def test_what_is_transparent_shows_white():
    image = Image.new("RGBA", (3, 1))
    image.putdata([(10, 20, 30, 255), (10, 20, 30, 0), (0, 100, 200, 51)])
    found = decode(file_of(image, "PNG"), "x")
    assert pixels_of(found.image)[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [204, 224, 244]]
    assert found.changes == Change.COMPOSITED


def test_transparent_grey_stays_grey():
    image = Image.new("LA", (2, 1))
    image.putdata([(100, 255), (100, 0)])
    found = decode(file_of(image, "PNG"), "x")
    assert found.image.mode == "L" and pixels_of(found.image).tolist() == [[[100, 255]]]


def test_a_palette_with_a_transparent_entry_shows_white_there():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putdata([0, 1])
    assert pixels_of(decode(file_of(image, "PNG"), "x").image)[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 0]]
    data = file_of(image, "PNG", transparency=bytes([255, 0]))
    assert pixels_of(decode(data, "x").image)[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]


def test_a_colour_that_counts_as_transparent_shows_white():
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    data = file_of(image, "PNG", transparency=(9, 9, 9))
    assert pixels_of(decode(data, "x").image)[:, 0].T.tolist() == [[1, 2, 3], [255, 255, 255]]
    grey = file_of(Image.fromarray(np.array([[7, 40_000]], np.uint16)), "PNG", transparency=7)
    assert pixels_of(decode(grey, "x").image).tolist() == [[[255, 156]]]


def test_an_alpha_that_hides_nothing_changes_nothing():
    found = decode(file_of(Image.new("RGBA", (2, 2), (1, 2, 3, 255)), "PNG"), "x")
    assert found.changes == Change(0) and found.image.getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_the_first_frame_is_taken(kind):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 0, 250)))
    found = decode(file_of(first, kind, save_all=True, append_images=[second]), "x")
    assert found.image.convert("RGB").getpixel((1, 1)) == (250, 0, 0)
    assert found.changes == Change.FIRST_FRAME


def test_a_plain_jpeg_is_one_that_is_decoded_unchanged():
    grey = Image.linear_gradient("L")
    assert is_plain_jpeg(file_of(grey, "JPEG"))
    for other in (
        file_of(grey, "JPEG", exif=exif_of(6)),
        file_of(grey.convert("RGB").convert("CMYK"), "JPEG"),
        file_of(grey, "PNG"),
    ):
        assert not is_plain_jpeg(other)
    assert decode(file_of(grey.convert("RGB").convert("CMYK"), "JPEG"), "x").changes == Change.FROM_CMYK


def test_a_gif_of_one_frame_is_unchanged():
    assert decode(file_of(Image.new("RGB", (4, 4), (9, 9, 200)), "GIF"), "x").changes == Change(0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_the_content_decides_on_the_format_not_the_name(kind):
    assert kind in FORMATS
    assert decode(file_of(Image.new("RGB", (4, 4)), kind), "x.anything").image.size == (4, 4)


def png_head(width, height):
    head = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)

    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0\0\0\4IDAT0000"
    )


@pytest.mark.parametrize("side", [100_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(side):
    for read in (decode, lambda data, name: header(io.BytesIO(data), name)):
        with pytest.raises(CorruptImage, match=rf"bomb\.png: {side * side:,} pixels, more than the limit") as raised:
            read(png_head(side, side), "bomb.png")
        assert raised.value.flaw is Flaw.TOO_LARGE


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_is_179_megapixels():
    found = header(io.BytesIO(png_head(178_956_970 // 10, 10)), "x")
    assert found.width * found.height == 178_956_970
    with pytest.raises(CorruptImage, match="179 megapixels"):
        header(io.BytesIO(png_head(178_956_971, 1)), "x")


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize(
    ("data", "flaw", "reason"),
    [
        (b"", Flaw.EMPTY, "the file is empty"),
        (b"<html>not found</html>", Flaw.UNKNOWN_FORMAT, "not an image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Flaw.UNKNOWN_FORMAT, "not an image file"),
        (b"\xff\xd8\xff", Flaw.UNKNOWN_FORMAT, "not an image file"),
        (file_of(Image.linear_gradient("L"), "JPEG")[:-200], Flaw.BROKEN, "truncated"),
        (file_of(Image.new("RGB", (64, 64), (1, 99, 7)), "PNG")[:60], Flaw.BROKEN, "truncated"),
    ],
)
def test_a_flaw_has_a_type_and_a_reason_and_survives_a_worker(data, flaw, reason):
    with pytest.raises(CorruptImage, match=reason) as raised:
        decode(data, "some/file.jpg")
    error = pickle.loads(pickle.dumps(raised.value))
    assert (error.flaw, error.reason, str(error)) == (flaw, raised.value.reason, str(raised.value))
    assert "some/file.jpg" in str(error) and reason in error.reason


def test_a_heic_image_names_the_package_that_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(CorruptImage, match="pillow-heif") as raised:
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a.heic")
    assert raised.value.flaw is Flaw.NEEDS_PACKAGE


def test_changes_are_counted_for_people():
    told = described_changes([Change(0), Change.ORIENTED, Change.ORIENTED | Change.COMPOSITED])
    assert told == ["2 turned by EXIF orientation", "1 with transparency put on white"]


def test_damage_at_random_is_always_a_corrupt_image_or_an_image():
    draw = np.random.default_rng(0)
    noise = Image.fromarray(draw.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    whole = [file_of(noise, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")]
    modes, messages = [], []
    for k in range(700):
        data = bytearray(whole[k % len(whole)])
        for place in draw.integers(0, min(len(data), 200), 3):
            data[place] = draw.integers(0, 256)
        try:
            modes.append(decode(bytes(data), "x").image.mode)
        except CorruptImage as error:
            messages.append(str(error))
    assert len(modes) + len(messages) == 700 and len(messages) > 50 and set(modes) <= {"L", "RGB"}
    assert not any("\n" in message or len(message) > 400 for message in messages)


def test_pixels_are_laid_out_by_channel():
    assert torch.equal(
        pixels_of(Image.new("RGB", (2, 1), (1, 2, 3))), torch.tensor([1, 2, 3]).byte().reshape(3, 1, 1).expand(3, 1, 2)
    )
