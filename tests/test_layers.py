import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fkal.cli.main import app


def test_imports_point_down(request):
    """The contracts of pyproject.toml, by import-linter."""
    command = [Path(sys.executable).with_name("lint-imports")]
    told = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


@pytest.mark.slow
def test_core_and_engine_need_neither_tracker_nor_configuration_library():
    """On a machine with torch alone they can be used from a notebook."""
    absent = ("pydantic", "mlflow", "typer", "rich", "yaml", "pandas", "filelock", "safetensors")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import fkal.engine.loop, fkal.engine.pretraining, fkal.acquisition.registry\n"
        "import fkal.data.splits, fkal.models.registry"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
def test_settings_names_and_tables_need_no_torch():
    """What a command knows before it computes: everything but the settings' own libraries stays unimported."""
    heavy = ("torch", "torchvision", "numpy", "mlflow", "optuna", "pandas", "sklearn")
    modules = (
        "fkal.config.schema",
        "fkal.config.params_file",
        "fkal.config.tuned",
        "fkal.config.method_spec",
        "fkal.config.machine",
        "fkal.experiment.names",
        "fkal.acquisition.cost",
        "fkal.data.registry",
        "fkal.engine.progress",
    )
    program = (
        f"import sys, {', '.join(modules)}\n"
        "from fkal.acquisition.registry import acquisition\n"
        "from fkal.config.layers import from_file, merged, preset\n"
        "from fkal.config.method_spec import method_layer\n"
        "from fkal.data.registry import entry_of\n"
        "from fkal.experiment.names import experiment_name, settings_of_first_descriptors, settings_read\n"
        "from fkal.models.settings import known_model\n"
        "config = merged([from_file(preset('mnist'), 'mnist'), method_layer('pfk_trace:sum:k16@conv2')])\n"
        "experiment_name(config), settings_read(config), settings_of_first_descriptors(config)\n"
        "acquisition(config.acquisition.name).cost('trace', members=1), entry_of('svhn'), known_model('resnet18')\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (told.stdout, told.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_commands_that_compute_nothing_and_usage_errors_need_no_torch(tmp_path):
    (tmp_path / "params.yaml").write_text(
        "grid: {dataset: [mnist], ratio: [1, 100], method: [random, pfk_joint], seeds: 0-1}\n"
        "datasets: {mnist: {data: {name: mnist}, model: {name: resnet10}}}\n"
    )
    commands = [
        (0, "plan"),
        (4, "tune --dataset mnist --apply"),
        (2, "run --preset folder"),
        (0, "config --preset folder --set data.folder=pets"),
        (0, "config --preset digits --set model.name=resnet18"),
        (0, "list acquisitions"),
        (0, "list pseudo-labels"),
        (0, "list models"),
        (0, "list datasets"),
        (0, "config --preset mnist --method pfk_joint:sum@conv2"),
        (0, "grid --dataset mnist"),
        (2, "list nothing"),
        (2, "run --preset mnits"),
        (2, "run --preset mnist --method pfk_jont"),
        (2, "run --preset mnist --method pcc:sum"),
        (2, "run --preset mnist --set train.lr=fast"),
        (2, "run --preset mnist --seeds 2-1"),
        (2, "cost --preset mnist --ratio few"),
        (2, "split --preset mnist --seeds x"),
    ]
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from fkal.cli.main import app\n"
        f"for code, line in {commands!r}:\n"
        "    told = CliRunner().invoke(app, line.split())\n"
        "    assert told.exit_code == code, (line, told.output)\n"
        "heavy = ('torch', 'torchvision', 'mlflow', 'optuna', 'numpy', 'pandas')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (told.stdout, told.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_a_dry_run_of_what_was_run_before_needs_no_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = "run --preset digits --method random --set acquisition.rounds=1 --set train.epochs=1"
    told = CliRunner().invoke(app, command.split())
    assert told.exit_code == 0, told.output
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from fkal.cli.main import app\n"
        f"told = CliRunner().invoke(app, '{command} --dry-run'.split())\n"
        "assert told.exit_code == 0, told.output\n"
        "print([name for name in ('torch', 'torchvision', 'mlflow', 'numpy', 'pandas') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (told.stdout, told.stderr) == ("[]\n", "")
