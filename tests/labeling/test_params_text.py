"""The first params file of a project, and places that are added to it."""

import pytest
import yaml

from fkal.errors import ConfigError
from fkal.labeling.params_text import FirstParams, first_text, with_place
from fkal.labeling.project import Project
from fkal.labeling.rounds import method_in_keys, method_of

VALUES = FirstParams(
    name="pets",
    pools=("a b", "q\"uo'te", "#x: y", "grün"),
    validation=(),
    test=(),
    model="resnet10",
    weights=None,
    image_size=32,
    groups=r"([^/]+)/(\d+)_",
    validation_per_class=25,
    budget=20,
    budget_rule="10 per class",
)


def test_the_first_file_is_read_as_it_was_meant(tmp_path):
    (tmp_path / ".fkal").mkdir()
    (tmp_path / "params.yaml").write_text(first_text(VALUES))
    project = Project.open(tmp_path)
    config = project.config(environment={})
    assert project.settings.pools == VALUES.pools and project.groups == config.data.groups == VALUES.groups
    assert (config.data.image_size, config.acquisition.budget, config.model.name) == (32, 20, "resnet10")
    assert (config.bias.kind, config.device) == ("none", "auto")


@pytest.mark.parametrize(
    ("weights", "per_class", "layers", "method"),
    [
        (None, 50, "all", "fisher_coverage"),
        (None, 49.5, "all", "noisy_or"),
        (None, 0, "all", "noisy_or"),
        ("DEFAULT", 1000, "frozen", "weighted_coverage"),
        ("DEFAULT", 10, "frozen", "weighted_coverage"),
    ],
)
def test_the_method_follows_the_model_and_the_validation_images(tmp_path, weights, per_class, layers, method):
    (tmp_path / ".fkal").mkdir()
    values = VALUES._replace(model="torchvision:resnet50", weights=weights, validation_per_class=per_class)
    (tmp_path / "params.yaml").write_text(first_text(values))
    config = Project.open(tmp_path).config(environment={})
    assert (config.train.layers, method_of(config)) == (layers, method)
    assert method_in_keys(config) == (f"{method}@embedding" if layers == "frozen" else method), "kept simulations"
    assert config.acquisition.budget == 20


@pytest.mark.parametrize(
    "text",
    [
        "# mine\nproject:\n  name: a\n  pools: [x]  # the pool\nseed: 3\n",
        "project:\n  pools:\n    - x\n  name: a\n\nseed: 3  # mine\n",
        "project:\n    pools:\n    - x  # first\nseed: 3\n# mine\n",
        "project: {pools: [x], name: a}  # mine\nseed: 3\n",
    ],
)
def test_a_place_is_added_and_the_rest_stays(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert with_place(path, "pool", "x") == 0 and path.read_text() == text
    assert with_place(path, "pool", "y: #z") == 1 and with_place(path, "pool", "y: #z") == 1
    assert with_place(path, "validation", "v") == 0
    before, after = yaml.safe_load(text), yaml.safe_load(path.read_text())
    assert after == {**before, "project": {**before["project"], "pools": ["x", "y: #z"], "validation": ["v"]}}
    assert all(line.partition("#")[2] in path.read_text() for line in text.splitlines())


def test_a_file_without_places_to_add_to_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 3\n")
    with pytest.raises(ConfigError, match="no section project"):
        with_place(tmp_path / "params.yaml", "pool", "x")
    (tmp_path / "params.yaml").write_text("project: {pools: x}\n")
    with pytest.raises(ConfigError, match="pools: give a list"):
        with_place(tmp_path / "params.yaml", "pool", "y")
