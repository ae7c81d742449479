"""What a run is: where it came from, its epochs, how each op stands, and the first error of each kind."""

import datetime as dt
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec

from runstore.keys import parse_step_key
from runstore.log.events import (
    AnyEvent,
    HookFailed,
    HousekeepingBegun,
    OutputDeleted,
    Parent,
    ReuseSealed,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from runstore.log.remaining import NodeProgress, Remaining
from runstore.log.state import RunState
from runstore.store import RunStore, RunSummary


class Epoch(msgspec.Struct, frozen=True):
    """One time that the run was executed or resumed, or that its storage was seen to."""

    epoch: int
    seq: int
    """Of its `RunStarted`, `RunResumed` or `HousekeepingBegun`."""
    begun: dt.datetime
    last: dt.datetime
    """Time of its last event."""
    ended: str
    """succeeded, failed, cancelled; running or crashed where it has no last word; of housekeeping its purpose."""
    host: str
    pid: int
    version: str
    started_steps: int


class OpSummary(msgspec.Struct, frozen=True):
    """One op, counted, with the time that its successful attempts took together."""

    progress: NodeProgress
    seconds: float


class FailureKind(msgspec.Struct, frozen=True):
    """Failed steps of one op with one type of error: the first of them, and how many there are."""

    op: str
    type: str
    count: int
    step: str
    seq: int
    attempt: int
    message: str


class HookFailures(msgspec.Struct, frozen=True):
    """Calls of one hook that have failed: the first of them, and how many there are."""

    hook: str
    count: int
    step: str
    seq: int
    type: str
    message: str


class Deleted(msgspec.Struct, frozen=True):
    """Outputs whose bytes `runstore prune` has deleted."""

    outputs: int
    last: dt.datetime
    """When it last did."""


class RunReport(msgspec.Struct, frozen=True):
    """A run, as `runstore show` prints it."""

    run: RunSummary
    config: dict[str, Any]
    tags: dict[str, str]
    parent: Parent | None
    """The run that this one is a rerun of, and what of it was to run again."""
    reused: int
    """Steps taken from the parent."""
    level: str
    bases: tuple[str, ...]
    """Where its outputs went; the newest last."""
    epochs: tuple[Epoch, ...]
    ops: tuple[OpSummary, ...]
    failures: tuple[FailureKind, ...]
    hook_failures: tuple[HookFailures, ...]
    deleted: Deleted | None = None


def show(store: RunStore, run: str = "last") -> RunReport:
    """The report of a run; raises RunNotFound."""
    summary = store.run(run)
    reading = _Reading()
    state = store.state(summary.run_id, reading.look)
    assert state.started is not None
    return RunReport(
        run=summary,
        config=state.config,
        tags=state.started.tags,
        parent=state.started.parent,
        reused=reading.reused,
        level=state.level,
        bases=tuple(state.bases),
        epochs=reading.epochs(summary.status),
        ops=tuple(
            OpSummary(
                progress if summary.status == "running" else _without_running(progress),
                round(reading.seconds.get(progress.node, 0.0), 6),
            )
            for progress in Remaining(state).nodes()
        ),
        failures=failure_kinds(state, reading.failed.__getitem__),
        hook_failures=hook_failures(state, reading.failed_hooks.__getitem__),
        deleted=reading.deleted,
    )


def _without_running(progress: NodeProgress) -> NodeProgress:
    """A step that was running when its executor died is interrupted."""
    states = {("interrupted" if k == "running" else k): n for k, n in progress.states.items()}
    return msgspec.structs.replace(progress, states=states)


class _Reading:
    """What one pass over the log collects."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._epochs: list[dict[str, Any]] = []
        self.failed: dict[int, StepFailed] = {}
        self.failed_hooks: dict[int, HookFailed] = {}
        self.reused = 0
        self._deleted: set[int] = set()
        self.deleted: Deleted | None = None

    def look(self, seq: int, event: AnyEvent) -> None:
        """See one event."""
        if isinstance(event, RunStarted | RunResumed):
            self.failed.clear()
            self._begin(seq, event, "crashed")
        elif isinstance(event, HousekeepingBegun):
            self._begin(seq, event, event.purpose)
        self._epochs[-1]["last"] = event.time
        match event:
            case StepStarted():
                self._epochs[-1]["started_steps"] += 1
            case ReuseSealed():
                self.reused = event.reused
            case StepSucceeded():
                node = parse_step_key(event.step)[0]
                self.seconds[node] = self.seconds.get(node, 0.0) + event.duration_s
            case StepFailed():
                self.failed[seq] = event
            case HookFailed():
                self.failed_hooks[seq] = event
            case OutputDeleted():
                self._deleted.update(event.seqs)
                self.deleted = Deleted(len(self._deleted), event.time)
            case RunSucceeded() | RunFailed() | RunCancelled():
                self._epochs[-1]["ended"] = type(event).__name__.removeprefix("Run").lower()

    def _begin(
        self, seq: int, event: RunStarted | RunResumed | HousekeepingBegun, ended: str
    ) -> None:
        self._epochs.append(
            {
                "epoch": event.epoch,
                "seq": seq,
                "begun": event.time,
                "ended": ended,
                "host": event.host,
                "pid": event.pid,
                "version": event.version,
                "started_steps": 0,
            }
        )

    def epochs(self, status: str) -> tuple[Epoch, ...]:
        """All epochs; only the last one can still be running."""
        if status == "running" and self._epochs[-1]["ended"] == "crashed":
            self._epochs[-1]["ended"] = status
        return tuple(Epoch(**epoch) for epoch in self._epochs)


def failure_kinds(state: RunState, event_at: Callable[[int], AnyEvent]) -> tuple[FailureKind, ...]:
    """The failures that stand, by op and type of error, in the order of the log; `event_at`: the event of a seq."""
    kinds: dict[tuple[str, str], FailureKind] = {}
    for step, seq in sorted(state.failures.items(), key=itemgetter(1)):
        event = event_at(seq)
        assert isinstance(event, StepFailed)
        kind = (step.node, event.error.type)
        if kind in kinds:
            kinds[kind] = msgspec.structs.replace(kinds[kind], count=kinds[kind].count + 1)
            continue
        kinds[kind] = FailureKind(
            op=step.node,
            type=event.error.type,
            count=1,
            step=event.step,
            seq=seq,
            attempt=event.attempt,
            message=event.error.message,
        )
    return tuple(kinds.values())


def hook_failures(state: RunState, event_at: Callable[[int], AnyEvent]) -> tuple[HookFailures, ...]:
    """The failed calls of hooks in all epochs of a run, by hook; `event_at`: the event of a seq."""
    found = []
    for hook, (count, seq) in state.hook_failures.items():
        event = event_at(seq)
        assert isinstance(event, HookFailed)
        error = event.error
        found.append(HookFailures(hook, count, event.step, seq, error.type, error.message))
    return tuple(found)
