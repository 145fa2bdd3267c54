"""Workers that stay from one pass to the next answer as workers of one pass do."""

import os
import time

import pytest

from fkal.data.loading import StayingWorkers


class Squares:
    """The process that answers, and the square."""

    def __getitem__(self, request: int) -> tuple[int, int]:
        time.sleep(0.001)
        return os.getpid(), request**2


def squares(workers: StayingWorkers, requests) -> tuple[set[int], list[int]]:
    answers = list(workers.answers(requests))
    return {pid for pid, _ in answers}, [square for _, square in answers]


@pytest.mark.parametrize("n", [0, 2])
def test_answers_come_in_the_order_of_the_requests_in_each_pass(n):
    workers = StayingWorkers(Squares(), workers=n)
    for requests in (range(9), [5, 3, 5], []):
        assert squares(workers, requests)[1] == [request**2 for request in requests]


def test_the_next_pass_has_the_same_processes():
    workers = StayingWorkers(Squares(), workers=2)
    (first, _), (second, _) = (squares(workers, range(20)) for _ in range(2))
    assert first == second
    assert len(first) == 2 and os.getpid() not in first


def test_a_pass_within_another_one_has_processes_of_its_own():
    workers = StayingWorkers(Squares(), workers=2)
    outer = workers.answers(range(10))
    got = [next(outer)]
    inner, found = squares(workers, [7, 8, 9, 10])
    got += list(outer)
    assert found == [49, 64, 81, 100] and [square for _, square in got] == [i**2 for i in range(10)]
    assert not inner & {pid for pid, _ in got}


@pytest.mark.parametrize("n", [0, 2])
def test_a_pass_that_is_given_up_or_fails_leaves_nothing_to_the_next(n):
    workers = StayingWorkers(Squares(), workers=n)
    given_up = workers.answers(range(50))
    next(given_up)
    given_up.close()
    assert squares(workers, [2, 3])[1] == [4, 9]

    def failing():
        yield 4
        raise KeyError("no further one")

    with pytest.raises(KeyError, match="no further one"):
        list(workers.answers(failing()))
    assert squares(workers, [6, 5])[1] == [36, 25]
