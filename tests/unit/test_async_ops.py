"""3.11: async ops run on one event loop per executor, which is closed with it."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, Out, Output, execute, job, op, resume
from runstore import RunStore


def test_coroutines_and_async_generators_run(tmp_path: Any) -> None:
    """Values, dynamic outputs and several outputs come from async ops as from others, through storage."""

    @op(out=DynamicOut())
    async def words() -> AsyncIterator[DynamicOutput[str]]:
        for word in ("ash", "birch"):
            await asyncio.sleep(0)
            yield DynamicOutput(word, word)

    @op
    async def length(word: str) -> int:
        await asyncio.sleep(0.001)
        return len(word)

    @op(out={"low": Out(), "high": Out(is_required=False)})
    async def ends(lengths: list[int]) -> AsyncIterator[Output[int]]:
        yield Output(min(lengths), "low")

    @job
    def counted() -> None:
        ends(words().map(length).collect())

    result = execute(counted, tmp_path)
    assert result.success
    assert result.output_for_node("length") == {"ash": 3, "birch": 5}
    assert result.output_for_node("ends", "low") == 3


def test_all_ops_of_a_run_share_one_loop_that_is_closed_at_the_end() -> None:
    """The loop is made for the first async op; what was made on it can be used by the next."""
    loops = []

    @op
    async def first() -> int:
        loops.append(asyncio.get_running_loop())
        return 1

    @op
    async def second(x: int) -> int:
        loops.append(asyncio.get_running_loop())
        return x

    @job
    def both() -> None:
        second(first())

    assert both.execute_in_process().success
    assert loops[0] is loops[1]
    assert loops[0].is_closed()


def test_an_async_generator_lives_in_one_task() -> None:
    """So that a timeout or a task group may be open across its yields; it is asked for the next after the store."""
    seen = []

    @op(out=DynamicOut())
    async def timed() -> AsyncIterator[DynamicOutput[int]]:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for number in range(3):
                seen.append((number, asyncio.current_task()))
                await group.create_task(asyncio.sleep(0))
                yield DynamicOutput(number, number)

    @job
    def fan() -> None:
        timed()

    assert fan.execute_in_process().output_for_node("timed") == {"0": 0, "1": 1, "2": 2}
    assert len({task for _, task in seen}) == 1


@pytest.mark.parametrize("cause", ["raises", "same key", "cancels itself"])
def test_a_failing_async_op_cleans_up_and_fails_its_step_alone(cause: str) -> None:
    """Its `finally` has run when the step has failed; the next async op runs on the same loop."""
    cleaned = []

    @op(out=DynamicOut())
    async def fails() -> AsyncIterator[DynamicOutput[int]]:
        try:
            yield DynamicOutput(1, "a")
            if cause == "raises":
                raise ValueError("no more")
            if cause == "cancels itself":
                raise asyncio.CancelledError
            yield DynamicOutput(2, "a")
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    @op
    async def other() -> list[bool]:
        return list(cleaned)

    @job
    def two() -> None:
        fails()
        other()

    result = two.execute_in_process(raise_on_error=False)
    assert [failure.step_key for failure in result.failures] == ["fails"]
    assert cleaned == [True]
    assert result.output_for_node("other") == [True]


def test_an_interrupt_cancels_the_op_and_leaves_a_run_that_resumes(tmp_path: Any) -> None:
    """Ctrl-C inside an await: the op's `finally` runs, the run is cancelled, a resume goes on."""
    cleaned = []

    @op
    async def waits() -> int:
        if not cleaned:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                await asyncio.sleep(30)
            finally:
                cleaned.append(True)
        return 1

    @job
    def slow() -> None:
        waits()

    with pytest.raises(KeyboardInterrupt):
        execute(slow, tmp_path, run_id="r")
    assert cleaned == [True]
    assert RunStore.open(tmp_path).run("r").status == "cancelled"
    assert resume("r", tmp_path, job=slow).output_for_node("waits") == 1


def test_inside_a_running_loop_the_remedy_is_named() -> None:
    """In a notebook an async op cannot block the loop that runs it; the job runs in a thread of its own."""

    @op
    async def one() -> int:
        return 1

    @job
    def single() -> None:
        one()

    async def notebook() -> tuple[str, Any]:
        failed = single.execute_in_process(raise_on_error=False)
        inner = await asyncio.to_thread(lambda: single.execute_in_process().output_for_node("one"))
        return failed.failures[0].error.message, inner

    message, inner = asyncio.run(notebook())
    assert "asyncio.to_thread" in message
    assert inner == 1


def test_a_resource_of_its_own_may_be_open_across_yields() -> None:
    """`async with` around the yields of an op is left before the step ends."""
    events = []

    @contextlib.asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        events.append("open")
        yield "connection"
        events.append("closed")

    @op(out=DynamicOut())
    async def rows() -> AsyncIterator[DynamicOutput[int]]:
        async with connection():
            yield DynamicOutput(1, "a")
            events.append("between")

    @job
    def fetched() -> None:
        rows()

    assert fetched.execute_in_process().success
    assert events == ["open", "between", "closed"]
