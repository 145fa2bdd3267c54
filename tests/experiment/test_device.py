import pytest
import torch

from fkal.acquisition.settings import AcquisitionConfig
from fkal.config.schema import Config
from fkal.engine.settings import PretrainConfig, TrainConfig
from fkal.experiment.device import reproducible, reproducibly
from fkal.experiment.experiment import Experiment, prepare

SMALL = Config(
    acquisition=AcquisitionConfig(name="random", budget=20, rounds=2),
    pretrain=PretrainConfig(task="none"),
    train=TrainConfig(epochs=1, decay_epochs=()),
)


@pytest.fixture(autouse=True)
def process_as_it_was():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


def with_threads(threads: int | None, out) -> Experiment:
    return prepare(SMALL.model_copy(update={"threads": threads}), out, print)


def of_the_process() -> tuple[int, bool, bool]:
    return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark


def test_the_threads_and_the_determinism_of_the_process_come_back():
    torch.set_num_threads(2)
    with reproducible(3):
        assert of_the_process() == (3, True, False)
    assert of_the_process() == (2, False, False)
    torch.use_deterministic_algorithms(True)
    with reproducible(None):
        assert of_the_process() == (2, True, False)
    assert of_the_process() == (2, True, False) and not torch.is_deterministic_algorithms_warn_only_enabled()


def test_each_step_of_a_work_has_its_threads_and_what_is_between_has_the_callers():
    def work():
        seen = [torch.get_num_threads()]
        yield "a step"
        return [*seen, torch.get_num_threads()]

    one, other = (reproducibly(threads, work()) for threads in (3, 2))
    between, results = [], []
    for each in (one, other):
        next(each)
        between.append(torch.get_num_threads())
    for each in (one, other):
        with pytest.raises(StopIteration) as end:
            next(each)
        results.append(end.value.value)
        between.append(torch.get_num_threads())
    assert results == [[3, 3], [2, 2]] and between == [1, 1, 1, 1]


def test_a_work_that_is_given_up_is_closed():
    closed = []

    def work():
        try:
            yield "a step"
        finally:
            closed.append(True)

    steps = reproducibly(3, work())
    next(steps)
    steps.close()
    assert closed == [True] and torch.get_num_threads() == 1


def test_an_experiment_with_threads_changes_no_fingerprint_of_the_next_one(tmp_path):
    alone = with_threads(None, tmp_path).fingerprint
    with_threads(3, tmp_path)
    assert with_threads(None, tmp_path).fingerprint == alone


def test_an_experiment_that_is_given_up_half_way_changes_no_fingerprint_of_the_next_one(tmp_path):
    alone = with_threads(None, tmp_path).fingerprint
    given_up = with_threads(3, tmp_path).events()
    next(given_up)
    assert with_threads(None, tmp_path).fingerprint == alone


def test_threads_that_a_program_sets_after_an_experiment_are_those_of_the_next_one(tmp_path):
    for _ in with_threads(3, tmp_path).events():
        pass
    torch.set_num_threads(2)
    other = with_threads(None, tmp_path)
    assert torch.get_num_threads() == 2
    assert other.fingerprint == with_threads(2, tmp_path).fingerprint
