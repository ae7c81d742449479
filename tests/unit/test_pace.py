"""Rate, ages and the time left: right for a run that goes on as it did, and silent where nobody can know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.cli.counting import OpCount
from execution.cli.pace import Ages, Left, Pace, left_text, rate_text
from runstore.log.expanded import StepId


def op(
    node: str, sealed: int | None, settled: int, failed: int = 0, *, closed: bool = True
) -> OpCount:
    """A mapped op, or one of a single step."""
    return OpCount(node, sealed != 1, 0, sealed, settled, failed, 0, closed)


@given(
    st.floats(0.01, 20),
    st.floats(0.01, 20),
    st.integers(1, 8),
    st.integers(0, 50),
    st.integers(20, 200),
)
def test_the_time_left_of_a_steady_run(
    first_s: float, second_s: float, workers: int, reused: int, count: int
) -> None:
    """Where the steps of each op take as long as before, and as many run, the estimate is what it takes."""
    begun = 100.0
    pace = Pace([op("a", count + reused, reused), op("b", count + reused, reused)], begun)
    half = count // 2
    total_s = (first_s + second_s) * half / workers
    share = first_s / (first_s + second_s)
    looks = 200
    for number in range(1, looks + 1):
        # Seen at work: of the two ops in proportion to what their steps take.
        node = "a" if (number * 0.618) % 1 < share else "b"
        done = half * number // looks + reused
        now = begun + total_s * number / looks
        pace.look(
            [op("a", count + reused, done), op("b", count + reused, done)],
            [StepId(node, ())] * workers,
            now,
        )
    left = pace.left()
    if total_s < 3:
        assert left.seconds is None
        return
    assert left.seconds == pytest.approx((first_s + second_s) * (count - half) / workers, rel=0.01)
    assert left.without == ()


def test_ops_that_differ_are_not_taken_for_each_other() -> None:
    """A thousand quick clones say nothing of ten slow ones: their own cost is known once one has ended."""
    pace = Pace([op("quick", 1000, 0), op("slow", 10, 0)], 0.0)
    for second in range(1, 11):
        pace.look(
            [op("quick", 1000, 100 * second), op("slow", 10, 0)], [StepId("quick", ())], second
        )
    assert pace.left() == Left(None, "no clone of slow has ended yet")
    for second in range(11, 71):
        done = (second - 10) // 30
        pace.look([op("quick", 1000, 1000), op("slow", 10, done)], [StepId("slow", ())], second)
    assert pace.left().seconds == pytest.approx(8 * 30)


def test_nothing_is_said_before_anything_is_known() -> None:
    """No time is given while keys may still come, and before there was something to see."""
    pace = Pace([op("a", None, 0, closed=False)], 0.0)
    pace.look([op("a", 5, 3, closed=False)], [StepId("a", ())], 60.0)
    assert left_text(pace.left()) == "time left unknown: the keys of a are not all known"
    pace = Pace([op("a", 10, 0)], 0.0)
    pace.look([op("a", 10, 9)], [StepId("a", ())], 1.0)
    assert left_text(pace.left()) == "time left unknown: too little was seen"


def test_a_last_step_that_nobody_has_seen_is_named() -> None:
    """An op of one step comes on top of the time, by name."""
    pace = Pace([op("a", 100, 0), op("report", 1, 0)], 0.0)
    pace.look([op("a", 100, 50), op("report", 1, 0)], [StepId("a", ())], 100.0)
    assert left_text(pace.left()) == "about 2 min left and report"
    pace.look([op("a", 100, 100), op("report", 1, 0)], [StepId("report", ())], 200.0)
    assert left_text(pace.left()) == ""


def test_what_was_reused_is_not_counted() -> None:
    """Steps of earlier epochs are neither rate nor done; failed ones of this one are."""
    before = op("a", 100, 40)
    pace = Pace([before], 0.0)
    now = op("a", 100, 50, 10)
    pace.look([now], [], 10.0)
    assert (pace.reused(now), pace.done(now)) == (40, 20)
    assert pace.rate == 2.0
    invalidated = op("a", 100, 30)
    pace.look([invalidated], [], 11.0)
    assert (pace.reused(invalidated), pace.done(invalidated), pace.rate) == (30, 0, 0.0)


def test_the_rate_is_that_of_late() -> None:
    """A minute later nothing is left in it of a slow beginning."""
    pace = Pace([op("a", 10_000, 0)], 0.0)
    for second in range(1, 61):
        pace.look([op("a", 10_000, second if second <= 30 else 100 * (second - 30))], [], second)
    assert pace.rate == pytest.approx(100, rel=0.05)


def test_ages() -> None:
    """An attempt is as old as the first look that saw it; another attempt of the step is young."""
    ages, step, other = Ages(), StepId("a", ("x",)), StepId("a", ("y",))
    assert ages.look([(step, 7)], 100.0) == [(step, 0.0)]
    assert ages.look([(step, 7), (other, 9)], 103.0) == [(step, 3.0), (other, 0.0)]
    assert ages.look([(other, 9), (step, 12)], 110.0) == [(other, 7.0), (step, 0.0)]


@pytest.mark.parametrize(
    ("per_s", "text"),
    [
        (1204.4, "1,204 steps/s"),
        (2.43, "2.4 steps/s"),
        (0.24, "14 steps/min"),
        (0.001, "4 steps/h"),
        (0, "0 steps/h"),
    ],
)
def test_rates_in_words(per_s: float, text: str) -> None:
    """In the unit in which they can be read."""
    assert rate_text(per_s) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "5 s"),
        (12, "10 s"),
        (57, "55 s"),
        (58, "1 min"),
        (3400, "57 min"),
        (3599, "1 h 00 min"),
        (8000, "2 h 10 min"),
    ],
)
def test_times_left_in_words(seconds: float, text: str) -> None:
    """No finer than it can be known."""
    assert left_text(Left(seconds)) == f"about {text} left"
