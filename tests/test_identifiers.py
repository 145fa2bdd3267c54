"""Names and digests that files, plans and stores hold."""

import re

import pytest

from fkal import identifiers
from fkal.config.layers import Layer, merged
from fkal.config.schema import ConfigError
from fkal.data.settings import DataConfig
from fkal.identifiers import UnsafeName

NO_PART_OF_A_PATH = [
    "",
    ".",
    "..",
    "../x",
    "/etc",
    "a/../b",
    "a/",
    "a\\b",
    "a\0b",
    "a\n",
    " a",
    "~",
    "-rf",
    ".hidden",
    "é",
]
NO_TEXT = [None, 3, 3.5, True, ["a"], {"a": 1}, b"a"]
ONE_PART = [identifiers.checked_fingerprint, identifiers.digest, identifiers.dataset_name, identifiers.cell_name]


@pytest.mark.parametrize("named", [*ONE_PART, identifiers.schema_revision])
@pytest.mark.parametrize("value", [*NO_PART_OF_A_PATH, *NO_TEXT])
def test_what_leads_out_of_a_folder_names_nothing(named, value):
    with pytest.raises(UnsafeName, match=r"^some/file: key: .*: .+") as error:
        named(value, "some/file: key")
    assert repr(value) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [*NO_PART_OF_A_PATH, *NO_TEXT, "mnist-100", "a/b/c", "a/..", "../b", "a//b", "/a/b"])
def test_the_cell_of_a_method_has_two_parts(value):
    with pytest.raises(UnsafeName):
        identifiers.method_cell_name(value, "here")


@pytest.mark.parametrize(
    ("named", "value"),
    [
        (identifiers.checked_fingerprint, "0123456789abcdef0123456789abcdef"),
        (identifiers.digest, 32 * "f"),
        (identifiers.dataset_name, "mnist"),
        (identifiers.dataset_name, "ours_2.1+a-b"),
        (identifiers.cell_name, "mnist-1e+20-pfk_joint:sum"),
        (identifiers.method_cell_name, "mnist-100/varr:e2"),
        (identifiers.schema_revision, "0123456789ab"),
    ],
)
def test_names_that_fkal_gives_are_taken_as_they_are(named, value):
    assert named(value, "here") == value


@pytest.mark.parametrize("value", [31 * "0", 33 * "0", 32 * "A", 32 * "g", 31 * "0" + "\n"])
def test_a_digest_has_32_hexadecimal_digits(value):
    for named in (identifiers.checked_fingerprint, identifiers.digest):
        with pytest.raises(UnsafeName, match="32 hexadecimal digits"):
            named(value, "here")


def test_a_long_value_is_shown_by_its_beginning():
    with pytest.raises(UnsafeName) as error:
        identifiers.cell_name(5000 * "a", "here")
    assert len(str(error.value)) < 400 and "5002 characters" in str(error.value)


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", ".", "a b", 300 * "a"])
def test_no_configuration_has_a_dataset_whose_name_is_a_path(name):
    with pytest.raises(ValueError, match="name of a dataset"):
        DataConfig(name=name)
    why = "name of a dataset" if len(name) <= 200 else "at most 200 characters"
    with pytest.raises(ConfigError, match=rf"data\.name.*{why}"):
        merged([Layer("about.json", {"data": {"name": name}})])


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (identifiers.SPLIT_FILE, "digits-ir100-s0-0123abcd.json"),
        (identifiers.SPLIT_FILE, "ours_2-byhand-012345-s12-0123abcd.json"),
        (identifiers.SPLIT_FILE, "mnist-ir1e+20-cut012345-s0-0123abcd.json"),
        (identifiers.WEIGHTS_FILE, f"{32 * '0'}.safetensors"),
        (identifiers.SHARD_FILE, f"{32 * '0'}/0000.safetensors"),
        (identifiers.JSON_ARTIFACT, "digits-ir100-s0-0123abcd.json"),
    ],
)
def test_files_of_fkal_fit_their_patterns_and_no_others_do(pattern, name):
    assert re.fullmatch(pattern, name)
    for odd in (f"../{name}", f"/{name}", f"{name}\n", f"a b{name}", f".{name}", f"{name}.bak", f"x/{name}"):
        assert not re.fullmatch(pattern, odd)
