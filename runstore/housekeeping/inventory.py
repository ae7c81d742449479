"""What a run's log says of its outputs: which objects it names, and which outputs the run still needs.

Pure. An output is needed while the state that the log adds up to holds it: by that alone a resume, a rerun and a
result find their values. So outputs of attempts that did not end, that failed or were invalidated are not needed, nor
are those of orphans (clones whose keys the last seal no longer holds).
"""

import datetime as dt
from collections.abc import Iterator, Sequence

from runstore.log.events import (
    HOUSEKEEPING,
    STORES,
    UNSTAMPED,
    AnyEvent,
    OutputDeleted,
    RunResumed,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Level, Node
from runstore.log.state import RunState
from runstore.outputs.reference import OutputReference

Seqs = Sequence[int]


class Inventory:
    """What one reading of the log gathers."""

    def __init__(self) -> None:
        self.named: dict[int, dict[str, Seqs]] = {}
        """Base -> path of an object -> seqs of the events that name it: several for a segment."""
        self.deleted: set[int] = set()
        """Seqs of outputs that were deleted on purpose; not of those that a resume has looked at since."""
        self.ever_deleted: set[int] = set()
        """The same, also of those."""
        self.worked: dt.datetime = UNSTAMPED
        """Time of the last event that is none of housekeeping."""

    def look(self, seq: int, event: AnyEvent) -> None:
        """See one event."""
        if isinstance(event, STORES):
            self._name(event.reference, seq)
        elif isinstance(event, OutputDeleted):
            self.deleted.update(event.seqs)
            self.ever_deleted.update(event.seqs)
        elif isinstance(event, RunResumed):
            # It has checked what it reads: what was deleted and is there all the same counts again.
            self.deleted.clear()
        if not isinstance(event, HOUSEKEEPING):
            self.worked = event.time

    def _name(self, reference: OutputReference, seq: int) -> None:
        paths, path = self.named.setdefault(reference.base, {}), reference.path
        known = paths.get(path)
        if known is None:
            paths[path] = (seq,)  # mostly the only one; a list would take twice the memory
        elif isinstance(known, list):
            known.append(seq)
        else:
            paths[path] = [*known, seq]


def needed(state: RunState) -> Iterator[int]:
    """The seqs of the events whose outputs the run needs; some perhaps twice."""
    for node in state.graph.nodes:
        for step in state.sealed_steps(node):
            yield from _held(state, node, step)
    for step, _ in state.hooks_due:  # also of an orphan: its hooks are told what it gave
        if step.node in state.graph.by_name:
            yield from _held(state, state.graph.by_name[step.node], step)


def _held(state: RunState, node: Node, step: StepId) -> Iterator[int]:
    for output in node.outputs:
        if output.dynamic:
            expansion = state.expansion(Level(node.name, output.name), step.key_path)
            if expansion is not None:
                yield from (expansion.seqs[slot] for slot in expansion.order)
        elif seq := state.kept_seq(step, output.name):
            yield seq
