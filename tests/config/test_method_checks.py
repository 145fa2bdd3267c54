"""Methods that need the whole pool at once do not take `acquisition.parts`; every command says so before it works."""

import pytest
from typer.testing import CliRunner

import fkal
from fkal.acquisition.registry import ACQUISITIONS, BY_MATCHING
from fkal.acquisition.settings import AcquisitionConfig
from fkal.cli.main import app
from fkal.config.method_checks import refuse_unable_in_parts
from fkal.errors import ConfigError

UNABLE = [name for name, entry in ACQUISITIONS.items() if not entry.in_parts]
WAY_OUT = "take pcc, pfk (but not pfk:noisy_or, pfk:tail_first), flqmi, or leave acquisition.parts out"


def test_these_methods_choose_in_parts():
    assert set(ACQUISITIONS) - set(UNABLE) == {"pcc", "pfk", "flqmi"}
    assert [name for name, entry in BY_MATCHING.items() if entry.in_parts] == ["ecov", "wcov", "wcov_zg"]


@pytest.mark.parametrize("name", UNABLE)
def test_a_method_that_needs_the_whole_pool_is_refused_in_one_line(name):
    with pytest.raises(ConfigError) as refusal:
        refuse_unable_in_parts(AcquisitionConfig(name=name, parts=8))
    assert str(refusal.value) == f"acquisition.parts = 8: {name} does not choose in parts; {WAY_OUT}"
    refuse_unable_in_parts(AcquisitionConfig(name=name))


def test_a_matching_that_needs_the_whole_pool_is_named_with_its_method():
    with pytest.raises(ConfigError, match=r"^acquisition.parts = 1: pfk:noisy_or does not choose in parts; take pcc, "):
        refuse_unable_in_parts(AcquisitionConfig(name="pfk", matching="noisy_or", parts=1))
    for matching in ("k_center", "coverage", "transport", "ecov", "wcov", "wcov_zg"):
        refuse_unable_in_parts(AcquisitionConfig(name="pfk", matching=matching, parts=8))


PARTS = ["--set", "acquisition.parts=4"]


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--preset", "digits", "--method", "fisher_coverage,random", *PARTS],
        ["run", "--preset", "digits", "--method", "random", "--dry-run", *PARTS],
        ["run", "--preset", "mnist", "--method", "random", "--data-root", "nowhere", *PARTS],
        ["cost", "--preset", "digits", "--method", "random", *PARTS],
        ["config", "--preset", "digits", "--method", "random", *PARTS],
    ],
    ids=lambda command: " ".join(command[:5]),
)
def test_commands_refuse_it_before_they_look_at_data(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    assert f"acquisition.parts = 4: random does not choose in parts; {WAY_OUT}" in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_choice_of_arrays_refuses_it():
    with pytest.raises(ValueError, match=r"acquisition.parts = 2: margin does not choose in parts"):
        fkal.select([[0.0], [1.0]], n=1, method="margin", probabilities=[[1.0, 0.0], [0.5, 0.5]], parts=2)
