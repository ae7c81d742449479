"""Whole jobs in threads: what runs at the same time, and what does not depend on it."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    RetryPolicy,
    execute,
    job,
    op,
    resume,
    threads,
)
from execution.errors import ResourceFailed
from runstore import ConfigError, RunStore
from runstore.log import recorder
from runstore.log.events import StepStarted, StepSucceeded

PATIENCE_S = 20


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Four of them."""
    for number in range(4):
        yield DynamicOutput(number, number)


def test_steps_run_at_the_same_time(tmp_path: Any) -> None:
    """As many clones are inside their ops at once as there are workers."""
    meeting = threading.Barrier(4, timeout=PATIENCE_S)

    @op
    def meet(number: int) -> int:
        meeting.wait()
        return number

    @job
    def met() -> None:
        numbers().map(meet)

    assert execute(met, tmp_path, executor=threads(4)).success


def test_a_slow_first_clone_holds_up_nothing(tmp_path: Any) -> None:
    """Clones and what is mapped over them go on while the first has not ended; they start in order, and so they are
    collected.
    """
    others_are_done = threading.Semaphore(0)

    @op
    def slow_first(number: int) -> int:
        if number == 0:
            for _ in range(3):
                assert others_are_done.acquire(timeout=PATIENCE_S)
        return number

    @op
    def after(number: int) -> int:
        others_are_done.release()
        return number

    @op
    def total(values: list[int]) -> list[int]:
        return values

    @job
    def raced() -> None:
        total(numbers().map(lambda number: after(slow_first(number))).collect())

    result = execute(raced, tmp_path, executor=threads(2))
    assert result.output_for_node("total") == [0, 1, 2, 3]
    with RunStore.open(tmp_path) as store:
        started = [
            event.step
            for _, event in store.events(result.run_id)
            if isinstance(event, StepStarted) and event.step.startswith("slow_first")
        ]
    assert started == [f"slow_first[{n}]" for n in range(4)]


def test_a_failure_ends_its_chain_alone_and_another_executor_resumes(tmp_path: Any) -> None:
    """What fails in threads is run by a resume in one process, and nothing else is."""
    broken = threading.Event()
    broken.set()

    @op
    def odd_breaks(number: int) -> int:
        if number % 2 and broken.is_set():
            raise ValueError("odd")
        return number

    @op
    def total(values: list[int]) -> int:
        return sum(values)

    @job
    def breaking() -> None:
        total(numbers().map(odd_breaks).collect())

    result = execute(breaking, tmp_path, executor=threads(3))
    assert [one.step_key for one in result.failures] == ["odd_breaks[1]", "odd_breaks[3]"]
    broken.clear()
    resumed = resume(result.run_id, tmp_path, job=breaking)
    assert resumed.output_for_node("total") == 6
    with RunStore.open(tmp_path) as store:
        done = [e.step for _, e in store.events(result.run_id) if isinstance(e, StepSucceeded)]
    assert sorted(done) == sorted(["numbers", *(f"odd_breaks[{n}]" for n in range(4)), "total"])


def test_retries_do_not_hold_up_others(tmp_path: Any) -> None:
    """While a clone waits for its retry the others go on in its place."""
    tried, others = [], threading.Semaphore(0)

    @op(retry_policy=RetryPolicy(max_retries=1, delay=0.05))
    def flaky(number: int) -> int:
        if number == 0:
            tried.append(number)
            if len(tried) == 1:
                raise ValueError("not yet")
            assert all(others.acquire(timeout=PATIENCE_S) for _ in range(3))
        else:
            others.release()
        return number

    @job
    def flaked() -> None:
        numbers().map(flaky)

    assert execute(flaked, tmp_path, executor=threads(2)).success
    assert len(tried) == 2


def test_each_thread_has_an_event_loop(tmp_path: Any) -> None:
    """Async ops of several threads run at the same time, each on the loop of its thread, which outlives them."""
    meeting = threading.Barrier(2, timeout=PATIENCE_S)
    loops: dict[str, set[int]] = {}

    @op
    async def meet(number: int) -> int:
        meeting.wait()
        name = threading.current_thread().name
        loops.setdefault(str(threading.get_ident()) + name, set()).add(
            id(asyncio.get_running_loop())
        )
        return number

    @job
    def met() -> None:
        numbers().map(meet)

    assert execute(met, tmp_path, executor=threads(2)).success
    assert [len(one) for one in loops.values()] == [1, 1]


def test_a_resource_of_one_event_loop_is_refused(tmp_path: Any) -> None:
    """A resource that is opened asynchronously cannot be shared by threads, and the error says what can be done."""

    @contextlib.asynccontextmanager
    async def session() -> AsyncIterator[str]:
        yield "open"

    @op(required_resource_keys={"session"})
    def uses(context: Any) -> str:
        return str(context.resources.session)

    @job(resource_defs={"session": session()})
    def used() -> None:
        uses()

    with pytest.raises(ResourceFailed, match="threads share resources"):
        execute(used, tmp_path, executor=threads(2))


def test_signs_of_life_while_steps_run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long step runs elsewhere, the claim of its run gets younger again and again."""
    monkeypatch.setattr(recorder, "BEAT_S", 0.01)

    @op
    def looks(context: OpContext) -> int:
        seen: set[float] = set()
        until = time.monotonic() + PATIENCE_S
        with RunStore.open(tmp_path) as store:
            while len(seen) < 4 and time.monotonic() < until:
                claim = store.claim(context.run_id)
                assert claim is not None
                seen.add(claim.heartbeat)
        return len(seen)

    @job
    def looking() -> None:
        looks()

    assert execute(looking, tmp_path, executor=threads(1)).output_for_node("looks") == 4


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "4"])
def test_numbers_of_workers(workers: Any) -> None:
    """There is at least one."""
    with pytest.raises(ConfigError, match="write a whole number from 1 on"):
        threads(workers)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, asyncio.CancelledError])
def test_what_only_an_op_can_have_raised_fails_its_step(
    tmp_path: Path, raised: type[BaseException]
) -> None:
    """Ctrl-C goes to the thread of the engine; an interrupt in another is of the op's making, and the run goes on."""

    @op
    def raises() -> None:
        raise raised("of its own")

    @op
    def other() -> int:
        return 1

    @job
    def both() -> None:
        raises()
        other()

    result = execute(both, tmp_path, executor=threads(2))
    assert [failure.step_key for failure in result.failures] == ["raises"]
    assert result.output_for_node("other") == 1
