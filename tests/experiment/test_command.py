"""The command that a description names makes the experiment that it describes."""

import shlex

import pytest

from fkal.config.layers import Layer, from_assignments, from_file, merged, preset
from fkal.config.method_spec import method_layer
from fkal.config.params_file import params_file
from fkal.experiment.command import command_of, seeds_text
from fkal.experiment.names import (
    experiment_title,
    method_digest,
    method_title,
    read_params,
    round_title,
    settings_read,
)
from fkal.runner.expand import Sources, experiments


def config(method: str, *assignments: str, name: str = "digits"):
    settings = params_file(preset(name), name).layer(None)
    return merged([settings, from_assignments(assignments), method_layer(method), Layer("", {"seed": 3})])


def configs_of(command: str):
    """What `fkal run` makes of it."""
    words = shlex.split(command)
    assert words[:2] == ["fkal", "run"]
    options = list(zip(words[2::2], words[3::2], strict=True))
    named = dict(options)
    assigned = [value for name, value in options if name == "--set"]
    sources = Sources(preset=named["--preset"], assignments=assigned, environment={}, tuned=None)
    return experiments(sources, named["--method"], named["--seeds"])


@pytest.mark.parametrize(
    ("method", "assignments"),
    [
        ("random", ()),
        ("pfk_joint:sum@conv1+conv2", ("train.lr=0.01", "threads=2")),
        ("fisher_coverage", ("bias.ratio=1", "data.mean=[0.5]")),
        ("varr:e4:k32", ("protocol=paper", "holdout=2")),
        ("pfk_joint", ("acquisition.taps=[conv1]", "acquisition.combine=sum")),
        ("vaal:random_theta_0:head_only", ("vaal.latent=8", "threads=null")),
        ("all", ()),
    ],
)
def test_the_command_makes_the_experiment_again(method, assignments):
    wanted = config(method, *assignments)
    (made,) = configs_of(command_of(wanted, [3]))
    assert made.seed == 3
    assert settings_read(made) == settings_read(wanted)


def test_all_seeds_of_a_method_are_made_by_one_command():
    made = configs_of(command_of(config("random"), [0, 1, 2, 7]))
    assert [each.seed for each in made] == [0, 1, 2, 7]
    assert seeds_text([7, 2, 0, 1, 9]) == "0-2,7,9"


def test_a_dataset_without_a_preset_is_run_from_its_params_file():
    assert command_of(config("random", "data.name=theirs"), [0]) == "fkal run --params params.yaml --seeds 0"


def test_own_images_are_run_from_the_preset_of_folders():
    file = from_file(preset("folder"), "folder")
    own = merged([file, from_assignments(["data.folder=my signs", "data.validation=valid"]), method_layer("random")])
    command = "fkal run --preset folder --method random --set 'data.folder=my signs' --set data.validation=valid"
    assert command_of(own, [0]) == f"{command} --seeds 0"


def test_titles_begin_with_the_method_and_say_all_that_the_identifier_says():
    plain = config("pfk_joint")
    assert method_title(plain) == "pfk_joint digits ir20"
    assert experiment_title(plain) == "pfk_joint s3 digits ir20"
    assert round_title(plain, 2) == "pfk_joint s3 round 2"
    odd = config("fisher_coverage:random_theta_0", "protocol=paper", "holdout=2")
    assert method_title(odd) == "fisher_coverage:random_theta_0 digits ir20 paper_protocol holdout2"


def test_params_are_those_that_the_method_reads():
    random, pfk, vaal, everything = (read_params(config(name)) for name in ("random", "pfk_joint", "vaal", "all"))
    assert pfk["acquisition.matching"] == "k_center" and pfk["acquisition.pseudo_label"] == "joint"
    assert not {"acquisition.taps", "acquisition.matching", "acquisition.samples"} & set(random)
    assert "vaal.latent" in vaal and not any(key.startswith("vaal.") for key in (*random, *pfk))
    assert "acquisition.budget" in random and "acquisition.budget" not in everything


def test_a_methods_digest_is_that_of_its_settings_whatever_the_seed_the_machine_and_what_it_does_not_read():
    same = method_digest(config("random"))
    assert method_digest(config("random", "device=cpu", "data.workers=7", "acquisition.combine=sum")) == same
    assert method_digest(config("random", "train.lr=0.5")) != same
