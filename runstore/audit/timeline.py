"""When each op or each worker was at work, epoch by epoch: its bars, and the gaps in which nobody executed the run.

One reading of the log. What lies closer together than the eye can tell is one bar, so that an op of a million clones is
a few hundred.
"""

import datetime as dt
from typing import Literal

import msgspec

from runstore.audit.rows import raw_rows, taken_as_valid
from runstore.log.codec import decode
from runstore.log.events import (
    AnyEvent,
    HousekeepingBegun,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from runstore.store import RunStore

WIDTH = 400
"""How many places the eye tells apart."""
EXECUTOR, UNKNOWN = "the executor", "not known"
"""Lines of workers that have no name: the process that drove the run, and whoever ran what was interrupted."""

By = Literal["op", "worker"]


class EpochSpan(msgspec.Struct):
    """One time that the run was executed."""

    epoch: int
    begun: dt.datetime
    last: dt.datetime
    ended: str = "crashed"
    """succeeded, failed, cancelled; running or crashed where it has no last word; housekeeping where no step ran."""


class Bar(msgspec.Struct):
    """Attempts of a line that lie close together."""

    begun: dt.datetime
    ended: dt.datetime
    attempts: int = 1
    failed: int = 0
    interrupted: int = 0
    """Running when their executor died."""


class Line(msgspec.Struct):
    """One op, or one worker."""

    name: str
    bars: list[Bar] = []


class Timeline(msgspec.Struct, frozen=True):
    """A run in time."""

    run_id: str
    status: str
    epochs: tuple[EpochSpan, ...]
    by: By
    """What each line is."""
    lines: tuple[Line, ...]


def timeline(store: RunStore, run: str = "last", *, width: int = WIDTH, by: By = "op") -> Timeline:
    """The bars of a run, on a line for each op or for each worker, those in the order in which they first ended
    something; attempts closer than 1/`width` of the run's active time are one. Raises RunNotFound, LogDamaged.
    """
    summary = store.run(run)
    reading = _Reading((summary.updated - summary.started) / width, by)
    with taken_as_valid(store, summary.run_id):
        for seq, body in raw_rows(store, summary.run_id):
            reading.look(decode(body, summary.run_id, seq))
        reading.interrupt(died=summary.status != "running")
    if summary.status == "running":
        reading.epochs[-1].ended = "running"
    return Timeline(
        summary.run_id, summary.status, tuple(reading.epochs), by, tuple(reading.lines.values())
    )


class _Reading:
    def __init__(self, near: dt.timedelta, by: By) -> None:
        self.epochs: list[EpochSpan] = []
        self.lines: dict[str, Line] = {}
        self._near = near
        self._by = by
        self._running: dict[str, dt.datetime] = {}

    def look(self, event: AnyEvent) -> None:
        """See one event."""
        match event:
            case RunStarted() | RunResumed():
                self._begin(event)
            case HousekeepingBegun():
                self.interrupt()
                self.epochs.append(EpochSpan(event.epoch, event.time, event.time, "housekeeping"))
            case StepStarted():
                self._running[event.step] = event.time
            case StepSucceeded() if event.step in self._running:  # else it was reused
                self._end(event.step, event.time, event.worker or EXECUTOR)
            case StepFailed() | StepRetried():
                self._end(event.step, event.time, event.worker or EXECUTOR, failed=1)
            case RunSucceeded() | RunFailed() | RunCancelled():
                self.epochs[-1].ended = type(event).__name__.removeprefix("Run").lower()
        self.epochs[-1].last = event.time

    def _begin(self, event: RunStarted | RunResumed) -> None:
        self.interrupt()
        self.epochs.append(EpochSpan(event.epoch, event.time, event.time))
        if self._by == "op" and event.graph is not None:
            for node in event.graph.nodes:
                self._line(node.name)

    def _line(self, name: str) -> Line:
        return self.lines.setdefault(name, Line(name))

    def interrupt(self, *, died: bool = True) -> None:
        """End what was running when the executor died, or is running while it lives, where it was last heard of."""
        for step in list(self._running):
            self._end(step, self.epochs[-1].last, UNKNOWN, interrupted=int(died))

    def _end(
        self, step: str, time: dt.datetime, worker: str, failed: int = 0, interrupted: int = 0
    ) -> None:
        begun = self._running.pop(step)
        bars = self._line(worker if self._by == "worker" else step.partition("[")[0]).bars
        last = bars[-1] if bars else None
        epoch = self.epochs[-1].begun
        if last is None or last.begun < epoch or begun - last.ended > self._near:
            bars.append(Bar(begun, time, 1, failed, interrupted))
            return
        last.begun, last.ended = min(last.begun, begun), max(last.ended, time)
        last.attempts += 1
        last.failed += failed
        last.interrupted += interrupted
