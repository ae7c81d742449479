"""What a rerun takes from its parent, what it runs, and what it leaves out. Pure.

A step that is selected runs. One that is not is reused if it has finished in the parent and nothing that it needs runs;
else it is left out: its inputs change, or there is nothing to take. What is cloned for the keys of an op that runs
again runs too, since the keys may be others. So nothing old is ever mixed with something new.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from execution.errors import InvalidSelection, PlanChanged, SelectionIncomplete
from execution.planning.resume_plan import misfits
from execution.planning.selection import Selection, Selector, parse_selection, shared_levels
from runstore.keys import KeyPath
from runstore.log.events import Parent
from runstore.log.expanded import StepId
from runstore.log.graph import Graph, Level, Node, project
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.log.transitions import SKIPPED, SUCCEEDED

REUSED, SKIPPED_BEFORE, RUNS, LEFT_OUT, ABSENT = 1, 2, 4, 8, 16
"""What becomes of a step that the parent knows, as bits. Absent: what it is cloned for is left out or was skipped."""
NOT_SELECTED = "not selected"
"""The cause of the skip of a step that is left out."""
_NAMED = 3


class RerunNode(msgspec.Struct, frozen=True):
    """One op in a rerun."""

    node: str
    sealed: int | None
    """How many steps it has; None where the keys are not known before something else has run."""
    reuse: int
    """Steps taken from the parent, those that were skipped there among them."""
    run: int
    """Steps that are known to run."""
    left_out: int
    """Steps that are not selected and cannot be reused."""
    waiting: bool
    """True where the number of steps depends on an op that runs first."""


class RerunPlan(msgspec.Struct, frozen=True):
    """What a rerun will take from its parent and what it will run."""

    run_id: str
    """Of the new run; empty where it gets its id when it starts."""
    parent: str
    select: tuple[str, ...]
    from_failure: bool
    unasked: tuple[str, ...]
    """Nodes that run though they are not selected, since the op whose keys they are cloned for runs again."""
    changed_code: tuple[str, ...]
    """Nodes of which finished work is reused whose op has changed since."""
    changes: tuple[str, ...]
    """What is new against the parent: graph, config."""
    lost: tuple[str, ...]
    """Steps that run since the bytes that they stored in the parent are missing or altered."""
    nodes: tuple[RerunNode, ...]

    @property
    def to_run(self) -> int:
        """How many steps are known to run."""
        return sum(node.run for node in self.nodes)

    @property
    def to_reuse(self) -> int:
        """How many steps are taken from the parent."""
        return sum(node.reuse for node in self.nodes)

    @property
    def left_out(self) -> int:
        """How many steps are no part of the new run."""
        return sum(node.left_out for node in self.nodes)


def known_paths(state: RunState, node: Node) -> list[KeyPath]:
    """The key paths of a node's steps in a run, whose graph may be another one than the node's."""
    there = state.graph.by_name
    if any(level.node not in there for level in node.scope):
        return []
    return [step.key_path for step in state.sealed_steps(node)]


def selected(parent: RunState, graph: Graph, asked: Parent) -> Selection:
    """The steps of a rerun's graph that are to run; raises InvalidSelection."""
    if not asked.select and not asked.from_failure:
        return _everything(graph)
    selector = Selector(graph, lambda node: known_paths(parent, node), parent.run_id)
    chosen = selector.select(parse_selection(asked.select))
    if asked.from_failure:
        chosen.update(selector.downstream(_unfinished(parent, graph)))
    return chosen


def _everything(graph: Graph) -> Selection:
    chosen = Selection()
    for node in graph.nodes:
        chosen.add(node.name, None)
    return chosen


def _unfinished(parent: RunState, graph: Graph) -> Selection:
    found = Selection()
    for node in graph.nodes:
        paths = known_paths(parent, node)
        left = {path for path in paths if _status(parent, node, path) not in (SUCCEEDED, SKIPPED)}
        if left:
            found.add(node.name, left)
    if not found:
        raise InvalidSelection(
            f"run {parent.run_id!r} has no failed or unfinished step; name with --select what is to run again"
        )
    return found


