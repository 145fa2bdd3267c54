"""The files that a repository is expected to have: they parse, and what they name is there."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    "path",
    [
        ".pre-commit-config.yaml",
        ".github/workflows/ci.yml",
        ".github/ISSUE_TEMPLATE/fault.yml",
        ".github/ISSUE_TEMPLATE/wish.yml",
        "CITATION.cff",
    ],
)
def test_a_file_of_the_repository_is_yaml(path):
    assert isinstance(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")), dict)


def test_citation_and_package_name_the_holder_of_the_license():
    holder = "The fkal authors"
    assert holder in (ROOT / "LICENSE").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert [author["name"] for author in citation["authors"]] == [holder]
    assert [author["name"] for author in PROJECT["authors"]] == [holder]


def test_pre_commit_runs_what_make_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint: install\n")[2].partition("\n\n")[0]
    for hook in hooks:
        assert f"$(BIN)/{' '.join(hook['entry'].replace(' --force-exclude', '').split())}" in lint


def test_ci_runs_the_targets_of_the_makefile():
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]["check"][
        "steps"
    ]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [step["run"].removeprefix("make ") for step in steps if "run" in step]
    assert targets == ["lint", "docs", "test", "test-slow"]
    assert all(f"\n{target}: " in makefile for target in targets)


def test_extras_that_the_documentation_names_exist():
    assert {"postgres", "dashboard", "docs", "dev"} <= set(PROJECT["optional-dependencies"])


def test_the_package_ships_its_types_and_its_schema():
    package = ROOT / "src" / "fkal"
    assert (package / "py.typed").is_file()
    assert json.loads((package / "schema" / "params.schema.json").read_text(encoding="utf-8"))["$schema"]
