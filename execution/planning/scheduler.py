"""Which step comes next. Pure: no clock, no disk; everything it knows of the run it asks RunState.

A sealed expansion enters the queue as one cursor per node, not as N entries; a product of expansions is walked, never
made. A step is ready when all it reads is settled; a failed step never settles, so what needs it is never ready, and
nobody has to be told (rule F2). The order is that of rule X4, so that a chain finishes before the next begins.
"""

import heapq
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from itertools import count
from operator import itemgetter

import msgspec

from execution.planning.collects import OPEN, READY, SKIP, Progress, readiness
from execution.planning.waking import arguments_of, gates_of, woken_by
from runstore.keys import KeyPath
from runstore.log.columns import Expansion, Steps
from runstore.log.expanded import StepId
from runstore.log.graph import Node, Wire
from runstore.log.state import RunState
from runstore.log.transitions import PENDING, SKIPPED, SUCCEEDED

_Order = tuple[bool, tuple[int, ...], int, int, int]
"""Late or not, ordinals of the keys, minus the depth, place in the definition, and a number that no two share."""


class Decision(msgspec.Struct, frozen=True, eq=False):
    """A step that can be settled now: by running it, or by skipping it because of `skip`."""

    node: Node
    step: StepId
    skip: str = ""


class _Cursor(msgspec.Struct, frozen=True, eq=False):
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


_Entry = tuple[_Order, KeyPath, _Cursor | None, Iterator[KeyPath] | None]
"""A step, or the next of a cursor, and the prefixes that come after it."""


