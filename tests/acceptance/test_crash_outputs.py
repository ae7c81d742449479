"""Killed at any event, a run with optional outputs, order without values, metadata and a config ends as it would have.

Optional outputs that were left out, skips that follow from them, what ops say of their outputs, and values that only
the run config holds: all of it comes from the log alone.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    In,
    Nothing,
    OpContext,
    Out,
    Output,
    execute,
    job,
    op,
    resume,
)
from runstore import RunStore
from runstore.log import recorder
from runstore.log.database import Database
from runstore.log.events import DynamicOutputStored, OutputStored, RunSucceeded, StepStarted
from runstore.log.state import RunState
from runstore.testing import record_points
from tests.acceptance.test_crash_matrix import failpoints_for, kill_run

RUN = "the-run"
CONFIG = {
    "ops": {
        "numbers": {"config": {"upto": 4}},
        "scale": {"inputs": {"by": 10}},
    }
}


class Settings(msgspec.Struct):
    """How many pieces."""

    upto: int
    begin: int = 1


@op(out=DynamicOut(int), ins={"ready": In(Nothing)})
def numbers(config: Settings) -> Iterator[DynamicOutput[int]]:
    """Pieces, each with something said of it."""
    for number in range(config.begin, config.upto + 1):
        yield DynamicOutput(number, number, metadata={"square": number * number})


@op(out=Out(Nothing))
def prepare() -> None:
    """Before everything."""


@op(
    out={
        "even": Out(int, is_required=False),
        "odd": Out(int, is_required=False),
        "done": Out(Nothing),
    }
)
def sort(context: OpContext, x: int) -> Iterator[Output[int]]:
    """One of two outputs, and one without a value."""
    name = "odd" if x % 2 else "even"
    context.add_output_metadata({"x": x}, output_name=name)
    yield Output(x, name)


@op
def scale(x: int, by: int) -> int:
    """With an input that the job does not connect."""
    return x * by


@op
def gathered(evens: list[int], odds: dict[str, int]) -> list[Any]:
    """What is left of both."""
    return [evens, odds]


@op(ins={"after": In(Nothing)})
def last() -> str:
    """When all are sorted."""
    return "last"


@job
def outputs() -> None:
    """Every shape of output."""
    sorted_ = numbers(ready=prepare()).map(sort)
    gathered(sorted_.even.map(scale).collect(), sorted_.odd.collect(as_dict=True))
    last(after=sorted_.done.collect())


STATES = {
    "prepare": {"succeeded": 1},
    "numbers": {"succeeded": 1},
    "sort": {"succeeded": 4},
    "scale": {"succeeded": 2, "skipped": 2},
    "gathered": {"succeeded": 1},
    "last": {"succeeded": 1},
}
SAID = {
    **{("numbers", str(x)): {"square": x * x} for x in (1, 2, 3, 4)},
    **{(f"sort[{x}]", "odd"): {"x": x} for x in (1, 3)},
    **{(f"sort[{x}]", "even"): {"x": x} for x in (2, 4)},
}


def go(store: Path) -> Any:
    """Start the run, or go on with it."""
    with RunStore.open(store, level="fast") as opened:
        if opened.has_run(RUN):
            return resume(RUN, opened, job=outputs)
        return execute(outputs, opened, run_id=RUN, run_config=CONFIG)


@pytest.mark.parametrize("commits", [0.0, 1e9], ids=["each", "grouped"])
def test_kill_at_every_point(
    commits: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F1, F4, R2: killed at each point, the run resumes to the same states, values and words, and repeats nothing."""
    monkeypatch.setattr(recorder, "GROUP_S", commits)
    points = failpoints_for(record_points(lambda: go(tmp_path / "whole")))
    check(tmp_path / "whole", "uninterrupted")
    assert len(points) > 100
    empty, store = tmp_path / "empty", tmp_path / "store"
    empty.mkdir()
    Database(empty / "runs.db", writable=True).close()
    for failpoint in points:
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(empty, store)
        kill_run(lambda: go(store), failpoint)
        go(store)
        check(store, str(failpoint))


def check(directory: Path, where: str) -> None:
    """Hold what is on disk against what must be there."""
    with RunStore.open(directory) as store:
        result = resume(RUN, store, job=outputs)
        state = store.state(RUN)
        events = list(store.events(RUN))
    assert isinstance(state.ended, RunSucceeded), where
    assert state.ended.counts == STATES, where
    assert result.output_for_node("gathered") == [[20, 40], {"1": 1, "3": 3}], where
    assert result.output_for_node("last") == "last", where
    assert said(state, events) == SAID, where
    starts = Counter(event.step for _, event in events if isinstance(event, StepStarted))
    assert sum(count > 1 for count in starts.values()) <= 1, where


def said(state: RunState, events: list[tuple[int, Any]]) -> dict[tuple[str, str], Any]:
    """(step, output or key) -> what was last said of it."""
    return {
        (event.step, getattr(event, "mapping_key", event.output)): event.metadata
        for _, event in events
        if isinstance(event, OutputStored | DynamicOutputStored) and event.metadata
    }
