"""What no boundary lets through, and what all of them leave as it is."""

import json

import pytest

from fkal.escaping import file_stem, json_text, one_line, printable, storable

PLAIN = ("cat", "été", "猫", "[/red]x", "$x$", "a‌b", "😀", "=1", "C:\\x")


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_text_stays_as_it_is(text):
    assert printable(text) == one_line(text) == storable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb", r"a\x0db"),
        ("a\x7f\x00", r"a\x7f\x00"),
        ("bad\udcff", r"bad\udcff"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("a\u2028b\uffff", r"a\u2028b\uffff"),
        ("one\ntwo\tthree", "one\ntwo\tthree"),
    ],
)
def test_what_acts_on_a_terminal_becomes_visible(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_a_name_on_one_line_has_no_line_feed_and_no_tab():
    assert one_line("a\nb\tc\x1b") == r"a\nb\tc\x1b"


def test_what_a_database_cannot_hold_is_escaped_and_nothing_else():
    assert storable("a\x00b\udcff\x1b\u202e") == "a\\x00b\\udcff\x1b\u202e"


@pytest.mark.parametrize("text", [*PLAIN, "\x1b\x7f\x9b\u202e", 'a"b\\c\n', "\\", '\\"'])
def test_json_is_ascii_and_reads_back(text):
    written = json_text({"name": text})
    assert json.loads(written) == {"name": text}
    assert written.isascii() and written.isprintable()


def test_json_has_no_half_of_a_surrogate_pair():
    assert json.loads(json_text(["bad\udcff", {"\ud83d": 1}])) == ["bad\\udcff", {"\\ud83d": 1}]
    assert json_text(["😀"]) == r'["\ud83d\ude00"]'


@pytest.mark.parametrize("text", ["digits-ir20", "longtail1.5", "x" * 100])
def test_a_stem_that_fits_is_the_text_itself(text):
    assert file_stem(text) == text


def test_two_names_have_two_stems_that_are_one_part_of_a_path():
    odd = [
        "../../x",
        "..-..-x",
        "..",
        ".",
        'a"b<c>',
        "a\\b:c\x1b\udcff",
        "a/b",
        "a-b",
        "a b",
        "x" * 300,
        "x" * 301,
        "a\0",
    ]
    stems = [file_stem(text) for text in odd]
    assert len(set(stems)) == len(odd)
    assert not [stem for stem in stems if set(stem) & set('/\\:"<>\0 ') or stem.startswith(".") or len(stem) > 100]
