"""What a resume will do, and why. Pure: the log's state in, events and a table out.

The plan is made by applying what a resume would append; a dry run stops there, a resume commits it. So the one does
exactly what the other says (rule R4).
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from execution.errors import CodeChanged, PlanChanged
from runstore.log.events import StepInvalidated
from runstore.log.graph import FromCollect, FromOutput, Graph, Level, Node, project
from runstore.log.remaining import NodeProgress, Remaining
from runstore.log.state import RunState, StepId
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
            waiting=progress.sealed is None,
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


def reads(state: RunState) -> dict[int, tuple[StepId, str]]:
    """Every stored output that the steps still to run will read: seq of its event -> (step that stored it, label).

    Labels are those of `StepInvalidated.lost`: `output`, or `output[key]` for a piece of a dynamic output.
    """
    found: dict[int, tuple[StepId, str]] = {}
    for node in state.graph.nodes:
        sources = list(node.read_sources())
        if not sources:
            continue
        for prefix in state.prefixes(node):
            if not any(status in state.steps(node, prefix).status for status in TO_RUN):
                continue
            for step in state.sealed_steps(node):
                if state.status(step) in TO_RUN:
                    for source in sources:
                        _add_reads(state, node, step, source, found)
    return found


def _add_reads(
    state: RunState,
    node: Node,
    step: StepId,
    source: FromOutput | FromCollect,
    found: dict[int, tuple[StepId, str]],
) -> None:
    producer = state.graph.by_name[source.node]
    output = producer.output(source.output)
    dynamic = output is not None and output.dynamic
    if isinstance(source, FromOutput) and dynamic:
        level = next(
            level
            for level in node.scope
            if (level.node, level.output) == (source.node, source.output)
        )
        path = project(step.key_path, node.scope, producer.scope)
        _add_piece(
            state, source, StepId(source.node, path), step.key_path[node.scope.index(level)], found
        )
    elif isinstance(source, FromOutput):
        owner = StepId(source.node, project(step.key_path, node.scope, producer.scope))
        _add_plain(state, owner, source.output, found)
    elif dynamic:
        owner = StepId(source.node, project(step.key_path, node.scope, producer.scope))
        expansion = state.expansion(source.level, owner.key_path)
        for key in expansion.ordered_keys() if expansion else ():
            _add_piece(state, source, owner, key, found)
    else:
        for owner in state.sealed_steps(producer):
            _add_plain(state, owner, source.output, found)


def _add_plain(
    state: RunState, owner: StepId, output: str, found: dict[int, tuple[StepId, str]]
) -> None:
    seq = state.kept_seq(owner, output)
    if seq:
        found[seq] = (owner, output)


def _add_piece(
    state: RunState,
    source: FromOutput | FromCollect,
    owner: StepId,
    key: str,
    found: dict[int, tuple[StepId, str]],
) -> None:
    if state.status(owner) != SUCCEEDED and owner not in state.lost:
        return
    seq = state.piece_seq(Level(source.node, source.output), owner.key_path, key)
    if seq:
        found[seq] = (owner, str(StepId(source.output, (key,))))


def has_read(state: RunState, owner: StepId, output: str, key: str | None) -> StepId | None:
    """A step that succeeded after reading an output of `owner`, or the piece `key` of it; None if there is none."""
    producer = state.graph.by_name[owner.node]
    for reader in state.graph.readers[owner.node]:
        for source in reader.read_sources():
            if (source.node, source.output) == (owner.node, output):
                for step in state.steps_of(reader):
                    if state.status(step) == SUCCEEDED and _reads_it(
                        reader, step, source, producer, owner, key
                    ):
                        return step
    return None


def _reads_it(
    reader: Node,
    step: StepId,
    source: FromOutput | FromCollect,
    producer: Node,
    owner: StepId,
    key: str | None,
) -> bool:
    if isinstance(source, FromCollect):
        return True
    if key is not None:
        return step.key_path[reader.scope.index(Level(source.node, source.output))] == key
    return project(step.key_path, reader.scope, producer.scope) == owner.key_path
