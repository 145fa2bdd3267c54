import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Where real datasets lie: FKAL_DATA_ROOT, else data/."""
    return Path(os.environ.get("FKAL_DATA_ROOT", REPOSITORY / "data")).resolve()


@pytest.fixture(scope="session")
def mnist_root(data_root) -> Path:
    if not (data_root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"real MNIST is not under {data_root}; set FKAL_DATA_ROOT to the folder that holds MNIST/raw")
    return data_root


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    """What the developer has set for fkal or MLflow must not reach the tests."""
    for name in list(os.environ):
        if name.startswith("FKAL_") or name == "MLFLOW_TRACKING_URI":
            monkeypatch.delenv(name)
