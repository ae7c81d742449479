"""What a run has become, computed from its events alone.

Nothing here reads a clock, a file or a database: same events in, same RunState out. What is said of the run as a whole
is folded here, what is said of its steps in `StepStates`. An event that cannot follow what came before means that the
log is damaged, and is refused before anything changes.
"""

from itertools import pairwise
from typing import Any, Final

import msgspec

from runstore.errors import InvalidKey
from runstore.log.events import (
    DELETED_TOGETHER,
    EPOCH_KINDS,
    HOUSEKEEPING,
    UNSTAMPED,
    AnyEvent,
    BaseMoved,
    CollectResolved,
    DynamicOutputStored,
    Event,
    ExpansionSealed,
    HookFailed,
    HooksDue,
    HookSucceeded,
    HousekeepingBegun,
    OutputDeleted,
    OutputStored,
    Purpose,
    ReuseSealed,
    RunCancelled,
    RunEnded,
    RunFailed,
    RunOutcome,
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
from runstore.log.graph import Graph, flaw_of
from runstore.log.step_states import StepStates
from runstore.log.transitions import FAILED, SUCCEEDED


class RunState(StepStates):
    """The fold of a run's events. `apply` is the only way in."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.seq = 0
        self.epoch = 0
        self.started: RunStarted | None = None
        self.time = UNSTAMPED
        self.ended: RunEnded | None = None
        self.purpose: Purpose | None = None
        """What for, where this epoch is one of housekeeping: no step runs in it."""
        self.job = ""
        self.config: dict[str, Any] = {}
        self.bases: list[str] = []
        self.level = "durable"
        self.small_outputs = "file"
        self.is_taking = False
        """True while what a rerun takes from its parent is not yet whole."""
        self.hooks_due: dict[tuple[StepId, int], HooksDue] = {}
        """Step and attempt -> the hooks that its outcome is still to be told to."""
        self.hook_failures: dict[str, tuple[int, int]] = {}
        """Hook -> how many of its calls have failed, and the seq of the first `HookFailed`."""
        self._open_epoch: int | None = None
        """`epoch` while events of steps may come: not before the first event, after the last, or in housekeeping."""

    # What it answers

    def is_over(self) -> bool:
        """True when the run's last event says so; a run that is neither over nor claimed has crashed."""
        return self.ended is not None

    @property
    def own_bases(self) -> range:
        """Indexes of the bases that are not a parent's."""
        parent = self.started.parent if self.started else None
        return range(len(parent.bases) if parent else 0, len(self.bases))

    @property
    def run_status(self) -> RunOutcome:
        """How the run stands, as the events of housekeeping repeat it."""
        return "unfinished" if self.ended is None else _OUTCOMES[type(self.ended)]

    # What it takes in

    def apply(self, seq: int, event: AnyEvent) -> StepId | None:
        """Take in the next event; returns the step that it settled (succeeded or skipped), if it did.

        Raises LogDamaged if the event cannot follow what came before; this state is then of no further use.
        """
        time = event.time
        if seq != self.seq + 1 or event.epoch != self._open_epoch or time < self.time:
            self._check_place(seq, event)
        try:
            settled: StepId | None = _APPLY[type(event)](self, seq, event)
        except InvalidKey as error:
            raise self._damaged(seq, str(error), "V7") from None
        self.seq = seq
        self.time = time
        return settled

    def _check_place(self, seq: int, event: AnyEvent) -> None:
        """Raise LogDamaged unless an event is the next, of the open epoch or the begin of one, and not older."""
        if seq != self.seq + 1:
            raise self._damaged(
                seq, f"follows seq {self.seq}; rows are missing or out of order", "V1"
            )
        if type(event) not in EPOCH_KINDS and event.epoch != self._open_epoch:
            self._check_epoch(seq, event, self.epoch)
            self._check_housekeeping_may(seq, event)
        if event.time < self.time:
            raise self._damaged(
                seq, "is older than the row before it; rows were swapped or edited", "V5"
            )

    def _check_housekeeping_may(self, seq: int, event: AnyEvent) -> None:
        """Behind the end of a run, and in an epoch of housekeeping, not everything may stand."""
        if self.purpose is None:
            raise self._damaged(
                seq, f"{type(event).__name__} stands after the end of the run", "V6"
            )
        if type(event) not in HOUSEKEEPING:
            raise self._damaged(
                seq,
                f"{type(event).__name__} stands in an epoch of housekeeping, in which no step runs",
                "V6",
            )

    def _check_epoch(self, seq: int, event: AnyEvent, epoch: int) -> None:
        if type(event) is RunStarted and seq != 1:
            raise self._damaged(seq, "is a second RunStarted", "V3")
        if seq == 1 and type(event) is not RunStarted:
            raise self._damaged(
                seq, f"is a {type(event).__name__}; a log begins with RunStarted", "V3"
            )
        if event.epoch != epoch:
            raise self._damaged(seq, f"has epoch {event.epoch}, expected {epoch}", "V4")

    # The run, from its start to its end

    def _run_started(self, seq: int, event: RunStarted) -> None:
        self._begin_epoch(seq, event)
        self._check_graph(seq, event.graph)
        self.started = event
        self.graph, self.job, self.config = event.graph, event.job, event.config
        self.bases, self.level = [event.base], event.level
        self.small_outputs = event.small_outputs
        if event.parent is not None:
            self.bases, self.is_taking = [*event.parent.bases, event.base], True

    def _run_resumed(self, seq: int, event: RunResumed) -> None:
        self._begin_epoch(seq, event)
        self.job = self.job if event.job is None else event.job
        self.config = self.config if event.config is None else event.config
        if event.base is not None:
            self.bases.append(event.base)
        if event.graph is not None:
            self._check_graph(seq, event.graph)
            self._replace_graph(event.graph)
        self._begin_again(died=self.ended is None)
        self.ended = None

    def _check_graph(self, seq: int, graph: Graph) -> None:
        if flaw := flaw_of(graph):
            raise self._damaged(seq, f"has a graph that {flaw}", "V2")

    def _begin_epoch(
        self,
        seq: int,
        event: RunStarted | RunResumed | HousekeepingBegun,
        purpose: Purpose | None = None,
    ) -> None:
        self._check_epoch(seq, event, self.epoch + 1)
        self.epoch, self.purpose = event.epoch, purpose
        self._open_epoch = event.epoch if purpose is None else None

    def _reuse_sealed(self, seq: int, event: ReuseSealed) -> None:
        if not self.is_taking:
            raise self._damaged(
                seq, "ends what the run took from its parent, which is not open", "V13"
            )
        self.is_taking = False

    def _run_ended(self, seq: int, event: RunEnded) -> None:
        self.ended, self._open_epoch = event, None
        self._wait_no_more()

    # Hooks

    def _hooks_due(self, seq: int, event: HooksDue) -> None:
        step, columns, slot = self._place(seq, event.step)
        if (
            columns.status[slot] not in (SUCCEEDED, FAILED)
            or (step, event.attempt) in self.hooks_due
        ):
            raise self._damaged(
                seq, f"tells hooks of {event.step!r}, which has not just ended", "V14"
            )
        if event.attempt != columns.attempts[slot]:
            raise self._of_another_attempt(seq, event.attempt, columns.attempts[slot])
        self.hooks_due[step, event.attempt] = event

    def _hook_ended(self, seq: int, event: HookSucceeded | HookFailed) -> None:
        step = self._place(seq, event.step)[0]
        due = self.hooks_due.pop((step, event.attempt), None)
        if due is None or event.hook not in due.hooks:
            raise self._damaged(
                seq, f"ends hook {event.hook!r} of {event.step!r}, which is not due", "V14"
            )
        if isinstance(event, HookFailed):
            count, first = self.hook_failures.get(event.hook, (0, seq))
            self.hook_failures[event.hook] = count + 1, first
        left = tuple(hook for hook in due.hooks if hook != event.hook)
        if left:
            self.hooks_due[step, event.attempt] = msgspec.structs.replace(due, hooks=left)

    # Housekeeping

    def _housekeeping_begun(self, seq: int, event: HousekeepingBegun) -> None:
        self._check_status(seq, event)
        self._begin_epoch(seq, event, event.purpose)

    def _output_deleted(self, seq: int, event: OutputDeleted) -> None:
        self._check_housekeeping(seq, event, "prune")
        seqs = event.seqs
        grows = all(one < other for one, other in pairwise(seqs))
        if not 0 < len(seqs) <= DELETED_TOGETHER or not grows or not all(map(self._stores, seqs)):
            raise self._damaged(seq, "deletes what no event before it has stored", "V16")

    def _base_moved(self, seq: int, event: BaseMoved) -> None:
        self._check_housekeeping(seq, event, "move")
        if event.index not in self.own_bases:
            raise self._damaged(
                seq, f"moves base {event.index}, which is none of this run's own", "V17"
            )
        self.bases[event.index] = event.base

    def _check_housekeeping(
        self, seq: int, event: OutputDeleted | BaseMoved, purpose: Purpose
    ) -> None:
        if self.purpose != purpose:
            raise self._damaged(
                seq, f"{type(event).__name__} stands outside an epoch of {purpose}", "V6"
            )
        self._check_status(seq, event)

    def _check_status(self, seq: int, event: HousekeepingBegun | OutputDeleted | BaseMoved) -> None:
        if event.run_status != self.run_status:
            raise self._damaged(
                seq, f"calls the run {event.run_status}, which is {self.run_status}", "V18"
            )


_APPLY: Final[dict[type[Event], Any]] = {
    RunStarted: RunState._run_started,
    RunResumed: RunState._run_resumed,
    StepStarted: RunState._step_started,
    StepReused: RunState._step_started,
    ReuseSealed: RunState._reuse_sealed,
    OutputStored: RunState._output_stored,
    DynamicOutputStored: RunState._dynamic_output_stored,
    ExpansionSealed: RunState._expansion_sealed,
    CollectResolved: RunState._collect_resolved,
    StepSucceeded: RunState._step_succeeded,
    StepFailed: RunState._step_failed,
    StepRetried: RunState._step_retried,
    StepSkipped: RunState._step_skipped,
    StepInvalidated: RunState._step_invalidated,
    HooksDue: RunState._hooks_due,
    HookSucceeded: RunState._hook_ended,
    HookFailed: RunState._hook_ended,
    RunSucceeded: RunState._run_ended,
    RunFailed: RunState._run_ended,
    RunCancelled: RunState._run_ended,
    HousekeepingBegun: RunState._housekeeping_begun,
    OutputDeleted: RunState._output_deleted,
    BaseMoved: RunState._base_moved,
}
_OUTCOMES: Final[dict[type[RunEnded], RunOutcome]] = {
    RunSucceeded: "succeeded",
    RunFailed: "failed",
    RunCancelled: "cancelled",
}
