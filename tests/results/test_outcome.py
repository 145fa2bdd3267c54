"""Which experiments may be averaged, and what titles say where groups are alike."""

from types import SimpleNamespace

from fkal.config.layers import Layer, merged
from fkal.results.outcome import Outcome, by_cell, distinctions, groups_of

ONE, OTHER = "1a2b3c" + "0" * 26, "4d5e6f" + "0" * 26


def outcome(digest: str = ONE, *, seed: int = 0, measured: str = "test", **settings: object) -> Outcome:
    layers = [Layer("test", {"bias": {"ratio": 20}, "seed": seed, **settings})]
    first = SimpleNamespace(labels_used=20, measured=measured)
    return Outcome(merged(layers), f"{seed:032x}", "0" * 32, (first,), "", "", data_digest=digest)


def own_tree(digest: str, folder: str, **settings: object) -> Outcome:
    return outcome(digest, data={"name": "folder", "folder": folder}, **settings)


def test_seeds_on_the_same_images_are_one_group():
    (group,) = by_cell([outcome(), outcome(seed=1)])
    assert (group.dataset, group.data) == ("digits", ONE)
    assert distinctions([group]) == {group: ""}


def test_other_images_of_the_same_name_are_another_group_with_another_title():
    first, second = by_cell([own_tree(ONE, "a/mine"), own_tree(OTHER, "b/mine")])
    assert first.dataset == second.dataset == "mine" and first.slug == second.slug
    assert distinctions([first, second]) == {first: ", images 1a2b3c", second: ", images 4d5e6f"}


def test_trees_of_different_names_need_no_digest_in_their_titles():
    groups = list(by_cell([own_tree(ONE, "a"), own_tree(OTHER, "b")]))
    assert set(distinctions(groups).values()) == {""}


def test_the_same_tree_at_two_places_is_one_group():
    assert len(by_cell([own_tree(ONE, "a/mine"), own_tree(ONE, "b/mine", seed=1)])) == 1


def test_experiments_with_another_holdout_are_another_group():
    groups = list(by_cell([outcome(holdout=5, measured="holdout"), outcome(holdout=6, measured="holdout", seed=1)]))
    assert set(distinctions(groups).values()) == {", 5 held out per class", ", 6 held out per class"}


def test_experiments_with_other_validation_sets_are_another_group():
    groups = list(by_cell([outcome(), outcome(data={"validation_per_class": 20})]))
    assert set(distinctions(groups).values()) == {
        ", 30 validation images per class",
        ", 20 validation images per class",
    }


def test_an_experiment_of_an_earlier_version_is_grouped_with_those_of_its_registered_dataset():
    assert len(by_cell([outcome(""), outcome(seed=1)])) == 1
    assert len(by_cell([outcome(""), outcome("", seed=1)])) == 1


def test_an_unknown_digest_is_guessed_only_where_there_is_one_to_guess():
    groups = groups_of([outcome(""), outcome(ONE), outcome(OTHER)])
    assert [group.data for group in groups] == ["", ONE, OTHER]
    assert distinctions(groups)[groups[0]] == ", images of unknown digest"


def test_own_trees_of_unknown_images_go_by_their_paths():
    a, b, again = groups_of([own_tree("", "a/mine"), own_tree("", "b/mine"), own_tree("", "a/mine", seed=1)])
    assert a != b and a == again