def _status(parent: RunState, node: Node, path: KeyPath) -> int:
    return parent.status(StepId(node.name, path))


class _Need(NamedTuple):
    """Steps that a node's step needs: those of a producer that agree with it on the shared levels."""

    producer: Node
    shared: tuple[Level, ...]


class Division:
    """What becomes of every step that the parent knows.

    Raises SelectionIncomplete where a step would run on what is not there, PlanChanged where the graph no longer fits
    what is to be reused.
    """

    def __init__(self, parent: RunState, graph: Graph, selection: Selection) -> None:
        self.graph = graph
        self.unasked: list[str] = []
        """Nodes that run though they are not selected."""
        self._parent = parent
        self._selection = selection
        self._fates: dict[str, dict[KeyPath, int]] = {}
        self._indexes: dict[tuple[str, tuple[Level, ...]], dict[KeyPath, int]] = {}
        self._missing: list[tuple[str, str]] = []
        for node in graph.nodes:
            self._fates[node.name] = self._divide(node)
        self._refuse_incomplete()
        self._refuse_misfits()

    def fate(self, step: StepId) -> int:
        """What becomes of a step; RUNS for one that the parent does not know."""
        return self._fates[step.node].get(step.key_path, RUNS)

    def count(self, node: Node, fate: int) -> int:
        """How many steps of a node have that fate."""
        return sum(1 for one in self._fates[node.name].values() if one == fate)

    def reuses_anything(self) -> bool:
        """True where at least one step is taken from the parent."""
        return any(REUSED in fates.values() for fates in self._fates.values())

    # Step by step, in the order of the graph

    def _divide(self, node: Node) -> dict[KeyPath, int]:
        makers = [self._maker(level, node.scope) for level in node.scope]
        needs = list(self._needs(node))
        fates: dict[KeyPath, int] = {}
        unasked = False
        for path in known_paths(self._parent, node):
            is_selected = StepId(node.name, path) in self._selection
            keys_of = self._flags(makers, node.scope, path)
            if keys_of & RUNS or (is_selected and not keys_of & ~REUSED):
                fates[path] = RUNS
                unasked = unasked or not is_selected
                self._check(node, node.scope, path, needs)
            elif keys_of & ~REUSED:
                fates[path] = ABSENT
            else:
                fates[path] = self._unselected(node, path, self._flags(needs, node.scope, path))
        new_keys = self._runs_on_new_keys(node, needs)
        if unasked or (new_keys and self._selection.paths(node.name) is not None):
            self.unasked.append(node.name)
        if not new_keys:
            self._check_keys(node, fates, makers)
        return fates

    def _check_keys(self, node: Node, fates: dict[KeyPath, int], makers: list[_Need]) -> None:
        """What is selected must come into being: the op whose keys it is cloned for has them, or runs."""
        paths = self._selection.paths(node.name)
        if paths is None and RUNS in fates.values():
            return
        for path in [()] if paths is None else paths:
            for need in makers if paths is None or fates.get(path) == ABSENT else ():
                scope = () if paths is None else node.scope
                if self._flags([need], scope, path) & (LEFT_OUT | ABSENT):
                    lacking = next(self._lacking(need, scope, path))
                    self._missing.append((str(StepId(node.name, path)), lacking))

    def _unselected(self, node: Node, path: KeyPath, needed: int) -> int:
        status = _status(self._parent, node, path)
        if needed & (RUNS | LEFT_OUT | ABSENT) or status not in (SUCCEEDED, SKIPPED):
            return LEFT_OUT
        return REUSED if status == SUCCEEDED else SKIPPED_BEFORE

    def _runs_on_new_keys(self, node: Node, needs: list[_Need]) -> bool:
        """Check the clones of a node that will come of an op that runs, and of which the parent knows none."""
        found = False
        for level in node.scope:
            maker = self.graph.by_name[level.node]
            for path, fate in self._fates[maker.name].items():
                if fate == RUNS and path not in self._below(node, maker):
                    found = True
                    self._check(node, maker.scope, path, needs)
        return found

    def _below(self, node: Node, maker: Node) -> set[KeyPath]:
        """The steps of a level's maker below which the parent knows clones of a node."""
        paths = known_paths(self._parent, node)
        return {project(path, node.scope, maker.scope) for path in paths}

    # What a step needs

    def _needs(self, node: Node) -> Iterator[_Need]:
        for wire in self.graph.wires[node.name]:
            shared = shared_levels(wire)
            yield _Need(wire.producer, shared)
            for level in wire.producer.scope:
                if level not in shared:  # it is collected over: its keys must not change either
                    yield self._maker(level, shared)

    def _maker(self, level: Level, scope: tuple[Level, ...]) -> _Need:
        maker = self.graph.by_name[level.node]
        return _Need(maker, tuple(one for one in maker.scope if one in scope))

    def _flags(self, needs: Iterable[_Need], scope: tuple[Level, ...], path: KeyPath) -> int:
        flags = 0
        for producer, shared in needs:
            common = shared if shared == scope else tuple(one for one in shared if one in scope)
            flags |= self._index(producer, common).get(project(path, scope, common), 0)
        return flags

    def _index(self, producer: Node, shared: tuple[Level, ...]) -> dict[KeyPath, int]:
        """Keys of the shared levels -> the fates of a node's steps that have them."""
        fates = self._fates[producer.name]
        if shared == producer.scope:
            return fates
        index = self._indexes.get((producer.name, shared))
        if index is None:
            index = self._indexes[producer.name, shared] = {}
            for path, fate in fates.items():
                key = project(path, producer.scope, shared)
                index[key] = index.get(key, 0) | fate
        return index

    # What does not fit

    def _check(
        self, node: Node, scope: tuple[Level, ...], path: KeyPath, needs: list[_Need]
    ) -> None:
        for need in needs:
            if self._flags([need], scope, path) & (LEFT_OUT | ABSENT):
                lacking = next(self._lacking(need, scope, path))
                self._missing.append((str(StepId(node.name, path)), lacking))

    def _lacking(self, need: _Need, scope: tuple[Level, ...], path: KeyPath) -> Iterator[str]:
        common = tuple(one for one in need.shared if one in scope)
        wanted = project(path, scope, common)
        for other, fate in self._fates[need.producer.name].items():
            agrees = project(other, need.producer.scope, common) == wanted
            if agrees and fate & (LEFT_OUT | ABSENT):
                yield str(StepId(need.producer.name, other))

    def _refuse_incomplete(self) -> None:
        if not self._missing:
            return
        pairs = list(dict.fromkeys(self._missing))
        shown = ", ".join(f"'{step}' needs '{lacking}'" for step, lacking in pairs[:_NAMED])
        more = f" (and {len(pairs) - _NAMED:,} more such)" if len(pairs) > _NAMED else ""
        raise SelectionIncomplete(
            f"run {self._parent.run_id!r} cannot be rerun so: {shown}{more}, which is not selected, and cannot be "
            "reused since it did not succeed there or needs what runs again; select it too, "
            f"with '+{pairs[0][0]}' or, with all that it needs, '*{pairs[0][0]}'"
        )

    def _refuse_misfits(self) -> None:
        found = [
            misfit
            for node in self._parent.graph.nodes
            if REUSED in self._fates.get(node.name, {}).values()
            for misfit in misfits(node, self.graph)
        ]
        if found:
            raise PlanChanged(
                f"finished work of run {self._parent.run_id!r} does not fit this graph of {self.graph.name!r}: "
                f"{'; '.join(found)}. Select these ops too, or restore the job as it was"
            )


def rerun_nodes(division: Division | None, state: RunState) -> tuple[RerunNode, ...]:
    """The table of a plan, from the state of a new run that has taken what it reuses; None: it takes nothing."""
    rows = []
    for node, progress in zip(state.graph.nodes, Remaining(state).nodes(), strict=True):
        left_out = division.count(node, LEFT_OUT) if division else 0
        rows.append(
            RerunNode(
                node=node.name,
                sealed=progress.sealed,
                reuse=progress.done - left_out,
                run=sum(progress.pending.values()),
                left_out=left_out,
                waiting=progress.unsealed > 0,
            )
        )
    return tuple(rows)
