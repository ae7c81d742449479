"""How many steps run at a time, and how often one starts: never more than allowed, never fewer than possible."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution import DynamicOut, DynamicOutput, OpContext, RetryPolicy, execute, job, op, threads
from execution.definition.bounds import checked_rate
from execution.definition.job import JobDefinition
from execution.errors import DefinitionError
from execution.executors.in_process import InProcessExecutor
from execution.running.limits import Limits
from runstore import RunStore
from runstore.log.events import StepStarted

PATIENCE_S = 20
COUNT = 12


class Meter:
    """How many are inside at a time, by group; the first of a group wait until as many are in as may be."""

    def __init__(self, **full: int) -> None:
        self._full = full
        self._changed = threading.Condition()
        self._inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def __call__(self, *groups: str) -> None:
        """Be inside of these groups for a moment."""
        with self._changed:
            for group in groups:
                self._inside[group] += 1
                self.most[group] = max(self.most[group], self._inside[group])
            self._changed.notify_all()
            assert self._changed.wait_for(self._has_been_full, PATIENCE_S), self.most
            for group in groups:
                self._inside[group] -= 1

    def _has_been_full(self) -> bool:
        return all(self.most[group] >= most for group, most in self._full.items())


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Some."""
    for number in range(COUNT):
        yield DynamicOutput(number, number)


def test_of_an_op(tmp_path: Any) -> None:
    """`@op(concurrency=…)` bounds the steps of the op, all its nodes together; others run in the places left."""
    meter = Meter(narrow=2, wide=3)

    @op(concurrency=2)
    def narrow(number: int) -> int:
        meter("narrow")
        return number

    @op
    def wide(number: int) -> int:
        meter("wide")
        return number

    @job
    def bounded() -> None:
        made = numbers()
        made.map(narrow)
        made.map(narrow.alias("narrow_too"))
        made.map(wide)

    result = execute(bounded, tmp_path, executor=threads(5))
    assert result.success
    assert meter.most["narrow"] == 2
    assert len(result.output_for_node("narrow_too")) == COUNT


def test_of_a_run(tmp_path: Any) -> None:
    """`@job(max_concurrent=…)` bounds all steps of a run, however many places its executor has."""
    meter = Meter(all=3)

    @op
    def one(number: int) -> int:
        meter("all")
        return number

    @op
    def other(number: int) -> int:
        meter("all")
        return number

    @job(max_concurrent=3)
    def bounded() -> None:
        made = numbers()
        made.map(one)
        made.map(other)

    assert execute(bounded, tmp_path, executor=threads(8)).success
    assert meter.most["all"] == 3


def test_of_the_values_of_a_tag(tmp_path: Any) -> None:
    """`tag_concurrency` bounds the steps of each value of a tag, or of one value alone."""
    meter = Meter(main=1, copy=2)

    @op
    def asks(context: OpContext, number: int) -> int:
        meter(context.tags["database"])
        return number

    @job(tag_concurrency={"database": 2, "database=main": 1})
    def bounded() -> None:
        made = numbers()
        for name in ("main", "copy"):
            made.map(asks.tag({"database": name}).alias(f"asks_{name}"))
            made.map(asks.tag({"database": name}).alias(f"asks_{name}_too"))

    assert execute(bounded, tmp_path, executor=threads(6)).success
    assert meter.most == {"main": 1, "copy": 2}


def test_a_place_is_free_again_however_a_step_ends(tmp_path: Any) -> None:
    """Failures, retries and hooks leave no place taken."""

    @op(concurrency=1, retry_policy=RetryPolicy(max_retries=1))
    def ends(context: OpContext, number: int) -> int:
        if number % 3 == 0 or (number % 3 == 1 and not context.retry_number):
            raise ValueError("no")
        return number

    @job
    def bounded() -> None:
        numbers().map(ends)

    result = execute(bounded, tmp_path, executor=threads(3))
    assert len(result.failures) == COUNT // 3
    assert len(result.output_for_node("ends")) == COUNT - COUNT // 3


