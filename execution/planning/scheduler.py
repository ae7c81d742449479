"""Which step comes next. Pure: no clock, no disk; everything it knows of the run it asks RunState.

A sealed expansion enters the queue as one cursor per node, not as N entries. A step is ready when all it reads is
settled; a failed step never settles, so what needs it is never ready, and nobody has to be told (rule F2). The order is
that of rule X4, so that a chain finishes before the next begins.
"""

import heapq
from collections.abc import Iterable
from datetime import datetime
from itertools import count, groupby
from typing import NamedTuple

from runstore.keys import KeyPath
from runstore.log.columns import Expansion, Steps
from runstore.log.graph import FromCollect, Level, Node, Wire, project
from runstore.log.state import RunState, StepId
from runstore.log.transitions import PENDING, SKIPPED, SUCCEEDED

READY, SKIP, OPEN = 0, 1, 2

_Order = tuple[bool, tuple[int, ...], int, int, int]
"""Late or not, ordinals of the keys, minus the depth, place in the definition, and a number that no two share."""


class Decision(NamedTuple):
    """A step that can be settled now: by running it, or by skipping it because of `skip`."""

    node: Node
    step: StepId
    skip: str = ""


class _Cursor(NamedTuple):
    """Walks over the keys of an expansion, for one node below one key path."""

    prefix: KeyPath
    ordinals: tuple[int, ...]
    expansion: Expansion
    columns: Steps

    def next_pending(self, start: int) -> int:
        """The first position from `start` on whose step is pending; -1 if there is none."""
        order, status = self.expansion.order, self.columns.status
        if isinstance(order, range):
            return status.find(PENDING, start, len(order))
        return next((at for at in range(start, len(order)) if status[order[at]] == PENDING), -1)


class _Argument(NamedTuple):
    """The wires of one argument; several where it is a fan-in list."""

    name: str
    wires: tuple[Wire, ...]
    has_constant: bool


