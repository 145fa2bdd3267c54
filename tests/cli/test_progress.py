"""What is said of progress where there is no terminal."""

import pytest

from fkal.cli.progress import TERMINAL, Lines, ManyLines, PhaseLines, duration, phase_display, round_display
from fkal.notify import PLAIN


def test_each_round_is_a_line_with_the_time_that_is_left(capsys):
    times = iter([0.0, 90.0, 180.0, 240.0])
    with Lines("digits-ir20-random-s0", iterations=5, done=2, clock=lambda: next(times)) as lines:
        for _ in range(3):
            lines.advance()
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "digits-ir20-random-s0: round 3 of 5, 3 min left",
        "digits-ir20-random-s0: round 4 of 5, 2 min left",
        "digits-ir20-random-s0: round 5 of 5, done",
    ]


def test_several_workers_say_whose_round_it_is_and_how_many_have_ended(capsys):
    with ManyLines(2) as lines:
        lines.began(7, "a", 1, 0)
        lines.began(8, "b", 2, 0)
        lines.advance(7)
        lines.left(7)
        lines.ended()
        lines.advance(8)
    first, second, third = capsys.readouterr().err.splitlines()
    assert (first, second) == ("a: round 1 of 1, done", "1 of 2 experiments have ended")
    assert third.startswith("b: round 1 of 2, ") and third.endswith(" left")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (3540, "59 min"), (7500, "2 h 05 min")]
)
def test_durations_are_short(seconds, words):
    assert duration(seconds) == words


def test_json_is_accompanied_by_no_lines(capsys):
    assert round_display(as_json=True) is TERMINAL
    assert round_display(as_json=False).one is Lines


def test_verbs_of_a_project_have_lines_too_where_nobody_watches_a_terminal():
    assert phase_display().one is PhaseLines
    assert phase_display(as_json=True).one is PLAIN.one
