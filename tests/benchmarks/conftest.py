"""`benchmarks/results.py` on a small grid of digits, with rows and pages in a folder of its own."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from click.testing import Result
from typer.testing import CliRunner

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = """
readme: {grid: small, methods: [random]}
pages:
  digits:
    columns: [test/accuracy, test/macro_accuracy, test/minority_accuracy, select/minority_fraction]
    grids:
      small:
        preset: digits
        settings: {train.epochs: EPOCHS, pretrain.epochs: 1, acquisition.rounds: 2}
        tiers:
          - {seeds: 0-1, seconds: 3600, methods: [random, margin]}
"""


@pytest.fixture(scope="session", autouse=True)
def benchmarks_are_importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "benchmarks"))
        yield


class Small:
    """The script, its grid, and the folder of its rows."""

    def __init__(self, results: ModuleType, folder: Path) -> None:
        self.results = results
        self.plan = folder / "small.yaml"
        self.rows = folder / "pages" / "digits" / "rows.csv"
        self.costs = self.rows.with_name("costs.csv")
        self.page = folder / "page.md"
        self.page.write_text("<!-- rows short small -->\nold\n<!-- end -->\n")
        self.set_epochs(1)

    def set_epochs(self, epochs: int) -> None:
        self.plan.write_text(SMALL.replace("EPOCHS", str(epochs)))

    def table(self) -> list[str]:
        """The lines of the page's table."""
        return self.page.read_text().splitlines()[1:-1]

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(self.results.app, list(words))

    @property
    def grid(self) -> NamedTuple:
        return self.results.read_plan(self.plan).grids["small"]

    @property
    def files(self) -> tuple[bytes, bytes]:
        return self.rows.read_bytes(), self.costs.read_bytes()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    results = importlib.import_module("results")
    found = Small(results, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "GRIDS", found.plan)
    monkeypatch.setattr(results, "FILES", [found.page])
    monkeypatch.setattr(results, "HERE", results.Pages(tmp_path / "pages"))
    return found
