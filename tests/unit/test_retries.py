"""A failed step is tried again: policies, what an op may raise, and rule F3 from the definition to the log."""

import datetime as dt
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution import (
    Backoff,
    DynamicOut,
    DynamicOutput,
    Failure,
    Jitter,
    OpContext,
    Output,
    RetryPolicy,
    RetryRequested,
    RunResult,
    execute,
    job,
    op,
    plan_resume,
    resume,
    threads,
)
from execution.definition.job import JobDefinition
from execution.definition.retries import LONGEST_WAIT_S, wait_before_retry
from execution.errors import DefinitionError, StepError
from execution.planning.scheduler import Scheduler
from execution.running import engine
from execution.running.control import NoControl
from runstore.errors import NotStorable
from runstore.log import recorder
from runstore.log.events import (
    AnyEvent,
    RunCancelled,
    RunFailed,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import StepId
from runstore.store import RunStore
from runstore.testing import Failpoint, armed, in_fork
from tests.property.logs import facts
from tests.unit.logs import T0, Fold, fan_out, plain, retried, start

RUN = "r"
SECOND = dt.timedelta(seconds=1)
FULL, PLUS_MINUS = Jitter.FULL, Jitter.PLUS_MINUS
LINEAR, EXPONENTIAL = Backoff.LINEAR, Backoff.EXPONENTIAL


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A store on disk."""
    return RunStore.open(tmp_path / "store", level="fast")


# Policies


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy(9), [0, 0, 0, 0]),
        (RetryPolicy(9, delay=0.2), [0.2, 0.2, 0.2, 0.2]),
        (RetryPolicy(9, delay=0.2, backoff=LINEAR), [0.2, 0.4, 0.6, 0.8]),
        (RetryPolicy(9, delay=0.2, backoff=EXPONENTIAL), [0.2, 0.6, 1.4, 3.0]),
    ],
)
def test_how_delays_grow(policy: RetryPolicy, delays: list[float]) -> None:
    """F3: without backoff the same, LINEAR n times, EXPONENTIAL 2 to the n less 1 times the delay."""
    found = [policy.calculate_delay(number) for number in (1, 2, 3, 4)]
    assert found == pytest.approx(delays)


@pytest.mark.parametrize("backoff", [None, LINEAR, EXPONENTIAL])
@pytest.mark.parametrize("jitter", [FULL, PLUS_MINUS])
@pytest.mark.parametrize("seed", range(5))
def test_jitter(backoff: Backoff | None, jitter: Jitter, seed: int) -> None:
    """F3: FULL is a share of the grown delay, PLUS_MINUS up to one plain delay beside it; by the given chance."""
    policy, plain = (RetryPolicy(9, 0.5, backoff, one) for one in (jitter, None))
    draw, drawn = random.Random(seed).random, random.Random(seed).random
    for number in range(1, 6):
        whole, share = plain.calculate_delay(number), drawn()
        expected = share * whole if jitter is FULL else whole + 2 * share * 0.5 - 0.5
        assert policy.calculate_delay(number, draw) == pytest.approx(expected)
        assert policy.calculate_delay(number) >= 0


def test_no_delay_is_too_long_for_a_time() -> None:
    """However far a delay has grown, an absolute time can be made of it."""
    policy = RetryPolicy(10**9, delay=1e6, backoff=EXPONENTIAL, jitter=FULL)
    for retries in (10, 100, 10**6):
        wait_s = wait_before_retry(ValueError(), policy, retries)
        assert wait_s is not None
        assert 0 <= wait_s <= LONGEST_WAIT_S


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: RetryPolicy(-1), "max_retries is -1"),
        (lambda: RetryPolicy(True), "max_retries is True"),
        (lambda: RetryPolicy(1.5), "max_retries is 1.5"),
        (lambda: RetryPolicy(delay=-1), "delay is -1"),
        (lambda: RetryPolicy(delay=float("nan")), "delay is nan"),
        (lambda: RetryPolicy(delay="1 s"), "delay is '1 s'"),
        (lambda: RetryPolicy(backoff=LINEAR), "a backoff and no delay"),
        (lambda: RetryPolicy(jitter=FULL), "a jitter and no delay"),
        (lambda: RetryPolicy(delay=1, backoff="LINEAR"), "backoff is 'LINEAR'"),
        (lambda: op(retry_policy=3)(lambda: 1), "op '<lambda>'|retry policy is a int"),
        (lambda: noop.with_retry_policy({}), "retry policy is a dict"),
        (lambda: job(op_retry_policy=3)(lambda: None), "retry policy is a int"),
    ],
)
def test_a_policy_that_is_none_is_refused(make: Callable[[], Any], fact: str) -> None:
    """What makes no sense is an error at definition, which says what to write."""
    with pytest.raises(DefinitionError, match=fact):
        make()


@pytest.mark.parametrize("bad", [{"max_retries": -1}, {"seconds_to_wait": -1}])
def test_a_request_that_makes_no_sense_fails_the_step(bad: dict[str, Any]) -> None:
    """`RetryRequested` with a wrong argument is an error of the op."""

    @op
    def asks():
        raise RetryRequested(**bad)

    [failure] = run(asks).failures
    assert failure.error.type == "ValueError"


@op
def noop():
    """Nothing."""


@pytest.mark.parametrize(
    ("on_node", "on_op", "on_job", "attempts"),
    [
        (None, None, None, 1),
        (None, None, 2, 3),
        (None, 3, 2, 4),
        (1, 3, 2, 2),
        (0, 3, 2, 1),
        (None, 0, 2, 1),
    ],
)
def test_the_nearest_policy_counts(
    on_node: int | None, on_op: int | None, on_job: int | None, attempts: int
) -> None:
    """F3: the policy of the node, else of the op, else of the job; none at all without one."""

    @op(retry_policy=None if on_op is None else RetryPolicy(on_op))
    def broken():
        raise ValueError

    node = broken.alias("node").tag({"a": "b"})
    if on_node is not None:
        node = broken.with_retry_policy(RetryPolicy(on_node)).alias("node").tag({"a": "b"})

    @job(op_retry_policy=None if on_job is None else RetryPolicy(on_job))
    def one():
        node()

    with RunStore.in_memory() as store:
        [failure] = execute(one, store, run_id=RUN).failures
        assert failure.attempt == attempts


def run(*ops: Any, **policy: Any) -> RunResult:
    """A job of ops that stand beside each other, executed in memory."""

    def body() -> None:
        for one in ops:
            one()

    return job(**policy)(body).execute_in_process(raise_on_error=False)


# What an op may raise


@pytest.mark.parametrize(
    ("raised", "policy", "attempts"),
    [
        (ValueError("x"), RetryPolicy(2), 3),
        (SystemExit(3), RetryPolicy(2), 3),
        (Failure("x"), RetryPolicy(2), 3),
        (Failure("x", allow_retries=False), RetryPolicy(2), 1),
        (Failure("x"), None, 1),
        (RetryRequested(), None, 2),
        (RetryRequested(max_retries=2), None, 3),
        (RetryRequested(max_retries=0), RetryPolicy(5), 1),
        (RetryRequested(max_retries=3), RetryPolicy(1), 4),
        (StepError("x"), RetryPolicy(2), 1),
        (NotStorable("x"), RetryPolicy(2), 1),
    ],
    ids=repr,
)
def test_what_is_tried_again(
    raised: BaseException, policy: RetryPolicy | None, attempts: int
) -> None:
    """F3: a request counts as it is, whatever the policy; what runstore has refused would be refused again."""
    tries = 0

    @op(retry_policy=policy)
    def raises():
        nonlocal tries
        tries += 1
        raise raised

    result = run(raises)
    assert [failure.attempt for failure in result.failures] == [attempts]
    assert tries == attempts


def test_a_wrong_output_is_not_tried_again() -> None:
    """An op that gives what it has not declared would give it again."""

    @op(retry_policy=RetryPolicy(3))
    def wrong():
        yield Output(1, "shape")

    [failure] = run(wrong).failures
    assert failure.attempt == 1


def test_a_request_waits_as_long_as_it_says(store: RunStore) -> None:
    """F3: `seconds_to_wait` of the request, not the delay of the policy; its cause is what the log tells."""

    @op(retry_policy=RetryPolicy(1, delay=3600))
    def busy(context: OpContext):
        if not context.retry_number:
            try:
                raise OSError("busy")
            except OSError as error:
                raise RetryRequested(seconds_to_wait=0.2) from error

    events = events_of(store, busy)
    [retried] = [event for event in events if isinstance(event, StepRetried)]
    assert 0.1 < (retried.due - retried.time).total_seconds() <= 0.2
    assert retried.error.type == "execution.RetryRequested"
    assert retried.error.message == "OSError: busy"
    assert 'raise OSError("busy")' in retried.error.traceback
    assert_due_times_hold(events)


def events_of(store: RunStore, *ops: Any, **policy: Any) -> list[AnyEvent]:
    """The log of a job of ops that stand beside each other."""

    def body() -> None:
        for one in ops:
            one()

    execute(job(**policy)(body), store, run_id=RUN)
    return log_of(store)


def log_of(store: RunStore) -> list[AnyEvent]:
    """The events of the run."""
    return [event for _, event in store.events(RUN)]


def assert_due_times_hold(events: list[AnyEvent]) -> None:
    """After each StepRetried the next start of that step is not before it was due, by the times in the log."""
    due: dict[str, dt.datetime] = {}
    for event in events:
        if isinstance(event, StepRetried):
            due[event.step] = event.due
        elif isinstance(event, StepStarted) and event.step in due:
            assert event.time >= due.pop(event.step)


def test_a_failure_tells_what_the_op_says(store: RunStore) -> None:
    """`Failure`: its description is the message, its metadata stand beside it, of each attempt."""

    @op(retry_policy=RetryPolicy(1))
    def reads():
        raise Failure("row 7 is short", {"row": 7, "columns": ["a", "b"], "share": 0.5})

    *_, retried, _, failed, _ = events_of(store, reads)
    assert isinstance(retried, StepRetried)
    assert isinstance(failed, StepFailed)
    for event in (retried, failed):
        assert event.error.type == "execution.Failure"
        assert event.error.message == "row 7 is short"
        assert event.error.metadata == {"row": 7, "columns": ["a", "b"], "share": 0.5}


@pytest.mark.parametrize("metadata", [{"x": {1, 2}}, {"x": float("nan")}, {1: 2}, {"x": "\ud800"}])
def test_metadata_that_json_would_change_is_refused(metadata: dict[Any, Any]) -> None:
    """They are that step's failure, with a text that says so and keeps the description; nothing is retried."""

    @op(retry_policy=RetryPolicy(3))
    def reads():
        raise Failure("row 7 is short", metadata)

    [failure] = run(reads).failures
    assert failure.attempt == 1
    assert failure.error.type == "execution.errors.StepError"
    assert (
        "step 'reads' raised Failure('row 7 is short'), but its metadata" in failure.error.message
    )
    assert failure.error.metadata == {}


def test_the_very_exception_is_raised_in_process() -> None:
    """After the last attempt `execute_in_process` raises what that attempt has raised."""
    raised = Failure("no")

    @op(retry_policy=RetryPolicy(2))
    def broken():
        raise raised

    @job
    def one():
        broken()

    with pytest.raises(Failure) as caught:
        one.execute_in_process()
    assert caught.value is raised


# F3, in the log


def flaky(
    keys: str, failing: dict[str, int], policy: RetryPolicy, seen: list[Any] | None = None
) -> JobDefinition:
    """Fan out, `echo` each key, collect; a clone fails in its first attempts, as often as `failing` says."""

    @op(out=DynamicOut(), version="1")
    def fan_out():
        for key in keys:
            yield DynamicOutput(key, key)

    @op(version="1")
    def echo(context: OpContext, x: str):
        if seen is not None:
            seen.append((x, context.attempt, context.retry_number))
        if context.attempt <= failing.get(x, 0):
            raise ValueError(f"{x}, attempt {context.attempt}")
        return x.upper()

    @op(version="1")
    def total(xs: list[str]):
        return "".join(xs)

    @job(name="flaky")
    def composed():
        total(fan_out().map(echo.with_retry_policy(policy)).collect())

    return composed


def test_each_clone_is_tried_again_by_itself(store: RunStore) -> None:
    """F3, X4: a clone that waits is not ready and holds up no other; when it is due it takes its place in the order."""
    seen: list[Any] = []
    result = execute(flaky("abc", {"a": 2, "c": 1}, RetryPolicy(2, 0.3), seen), store, run_id=RUN)
    assert result.output_for_node("total") == "ABC"
    assert [one[0] for one in seen[:3]] == ["a", "b", "c"]
    assert [one[1:] for one in seen if one[0] == "a"] == [(1, 0), (2, 1), (3, 2)]
    assert [one[1:] for one in seen if one[0] == "c"] == [(1, 0), (2, 1)]
    assert [one[1:] for one in seen if one[0] == "b"] == [(1, 0)]
    events = log_of(store)
    assert_due_times_hold(events)
    assert facts(store.state(RUN)) == facts(result._state)


def test_every_attempt_is_in_the_log_with_its_error(store: RunStore) -> None:
    """F3: one StepRetried for each attempt but the last, with attempt, error and due time."""
    result = execute(flaky("ab", {"b": 9}, RetryPolicy(2)), store, run_id=RUN)
    assert not result.success
    of_b = [event for event in log_of(store) if getattr(event, "step", "") == "echo[b]"]
    told = [(type(event), event.attempt, event.error.message) for event in of_b[1::2]]
    assert told == [
        (StepRetried, 1, "b, attempt 1"),
        (StepRetried, 2, "b, attempt 2"),
        (StepFailed, 3, "b, attempt 3"),
    ]
    assert [type(event) for event in of_b[0::2]] == [StepStarted] * 3


def test_a_resume_gives_the_full_budget_again(store: RunStore) -> None:
    """F3: attempts go on counting over epochs, retries begin anew with each."""
    seen: list[Any] = []
    policy = RetryPolicy(1)
    assert not execute(flaky("ab", {"b": 3}, policy, seen), store, run_id=RUN).success
    result = resume(RUN, store, job=flaky("ab", {"b": 3}, policy, seen))
    assert result.output_for_node("total") == "AB"
    assert [one for one in seen if one[0] == "b"] == [
        ("b", 1, 0),
        ("b", 2, 1),
        ("b", 3, 0),
        ("b", 4, 1),
    ]
    assert facts(store.state(RUN)) == facts(result._state)


def test_a_resume_may_bring_another_policy(store: RunStore) -> None:
    """A policy is no part of the graph: another one is no changed plan, and finished work is reused."""
    assert not execute(flaky("ab", {"b": 3}, RetryPolicy(0)), store, run_id=RUN).success
    plan = plan_resume(RUN, store, job=flaky("ab", {"b": 3}, RetryPolicy(2, 0.01)))
    assert plan.changes == ()
    result = resume(RUN, store, job=flaky("ab", {"b": 3}, RetryPolicy(2, 0.01)))
    assert result.output_for_node("total") == "AB"


def test_a_retried_dynamic_op_has_the_keys_of_its_last_attempt(store: RunStore) -> None:
    """F4: what the failed attempt had yielded are no keys; in the order of the successful one."""

    @op(out=DynamicOut(), retry_policy=RetryPolicy(1, 0.01))
    def fickle(context: OpContext):
        for key in "xyz" if context.attempt == 1 else "zxq":
            yield DynamicOutput(context.attempt, key)
        if context.attempt == 1:
            raise ValueError("late")

    @op
    def keep(x):
        return x

    @op
    def listed(found):
        return found

    @job
    def one():
        listed(fickle().map(keep).collect(as_dict=True))

    result = execute(one, store, run_id=RUN)
    assert list(result.output_for_node("listed").items()) == [("z", 2), ("x", 2), ("q", 2)]
    assert list(result.output_for_node("fickle")) == ["z", "x", "q"]
    assert facts(store.state(RUN)) == facts(result._state)


def test_nothing_is_blocked_by_what_waits(store: RunStore) -> None:
    """F2: a step that waits has not failed; the last event of the run counts no step as waiting."""
    waiting: list[Any] = []

    class Look(NoControl):
        def progressed(self, state: Any) -> None:
            from runstore.log.remaining import Remaining

            if state.waiting:
                waiting.append([progress.states for progress in Remaining(state).nodes()])

    execute(flaky("ab", {"a": 1}, RetryPolicy(1, 0.01)), store, run_id=RUN, control=Look())
    assert waiting[0] == [{"succeeded": 1}, {"pending": 1, "waiting": 1}, {"pending": 1}]


# The queue


def take(scheduler: Scheduler) -> str:
    """The step key of what comes next; empty where nothing is ready."""
    decision = scheduler.take()
    return str(decision.step) if decision else ""


def test_what_is_due_takes_its_place_in_the_queue() -> None:
    """X4: not ready before its time; then where its key stands, before later keys that have not begun."""
    fold = Fold()
    fold(fan_out("abcd"), start("echo[b]"), retried("echo[b]", due=T0 + 20 * SECOND))
    fold(start("echo[a]"), retried("echo[a]", due=T0 + 10 * SECOND))
    scheduler = Scheduler(fold.state)
    assert scheduler.due(T0) == T0 + 10 * SECOND
    assert take(scheduler) == "echo[c]"
    assert scheduler.due(T0 + 15 * SECOND) == T0 + 20 * SECOND
    fold(start("echo[c]"), retried("echo[c]", due=T0 + 12 * SECOND))
    scheduler.wait(StepId("echo", ("c",)), T0 + 12 * SECOND)
    assert scheduler.due(T0 + 15 * SECOND) == T0 + 20 * SECOND
    assert [take(scheduler) for _ in range(4)] == ["echo[a]", "echo[c]", "echo[d]", ""]
    assert scheduler.due(T0 + 20 * SECOND) is None
    assert [take(scheduler) for _ in range(2)] == ["echo[b]", ""]


def test_what_is_due_and_reads_what_runs_again_waits_for_that() -> None:
    """R6: lost bytes of a waiting step's input are made again first, whichever of the two is ready first."""
    fold = Fold()
    fold(fan_out("ab"), plain("echo[b]"), plain("shout[b]"), start("echo[a]"), retried("echo[a]"))
    fold(
        StepInvalidated(
            node="fan_out", steps=("fan_out",), reason="output lost", lost=("result[a]",)
        )
    )
    scheduler = Scheduler(fold.state)
    assert scheduler.due(T0 + SECOND) is None
    assert [take(scheduler) for _ in range(2)] == ["fan_out", ""]
    fold(fan_out("ab", 2))
    scheduler.settled(StepId("fan_out", ()))
    assert take(scheduler) == ""
    assert scheduler.due(T0 + SECOND) is None
    assert [take(scheduler) for _ in range(2)] == ["echo[a]", ""]


# Crashes, stops


def crash_while_waiting(store: RunStore, policy: RetryPolicy) -> StepRetried:
    """Kill the run while nothing but a retry is to come; what the log then says about that."""
    directory = store.directory

    def run() -> None:
        with RunStore.open(directory, level="fast") as opened, armed(Failpoint(point="wait")):
            execute(flaky("ab", {"a": 1}, policy), opened, run_id=RUN)

    assert in_fork(run).killed
    [retried] = [event for event in log_of(store) if isinstance(event, StepRetried)]
    return retried


def test_a_crash_during_the_wait_resumes_when_it_is_due(store: RunStore) -> None:
    """F3: the wait goes on where it was, not from its start, and ends when the log says."""
    retried = crash_while_waiting(store, RetryPolicy(1, 0.8))
    state = store.state(RUN)
    assert state.waiting == {StepId("echo", ("a",)): retried.due}
    plan = {node.node: node for node in plan_resume(RUN, store, job=never("ab")).nodes}
    assert plan["echo"].run == {"waiting for a retry": 1}
    assert plan["echo"].due == retried.due
    result = resume(RUN, store, job=flaky("ab", {"a": 1}, RetryPolicy(1, 3600)))
    assert result.output_for_node("total") == "AB"
    assert_due_times_hold(log_of(store))
    [again] = [
        event
        for event in log_of(store)
        if isinstance(event, StepStarted) and event.step == "echo[a]" and event.attempt == 2
    ]
    assert (again.time - retried.due).total_seconds() < 0.7


def never(keys: str) -> JobDefinition:
    """The job without a policy."""
    return flaky(keys, {}, RetryPolicy(0))


def test_a_crash_longer_than_the_wait(store: RunStore) -> None:
    """F3: what is due already when a resume begins starts at once, in the order of X4."""
    retried = crash_while_waiting(store, RetryPolicy(1, 2))
    time.sleep(max(0.0, (retried.due - dt.datetime.now(dt.UTC)).total_seconds()))
    begun = time.monotonic()
    assert resume(RUN, store, job=never("ab")).output_for_node("total") == "AB"
    assert time.monotonic() - begun < 10


def test_code_that_has_changed_ends_the_wait(store: RunStore) -> None:
    """R5: an invalidated step waits no longer; what a resume runs again, it runs at once."""
    crash_while_waiting(store, RetryPolicy(1, 3600))

    @op(out=DynamicOut(), version="2")
    def fan_out():
        yield from (DynamicOutput(key, key) for key in "ab")

    @op(version="1")
    def echo(x):
        return x

    @op(version="1")
    def total(xs):
        return "".join(xs)

    @job(name="flaky")
    def changed():
        total(fan_out().map(echo).collect())

    result = resume(RUN, store, job=changed, on_code_change="rerun")
    assert result.output_for_node("total") == "ab"


class StopWhenWaiting(NoControl):
    """Asks to stop once something waits and nothing runs."""

    reason = ""

    def progressed(self, state: Any) -> None:
        """Look."""
        if state.waiting and not state.running:
            self.reason = "enough"

    def stop_requested(self) -> str:
        """As soon as that was seen."""
        return self.reason


def test_a_wait_can_be_stopped(store: RunStore) -> None:
    """A run that waits for an hour stops within moments; the step is pending afterwards and runs at once."""
    begun = time.monotonic()
    job = flaky("ab", {"a": 1}, RetryPolicy(1, 3600))
    result = execute(job, store, run_id=RUN, control=StopWhenWaiting())
    assert result.status == "cancelled"
    ended = store.state(RUN).ended
    assert isinstance(ended, RunCancelled)
    assert all("waiting" not in states for states in ended.counts.values())
    plan = {node.node: node.run for node in plan_resume(RUN, store, job=never("ab")).nodes}
    assert plan["echo"] in ({"failed": 1}, {"failed": 1, "never started": 1})
    assert resume(RUN, store, job=never("ab")).output_for_node("total") == "AB"
    assert time.monotonic() - begun < 30


def test_an_interrupt_while_waiting(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during a wait ends the run as cancelled, resumable."""

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            execute(flaky("ab", {"a": 1}, RetryPolicy(1, 3600)), store, run_id=RUN)
    assert store.run(RUN).status == "cancelled"
    assert resume(RUN, store, job=never("ab")).output_for_node("total") == "AB"


def test_a_request_to_cancel_is_heard_while_waiting(tmp_path: Path) -> None:
    """`runstore cancel` from another process reaches a run that waits; its claim stays fresh meanwhile."""
    directory = tmp_path / "store"

    def cancel() -> None:
        with RunStore.open(directory, level="fast") as other:
            while not (other.has_run(RUN) and other.state(RUN).waiting):
                time.sleep(0.01)
            assert other.cancel(RUN) == "asked"

    canceller = threading.Thread(target=lambda: in_fork(cancel))
    RunStore.open(directory, level="fast").close()
    canceller.start()
    with RunStore.open(directory, level="fast") as store:
        begun = time.monotonic()
        result = execute(flaky("a", {"a": 1}, RetryPolicy(1, 3600)), store, run_id=RUN)
        canceller.join()
        assert result.status == "cancelled"
        assert time.monotonic() - begun < 60


def test_a_run_that_waits_gives_signs_of_life(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat of the claim is renewed while nothing but a retry is to come."""
    monkeypatch.setattr(recorder, "BEAT_S", 0.0)
    monkeypatch.setattr(engine, "NAP_S", 0.01)
    beats: set[float] = set()

    class Listen(NoControl):
        def progressed(self, state: Any) -> None:
            if state.waiting and not state.running:
                claim = store.claim(RUN)
                assert claim is not None
                beats.add(claim.heartbeat)

    execute(flaky("a", {"a": 1}, RetryPolicy(1, 0.5)), store, run_id=RUN, control=Listen())
    assert len(beats) > 2


def test_fail_fast_waits_for_nothing(store: RunStore) -> None:
    """F2: after a failure nothing new is started, what waits is left; a retry alone is no failure."""
    begun = time.monotonic()

    @op
    def waits():
        raise RetryRequested(seconds_to_wait=3600)

    @op
    def fails():
        raise ValueError

    @job
    def two():
        waits()
        fails()

    result = execute(two, store, run_id=RUN, fail_fast=True)
    assert result.status == "failed"
    ended = store.state(RUN).ended
    assert isinstance(ended, RunFailed)
    assert ended.counts == {"waits": {"pending": 1}, "fails": {"failed": 1}}
    assert time.monotonic() - begun < 30


def test_what_waits_reads_bytes_that_are_checked(store: RunStore) -> None:
    """R6: an output that only a waiting step will read is looked for before a resume, and made again if it is lost."""
    crash_while_waiting(store, RetryPolicy(1, 0.5))
    [lost] = (store.directory / "outputs" / RUN / "fan_out" / "result").glob("a.*")  # type: ignore[operator]
    lost.unlink()
    plan = plan_resume(RUN, store, job=never("ab"))
    assert plan.lost == ("fan_out",)
    assert resume(RUN, store, job=never("ab")).output_for_node("total") == "AB"


# Executors with several workers


def test_a_retry_that_becomes_due_while_another_step_runs(store: RunStore) -> None:
    """An executor with room is waited on no longer than until a retry is due."""
    may_end = threading.Event()

    @op
    def long():
        assert may_end.wait(30)

    @op(retry_policy=RetryPolicy(1, 0.05))
    def short(context: OpContext) -> None:
        if not context.retry_number:
            raise ValueError
        may_end.set()

    @job
    def two():
        long()
        short()

    assert execute(two, store, run_id=RUN, executor=threads(2)).success
    told = [(type(event), getattr(event, "step", "")) for event in log_of(store)]
    again = len(told) - told[::-1].index((StepStarted, "short"))
    assert again < told.index((StepSucceeded, "long"))
    assert_due_times_hold(log_of(store))


def test_many_waits_on_several_workers(store: RunStore) -> None:
    """Each of thirty clones fails twice; all are tried again when they are due, none twice at a time."""
    keys = [f"k{number}" for number in range(30)]

    @op(out=DynamicOut())
    def fan_out() -> Iterator[DynamicOutput[str]]:
        for key in keys:
            yield DynamicOutput(key, key)

    @op(retry_policy=RetryPolicy(2, 0.01, EXPONENTIAL, FULL))
    def echo(context: OpContext, x: str) -> str:
        if context.retry_number < 2:
            raise ValueError
        return x

    @job
    def many():
        fan_out().map(echo)

    result = execute(many, store, run_id=RUN, executor=threads(2))
    assert list(result.output_for_node("echo")) == keys
    assert_due_times_hold(log_of(store))
    assert facts(store.state(RUN)) == facts(result._state)