@pytest.mark.parametrize("executor", [InProcessExecutor(), threads(4)])
def test_of_a_rate(tmp_path: Any, executor: Any) -> None:
    """Steps of an op with a rate start no closer than it says, retries among them; others do not wait for them."""

    @op(rate="20/s", retry_policy=RetryPolicy(max_retries=1))
    def rated(context: OpContext, number: int) -> int:
        if number == 2 and not context.retry_number:
            raise ValueError("no")
        return number

    @op
    def free(number: int) -> int:
        return number

    @job
    def bounded() -> None:
        made = numbers()
        made.map(rated)
        made.map(free)

    result = execute(bounded, tmp_path, executor=executor)
    assert result.success
    with RunStore.open(tmp_path) as store:
        events = [event for _, event in store.events(result.run_id)]
    started = [event for event in events if isinstance(event, StepStarted)]
    times = [event.time.timestamp() for event in started if event.step.startswith("rated")]
    assert len(times) == COUNT + 1
    assert times[-1] - times[0] >= COUNT / 20 - 0.05
    order = [event.step.partition("[")[0] for event in started]
    assert order.index("free") < len(order) - 1 - order[::-1].index("rated")


@op(concurrency=2, rate="2/s")
def narrow(number: int) -> int:
    """Bounded twice."""
    return number


@job(max_concurrent=4)
def model() -> None:
    """For the model below."""
    made = numbers()
    made.map(narrow)
    made.map(narrow.alias("again"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["start", "end", "wait"]), st.booleans()), max_size=60))
def test_limits_against_a_model(moves: list[tuple[str, bool]]) -> None:
    """A node is held exactly while two steps of its op run, or the last start was less than half a second ago."""
    now = [0.0]
    limits = Limits(model, model.graph, {n.name: {} for n in model.graph.nodes}, lambda: now[0])
    running: list[str] = []
    starts: list[float] = []
    for move, other in moves:
        name = "again" if other else "narrow"
        if move == "start" and name not in limits.held():
            limits.started(name)
            running.append(name)
            starts.append(now[0])
        elif move == "end" and running:
            limits.ended(running.pop())
        elif move == "wait":
            now[0] += 0.25
        recent = bool(starts) and now[0] - starts[-1] < 0.5
        is_held = len(running) >= 2 or recent
        assert limits.held() == ({"narrow", "again"} if is_held else set())
        waits = len(running) < 2 and recent
        assert limits.left_s() == (starts[-1] + 0.5 - now[0] if waits else float("inf"))


def declared(**limits: Any) -> JobDefinition:
    """A job with these."""

    @job(**limits)
    def one() -> None:
        numbers()

    return one


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda: op(concurrency=0)(lambda: 1), "concurrency is 0; write a whole number"),
        (lambda: op(concurrency=True)(lambda: 1), "concurrency is True; write a whole number"),
        (lambda: op(rate="fast")(lambda: 1), "rate is 'fast'; write '10/s'"),
        (lambda: op(rate="0/s")(lambda: 1), "rate is '0/s'; write '10/s'"),
        (lambda: op(rate=10)(lambda: 1), "rate is 10; write '10/s'"),
        (lambda: declared(max_concurrent=1.5), "max_concurrent is 1.5; write a whole number"),
        (lambda: declared(tag_concurrency={"a": 0}), "tag_concurrency of 'a' is 0; write a whole"),
        (lambda: declared(tag_concurrency={1: 1}), "tag_concurrency names 1; write 'tag'"),
    ],
)
def test_limits_that_are_none(declare: Any, text: str) -> None:
    """A definition error says what to write."""
    with pytest.raises(DefinitionError, match=text):
        declare()


def test_rates() -> None:
    """By second, minute and hour."""
    assert checked_rate("10/s", "") == 10
    assert checked_rate("90/m", "") == 1.5
    assert checked_rate("0.5/s", "") == 0.5
    assert checked_rate("1800/h", "") == 0.5
