"""An event in one line: seq, time, kind, step, and what matters of the rest."""

import datetime as dt
from typing import assert_never

import msgspec

from execution.cli.terminal import counted, first_line, listed, safe
from runstore.audit import LogRow
from runstore.log.events import (
    AnyEvent,
    BaseMoved,
    CollectResolved,
    Counts,
    DynamicOutputStored,
    ExpansionSealed,
    HookFailed,
    HooksDue,
    HookSucceeded,
    HousekeepingBegun,
    OutputDeleted,
    OutputStored,
    ReuseSealed,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from runstore.outputs.reference import OutputReference

_SHOWN_SEQS = 8
_WIDTH = max(len("DynamicOutputStored"), len("ExpansionSealed"))


def event_line(row: LogRow) -> str:
    """One row of the log as a person reads it; what this version does not know as it stands."""
    event = row.event
    if event is None:
        return f"{row.seq:>7}  {safe(row.body)}"
    time = _time(event.time)
    kind = type(event).__name__.ljust(_WIDTH)
    step = safe(_step(event))
    return f"{row.seq:>7}  {time}  {kind}  {'  '.join(filter(None, [step, _essentials(event)]))}"


def _step(event: AnyEvent) -> str:
    if isinstance(event, StepInvalidated):
        return event.node if event.steps is None else ", ".join(event.steps)
    return getattr(event, "step", "")


def _essentials(event: AnyEvent) -> str:
    match event:
        case RunStarted():
            ops = counted(len(event.graph.nodes), "op")
            process = f"process {event.pid} on {safe(event.host)}"
            again = f", rerun of {event.parent.run}" if event.parent else ""
            return (
                f"{safe(event.graph.name)}, {ops}, level {event.level}, outputs in {event.base}, "
                f"{process}{again}"
            )
        case RunResumed():
            return (
                f"epoch {event.epoch}, process {event.pid} on {safe(event.host)}{_changes(event)}"
            )
        case StepStarted():
            return f"attempt {event.attempt}"
        case StepReused():
            return f"from seq {event.parent_seq} of the parent"
        case ReuseSealed():
            reused, left_out = counted(event.reused, "step"), f"{event.left_out:,}"
            return f"{reused} taken from the parent, {left_out} left out"
        case OutputStored():
            return f"{event.output} -> {_reference(event.reference)}{_metadata(event)}"
        case DynamicOutputStored():
            what = f"{event.output} {safe(event.mapping_key)!r}"
            return f"{what} -> {_reference(event.reference)}{_metadata(event)}"
        case ExpansionSealed():
            return f"{event.output} has {counted(event.count, 'key')}"
        case CollectResolved():
            return (
                f"{event.input}: {event.succeeded:,} of {event.sealed:,} values of {event.source}"
            )
        case StepSucceeded():
            return f"attempt {event.attempt}, {event.duration_s:.3f} s{_worker(event)}"
        case StepFailed():
            return _failed(event)
        case StepRetried():
            return f"{_failed(event)}; due {_time(event.due)}"
        case StepSkipped():
            return safe(event.cause)
        case StepInvalidated():
            return event.reason + (f": {', '.join(event.lost)}" if event.lost else "")
        case HooksDue():
            return f"attempt {event.attempt}, {', '.join(event.hooks)}"
        case HookSucceeded():
            return event.hook
        case HookFailed():
            error = first_line(f"{event.error.type}: {event.error.message}")
            return f"{event.hook}, {error}"
        case RunSucceeded() | RunFailed():
            return _totals(event.counts)
        case RunCancelled():
            return f"{event.reason}; {_totals(event.counts)}"
        case HousekeepingBegun():
            process = f"process {event.pid} on {safe(event.host)}"
            return f"epoch {event.epoch}, {event.purpose}, {process}"
        case OutputDeleted():
            return (
                f"{counted(len(event.seqs), 'output')}, {event.reason}, of seq {_few(event.seqs)}"
            )
        case BaseMoved():
            return f"base {event.index} -> {event.base}"
    assert_never(event)


def _few(seqs: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, seqs[:_SHOWN_SEQS]))
    return f"{shown} to {seqs[-1]}" if len(seqs) > _SHOWN_SEQS else shown


def _failed(event: StepFailed | StepRetried) -> str:
    error = first_line(f"{event.error.type}: {event.error.message}")
    return f"attempt {event.attempt}, {event.duration_s:.3f} s{_worker(event)}, {error}"


def _worker(event: StepSucceeded | StepFailed | StepRetried) -> str:
    return f", {safe(event.worker)}" if event.worker else ""


def _time(time: dt.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _changes(event: RunResumed) -> str:
    new = {
        "job": event.job is not None,
        "graph": event.graph is not None,
        "config": event.config is not None,
        f"outputs ({event.base})": event.base is not None,
    }
    changed = [name for name, is_new in new.items() if is_new]
    taken = ", taken over" if event.take_over else ""
    return f"{taken}, new {', '.join(changed)}" if changed else taken


def _reference(reference: OutputReference) -> str:
    return f"{reference.path}, {reference.size_bytes:,} B"


def _metadata(event: OutputStored | DynamicOutputStored) -> str:
    said = event.metadata
    return f", metadata {safe(msgspec.json.encode(said).decode())}" if said else ""


def _totals(counts: Counts) -> str:
    totals: dict[str, int] = {}
    for states in counts.values():
        for state, count in states.items():
            totals[state] = totals.get(state, 0) + count
    return listed(totals)
