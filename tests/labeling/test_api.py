"""A project from Python goes the same way as on the command line."""

from pathlib import Path

import pytest
import torch

import fkal
from fkal.errors import LabelsMissing
from fkal.labeling import api
from fkal.labeling.label_store import LabelStore, login
from fkal.labeling.project import NoProject
from fkal.labeling.rounds import next_, select, train
from fkal.labeling.trainings import read_round, trainings


@pytest.mark.slow
def test_two_rounds_from_python_are_those_of_the_functions_behind_the_commands(signs):
    one, other = signs("one"), signs("other")
    project = fkal.Project(one.project.folder, tracked=False)
    assert (project.name, project.classes) == ("one", one.project.classes)
    for _ in range(2):
        batch = project.select()
        with pytest.raises(LabelsMissing):
            project.train()
        project.label({image.path: one.truth[image.path] for image in batch.images})
        training = project.train()
    other.answer(select(other.project).batch)
    other.answer(next_(other.again())[1].batch)
    train(other.again())
    assert training.b == 2
    mine, theirs = (read_round(each.again(), trainings(each.again())[-1]) for each in (one, other))
    assert all(torch.equal(mine.weights[name], theirs.weights[name]) for name in mine.weights)
    assert project.status().labeled == 12


def test_settings_are_given_by_section(signs):
    made = signs()
    project = fkal.Project(made.project.folder, tracked=False)
    project.label({image.path: made.truth[image.path] for image in project.select(6).images})
    training = project.train(train={"epochs": 2})
    assert len(training.round["train_loss"]) == 2
    assert project.next(4).request.round == 2
    assert project.cancel().request.withdrawn


def test_a_label_from_python_is_of_the_same_author_as_one_from_the_command_line(signs):
    made = signs()
    project = fkal.Project(made.project.folder, tracked=False)
    image = project.select(6).images[0]
    project.label({image.path: "left"}, partial=True)
    project.label({image.path: "top"}, partial=True, annotator="Ann")
    assert [row.annotator for row in LabelStore(made.project.folder).rows()] == [login(), "Ann"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"features": {"pca": None}, "seed": 3}, ["features.pca=null", "seed=3"]),
        ({"train": {"decay_epochs": (1, 2), "loss": "plain"}}, ["train.decay_epochs=[1, 2]", "train.loss=plain"]),
        ({"train": {"on_validation": True, "lr": 1e-5}}, ["train.on_validation=True", "train.lr=1e-05"]),
        ({"model": {"weights": Path("a b.pt")}}, ["model.weights=a b.pt"]),
    ],
)
def test_settings_are_written_as_assignments(settings, said):
    assert api._assignments(settings) == said


def test_a_folder_without_a_project_is_refused(tmp_path):
    with pytest.raises(NoProject):
        fkal.Project(tmp_path)
