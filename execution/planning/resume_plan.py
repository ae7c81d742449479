"""What a resume will do, and why. Pure: the log's state in, events and a table out.

The plan is made by applying what a resume would append; a dry run stops there, a resume commits it. So the one does
exactly what the other says (rule R4).
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from execution.errors import CodeChanged, PlanChanged
from runstore.keys import KeyPath
from runstore.log.events import StepInvalidated
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Graph, Level, Node, Wire
from runstore.log.remaining import NodeProgress, Remaining
from runstore.log.state import RunState
from runstore.log.transitions import SUCCEEDED, TO_RUN

OnCodeChange = Literal["reuse", "rerun", "fail"]


class NodePlan(msgspec.Struct, frozen=True):
    """One op in a resume."""

    node: str
    sealed: int | None
    """How many steps it has; None where the keys are not known before something else has run."""
    reuse: int
    run: dict[str, int]
    """Why -> number of steps: interrupted, failed, never started, invalidated, lost, waiting for a retry."""
    waiting: bool
    """True where the number of steps depends on an op that runs first."""
    orphans: int = 0
    due: dt.datetime | None = None
    """When the first of the steps that wait for a retry is due."""


class ResumePlan(msgspec.Struct, frozen=True):
    """What a resume will reuse and run."""

    run_id: str
    epoch: int
    """That the resume will have."""
    succeeded: bool
    """True for a run that is done: nothing will happen."""
    changed_code: tuple[str, ...]
    """Nodes whose op has changed since its finished work was done."""
    changes: tuple[str, ...]
    """What is new against the log: graph, config, outputs, level."""
    lost: tuple[str, ...]
    """Steps that run again because their stored bytes are missing or altered."""
    nodes: tuple[NodePlan, ...]

    @property
    def to_run(self) -> int:
        """How many steps are known to run."""
        return sum(sum(node.run.values()) for node in self.nodes)

    @property
    def to_reuse(self) -> int:
        """How many steps are done and stay so."""
        return sum(node.reuse for node in self.nodes)


def node_plans(state: RunState) -> tuple[NodePlan, ...]:
    """The table of a plan, from a state to which the resume's events were applied."""
    return tuple(
        NodePlan(
            node=progress.node,
            sealed=progress.sealed,
            reuse=progress.done,
            run=_to_run(progress),
            waiting=progress.unsealed > 0,
            orphans=progress.orphans,
            due=progress.due,
        )
        for progress in Remaining(state).nodes()
    )


def _to_run(progress: NodeProgress) -> dict[str, int]:
    waiting = progress.states.get("waiting", 0)
    return {**progress.pending, "waiting for a retry": waiting} if waiting else progress.pending


def check_graph(state: RunState, graph: Graph) -> None:
    """Raise PlanChanged listing what of the new graph does not fit finished work (rule R5)."""
    found = [
        misfit
        for node in state.graph.nodes
        if _has_succeeded(state, node)
        for misfit in misfits(node, graph)
    ]
    if found:
        raise PlanChanged(
            f"run {state.run_id!r} cannot go on with this graph of {graph.name!r}: {'; '.join(found)}. "
            "Restore the job as it was, or start a new run"
        )


def _has_succeeded(state: RunState, node: Node) -> bool:
    return any(state.status(step) == SUCCEEDED for step in state.steps_of(node))


def misfits(node: Node, graph: Graph) -> Iterator[str]:
    """What of a new graph does not fit finished work of a node."""
    new = graph.by_name.get(node.name)
    if new is None:
        yield f"{node.name!r} has succeeded and is gone"
        return
    if [argument.name for argument in new.inputs] != [argument.name for argument in node.inputs]:
        yield f"{node.name!r} has other inputs"
    elif new.inputs != node.inputs:
        changed = [old.name for old, now in zip(node.inputs, new.inputs, strict=True) if old != now]
        yield f"{node.name!r} reads {', '.join(changed)} from elsewhere"
    if new.scope != node.scope:
        yield f"{node.name!r} is mapped under other outputs"
    if new.outputs != node.outputs:
        yield f"{node.name!r} has other outputs"


def changed_code(state: RunState, codes: Mapping[str, str]) -> list[str]:
    """The nodes with finished work whose op's code is not the one that did it."""
    return [
        node for node, digests in state.codes.items() if node in codes and digests - {codes[node]}
    ]


