import subprocess
import sys
from pathlib import Path


def test_imports_point_down(request):
    """The contracts of pyproject.toml, by import-linter."""
    command = [Path(sys.executable).with_name("lint-imports")]
    told = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_core_and_engine_need_neither_tracker_nor_configuration_library():
    """On a machine with torch alone they can be used from a notebook."""
    absent = ("pydantic", "mlflow", "typer", "rich", "yaml", "pandas", "filelock", "safetensors")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import fkal.engine.loop, fkal.engine.pretraining, fkal.acquisition, fkal.data.splits, fkal.models"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
