"""A project from Python goes the same way as on the command line."""

import pytest
import torch

import fkal
from fkal.errors import LabelsMissing
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


def test_a_folder_without_a_project_is_refused(tmp_path):
    with pytest.raises(NoProject):
        fkal.Project(tmp_path)
