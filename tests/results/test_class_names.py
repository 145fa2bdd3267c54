"""Whose names of classes are shown."""

import pytest

from fkal.results.class_names import MOST_CLASSES, checked_names, kept_names, names_by_number

DIGITS = tuple("0123456789")


def test_kept_names_come_before_those_of_the_registry():
    assert names_by_number("folder", 2, [("10", "2"), (), ("10", "2")]) == ("10", "2")
    assert names_by_number("mnist", 10, [tuple("abcdefghij")]) == tuple("abcdefghij")


def test_without_kept_names_the_registry_names_the_digits_and_no_own_images():
    assert names_by_number("digits", 10) == names_by_number("mnist", 10, [()]) == DIGITS
    assert names_by_number("folder", 10) == names_by_number("another", 3) == names_by_number("digits", 9) == ()


def test_names_that_contradict_each_other_or_are_too_few_are_not_shown():
    assert names_by_number("folder", 2, [("cat", "dog"), ("dog", "cat")]) == ()
    assert names_by_number("folder", 3, [("cat", "dog")]) == ()


@pytest.mark.parametrize("value", ["cat", ["cat", 1], ["cat", "cat"], [""], ["x" * 1001], {"cat": 1}, ["c"] * 2000])
def test_what_is_no_list_of_names_is_refused(value):
    with pytest.raises(ValueError, match="classes"):
        checked_names(value)


def test_of_too_many_classes_no_names_are_kept():
    assert kept_names(["cat", "dog"]) == ["cat", "dog"]
    assert kept_names([str(k) for k in range(MOST_CLASSES + 1)]) == []
