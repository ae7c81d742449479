"""What became of one step, computed from its own events and those of the run as a whole.

The same law as `RunState`, for a step alone: so a question about a step reads a handful of rows, however many others
the run has. Pure: fed with events in their order, it knows no store.
"""

import datetime as dt
from typing import Any

import msgspec

from runstore.errors import LogDamaged
from runstore.log.events import (
    AnyEvent,
    CollectResolved,
    ErrorInfo,
    ExpansionSealed,
    OutputStored,
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
from runstore.log.expanded import StepId
from runstore.log.graph import Node
from runstore.log.step_states import lost_keys_of
from runstore.log.transitions import FAILED, PENDING, RUNNING, STEP_TRANSITIONS, SUCCEEDED, WAITING


class Attempt(msgspec.Struct, omit_defaults=True):
    """One try of a step."""

    attempt: int
    epoch: int
    seq: int
    """Of its start."""
    started: dt.datetime
    code: str
    """Digest of the op's source."""
    worker: str = ""
    """Who ran it: known at its end; empty where that was the process which drove the run."""
    outcome: str = "interrupted"
    """succeeded, failed, to be tried again, running, interrupted; taken from the parent: reused."""
    ended_seq: int = 0
    ended: dt.datetime | None = None
    duration_s: float | None = None
    error: ErrorInfo | None = None
    parent_seq: int = 0
    """Of a reused step: its success in the log of the parent."""
    inputs: dict[str, int | list[int]] = {}
    outputs: list[int] = []
    """Seqs of the plain outputs that it stored."""
    seals: list[ExpansionSealed] = []


class Success(msgspec.Struct, frozen=True):
    """An attempt that has succeeded, and of which lost outputs it was to renew (rule R6)."""

    started: int
    seq: int
    lost: frozenset[str] | None


class History:
    """The fold of what happened to one step."""

    def __init__(self, step: StepId) -> None:
        self.step = step
        self.status = PENDING
        self.attempts: list[Attempt] = []
        self.successes: list[Success] = []
        self.collects: dict[int, CollectResolved] = {}
        """Seq -> the proof of something that it collected."""
        self.due: dt.datetime | None = None
        self.cause = ""
        """Why it was skipped."""
        self.lost: frozenset[str] = frozenset()
        self._key = str(step)
        self._node: Node | None = None
        self._outputs: dict[str, int] = {}

    def output_seq(self, output: str) -> int:
        """The seq of the event that stored this plain output; 0 where it does not count."""
        return self._outputs.get(output, 0) if self.status == SUCCEEDED else 0

    @property
    def last(self) -> Attempt | None:
        """The last attempt, if there was one."""
        return self.attempts[-1] if self.attempts else None

    def apply(self, seq: int, event: AnyEvent) -> None:
        """Take in an event of the step, or of the run as a whole."""
        match event:
            case RunStarted():
                self._node = event.graph.by_name.get(self.step.node)
            case RunResumed():
                self._resumed(event)
            case StepInvalidated():
                if event.node == self.step.node and (
                    event.steps is None or self._key in event.steps
                ):
                    self._invalidated(event)
            case RunSucceeded() | RunFailed() | RunCancelled():
                if self.status == WAITING:
                    self.status, self.due = PENDING, None
            case _:
                self._happened(seq, event)

    def _resumed(self, event: RunResumed) -> None:
        if self.status in (RUNNING, FAILED):
            self.status = PENDING
        if event.graph is None:
            return
        node, before = event.graph.by_name.get(self.step.node), self._node
        self._node = node
        if (
            node is None
            or before is None
            or (node.scope, node.outputs)
            != (
                before.scope,
                before.outputs,
            )
        ):
            self.status, self.lost, self._outputs, self.due = PENDING, frozenset(), {}, None

    def _invalidated(self, event: StepInvalidated) -> None:
        if self.status == PENDING and not self.attempts:
            return
        self.status, self.due = PENDING, None
        if event.lost:
            self.lost = self.lost.union(event.lost)
        elif event.reason != "input lost":
            self.lost = frozenset()

    def _happened(self, seq: int, event: AnyEvent) -> None:
        match event:
            case StepStarted():
                self._began(
                    Attempt(
                        event.attempt, event.epoch, seq, event.time, event.code,
                        inputs=event.inputs,
                    )
                )  # fmt: skip
            case StepReused():
                self._began(
                    Attempt(
                        event.attempt, event.epoch, seq, event.time, event.code,
                        parent_seq=event.parent_seq,
                    )
                )  # fmt: skip
            case OutputStored():
                self._current(seq).outputs.append(seq)
                if not self.lost or event.output in self.lost:
                    self._outputs[event.output] = seq
            case ExpansionSealed():
                self._current(seq).seals.append(event)
            case CollectResolved():
                self.collects[seq] = event
            case StepSucceeded():
                last = self._current(seq)
                self._ended(seq, event, "reused" if last.parent_seq else "succeeded")
                self.successes.append(Success(last.seq, seq, self.lost or None))
                self.lost = frozenset()
            case StepFailed():
                self._ended(seq, event, "failed")
            case StepRetried():
                self._ended(seq, event, "to be tried again")
                self.due = event.due
            case StepSkipped():
                self.cause, self.due = event.cause, None
        self.status = STEP_TRANSITIONS[self.status].get(type(event), self.status)

    def _current(self, seq: int) -> Attempt:
        """The attempt that an event tells of."""
        if not self.attempts:
            raise LogDamaged(
                f"seq {seq} tells of an attempt of {self._key!r} that was never started; `runstore verify` says more",
                "V8",
            )
        return self.attempts[-1]

    def _began(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.due = None
        if not self.lost:
            self._outputs = {}

    def _ended(self, seq: int, event: Any, outcome: str) -> None:
        last = self._current(seq)
        last.ended_seq, last.ended, last.outcome = seq, event.time, outcome
        last.duration_s, last.worker = event.duration_s, event.worker
        last.error = getattr(event, "error", None)

    def piece_seq(self, stored: list[int], output: str, key: str) -> tuple[int, bool]:
        """(seq of the event that counts, is the key in the last seal) of one piece of a dynamic output.

        `stored`: the seqs of all events that stored this piece, in order. (0, False) where it was never sealed.
        """
        counts, sealed = 0, False
        for success in self.successes:
            seq = next((seq for seq in stored if success.started < seq < success.seq), 0)
            sealed = seq > 0
            if seq and (
                not counts or success.lost is None or key in lost_keys_of(success.lost, output)
            ):
                counts = seq
        return counts, sealed
