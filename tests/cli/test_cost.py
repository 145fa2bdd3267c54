"""`fkal cost` on the digits: what was counted is what Table 1, or this package, says that it costs."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fkal.acquisition.evidence_kinds import EVIDENCE_KINDS
from fkal.cli.main import app
from fkal.results.round_facts import facts_bytes

SETTINGS = (
    "acquisition.rounds=2",
    "acquisition.samples=2",
    "train.epochs=1",
    "pretrain.task=none",
    "vaal.iterations=2",
)
QUICK = ["--preset", "digits", *(word for setting in SETTINGS for word in ("--set", setting))]

pytestmark = pytest.mark.slow  # every method is run once

COSTS = {
    "random": 0,
    "all": 0,
    "pcc": 803,  # M + N^b = 300 + 503 in b = 2
    "pfk_joint": 1606,
    "pfk_trace": 19272,  # (2 + K (D + 1)) (M + N^b) = 24 x 803
    "pfk_mutual_information_diagonal": 19272,
    "pfk_joint_zg": 7139,  # 1,606 + 11 x 503
    "varr": 1006,  # K N^b
    "varr:e2": 2012,
    "coreset": 523,  # N^b + N_(b-1) = 503 + 20
    "margin": 503,
    "badge": 503,
    "direct": 523,
    "galaxy": 523,
    "uherding": 823,  # M + N^b + N_(b-1)
    "flqmi": 803,
    "boss": 823,
    "epig": 1206,  # K (N^b + Q) = 2 (503 + 100)
    "vaal": 1103,  # N^b + 2 x 2 x 50 images of the VAE, twice, and of the discriminator, once: 503 + 400 + 200
    "random:head_only": 0,
}
"""Passes of each method's acquisition in its last round, by hand."""


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def told(*arguments: str, code: int = 0) -> dict:
    return json.loads(fkal("cost", *QUICK, *arguments, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
    """A folder in which every method was run."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fkal("run", *QUICK, "--method", ",".join(COSTS))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copied(ran, here) -> Path:
    """The same, for a test that changes it."""
    shutil.copytree(ran / "runs", here / "runs")
    return here


def state_of(method: str, folder: Path) -> Path:
    (bill,) = told("--method", method)["experiments"]
    return folder / "runs" / "state" / bill["fingerprint"]


@pytest.mark.parametrize("method", list(COSTS))
def test_counted_passes_are_those_that_the_method_should_cost(method, ran, monkeypatch):
    monkeypatch.chdir(ran)
    (bill,) = told("--method", method)["experiments"]
    assert bill["finished"] == bill["iterations"] == (1 if method == "all" else 2)
    assert bill["differences"] == []
    for each in (*bill["rounds"], bill["total"]):
        for phase in ("acquisition", "training", "evaluation"):
            assert each[phase]["counted"] == each[phase]["expected"]
        assert each["training"]["ratio"] == 1
    assert sum(bill["rounds"][-1]["acquisition"]["counted"].values()) == COSTS[method]


def test_where_table_1_says_the_same_the_ratio_is_one(ran, monkeypatch):
    monkeypatch.chdir(ran)
    bills = told("--method", "pcc,pfk_joint,varr,varr:e2,pfk_trace,vaal,coreset")["experiments"]
    ratios = {bill["method"].split(":random")[0]: bill["total"]["acquisition"]["ratio"] for bill in bills}
    agreeing = ("pcc", "pfk_joint", "varr:k2", "varr:e2:k2")
    assert [ratios[method] for method in agreeing] == [1] * 4
    assert ratios["pfk_trace:k2"] == 24 / 20
    assert ratios["vaal"] == 1103 / 1303
    assert ratios["coreset"] is None


def test_the_table_shows_formulas_counts_and_why_they_differ(ran, monkeypatch):
    monkeypatch.chdir(ran)
    shown = fkal("cost", *QUICK, "--method", "pcc,pfk_trace,varr,random:head_only").stdout
    for part in ("M + N^b", "K D (M + N^b)", "16,460", "19,752", "1.2", "they agree", "added are the K forward passes"):
        assert part in shown
    assert "picks at random" in shown
    assert "reach the head alone" in shown
    assert "not finished" not in shown


def test_what_was_not_run_is_predicted_and_the_command_that_runs_it_is_said(here):
    answer = told("--method", "pfk_trace", "--seeds", "1")
    (bill,) = answer["experiments"]
    assert bill["finished"] == 0
    assert bill["total"]["acquisition"]["counted"] is None
    assert sum(bill["rounds"][1]["acquisition"]["expected"].values()) == COSTS["pfk_trace"]
    words = shlex.split(answer["run"])
    assert words[:2] == ["fkal", "run"]
    fkal(*words[1:])
    assert told("--method", "pfk_trace", "--seeds", "1")["experiments"][0]["finished"] == 2


def test_a_prediction_writes_no_iteration_and_no_store(here):
    shown = fkal("cost", *QUICK, "--method", "random,pcc").stdout
    assert "a prediction" in shown
    assert "2 of 2 not finished" in shown
    assert not (here / "mlflow.db").exists()
    assert not (here / "runs" / "state").exists()


def test_of_a_half_finished_experiment_the_finished_half_is_summed(copied):
    state = state_of("pcc", copied)
    (state / "round-02.json").unlink()
    before = files(state)
    (bill,) = told("--method", "pcc")["experiments"]
    assert bill["finished"] == 1
    assert bill["so_far"]["acquisition"]["counted"] == {"forward": 823, "backward": 0}
    assert bill["total"]["acquisition"]["counted"] is None
    shown = fkal("cost", *QUICK, "--method", "pcc").stdout
    assert "1 of 2 rounds finished" in shown
    assert "so far" in shown
    assert files(state) == before


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("phase", ["descriptors", "setup", "train", "evaluate"])
def test_a_count_that_is_not_the_methods_cost_is_said_aloud(way, phase, copied):
    path = state_of("random", copied) / "round-02.json"
    facts = json.loads(path.read_text())
    facts[f"{way}_images"][phase] = facts[f"{way}_images"].get(phase, 0) + 1
    path.write_bytes(facts_bytes(facts))
    result = fkal("cost", *QUICK, "--method", "random", code=1)
    assert "counted passes differ from what this method should cost" in result.stderr
    assert "round 2" in result.stderr
    assert "they agree" not in result.stdout
    (bill,) = told("--method", "random", code=1)["experiments"]
    assert len(bill["differences"]) == 1


def test_the_authors_rule_looks_at_the_test_images_after_each_epoch(here):
    arguments = ["--method", "random", "--set", "protocol=paper"]
    fkal("run", *QUICK, *arguments)
    (bill,) = told(*arguments)["experiments"]
    assert bill["differences"] == []
    assert bill["rounds"][0]["evaluation"]["counted"] == {"forward": 300 + 2 * 500, "backward": 0}


@pytest.mark.parametrize(
    "arguments", [("--method", "random", "--set", "train.on_validation=true"), ("--method", "validation_only")]
)
def test_training_on_validation_images_costs_what_its_folds_cost(here, arguments):
    fkal("run", *QUICK, *arguments)
    (bill,) = told(*arguments)["experiments"]
    assert bill["differences"] == []
    assert bill["rounds"][0]["evaluation"]["counted"] == {"forward": 500, "backward": 0}
    n = 300 + (20 if "random" in arguments else 0)
    assert bill["rounds"][0]["training"]["counted"]["backward"] == 6 * n - 300


def test_two_names_of_one_experiment_are_one_bill(here):
    assert len(told("--method", "pfk,pfk_joint")["experiments"]) == 1


def test_every_kind_of_evidence_is_listed_in_words():
    assert all(kind.summary for kind in EVIDENCE_KINDS.values())


def test_lists_have_the_cost_of_methods_and_pseudo_labels(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    methods = fkal("list", "acquisitions").stdout
    for part in ("E K N^b", "2 (M + N^b)", "N^b + N (2 I_VAE + I_D)", "E models", "CVPR"):
        assert part in methods
    assert max(map(len, methods.splitlines())) <= 100
    assert "K (D + 1) (M + N^b)" in fkal("list", "pseudo-labels").stdout


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
