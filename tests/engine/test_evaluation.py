import pytest
import torch
from torch.testing import assert_close

from fkal.engine.evaluation import accuracies, confusion_matrix

CONFUSIONS = [
    [[3, 1, 0], [0, 5, 2], [1, 1, 2]],
    [[3, 1, 0], [0, 0, 0], [4, 0, 0]],
    [[7, 0, 0], [0, 1, 0], [0, 0, 9]],
]


def by_loops(cells: list[list[int]], minority: tuple[int, ...]) -> dict[str, float]:
    """The metrics of a list of (true, predicted) pairs."""
    pairs = [(t, p) for t, row in enumerate(cells) for p, count in enumerate(row) for _ in range(count)]
    by_class = {}
    for label in {t for t, _ in pairs}:
        own = [p for t, p in pairs if t == label]
        by_class[label] = sum(p == label for p in own) / len(own)
    metrics = {
        "test/accuracy": sum(t == p for t, p in pairs) / len(pairs),
        "test/macro_accuracy": sum(by_class.values()) / len(by_class),
        "test/worst_class_accuracy": min(by_class.values()),
    }
    rare = [(t, p) for t, p in pairs if t in minority]
    if rare:
        metrics["test/minority_accuracy"] = sum(t == p for t, p in rare) / len(rare)
    return metrics


@pytest.mark.parametrize("cells", CONFUSIONS)
@pytest.mark.parametrize("minority", [(), (2,), (1, 2), (1,)])
def test_the_metrics_are_what_counting_image_by_image_gives(cells, minority):
    assert accuracies(torch.tensor(cells), minority, prefix="test") == pytest.approx(by_loops(cells, minority))


def test_the_prefix_names_the_set():
    assert set(accuracies(torch.tensor(CONFUSIONS[0]), (1,), prefix="val")) == {
        "val/accuracy",
        "val/macro_accuracy",
        "val/worst_class_accuracy",
        "val/minority_accuracy",
    }


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_a_confusion_matrix_counts_true_by_predicted_class(images, model, meter, batch_size):
    pictures, network = images(11, seed=0), model("with norm", seed=0)
    indices = torch.tensor([10, 3, 4, 0, 7, 1, 9])
    expected = torch.zeros(3, 3, dtype=torch.long)
    network.eval()
    for i in indices.tolist():
        x = next(pictures.batches([torch.tensor([i])], device="cpu"))
        expected[int(pictures.labels[i]), int(network(x).argmax())] += 1
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with meter.phase("evaluate"):
        confusion = confusion_matrix(network, pictures, indices, batch_size=batch_size, meter=meter)
    assert torch.equal(confusion, expected)
    assert dict(meter.forward_images) == {"evaluate": 7}
    assert network.training
    for name, value in network.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0)
