"""Names of metrics, on both sides of the store's door."""

from fkal.tracking.metrics import STORED, parent_points, stored_metrics, stored_name


def test_accuracies_come_first_where_names_are_sorted():
    assert all(name.startswith("accuracy/") for name in STORED.values())
    assert len(set(STORED.values())) == len(STORED)
    others = ("cost/forward_images", "select/minority_fraction", "spread/test", "summary/aubc", "time/total_s")
    assert sorted([*others, *STORED.values()])[: len(STORED)] == sorted(STORED.values())


def test_a_name_of_the_store_stays_as_it_is():
    assert stored_name("test/minority_accuracy") == "accuracy/rare"
    assert stored_name("accuracy/rare") == "accuracy/rare"
    assert stored_name("pseudo/accuracy") == "pseudo/accuracy"


def test_a_run_with_both_names_has_the_value_of_today():
    assert stored_metrics({"accuracy/test": 0.5, "test/accuracy": 0.25, "val/accuracy": 0.75}) == {
        "accuracy/test": 0.5,
        "accuracy/validation": 0.75,
    }


def test_a_rounds_curves_go_under_the_stores_names(experiment, tiny_round):
    points = {point.key: (point.value, point.step) for point in parent_points(tiny_round(experiment, 2))}
    assert points["accuracy/test"] == (tiny_round(experiment, 2).metrics["test/accuracy"], 12)
    assert points["accuracy/validation"] == (0.3, 12)
    assert not any(key.startswith(("test/", "val/")) for key in points)