def code_invalidations(
    state: RunState, changed: list[str], on_code_change: OnCodeChange
) -> list[StepInvalidated]:
    """What is invalidated for changed code; raises CodeChanged where that is to fail the resume (rule R5)."""
    if not changed or on_code_change == "reuse":
        return []
    if on_code_change == "fail":
        raise CodeChanged(
            f"run {state.run_id!r}: the code of {', '.join(changed)} has changed since; resume with "
            "--on-code-change reuse to keep finished work, or rerun to do it again"
        )
    again = state.graph.downstream(set(changed))
    return [
        StepInvalidated(node=node.name, reason="code changed")
        for node in state.graph.nodes
        if node.name in again and _was_started(state, node)
    ]


def _was_started(state: RunState, node: Node) -> bool:
    return any(any(state.steps(node, prefix).status) for prefix in state.prefixes(node))


def reads(state: RunState) -> list[int]:
    """The stored outputs that the steps still to run will read, by the seqs of their events; without those that are
    known to be lost.
    """
    found: dict[int, None] = {}  # each once, in the order in which it will be read
    for node in state.graph.nodes:
        wires = [wire for wire in state.graph.wires[node.name] if wire.reads]
        collected: set[tuple[int, KeyPath]] = set()
        for key_path in _to_be_run(state, node) if wires else ():
            for wire in wires:
                path = wire.path(key_path)
                if not isinstance(wire.source, FromCollect):
                    found.update(dict.fromkeys(_stored(state, wire, path)))
                elif (id(wire), path) not in collected:  # the same for many steps
                    collected.add((id(wire), path))
                    found.update(dict.fromkeys(_collected(state, wire, path)))
    return list(found)


def _to_be_run(state: RunState, node: Node) -> Iterator[KeyPath]:
    for prefix in state.prefixes(node):
        status = state.steps(node, prefix).status
        if not any(one in status for one in TO_RUN):
            continue
        if not node.scope:
            yield prefix
        elif expansion := state.expansion_under(node, prefix):
            for key, slot in zip(expansion.ordered_keys(), expansion.order, strict=True):
                if status[slot] in TO_RUN:
                    yield (*prefix, key)


def _stored(state: RunState, wire: Wire, path: KeyPath) -> tuple[int, ...]:
    """What is read through a wire at a path; nothing where it was skipped, or is known to be lost."""
    source = wire.source
    if wire.pieces:
        owner = StepId(source.node, path[:-1])
        counts = state.status(owner) == SUCCEEDED or owner in state.lost
        level = Level(source.node, source.output)
        seq = state.piece_seq(level, owner.key_path, path[-1]) if counts else 0
    else:
        owner = StepId(source.node, path)
        seq = state.kept_seq(owner, source.output)
    if seq and owner in state.lost:
        label = StepId(source.output, path[-1:] if wire.pieces else ())
        seq = 0 if str(label) in state.lost[owner] else seq
    return (seq,) if seq else ()


def _collected(state: RunState, wire: Wire, path: KeyPath, depth: int = 0) -> Iterator[int]:
    """What a collect reads, below a path."""
    assert isinstance(wire.source, FromCollect)
    maker_path = tuple([path[place] for place in wire.makers[depth]])
    expansion = state.expansion(wire.source.over[depth].level, maker_path)
    if expansion is None:
        return
    if depth < len(wire.source.over) - 1:
        for key in expansion.ordered_keys():
            yield from _collected(state, wire, (*path, key), depth + 1)
    elif wire.pieces or state.lost:
        for key in expansion.ordered_keys():
            yield from _stored(state, wire, (*path, key))
    else:
        columns = state.steps(wire.producer, path)
        seqs, status = columns.outputs[wire.source.output], columns.status
        for slot in expansion.order:
            if status[slot] == SUCCEEDED and seqs[slot]:
                yield seqs[slot]


def has_read(state: RunState, owner: StepId, output: str, key: str | None) -> StepId | None:
    """A step that succeeded after reading an output of `owner`, or the piece `key` of it; None if there is none."""
    path = owner.key_path if key is None else (*owner.key_path, key)
    for reader in state.graph.readers[owner.node]:
        for wire in state.graph.wires[reader.name]:
            if wire.reads and (wire.source.node, wire.source.output) == (owner.node, output):
                # A collect reads more than this path; what both know of it are the keys of the wire's scope.
                keys = dict(zip(wire.at, path, strict=False))
                for step in state.sealed_steps(reader, keys):
                    if state.status(step) == SUCCEEDED:
                        return step
    return None
