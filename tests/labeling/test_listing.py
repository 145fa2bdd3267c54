"""Lists of images in Parquet."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fkal.labeling.listing import (
    ROWS_AT_ONCE,
    CorruptListing,
    ListedImage,
    empty_listing,
    read_listing,
    write_listing,
)

DIGESTS = ("a" * 64, "b" * 64, "c" * 64)
IMAGES = (
    ListedImage("a b/&%'\"ü.jpg", DIGESTS[0], 0, "g1", 20, 10, ("copy.jpg", "z/copy.jpg")),
    ListedImage("=1+1.png", DIGESTS[1], 1, None, 5, 6),
    ListedImage("s3://bucket/x.jpg", None, 1, "g1"),
)


@pytest.fixture
def pool(tmp_path):
    write_listing(tmp_path / "pool.parquet", IMAGES)
    return read_listing(tmp_path / "pool.parquet")


def test_rows_come_back_as_they_were_written(pool):
    assert tuple(pool) == IMAGES and pool[1] == IMAGES[1] and len(pool) == 3 and not pool.is_labeled
    assert list(pool.paths) == [image.path for image in IMAGES] and pool.paths[0] == IMAGES[0].path
    assert pool.groups[:2] == ["g1", None] and pool.digests[-1] is None


def test_an_index_outside_is_refused(pool):
    for index in (-1, 3):
        with pytest.raises(IndexError, match="has 3 images"):
            pool[index]
    with pytest.raises(IndexError):
        pool.paths[3]


def test_images_are_found_by_digest_and_by_path(pool):
    assert pool.positions([DIGESTS[1], "d" * 64, DIGESTS[0]]) == [1, None, 0]
    assert pool.positions_of_paths(["=1+1.png", "other"]) == [1, None]


def test_the_digest_of_a_list_knows_images_and_order_and_no_places(pool, tmp_path):
    def digest(images):
        write_listing(tmp_path / "other.parquet", images)
        return read_listing(tmp_path / "other.parquet").digest

    moved = (ListedImage("new/place.jpg", DIGESTS[0], 1), *IMAGES[1:])
    assert len(pool.digest) == 32 and digest(moved) == pool.digest
    assert digest(IMAGES[::-1]) != pool.digest != digest(IMAGES[:2])


def test_the_digest_of_a_labeled_list_knows_the_labels(tmp_path):
    digests = []
    for label in ("cat", "dog"):
        write_listing(tmp_path / "v.parquet", [ListedImage("a", DIGESTS[0], label=label, batch="v1")], labeled=True)
        listing = read_listing(tmp_path / "v.parquet", labeled=True)
        assert list(listing.labels) == [label] and listing.is_labeled and listing[0].batch == "v1"
        digests.append(listing.digest)
    assert digests[0] != digests[1]


def test_a_list_of_many_blocks_keeps_its_order(tmp_path):
    n = 2 * ROWS_AT_ONCE + 1
    path = tmp_path / "pool.parquet"
    assert write_listing(path, (ListedImage(f"{i}.jpg", f"{i:064x}") for i in range(n))) == n
    listing = read_listing(path)
    assert list(listing.paths) == [f"{i}.jpg" for i in range(n)] and listing[n - 1].digest == f"{n - 1:064x}"
    assert listing.positions([f"{n - 2:064x}"]) == [n - 2]


def test_an_absent_list_is_empty(tmp_path):
    listing = read_listing(tmp_path / "test.parquet", labeled=True)
    assert len(listing) == 0 and list(listing) == [] and listing.digest == empty_listing(labeled=True).digest


def test_what_fkal_did_not_write_is_refused(tmp_path):
    path = tmp_path / "pool.parquet"
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(CorruptListing, match=r"pool\.parquet: not a list of images that fkal wrote"):
        read_listing(path)
    pq.write_table(pa.table({"path": ["a"]}), path)
    with pytest.raises(CorruptListing, match="fkal init again"):
        read_listing(path)


def test_a_failed_write_leaves_the_list_as_it_was(pool, tmp_path):
    def broken():
        yield IMAGES[0]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_listing(tmp_path / "pool.parquet", broken())
    assert tuple(read_listing(tmp_path / "pool.parquet")) == IMAGES
    assert [path.name for path in tmp_path.iterdir()] == ["pool.parquet"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("path", None),
        ("path", ""),
        ("path", "a\0.png"),
        ("digest", "zz"),
        ("digest", "AB"),
        ("digest", "5"),
        ("root", -1),
        ("root", None),
        ("width", 0),
        ("height", -5),
    ],
)
def test_a_value_that_no_list_has_is_refused(tmp_path, column, value):
    path = tmp_path / "pool.parquet"
    write_listing(path, IMAGES)
    table = pq.read_table(path)
    values = [value, *table[column].to_pylist()[1:]]
    at = table.schema.get_field_index(column)
    pq.write_table(table.set_column(at, column, pa.array(values, table.schema.field(column).type)), path)
    with pytest.raises(CorruptListing, match=re.escape(f"not a list of images that fkal wrote ({column} {value!r})")):
        read_listing(path)


def test_the_list_of_another_part_is_refused(tmp_path):
    write_listing(tmp_path / "validation.parquet", IMAGES, labeled=True)
    (tmp_path / "validation.parquet").rename(tmp_path / "pool.parquet")
    with pytest.raises(CorruptListing, match=r"it is the list 'validation'"):
        read_listing(tmp_path / "pool.parquet")
