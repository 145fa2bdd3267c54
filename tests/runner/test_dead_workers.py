"""Which experiments have failed where worker processes died, and which are tried again."""

from collections import Counter

from fkal.runner.executors import MOST_TRIES, failed_of

AT_WORK = {101: 0, 102: 1, 103: 2}
"""The places of experiments by their workers; those at 3 and 4 are not begun."""
BROKEN = {0, 1, 2, 3, 4}


def test_a_dead_worker_fails_its_own_experiment():
    tries = Counter()
    assert failed_of(BROKEN, AT_WORK, {102}, tries) == {1}
    assert tries == {0: 1, 2: 1}


def test_a_worker_that_was_idle_fails_none():
    assert failed_of(BROKEN - {1}, AT_WORK, {102}, Counter()) == set()


def test_what_is_at_work_in_each_pool_that_breaks_has_failed_in_the_end():
    tries = Counter()
    for _ in range(MOST_TRIES - 1):
        assert failed_of({0, 3}, {101: 0}, set(), tries) == set()
    assert failed_of({0, 3}, {101: 0}, set(), tries) == {0}


def test_workers_that_cannot_begin_fail_all():
    assert failed_of(BROKEN, {}, {101, 102}, Counter()) == BROKEN


def test_where_no_worker_died_none_has_failed():
    assert failed_of(set(), AT_WORK, set(), Counter()) == set()
