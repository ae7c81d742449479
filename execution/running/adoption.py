"""What a rerun takes from its parent, as events of the new run's own log.

A step is taken whole: it begins with `StepReused`, its outputs are the parent's events with the parent's references
(the new run declares the parent's bases first, so that they mean the same), and it ends with a success. State,
scheduler and collects need not know. `ReuseSealed` says that no more will come; a rerun that was killed before takes
the rest from the parent's log, up to the seq that `RunStarted.parent` names.
"""

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import structs

from execution.planning.rerun_plan import (
    LEFT_OUT,
    NOT_SELECTED,
    REUSED,
    SKIPPED_BEFORE,
    Division,
    selected,
)
from runstore.errors import RunNotFound
from runstore.log.columns import Expansion
from runstore.log.events import (
    STORES,
    AnyEvent,
    ExpansionSealed,
    Parent,
    ReuseSealed,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Graph, Level, Node
from runstore.log.recorder import Recorder
from runstore.log.state import RunState
from runstore.log.transitions import PENDING
from runstore.store import RunStore

COMMIT_EVENTS = 10_000
"""So many events of what is taken are committed at once: others that write to the store wait a moment, not minutes."""


class Finished(msgspec.Struct, frozen=True, gc=False):
    """How a step of the parent ended."""

    seq: int
    """Of its `StepSucceeded` or `StepSkipped`."""
    said: str
    """Digest of the code that made it, or the cause of its skip."""


class ParentRun:
    """A parent's log, read up to a seq."""

    def __init__(self, store: RunStore, run_id: str, upto: int | None = None) -> None:
        self._store = store
        self._codes: dict[str, str] = {}
        self.finished: dict[str, Finished] = {}
        """Step key -> how it last ended."""
        self.state: RunState = store.state(run_id, self._look, upto=upto)
        self._codes.clear()

    def _look(self, seq: int, event: AnyEvent) -> None:
        match event:
            case StepStarted() | StepReused():
                self._codes[event.step] = event.code
            case StepSucceeded():
                self.finished[event.step] = Finished(seq, self._codes.pop(event.step))
            case StepSkipped():
                self.finished[event.step] = Finished(seq, event.cause)

    def stored_by(self, node: Node, steps: Iterable[StepId]) -> Iterator[AnyEvent]:
        """The events that stored what some steps of a node gave out, step by step."""
        seqs = (seq for step in steps for seq in _stored_by(self.state, node, step))
        return self._store.events_at(self.state.run_id, seqs)


def divide(parent: RunState, graph: Graph, asked: Parent) -> Division | None:
    """What becomes of each step of the parent; None where everything runs anew."""
    if not asked.select and not asked.from_failure:
        return None
    return Division(parent, graph, selected(parent, graph, asked))


def take_rest(recorder: Recorder, store: RunStore) -> None:
    """Take what a rerun that was killed had not taken yet; nothing is committed here."""
    state = recorder.state
    asked = state.started.parent if state.started else None
    assert asked is not None
    if not store.has_run(asked.run):
        raise RunNotFound(
            f"run {state.run_id!r} was killed while it took finished work from run {asked.run!r}, which is no longer "
            f"in the store; delete it with `runstore rm {state.run_id}`, and run the job anew"
        )
    parent = ParentRun(store, asked.run, asked.seq)
    take(recorder, parent, divide(parent.state, state.graph, asked), commit=False)


def take(recorder: Recorder, parent: ParentRun, division: Division | None, *, commit: bool) -> None:
    """Append all that a run takes from its parent, and that it is all; what it has taken before stays as it is."""
    state, begun = recorder.state, recorder.state.seq
    reused = left_out = 0
    for node in state.graph.nodes if division else ():
        assert division is not None
        fates = [(step, division.fate(step)) for step in state.sealed_steps(node)]
        reused += sum(fate in (REUSED, SKIPPED_BEFORE) for _, fate in fates)
        left_out += sum(fate == LEFT_OUT for _, fate in fates)
        to_take = [(step, fate) for step, fate in fates if state.status(step) == PENDING]
        stored = parent.stored_by(node, [step for step, fate in to_take if fate == REUSED])
        for step, fate in to_take:
            for event in _taken(parent, state, node, step, fate, stored):
                recorder.append(event)
            if commit and state.seq - begun >= COMMIT_EVENTS:
                recorder.commit()
                begun = state.seq
    recorder.append(ReuseSealed(reused, left_out))
    if commit:
        recorder.commit()


def _taken(
    parent: ParentRun,
    state: RunState,
    node: Node,
    step: StepId,
    fate: int,
    stored: Iterator[AnyEvent],
) -> Iterator[AnyEvent]:
    """The events by which a run takes a step, or leaves it out; none for a step that is to run."""
    key = str(step)
    if fate == LEFT_OUT:
        yield StepSkipped(key, NOT_SELECTED)
    elif fate == SKIPPED_BEFORE:
        yield StepSkipped(key, parent.finished[key].said)
    elif fate == REUSED:
        finished, attempt = parent.finished[key], _attempts(state, step) + 1
        yield StepReused(key, finished.seq, finished.said, attempt)
        for _ in _stored_by(parent.state, node, step):
            event = next(stored)
            assert isinstance(event, STORES)
            yield event if event.attempt == attempt else structs.replace(event, attempt=attempt)
        for output, expansion in _expansions(parent.state, node, step):
            yield ExpansionSealed(key, output, len(expansion), expansion.digest, attempt=attempt)
        yield StepSucceeded(key, 0.0, attempt)


def _attempts(state: RunState, step: StepId) -> int:
    place = state.find(step)
    return place[0].attempts[place[1]] if place else 0


def _stored_by(parent: RunState, node: Node, step: StepId) -> Iterator[int]:
    """The seqs of the parent's events that stored what a step gave out: plain outputs, then pieces in key order."""
    for output in node.outputs:
        seq = 0 if output.dynamic else parent.output_seq(step, output.name)
        if seq:
            yield seq
    for _, expansion in _expansions(parent, node, step):
        for slot in expansion.order:
            yield expansion.seqs[slot]


def _expansions(parent: RunState, node: Node, step: StepId) -> Iterator[tuple[str, Expansion]]:
    for output in node.outputs:
        expansion = parent.expansion(Level(node.name, output.name), step.key_path)
        if output.dynamic and expansion is not None:
            yield output.name, expansion
