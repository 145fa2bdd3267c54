import pytest
import torch

from fkal.acquisition.settings import AcquisitionConfig
from fkal.config.schema import Config
from fkal.experiment.device import set_threads
from fkal.experiment.experiment import prepare


@pytest.fixture(autouse=True)
def threads_of_the_process():
    before = torch.get_num_threads()
    yield before
    set_threads(None)
    torch.set_num_threads(before)


def test_threads_that_no_setting_names_are_those_that_the_process_had(threads_of_the_process):
    set_threads(3)
    set_threads(2)
    assert torch.get_num_threads() == 2
    set_threads(None)
    assert torch.get_num_threads() == threads_of_the_process
    set_threads(None)
    assert torch.get_num_threads() == threads_of_the_process


def test_threads_set_by_the_caller_are_kept_where_no_setting_names_any():
    torch.set_num_threads(2)
    set_threads(None)
    assert torch.get_num_threads() == 2


def test_an_experiment_with_threads_changes_no_fingerprint_of_the_next_one(tmp_path):
    digits = Config(acquisition=AcquisitionConfig(budget=20, rounds=2))
    alone = prepare(digits, tmp_path, print).fingerprint
    prepare(digits.model_copy(update={"threads": 3}), tmp_path, print)
    assert prepare(digits, tmp_path, print).fingerprint == alone
