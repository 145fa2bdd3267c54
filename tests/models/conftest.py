import pytest
import torch


@pytest.fixture(autouse=True)
def seeded_weights():
    """Models draw their first weights from torch's global generator."""
    torch.manual_seed(0)
