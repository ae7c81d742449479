"""`@op(timeout=…)`: in a process an attempt that takes too long is killed, elsewhere it has failed when it ends."""

import time
from pathlib import Path
from typing import Any

import pytest

from execution import RetryPolicy, execute, job, op, processes, threads
from execution.errors import DefinitionError
from execution.executors.base import Executor
from execution.executors.in_process import InProcessExecutor
from runstore import RunStore
from runstore.log.claims import process_started
from runstore.log.events import StepFailed, StepRetried, StepStarted
from tests.unit.process_jobs import COUNT, hanging, hanging_twice


def events_of(folder: Path, run: str) -> list[Any]:
    """All of a run."""
    with RunStore.open(folder) as store:
        return [event for _, event in store.events(run)]


def pids(folder: Path) -> list[int]:
    """The processes of attempts that hung, and of what they had started."""
    return [int(pid) for file in folder.glob("hung-*") for pid in file.read_text().split()]


def test_an_attempt_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    """It has failed as timed out, alone; neither its process nor what it has started is left."""
    config = {"ops": {"timed": {"config": {"folder": str(tmp_path), "times": 1}}}}
    result = execute(
        hanging,
        RunStore.open(tmp_path / "s", level="fast"),
        run_config=config,
        executor=processes(2),
    )
    (failure,) = result.failures
    assert failure.step_key == "timed[1]"
    assert failure.error.type == "execution.errors.StepTimedOut"
    assert failure.error.message == (
        "step 'timed[1]' took longer than its timeout of 1 s; its process was killed"
    )
    assert len(result.output_for_node("timed")) == COUNT - 1
    assert len(pids(tmp_path)) == 2
    assert not any(map(process_started, pids(tmp_path)))
    (failed,) = [e for e in events_of(tmp_path / "s", result.run_id) if isinstance(e, StepFailed)]
    assert failed.duration_s >= 1
    assert failed.worker in [f"process {pid}" for pid in pids(tmp_path)]


def test_its_retry_policy_applies(tmp_path: Path) -> None:
    """Time-outs use up the budget of retries as any failure does."""
    config = {"ops": {"timed_twice": {"config": {"folder": str(tmp_path), "times": 2}}}}
    result = execute(
        hanging_twice,
        RunStore.open(tmp_path / "s", level="fast"),
        run_config=config,
        executor=processes(2),
    )
    assert result.output_for_node("timed_twice") == {str(n): n for n in range(COUNT)}
    events = events_of(tmp_path / "s", result.run_id)
    retried = [event for event in events if isinstance(event, StepRetried)]
    assert [(event.step, event.worker_lost) for event in retried] == [
        ("timed_twice[1]", False),
        ("timed_twice[1]", False),
    ]
    assert sum(isinstance(event, StepStarted) for event in events) == 1 + COUNT + 2


@pytest.mark.parametrize("executor", [InProcessExecutor(), threads(2)])
def test_what_cannot_be_stopped_has_failed_when_it_ends(tmp_path: Path, executor: Executor) -> None:
    """In a thread it goes on, and the error says when that was noticed; a retry counts as after any failure."""

    @op(timeout=0.5, retry_policy=RetryPolicy(max_retries=1))
    def slow(context: Any) -> int:
        if not context.retry_number:
            time.sleep(0.6)
        return 1

    @op(timeout=0.5)
    def slower() -> int:
        time.sleep(0.6)
        return 1

    @job
    def timed() -> None:
        slow()
        slower()

    result = execute(timed, RunStore.open(tmp_path, level="fast"), executor=executor)
    (failure,) = result.failures
    assert failure.step_key == "slower"
    assert "longer than its timeout of 0.5 s; this was noticed when it ended" in (
        failure.error.message
    )
    assert any(
        isinstance(event, StepRetried) and event.step == "slow"
        for event in events_of(tmp_path, result.run_id)
    )


@pytest.mark.parametrize("timeout", [0, -1, "30", True, float("inf"), float("nan")])
def test_timeouts_that_are_none(timeout: Any) -> None:
    """It is a number of seconds."""
    with pytest.raises(DefinitionError, match="write seconds, more than 0"):
        op(timeout=timeout)(lambda: 1)