class Scheduler:
    """The queue of ready steps. Tell it what settled; take what comes next."""

    def __init__(self, state: RunState, limited: Collection[str] = ()) -> None:
        """`limited`: nodes of which it may be said that no step is to be taken now."""
        self._state = state
        self._apart: dict[str, list[_Entry]] = {name: [] for name in limited}
        """The queues of these nodes, so that their steps stand in nobody's way."""
        self._graph = graph = state.graph
        self._heap: list[_Entry] = []
        self._numbers = count()
        self._waiting: list[tuple[datetime, StepId]] = []
        self._due: set[StepId] = set()
        """Steps that waited, whose time has come; in the queue once their inputs are settled."""
        self._progress: Progress = {}
        self._rank = {
            node.name: (-graph.depth[node.name], index) for index, node in enumerate(graph.nodes)
        }
        self._arguments = {
            node.name: arguments_of(node, graph.wires[node.name]) for node in graph.nodes
        }
        self._gates = {node.name: gates_of(node, graph.wires[node.name]) for node in graph.nodes}
        self._waking = {node.name: woken_by(node, graph) for node in graph.nodes}
        self.rebuild()

    def rebuild(self) -> None:
        """Derive the queue anew: at the start, at a resume, and after an invalidation."""
        self._heap.clear()
        for heap in self._apart.values():
            heap.clear()
        self._due.clear()
        self._waiting = [(due, step) for step, due in self._state.waiting.items()]
        heapq.heapify(self._waiting)
        self._progress.clear()
        for node in self._graph.nodes:
            self._consider_all(node, {})
        for step in self._state.deaths:
            if self._is_late(step):
                keys = dict(enumerate(step.key_path))
                self._consider_all(self._graph.by_name[step.node], keys)

    def settled(self, step: StepId) -> None:
        """A step succeeded or was skipped: look at what reads it."""
        whole: bool | None = None
        for reader, shared, at_last in self._waking[step.node]:
            if at_last:
                whole = self._state.is_last(step) if whole is None else whole
                if not whole:
                    continue
            if shared is None:
                self._consider(reader, step.key_path)
            elif len(shared) == len(reader.scope):
                self._consider(reader, tuple([step.key_path[place] for _, place in shared]))
            else:
                self._consider_all(reader, {at: step.key_path[place] for at, place in shared})

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

    # Into the queue

    def _consider(self, node: Node, key_path: KeyPath) -> None:
        if self._readiness(node, key_path)[0] == OPEN:
            return
        step = StepId(node.name, key_path)
        if self._state.status(step) == PENDING:
            self._push(node, key_path, self._ordinals(node, key_path), self._is_late(step))

    def _consider_all(self, node: Node, keys: Mapping[int, str]) -> None:
        """Queue the steps of a node that have these `keys` at these places of their key path."""
        last = len(node.scope) - 1
        if last < 0:
            self._consider(node, ())
        elif last in keys:
            for prefix in self._prefixes(node, keys):
                if self._is_sealed(node, prefix, keys[last]):
                    self._consider(node, (*prefix, keys[last]))
        else:
            self._walk_next(node, self._prefixes(node, keys))

    def _prefixes(
        self, node: Node, keys: Mapping[int, str], path: KeyPath = ()
    ) -> Iterator[KeyPath]:
        """The key paths, without the last key, below which a node may have ready steps, in order."""
        depth = len(path)
        if not self._state.holds(self._state.maker(node, path)) or any(
            self._look_at(wire, path) == OPEN for wire in self._gates[node.name][depth]
        ):
            return
        if depth == len(node.scope) - 1:
            yield path
        elif depth in keys:
            if self._is_sealed(node, path, keys[depth]):
                yield from self._prefixes(node, keys, (*path, keys[depth]))
        else:
            expansion = self._state.expansion_under(node, path)
            for key in expansion.ordered_keys() if expansion else ():
                yield from self._prefixes(node, keys, (*path, key))

    def _is_sealed(self, node: Node, prefix: KeyPath, key: str) -> bool:
        expansion = self._state.expansion_under(node, prefix)
        slot = expansion.keys.get(key) if expansion else None
        return expansion is not None and slot is not None and expansion.position(slot) >= 0

    def _walk_next(self, node: Node, prefixes: Iterator[KeyPath]) -> None:
        """Queue the first cursor that has something pending; the prefixes after it follow when it is taken up."""
        for prefix in prefixes:
            expansion = self._state.expansion_under(node, prefix)
            if expansion is not None:
                columns = self._state.steps(node, prefix)
                cursor = _Cursor(prefix, self._ordinals(node, prefix), expansion, columns)
                if self._walk(node, cursor, 0, prefixes):
                    return

    def _walk(
        self, node: Node, cursor: _Cursor, start: int, rest: Iterator[KeyPath] | None = None
    ) -> bool:
        """Queue a cursor at its first pending step from `start` on; false if there is none."""
        position = cursor.next_pending(start)
        if position < 0:
            return False
        key_path = (*cursor.prefix, cursor.expansion.key_at(position))
        self._push(node, key_path, (*cursor.ordinals, position), False, cursor, rest)
        return True

    def _push(
        self,
        node: Node,
        key_path: KeyPath,
        ordinals: tuple[int, ...],
        late: bool,
        cursor: _Cursor | None = None,
        rest: Iterator[KeyPath] | None = None,
    ) -> None:
        depth, index = self._rank[node.name]
        order = (late, ordinals, depth, index, next(self._numbers))
        heap = self._apart.get(node.name, self._heap) if self._apart else self._heap
        heapq.heappush(heap, (order, key_path, cursor, rest))

    def _is_late(self, step: StepId) -> bool:
        """True for a step that was running when each of the last two epochs died: it goes last (rule R2)."""
        return self._state.deaths.get(step, 0) >= 2

    def _ordinals(self, node: Node, path: KeyPath) -> tuple[int, ...]:
        """The positions of the keys of a path, or of its first keys, in their expansions."""
        ordinals = []
        for depth, key in enumerate(path):
            expansion = self._state.expansion_under(node, path[:depth])
            ordinals.append(expansion.position(expansion.keys[key]) if expansion else -1)
        return tuple(ordinals)

    # Out of the queue

    def take(self, held: Collection[str] = ()) -> Decision | None:
        """The next step that can be settled, in the order of rule X4; None while nothing is ready.

        `held`: limited nodes of which none is to be taken now.
        """
        nodes = self._graph.nodes
        while heap := self._next_heap(held) if self._apart else self._heap:
            (_, ordinals, _, index, _), key_path, cursor, rest = heapq.heappop(heap)
            node = nodes[index]
            step = StepId(node.name, key_path)
            if cursor is not None:
                if rest is not None:
                    self._walk_next(node, rest)
                self._walk(node, cursor, ordinals[-1] + 1)
                if self._state.deaths and self._is_late(step):
                    # Its place is behind all others, also where it becomes ready only now.
                    self._push(node, key_path, ordinals, late=True)
                    continue
            if self._state.status(step) != PENDING:
                if step not in self._due:
                    continue
                self._due.discard(step)
            found, cause = self._readiness(node, key_path)
            if found != OPEN:
                return Decision(node, step, cause)
        return None

    def _next_heap(self, held: Collection[str]) -> "list[_Entry]":
        """The queue whose first entry comes first."""
        heaps = [heap for name, heap in self._apart.items() if heap and name not in held]
        return min([*heaps, self._heap] if self._heap else heaps, key=itemgetter(0), default=[])

    def holds_back(self, held: Collection[str]) -> bool:
        """True where steps of these nodes stand in the queue."""
        return any(self._apart.get(name) for name in held)

    # Is it ready?

    def _readiness(self, node: Node, key_path: KeyPath) -> tuple[int, str]:
        """READY, SKIP with its cause, or OPEN. Skipping is decided when all inputs are settled (rule F1)."""
        cause = ""
        for name, wires, has_constant in self._arguments[node.name]:
            skipped = []
            for wire in wires:
                found = self._look_at(wire, key_path)
                if found == OPEN:
                    return OPEN, ""
                if found == SKIP:
                    skipped.append(f"{wire.source.node}.{wire.source.output}")
            if skipped and len(skipped) == len(wires) and not has_constant:
                cause = cause or f"input {name!r} was skipped: {', '.join(skipped)}"
        return (SKIP, cause) if cause else (READY, "")

    def _look_at(self, wire: Wire, key_path: KeyPath) -> int:
        """One source of a step, whose key path may lack the keys on which this source does not depend."""
        path = wire.path(key_path)
        if wire.collects:
            return readiness(self._state, wire, path, self._progress)
        place = self._state.find(StepId(wire.producer.name, path[:-1] if wire.pieces else path))
        if place is None:
            return OPEN
        columns, slot = place
        status = columns.status[slot]
        if status == SUCCEEDED:
            return READY if wire.pieces or columns.outputs[wire.source.output][slot] else SKIP
        return SKIP if status == SKIPPED else OPEN
