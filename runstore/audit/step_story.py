"""What the log tells about one step, event by event: in words, and what decides why it is as it is."""

import datetime as dt
from typing import Any

import msgspec

from runstore.log.events import (
    DELETION_REASONS,
    STORES,
    AnyEvent,
    CollectResolved,
    DynamicOutputStored,
    ExpansionSealed,
    HookFailed,
    HookSucceeded,
    OutputDeleted,
    OutputStored,
    RunEnded,
    RunResumed,
    RunStarted,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import StepId

_SHOWN_INPUTS = 8
_SHOWN_TEXT = 1_000


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that the log says about the step."""

    seq: int
    """Of the event that says so."""
    epoch: int
    time: dt.datetime
    text: str
    metadata: dict[str, Any] | None = None
    """Of an output: what the op said about it."""


class Story:
    """What one reading of the log tells about a step."""

    def __init__(self, step: StepId) -> None:
        self.facts: list[Fact] = []
        self.again = ""
        """Why the step's last start, or its next one, is not its first."""
        self.started = self.settled = self.resumed = self.retried = 0
        self.settled_epoch = self.epoch = self.attempt = 0
        self.cause = self.traceback = self.parent = self.taken = ""
        self._step, self._key = step, str(step)
        self._settings: dict[str, Any] = {}
        self._waited_for: set[str] = set()
        self._running = self._failed = self._waiting = False
        self._ended: RunEnded | None = None
        self._stored: dict[int, str] = {}
        """Seq -> the output, or piece of one, that it stored."""

    def look(self, seq: int, event: AnyEvent) -> None:
        """See one event of the run."""
        if isinstance(event, RunStarted | RunResumed):
            self._begin(seq, event)
        elif isinstance(event, RunEnded):
            self._ended, self._waiting = event, False
        elif isinstance(event, StepInvalidated):
            self._invalidated(seq, event)
        elif isinstance(event, OutputDeleted):
            self._deleted(seq, event)
        elif getattr(event, "step", None) == self._key:
            self._happened(seq, event)

    def _begin(self, seq: int, event: RunStarted | RunResumed) -> None:
        died = f"epoch {self.epoch} died" if self._ended is None else f"epoch {self.epoch} ended"
        self.epoch, self._ended = event.epoch, None
        if event.config is not None:
            self._settings = event.config.get("ops", {}).get(self._step.node, {})
        if event.graph is not None and self._step.node in event.graph.by_name:
            inputs = event.graph.by_name[self._step.node].inputs
            self._waited_for = {argument.name for argument in inputs if argument.order}
        if isinstance(event, RunStarted):
            self.parent = event.parent.run if event.parent else ""
            return
        self.resumed = seq
        if self._running:
            self.again = f"attempt {self.attempt} (seq {self.started}) was interrupted when {died}"
            self._fact(seq, event, f"run resumed; {self.again}")
        elif self._failed:
            self.again = f"attempt {self.attempt} had failed (seq {self.settled})"
            self._fact(seq, event, f"run resumed; {self.again}")
            self.settled = 0
        elif self._waiting:
            self._fact(
                seq, event, "run resumed; it goes on waiting, with its full budget of retries"
            )
        elif self.settled:
            self._fact(seq, event, f"run resumed; it had been settled at seq {self.settled}")
        self._running = self._failed = False

    def _invalidated(self, seq: int, event: StepInvalidated) -> None:
        named = event.steps is None and event.node == self._step.node
        if not named and self._key not in (event.steps or ()):
            return
        lost = f" ({', '.join(event.lost)})" if event.lost else ""
        if self.settled or self._running or self._failed or self._waiting:
            self.again = f"its work no longer counted: {event.reason}{lost} (seq {seq})"
            self._fact(seq, event, f"invalidated: {event.reason}{lost}")
        self.settled, self._running, self._failed, self._waiting = 0, False, False, False

    def _deleted(self, seq: int, event: OutputDeleted) -> None:
        if self._stored:
            gone = [self._stored[stored] for stored in event.seqs if stored in self._stored]
            more = f" and {len(gone) - _SHOWN_INPUTS:,} more" if len(gone) > _SHOWN_INPUTS else ""
            if gone:
                shown = ", ".join(gone[:_SHOWN_INPUTS]) + more
                why = DELETION_REASONS[event.reason]
                self._fact(seq, event, f"{shown} deleted by `runstore prune`, as {why}")

    def _happened(self, seq: int, event: AnyEvent) -> None:
        if isinstance(event, STORES):
            self._stored[seq] = _label(event)
        match event:
            case StepReused():
                self.started, self.attempt, self._running = seq, event.attempt, True
                self.taken = f"reused from run {self.parent}, seq {event.parent_seq}"
                self._fact(seq, event, f"{self.taken}; its outputs stay where that run stored them")
            case StepStarted():
                self.taken = ""
                self.started, self.attempt, self._running = seq, event.attempt, True
                self._waiting = False
                reading = _reading(event, self._settings, self._waited_for)
                self._fact(seq, event, f"attempt {event.attempt} started{reading}")
            case OutputStored():
                size = f"{event.reference.size_bytes:,} B"
                text = f"{event.output} stored, {size} at {event.reference.path}"
                self._fact(seq, event, text + _said(event.metadata), event.metadata)
            case DynamicOutputStored() if event.metadata:
                text = f"{_label(event)} stored{_said(event.metadata)}"
                self._fact(seq, event, text, event.metadata)
            case ExpansionSealed():
                self._fact(seq, event, f"{event.output} sealed with {event.count:,} keys")
            case CollectResolved():
                text = f"{event.succeeded:,} of {event.sealed:,} values of {event.source}"
                self._fact(seq, event, f"{event.input} collects {text}")
            case StepSucceeded():
                ran = f"attempt {event.attempt} succeeded in {event.duration_s:.3f} s"
                self._settle(seq, event, "it counts here from now on" if self.taken else ran)
            case StepFailed():
                self.cause = f"{event.error.type}: {event.error.message}"
                self.traceback = event.error.traceback
                self._settle(seq, event, f"attempt {event.attempt} failed: {self.cause}")
                self._failed = True
            case StepRetried():
                self._retried(seq, event)
            case HookSucceeded():
                self._fact(seq, event, f"hook {event.hook} was called")
            case HookFailed():
                error = f"{event.error.type}: {event.error.message}"
                self._fact(seq, event, f"hook {event.hook} failed: {error}")
            case StepSkipped():
                self.cause = event.cause
                self._settle(seq, event, f"skipped: {event.cause}")

    def _retried(self, seq: int, event: StepRetried) -> None:
        self.cause = f"{event.error.type}: {event.error.message}"
        self.traceback = event.error.traceback
        self.again = f"attempt {event.attempt} had failed (seq {seq})"
        self.retried, self._running, self._waiting = seq, False, True
        then = f"to be tried again from {shown_time(event.due)} on"
        self._fact(seq, event, f"attempt {event.attempt} failed, {then}: {self.cause}")

    def _settle(self, seq: int, event: AnyEvent, text: str) -> None:
        self.settled, self.settled_epoch, self._running = seq, event.epoch, False
        self._fact(seq, event, text)

    def _fact(
        self, seq: int, event: AnyEvent, text: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self.facts.append(Fact(seq, event.epoch, event.time, text, metadata))


def _label(event: OutputStored | DynamicOutputStored) -> str:
    if isinstance(event, OutputStored):
        return event.output
    return str(StepId(event.output, (event.mapping_key,)))


def _said(metadata: dict[str, Any] | None) -> str:
    text = msgspec.json.encode(metadata).decode() if metadata else ""
    return (
        f"; metadata {text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + '…'}"
        if text
        else ""
    )


def _reading(event: StepStarted, settings: dict[str, Any], waited_for: set[str]) -> str:
    named = {
        name: f"{name} from seq {', '.join(map(str, seqs[:_SHOWN_INPUTS]))}{' …' * (len(seqs) > _SHOWN_INPUTS)}"
        for name, seq in event.inputs.items()
        if (seqs := [one for one in (seq if isinstance(seq, list) else [seq]) if one])
    }
    waited = [named.pop(name) for name in list(named) if name in waited_for]
    read = [
        *named.values(),
        *(f"{name} from the run config" for name in settings.get("inputs", {})),
    ]
    reading = f"; it reads {', '.join(read)}" if read else ""
    return f"{reading}; it waited for {', '.join(waited)}" if waited else reading


def shown_time(time: dt.datetime) -> str:
    """A time in UTC, as sentences show it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")
