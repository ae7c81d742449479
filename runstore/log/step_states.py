"""How each step of a run stands, and what counts of what it stored, by the events of its attempts.

Facts are held in columns, by the place ("slot") at which a key was first sealed; of a stored output only the seq of its
event is kept. An event that cannot follow what came before is refused before anything changes.
"""

import datetime as dt
from array import array
from bisect import bisect_left
from typing import Final

from runstore.errors import LogDamaged
from runstore.keys import KeyPath, parse_step_key
from runstore.log.codec import keys_digest
from runstore.log.columns import OpenExpansion, Steps
from runstore.log.events import (
    AnyEvent,
    CollectResolved,
    DynamicOutputStored,
    ExpansionSealed,
    OutputStored,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import ExpandedGraph, StepId
from runstore.log.graph import Graph, Level, Node
from runstore.log.transitions import (
    FAILED,
    FAILED_BEFORE,
    INTERRUPTED,
    INVALIDATED,
    OUTPUT_LOST,
    PENDING,
    SKIPPED,
    STATUS_NAMES,
    STEP_TRANSITIONS,
    SUCCEEDED,
)

_NOTHING_OPEN: Final[dict[str, OpenExpansion]] = {}


class StepStates(ExpandedGraph):
    """The fold of the events of steps; `RunState` knows which method is for which event."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.running: dict[StepId, int] = {}
        """Step -> seq of its start."""
        self.failures: dict[StepId, int] = {}
        """Step -> seq of its `StepFailed`, of this epoch."""
        self.waiting: dict[StepId, dt.datetime] = {}
        """Step -> when its next attempt is due."""
        self.retries: dict[StepId, int] = {}
        """Step that waits or runs again -> how many retries of its budget are used up; a resume gives a new one."""
        self.losses: dict[StepId, int] = {}
        """The same -> how many workers were lost over it, as far as `retries` counts."""
        self.codes: dict[str, set[str]] = {}
        """Node -> digests of the code by which its finished work came to be."""
        self.deaths: dict[StepId, int] = {}
        """Step -> how many of the last epochs in a row died while it ran (rule R2)."""
        self.lost: dict[StepId, frozenset[str]] = {}
        """Step that runs again for lost bytes -> its lost outputs (rule R6)."""
        self._stored = array("I")
        """Seqs of the events that stored an output."""
        self._open: dict[StepId, dict[str, OpenExpansion]] = {}
        self._new_codes: dict[StepId, str] = {}
        """Running step -> its code, where no finished work of its node came to be by it yet."""
        self._placed: tuple[StepId, Steps, int]
        """The step of the last event, its columns and its slot: events come in runs of the same step."""
        self._placed_key: str | None = None

    # What it answers

    def output_seq(self, step: StepId, output: str) -> int:
        """The seq of the event that stored this plain output; 0 where it does not (or does not yet) count."""
        place = self.find(step)
        if place is None or place[0].status[place[1]] != SUCCEEDED:
            return 0
        column = place[0].outputs.get(output)
        return column[place[1]] if column is not None else 0

    def kept_seq(self, step: StepId, output: str) -> int:
        """As `output_seq`, but also for a step that is to run again for other lost bytes (rule R6)."""
        place = self.find(step)
        if place is None or (step not in self.lost and place[0].status[place[1]] != SUCCEEDED):
            return 0
        column = place[0].outputs.get(output)
        return column[place[1]] if column is not None else 0

    def piece_seq(self, level: Level, producer_path: KeyPath, key: str) -> int:
        """The seq of the event that stored one piece of a dynamic output; 0 where it is not sealed."""
        expansion = self.expansion(level, producer_path)
        slot = None if expansion is None else expansion.keys.get(key)
        return 0 if expansion is None or slot is None else expansion.seqs[slot]

    def holds(self, maker: StepId) -> bool:
        """True for a step whose keys stand: it has succeeded, or runs again for lost bytes alone (rule R6)."""
        status = self.status(maker)
        return status == SUCCEEDED or (status != FAILED and maker in self.lost)

    def exists(self, node: Node, step: StepId) -> bool:
        """True when all that a clone stems from holds; false for what a producer that runs again has left behind."""
        depths = range(len(node.scope))
        return all(self.holds(self.maker(node, step.key_path[:at])) for at in depths)

    def _stores(self, seq: int) -> bool:
        """True for the seq of an event that stored an output."""
        place = bisect_left(self._stored, seq)
        return place < len(self._stored) and self._stored[place] == seq

    def place(self, step: StepId, step_key: str) -> tuple[Steps, int] | None:
        """As `find`, of a step whose events come next: `step_key` need not be parsed, nor looked up again."""
        found = self.find(step)
        if found is not None:
            self._placed_key, self._placed = step_key, (step, *found)
        return found

    # An attempt, from its start to its end

    def _step_started(self, seq: int, event: StepStarted | StepReused) -> None:
        step, columns, slot = self._move(seq, event, event.step)
        before, node = columns.attempts[slot], step.node
        if event.attempt != before + 1:
            raise self._damaged(seq, f"starts attempt {event.attempt} after attempt {before}", "V9")
        columns.attempts[slot] = before + 1
        self.running[step] = seq
        if self.waiting:
            self.waiting.pop(step, None)
        if before and step not in self.lost:
            columns.clear_outputs(slot)
        if event.code not in self.codes.get(node, ()):
            self._new_codes[step] = event.code
        dynamic = self.graph.dynamic_outputs[node]
        if dynamic:
            self._open[step] = {output: OpenExpansion() for output in dynamic}

    def _output_stored(self, seq: int, event: OutputStored) -> None:
        step, columns, slot = self._move(seq, event, event.step, event.attempt)
        column = columns.outputs.get(event.output)
        if column is None:
            raise self._damaged(
                seq, f"stores output {event.output!r}, which {event.step!r} does not have", "V10"
            )
        if not self.lost or event.output in self.lost.get(step, (event.output,)):
            column[slot] = seq
        self._stored.append(seq)

    def _dynamic_output_stored(self, seq: int, event: DynamicOutputStored) -> None:
        step = self._move(seq, event, event.step, event.attempt)[0]
        piece = self._open.get(step, _NOTHING_OPEN).get(event.output)
        if piece is None or piece.sealed or event.mapping_key in piece.keys:
            raise self._damaged(
                seq,
                f"adds key {event.mapping_key!r} to output {event.output!r} of {event.step!r} wrongly",
                "V10",
            )
        piece.keys[event.mapping_key] = len(piece.seqs)
        piece.seqs.append(seq)
        self._stored.append(seq)

    def _expansion_sealed(self, seq: int, event: ExpansionSealed) -> None:
        step = self._move(seq, event, event.step, event.attempt)[0]
        piece = self._open.get(step, _NOTHING_OPEN).get(event.output)
        if piece is None or piece.sealed:
            raise self._damaged(
                seq, f"seals output {event.output!r} of {event.step!r}, which is not open", "V10"
            )
        if len(piece.keys) != event.count or keys_digest(piece.keys) != event.keys_digest:
            raise self._damaged(
                seq,
                f"seals {event.count} keys of {event.step!r}, the log holds {len(piece.keys)} others",
                "V11",
            )
        piece.sealed, piece.digest = True, event.keys_digest

    def _collect_resolved(self, seq: int, event: CollectResolved) -> None:
        if self.find(StepId(*parse_step_key(event.step))) is None:
            raise self._damaged(seq, f"names step {event.step!r}, which is not in the graph", "V7")

    def _step_succeeded(self, seq: int, event: StepSucceeded) -> StepId:
        step, columns, _ = self._move(seq, event, event.step, event.attempt)
        columns.settled += 1
        lost = self.lost.pop(step, None) if self.lost else None
        if self._open and step in self._open:
            self._seal_all(seq, step, lost)
        del self.running[step]
        if self._new_codes and step in self._new_codes:
            self.codes.setdefault(step.node, set()).add(self._new_codes.pop(step))
        if self.retries or self.losses:
            self._forget_retries(step)
        if self.deaths:
            self.deaths.pop(step, None)
        return step

    def _seal_all(self, seq: int, step: StepId, lost: frozenset[str] | None) -> None:
        for output, piece in self._open.pop(step).items():
            if not piece.sealed:
                raise self._damaged(seq, f"ends '{step}' with unsealed output {output!r}", "V12")
            self._seal(step, output, piece, lost)

    def _seal(
        self, step: StepId, output: str, piece: OpenExpansion, lost: frozenset[str] | None
    ) -> None:
        if self.seal(step, output, piece, None if lost is None else lost_keys_of(lost, output)):
            self._placed_key = None

    def _step_failed(self, seq: int, event: StepFailed) -> None:
        step = self._move(seq, event, event.step, event.attempt)[0]
        self.failures[step] = seq
        self._forget_retries(step)
        self._attempt_ended(step)

    def _step_retried(self, seq: int, event: StepRetried) -> None:
        step = self._move(seq, event, event.step, event.attempt)[0]
        self.waiting[step] = event.due
        counted = self.losses if event.worker_lost else self.retries
        counted[step] = counted.get(step, 0) + 1
        self._attempt_ended(step)

    def _forget_retries(self, step: StepId) -> None:
        self.retries.pop(step, None)
        self.losses.pop(step, None)

    def _attempt_ended(self, step: StepId) -> None:
        """An attempt has failed: what it stored counts for nothing (rule F4)."""
        del self.running[step]
        self._open.pop(step, None)
        self._new_codes.pop(step, None)
        self.deaths.pop(step, None)

    def _step_skipped(self, seq: int, event: StepSkipped) -> StepId:
        step, columns, _ = self._move(seq, event, event.step)
        if self.waiting:
            self.waiting.pop(step, None)
        columns.settled += 1
        return step

    def _step_invalidated(self, seq: int, event: StepInvalidated) -> None:
        node = self.graph.by_name.get(event.node)
        if node is None:
            raise self._damaged(seq, f"invalidates {event.node!r}, which is not in the graph", "V7")
        why = OUTPUT_LOST if event.reason == "output lost" else INVALIDATED
        why = INTERRUPTED if event.reason == "input lost" else why
        if event.steps is None:
            steps = list(self.steps_of(node))
            self.codes.pop(event.node, None)
        else:
            steps = [self._place(seq, text)[0] for text in event.steps]
        for step in steps:
            self._invalidate(step, why, event.lost)

    def _invalidate(self, step: StepId, why: int, lost: tuple[str, ...]) -> None:
        place = self.find(step)
        if place is None:
            return
        columns, slot = place
        if columns.status[slot] == PENDING and not columns.attempts[slot]:
            return
        if columns.status[slot] in (SUCCEEDED, SKIPPED) and self.is_counted(step):
            columns.settled -= 1
        columns.status[slot], columns.why[slot] = PENDING, why
        for known in (self.running, self.failures, self.waiting, self._open, self._new_codes):
            known.pop(step, None)
        if why != INTERRUPTED:
            self._forget_retries(step)
        if lost:
            self.lost[step] = self.lost.get(step, frozenset()).union(lost)
        elif why != INTERRUPTED:
            self.lost.pop(step, None)

    # What becomes of all of them with the run

    def _begin_again(self, *, died: bool) -> None:
        """Another epoch runs steps: what ran and what failed will; `died`: the epoch before did not get to its end."""
        self.deaths = {step: self.deaths.get(step, 0) + 1 for step in self.running} if died else {}
        for step in self.running:
            self._set_pending(step, INTERRUPTED)
        for step in self.failures:
            self._set_pending(step, FAILED_BEFORE)
        self.running, self.failures, self._open, self._new_codes = {}, {}, {}, {}
        self.retries, self.losses = {}, {}

    def _wait_no_more(self) -> None:
        """A run that is over waits for nothing."""
        for step in self.waiting:
            self._set_pending(step, FAILED_BEFORE)
        self.waiting = {}

    def _set_pending(self, step: StepId, why: int) -> None:
        place = self.find(step)
        if place is not None:
            place[0].status[place[1]] = PENDING
            place[0].why[place[1]] = why

    def _replace_graph(self, graph: Graph) -> None:
        """Go on with another graph; what is known of a node that is gone or has another shape fits it no more."""
        same = self.replace(graph)
        self._placed_key = None
        for known in (self.running, self.failures, self.waiting, self.lost):
            for step in [step for step in known if step.node not in same]:
                del known[step]

    # How it finds its way

    def _place(self, seq: int, text: str) -> tuple[StepId, Steps, int]:
        step = StepId(*parse_step_key(text))
        place = self.find(step)
        if place is None:
            raise self._damaged(
                seq, f"names step {text!r}, which is not in the graph or not sealed", "V7"
            )
        self._placed_key, self._placed = text, (step, place[0], place[1])
        return self._placed

    def _move(
        self, seq: int, event: AnyEvent, text: str, attempt: int | None = None
    ) -> tuple[StepId, Steps, int]:
        """The step of an event, moved to the status that follows from it; `attempt`: that must be the last one."""
        placed = self._placed if text == self._placed_key else self._place(seq, text)
        _, columns, slot = placed
        status = STEP_TRANSITIONS[columns.status[slot]].get(type(event))
        if status is None:
            was = STATUS_NAMES[columns.status[slot]]
            raise self._damaged(seq, f"{type(event).__name__} of {text!r}, which is {was}", "V8")
        if attempt is not None and attempt != columns.attempts[slot]:
            raise self._of_another_attempt(seq, attempt, columns.attempts[slot])
        columns.status[slot] = status
        return placed

    def _of_another_attempt(self, seq: int, attempt: int, running: int) -> LogDamaged:
        return self._damaged(seq, f"is of attempt {attempt}, running is attempt {running}", "V9")

    def _damaged(self, seq: int, fact: str, rule: str) -> LogDamaged:
        return LogDamaged(
            f"run {self.run_id!r}, seq {seq}: {fact}; the log is damaged and nothing was written. "
            "Restore it from a copy",
            rule,
        )


def lost_keys_of(lost: frozenset[str] | tuple[str, ...], output: str) -> list[str]:
    """From labels such as `output[key]` the keys of one dynamic output."""
    parsed = [parse_step_key(label) for label in lost]
    return [path[0] for name, path in parsed if name == output and path]
