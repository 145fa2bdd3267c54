"""The JSON half of a kept round."""

import copy
import json
import random

import pytest

from fkal.results.round_facts import (
    UnusableRound,
    facts_bytes,
    join_timings,
    read_facts,
    round_files,
    same_facts,
    split_timings,
)
from fkal.results.round_io import load_round, round_bytes


@pytest.fixture
def files(experiment, tiny_round) -> tuple[bytes, bytes]:
    return round_bytes(tiny_round(experiment, 2))


def without_digest(content: bytes) -> dict:
    """As versions before 0.2 wrote it."""
    return {name: value for name, value in json.loads(content).items() if name != "digest"}


def test_any_changed_digit_or_letter_is_noticed(files):
    tensors, facts = files
    draws = random.Random(0)
    places = [i for i, byte in enumerate(facts) if chr(byte).isalnum()]
    for place in draws.sample(places, 200):
        changed = bytearray(facts)
        changed[place] = ord("7") if chr(facts[place]).isdigit() and facts[place] != ord("7") else ord("2")
        try:
            same = json.loads(changed) == json.loads(facts)  # a digit that is beyond a number's precision
        except ValueError:
            same = False
        if not same:
            with pytest.raises(UnusableRound):
                load_round(tensors, bytes(changed))


def test_the_digest_covers_what_is_said_and_not_how_it_is_laid_out(files):
    tensors, facts = files
    other = json.dumps(json.loads(facts), indent=None, sort_keys=True).encode()
    assert load_round(tensors, other).metrics == load_round(tensors, facts).metrics


def test_files_that_were_kept_before_there_was_a_digest_are_read(files):
    tensors, facts = files
    old = (json.dumps(without_digest(facts), indent=1) + "\n").encode()
    assert load_round(tensors, old).metrics == load_round(tensors, facts).metrics
    untimed, timings = split_timings(old)
    assert b"digest" not in untimed
    assert join_timings(untimed, timings) == old


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metrics", {}),
        ("metrics", None),
        ("metrics", []),
        ("metrics", {"test/accuracy": "0.5"}),
        ("metrics", {"test/accuracy": 1.5}),
        ("metrics", {"test/accuracy": -0.1}),
        ("metrics", {"test/accuracy": True}),
        ("metrics", {"test/accuracy": 0.5, "val/accuracy": None}),
        ("metrics", {"val/macro_accuracy": 0.5}),
        ("b", 0),
        ("b", "2"),
        ("b", 2.0),
        ("b", True),
        ("labels_used", -12),
        ("labels_used", 13),
        ("labels_used", 10**400),
        ("epoch", None),
        ("epoch", 0),
        ("train_loss", 0.5),
        ("train_loss", [0.5, None]),
        ("labeled_counts", [4, 4, "4"]),
        ("labeled_counts", [16, -4, 0]),
        ("labeled_counts", {}),
        ("forward_images", []),
        ("forward_images", {"train": 1.5}),
        ("backward_images", {"train": -1}),
        ("seconds", {"train": -0.5}),
        ("seconds", {"train": "1"}),
        ("peak_memory_mb", "much"),
        ("peak_memory_mb", -1.0),
        ("weights", "conv1"),
        ("weights", [1]),
        ("sha256", 7),
        ("sha256", "0" * 63),
    ],
)
def test_what_no_iteration_can_have_is_refused_with_or_without_a_digest(files, name, value):
    tensors, facts = files
    forged = {**json.loads(facts), name: value}
    for content in (facts_bytes(forged), json.dumps(without_digest(facts_bytes(forged))).encode()):
        with pytest.raises(UnusableRound, match=rf"{name}|labels used"):
            load_round(tensors, content)


@pytest.mark.parametrize("name", ["b", "metrics", "weights", "labeled_counts", "epoch"])
def test_what_is_absent_is_named(files, name):
    facts = without_digest(files[1])
    del facts[name]
    with pytest.raises(UnusableRound, match=f"has no '{name}'"):
        read_facts(json.dumps(facts).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"format": "fkal-round-1", "b": 1e999, "digest": ""}'],
)
def test_what_is_no_such_file_is_refused(content):
    with pytest.raises(UnusableRound):
        read_facts(content)


def test_a_confusion_matrix_of_other_classes_is_refused(files):
    tensors, facts = files
    forged = {**json.loads(facts), "labeled_counts": [6, 6]}
    with pytest.raises(UnusableRound, match="confusion matrix"):
        load_round(tensors, facts_bytes(forged))


def test_timings_are_taken_apart_and_joined_again(files):
    _, facts = files
    untimed, timings = split_timings(facts)
    assert "seconds" not in json.loads(untimed) and timings["seconds"] == {"descriptors": 0.25, "train": 0.5}
    assert join_timings(untimed, timings) != untimed
    assert read_facts(join_timings(untimed, timings)) == read_facts(facts)
    assert read_facts(join_timings(untimed, {"seconds": "none", "peak_memory_mb": []}))["seconds"] == {}


def test_the_same_facts_are_the_same_with_other_timings_or_without_a_digest(files):
    _, facts = files
    untimed, _ = split_timings(facts)
    assert same_facts(facts, untimed)
    assert same_facts(facts, json.dumps(without_digest(facts)).encode())
    changed = copy.deepcopy(json.loads(facts))
    changed["metrics"]["test/accuracy"] = 0.25
    assert not same_facts(facts, facts_bytes(changed))


def test_files_of_rounds_are_in_the_order_of_their_numbers(tmp_path):
    names = [f"round-{b:02d}.json" for b in (1, 2, 10, 99, 100, 101)]
    for name in [*names, "about.json", "round-01.safetensors"]:
        (tmp_path / name).touch()
    assert [path.name for path in round_files(tmp_path)] == names