class Scheduler:
    """The queue of ready steps. Tell it what settled; take what comes next."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._graph = graph = state.graph
        self._heap: list[tuple[_Order, KeyPath, _Cursor | None]] = []
        self._numbers = count()
        self._waiting: list[tuple[datetime, StepId]] = []
        self._due: set[StepId] = set()
        """Steps that waited, whose time has come; in the queue once their inputs are settled."""
        self._index = {node.name: index for index, node in enumerate(graph.nodes)}
        self._arguments = {
            node.name: _arguments_of(node, graph.wires[node.name]) for node in graph.nodes
        }
        self._barriers = {node.name: self._barriers_of(node) for node in graph.nodes}
        self._waking = {node.name: self._woken_by(node) for node in graph.nodes}
        self.rebuild()

    def rebuild(self) -> None:
        """Derive the queue anew: at the start, at a resume, and after an invalidation."""
        self._heap.clear()
        self._due.clear()
        self._waiting = [(due, step) for step, due in self._state.waiting.items()]
        heapq.heapify(self._waiting)
        for node in self._graph.nodes:
            self._consider_all(node)

    def settled(self, step: StepId) -> None:
        """A step succeeded or was skipped: look at what reads it."""
        for reader, at_key in self._waking[step.node]:
            if at_key:
                self._consider(reader, step.key_path)
            else:
                self._consider_all(reader)

    def wait(self, step: StepId, due: datetime) -> None:
        """A step is to be tried again: it is not ready before it is due (rule X4)."""
        heapq.heappush(self._waiting, (due, step))

    def due(self, now: datetime) -> datetime | None:
        """Back into the queue with the steps whose time has come; when that of the next will have, if one waits."""
        open_ones = []
        while self._waiting and self._waiting[0][0] <= now:
            due, step = heapq.heappop(self._waiting)
            node = self._graph.by_name[step.node]
            if not self._state.is_sealed(step):
                continue
            if self._readiness(node, step.key_path)[0] == OPEN:  # what it reads runs again
                open_ones.append((due, step))
                continue
            self._due.add(step)
            self._push(node, step.key_path, self._ordinals(node, step.key_path), late=False)
        ahead = self._waiting[0][0] if self._waiting else None
        for entry in open_ones:
            heapq.heappush(self._waiting, entry)
        return ahead

    def _woken_by(self, node: Node) -> list[tuple[Node, bool]]:
        """The nodes to look at when a step of `node` settles: at the same key, or at every key."""
        levels = {Level(node.name, output) for output in self._graph.dynamic_outputs[node.name]}
        woken = []
        for reader in self._graph.nodes:
            wires = self._graph.wires[reader.name]
            read = [wire for wire in wires if wire.producer is node]
            collects = any(
                isinstance(wire.source, FromCollect) and wire.source.level in levels
                for wire in wires
            )
            if read or collects or levels.intersection(reader.scope):
                at_key = bool(node.scope) and bool(read) and all(wire.aligned for wire in read)
                woken.append((reader, at_key and not collects))
        return woken

    def _barriers_of(self, node: Node) -> list[Wire]:
        """The collects of a mapped node that do not depend on the last key of its path."""
        found = []
        for wire in self._graph.wires[node.name]:
            if node.scope and isinstance(wire.source, FromCollect):
                maker = self._graph.by_name[wire.source.level.node]
                if node.scope[-1] not in (*maker.scope, *wire.producer.scope[:-1]):
                    found.append(wire)
        return found

    # Into the queue

    def _consider(self, node: Node, key_path: KeyPath) -> None:
        if self._readiness(node, key_path)[0] == OPEN:
            return
        step = StepId(node.name, key_path)
        if self._state.status(step) == PENDING:
            self._push(node, key_path, self._ordinals(node, key_path), self._is_late(step))

    def _consider_all(self, node: Node) -> None:
        if not node.scope:
            self._consider(node, ())
        elif all(self._state.status(StepId(level.node, ())) == SUCCEEDED for level in node.scope):
            for prefix in self._state.prefixes(node):
                self._walk_all(node, prefix)

    def _walk_all(self, node: Node, prefix: KeyPath) -> None:
        expansion = self._state.expansion_under(node, prefix)
        if expansion is None or self._waits_for_all(node, prefix):
            return
        columns = self._state.steps(node, prefix)
        self._walk(node, _Cursor(prefix, self._ordinals(node, prefix), expansion, columns), 0)
        for step in self._state.deaths:
            if step.node == node.name and self._is_late(step):
                self._consider(node, step.key_path)

    def _waits_for_all(self, node: Node, prefix: KeyPath) -> bool:
        """True while a collect is open that all clones below a key path read: none of them is ready then."""
        path = (*prefix, "")
        return any(
            collect_readiness(self._state, node, path, wire) == OPEN
            for wire in self._barriers[node.name]
        )

    def _walk(self, node: Node, cursor: _Cursor, start: int) -> None:
        """Queue the cursor at its first pending step from `start` on."""
        position = cursor.next_pending(start)
        if position >= 0:
            key_path = (*cursor.prefix, cursor.expansion.key_at(position))
            self._push(node, key_path, (*cursor.ordinals, position), late=False, cursor=cursor)

    def _push(
        self,
        node: Node,
        key_path: KeyPath,
        ordinals: tuple[int, ...],
        late: bool,
        cursor: _Cursor | None = None,
    ) -> None:
        depth = -self._graph.depth[node.name]
        order = (late, ordinals, depth, self._index[node.name], next(self._numbers))
        heapq.heappush(self._heap, (order, key_path, cursor))

    def _is_late(self, step: StepId) -> bool:
        """True for a step that was running when each of the last two epochs died: it goes last (rule R2)."""
        deaths = self._state.deaths
        return bool(deaths) and deaths.get(step, 0) >= 2

    def _ordinals(self, node: Node, path: KeyPath) -> tuple[int, ...]:
        """The positions of the keys of a path, or of its first keys, in their expansions."""
        ordinals = []
        for level, key in zip(node.scope, path, strict=False):
            producer = self._graph.by_name[level.node]
            producer_path = project(path, node.scope, producer.scope) if producer.scope else ()
            expansion = self._state.expansion(level, producer_path)
            ordinals.append(expansion.position(expansion.keys[key]) if expansion else -1)
        return tuple(ordinals)

    # Out of the queue

    def take(self) -> Decision | None:
        """The next step that can be settled, in the order of rule X4; None while nothing is ready."""
        nodes, heap = self._graph.nodes, self._heap
        while heap:
            (_, ordinals, _, index, _), key_path, cursor = heapq.heappop(heap)
            node = nodes[index]
            step = StepId(node.name, key_path)
            if cursor is not None:
                self._walk(node, cursor, ordinals[-1] + 1)
                if self._is_late(step):
                    continue
            if self._state.status(step) != PENDING:
                if step not in self._due:
                    continue
                self._due.discard(step)
            readiness, cause = self._readiness(node, key_path)
            if readiness != OPEN:
                return Decision(node, step, cause)
        return None

    # Is it ready?

    def _readiness(self, node: Node, key_path: KeyPath) -> tuple[int, str]:
        """READY, SKIP with its cause, or OPEN. Skipping is decided when all inputs are settled (rule F1)."""
        cause = ""
        for name, wires, has_constant in self._arguments[node.name]:
            skipped = []
            for wire in wires:
                collects = isinstance(wire.source, FromCollect)
                found = (
                    collect_readiness(self._state, node, key_path, wire)
                    if collects
                    else self._plain(node, key_path, wire)
                )
                if found == OPEN:
                    return OPEN, ""
                if found == SKIP:
                    skipped.append(f"{wire.source.node}.{wire.source.output}")
            if skipped and len(skipped) == len(wires) and not has_constant:
                cause = cause or f"input {name!r} was skipped: {', '.join(skipped)}"
        return (SKIP, cause) if cause else (READY, "")

    def _plain(self, node: Node, key_path: KeyPath, wire: Wire) -> int:
        producer = wire.producer
        path = key_path if wire.aligned else project(key_path, node.scope, producer.scope)
        place = self._state.find(StepId(producer.name, path))
        if place is None:
            return OPEN
        columns, slot = place
        status = columns.status[slot]
        if status == SUCCEEDED:
            return READY if wire.piece or columns.outputs[wire.source.output][slot] else SKIP
        return SKIP if status == SKIPPED else OPEN


def collect_readiness(state: RunState, node: Node, key_path: KeyPath, wire: Wire) -> int:
    """READY once all values of a collect are settled, SKIP if there is none to give (rules F1, X3), else OPEN."""
    source = wire.source
    assert isinstance(source, FromCollect)
    maker = state.graph.by_name[source.level.node]
    maker_path = project(key_path, node.scope, maker.scope)
    expansion = state.expansion(source.level, maker_path)
    columns = None
    if expansion is not None and not wire.pieces:
        columns = state.steps(
            wire.producer, project(key_path, node.scope, wire.producer.scope[:-1])
        )
        if columns.settled < len(expansion):
            return OPEN
    status = state.status(StepId(maker.name, maker_path))
    if status != SUCCEEDED or expansion is None:
        return SKIP if status == SKIPPED else OPEN
    if not len(expansion):
        output = maker.output(source.level.output)
        return READY if output is None or output.required else SKIP  # rule X3
    return READY if columns is None or _has_value(columns, source.output, expansion.order) else SKIP


def _has_value(columns: Steps, output: str, order: Iterable[int]) -> bool:
    values, status = columns.outputs[output], columns.status
    return any(values[slot] and status[slot] == SUCCEEDED for slot in order)


def _arguments_of(node: Node, wires: tuple[Wire, ...]) -> tuple[_Argument, ...]:
    sizes = {argument.name: len(argument.singles) for argument in node.inputs}
    grouped = [
        (name, tuple(group)) for name, group in groupby(wires, key=lambda wire: wire.argument)
    ]
    return tuple(_Argument(name, group, len(group) < sizes[name]) for name, group in grouped)
