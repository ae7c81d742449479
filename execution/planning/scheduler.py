"""Which step comes next. Pure: no clock, no disk; everything it knows of the run it asks RunState.

A sealed expansion enters the queue as one cursor per node, not as N entries. A step is ready when all it reads is
settled; a failed step never settles, so what needs it is never ready, and nobody has to be told (rule F2). The order is that of
rule X4, so that a chain finishes before the next begins.
"""

import heapq
from typing import NamedTuple

from runstore.keys import KeyPath
from runstore.log.graph import FromCollect, FromOutput, Level, Node
from runstore.log.state import PENDING, SKIPPED, SUCCEEDED, Expansion, RunState, StepId, project

READY, SKIP, OPEN = 0, 1, 2


class Decision(NamedTuple):
    """A step that can be settled now: by running it, or by skipping it because of `skip`."""

    node: Node
    step: StepId
    skip: str = ""


class _Entry(NamedTuple):
    """A place in the queue; compared from the left. `walks` marks a cursor, which goes on to the next key."""

    late: bool
    ordinals: tuple[int, ...]
    depth: int
    index: int
    key_path: KeyPath
    walks: bool


class Scheduler:
    """The queue of ready steps. Tell it what settled; take what comes next."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._heap: list[_Entry] = []
        graph = state.graph
        self._index = {node.name: index for index, node in enumerate(graph.nodes)}
        self._collectors: dict[Level, list[Node]] = {}
        for node in graph.nodes:
            for source in node.sources():
                if isinstance(source, FromCollect):
                    self._collectors.setdefault(source.level, []).append(node)
        self._readers = {
            node.name: [
                (reader, _meets_at_key(reader, node)) for reader in graph.readers[node.name]
            ]
            for node in graph.nodes
        }
        self.rebuild()

    def rebuild(self) -> None:
        """Derive the queue anew: at the start, at a resume, and after an invalidation."""
        self._heap.clear()
        for node in self._state.graph.nodes:
            self._consider_all(node)

    def settled(self, step: StepId) -> None:
        """A step succeeded or was skipped: look at what reads it."""
        node = self._state.graph.by_name[step.node]
        for reader, at_key in self._readers[step.node]:
            if at_key:
                self._consider(reader, step.key_path)
            else:
                self._consider_all(reader)
        for output in node.outputs:
            if output.dynamic:
                self._expanded(Level(node.name, output.name))

    def _expanded(self, level: Level) -> None:
        for node in self._state.graph.under.get(level, ()):
            self._consider_all(node)
        for node in self._collectors.get(level, ()):
            self._consider_all(node)

    # Into the queue

    def _consider(self, node: Node, key_path: KeyPath) -> None:
        step = StepId(node.name, key_path)
        if self._state.status(step) == PENDING and self._readiness(node, step)[0] != OPEN:
            self._push(node, key_path, self._ordinals(node, key_path), walks=False)

    def _consider_all(self, node: Node) -> None:
        if not node.scope:
            self._consider(node, ())
            return
        if not self._is_expanded(node):
            return
        for prefix in self._state.prefixes(node):
            self._walk(node, prefix, 0)
            self._push_late(node, prefix)

    def _walk(self, node: Node, prefix: KeyPath, start: int) -> None:
        """Queue a cursor at the first step from `start` on that was not run."""
        expansion = self._state.expansion_under(node, prefix)
        if expansion is None:
            return
        position = self._next_pending(node, prefix, expansion, start)
        if position >= 0:
            key_path = (*prefix, expansion.key_at(position))
            self._push(node, key_path, (*self._ordinals(node, prefix), position), walks=True)

    def _next_pending(self, node: Node, prefix: KeyPath, expansion: Expansion, start: int) -> int:
        status = self._state.steps(node, prefix).status
        if isinstance(expansion.order, range):
            return status.find(PENDING, start, len(expansion.order))
        return next(
            (
                p
                for p in range(start, len(expansion.order))
                if status[expansion.order[p]] == PENDING
            ),
            -1,
        )

    def _push_late(self, node: Node, prefix: KeyPath) -> None:
        for step, deaths in self._state.deaths.items():
            if deaths >= 2 and step.node == node.name and step.key_path[:-1] == prefix:
                self._consider(node, step.key_path)

    def _push(
        self, node: Node, key_path: KeyPath, ordinals: tuple[int, ...], *, walks: bool
    ) -> None:
        late = not walks and self._is_late(StepId(node.name, key_path))
        depth = -self._state.graph.depth[node.name]
        heapq.heappush(
            self._heap, _Entry(late, ordinals, depth, self._index[node.name], key_path, walks)
        )

    def _is_late(self, step: StepId) -> bool:
        """True for a step that was running when each of the last two epochs died: it goes last (rule R2)."""
        deaths = self._state.deaths
        return bool(deaths) and deaths.get(step, 0) >= 2

    def _is_expanded(self, node: Node) -> bool:
        return all(self._state.status(StepId(level.node, ())) == SUCCEEDED for level in node.scope)

    def _ordinals(self, node: Node, path: KeyPath) -> tuple[int, ...]:
        """The positions of the keys of a path, or of its first keys, in their expansions."""
        ordinals = []
        for level, key in zip(node.scope, path, strict=False):
            producer = self._state.graph.by_name[level.node]
            expansion = self._state.expansion(level, project(path, node.scope, producer.scope))
            ordinals.append(expansion.position(expansion.keys[key]) if expansion else -1)
        return tuple(ordinals)

    # Out of the queue

    def take(self) -> Decision | None:
        """The next step that can be settled, in the order of rule X4; None while nothing is ready."""
        nodes = self._state.graph.nodes
        while self._heap:
            entry = heapq.heappop(self._heap)
            node = nodes[entry.index]
            if entry.walks:
                self._walk(node, entry.key_path[:-1], entry.ordinals[-1] + 1)
            step = StepId(node.name, entry.key_path)
            if self._state.status(step) != PENDING or (entry.walks and self._is_late(step)):
                continue
            readiness, cause = self._readiness(node, step)
            if readiness != OPEN:
                return Decision(node, step, cause)
        return None

    # Is it ready?

    def _readiness(self, node: Node, step: StepId) -> tuple[int, str]:
        """READY, SKIP with its cause, or OPEN. Skipping is decided when all inputs are settled (rule F1)."""
        cause = ""
        for argument in node.inputs:
            skipped = []
            singles = argument.singles
            for source in singles:
                if isinstance(source, FromOutput):
                    found = self._plain(node, step, source)
                elif isinstance(source, FromCollect):
                    found = self._collect(node, step, source)
                else:
                    continue
                if found == OPEN:
                    return OPEN, ""
                if found == SKIP:
                    skipped.append(f"{source.node}.{source.output}")
            if skipped and len(skipped) == len(singles):
                cause = cause or f"input {argument.name!r} was skipped: {', '.join(skipped)}"
        return (SKIP, cause) if cause else (READY, "")

    def _plain(self, node: Node, step: StepId, source: FromOutput) -> int:
        producer = self._state.graph.by_name[source.node]
        path = (
            step.key_path
            if producer.scope == node.scope
            else project(step.key_path, node.scope, producer.scope)
        )
        place = self._state.find(StepId(source.node, path))
        if place is None:
            return OPEN
        columns, slot = place
        status = columns.status[slot]
        if status == SKIPPED:
            return SKIP
        if status != SUCCEEDED:
            return OPEN
        column = columns.outputs.get(source.output)
        return READY if column is None or column[slot] else SKIP

    def _collect(self, node: Node, step: StepId, source: FromCollect) -> int:
        state = self._state
        producer = state.graph.by_name[source.level.node]
        producer_path = project(step.key_path, node.scope, producer.scope)
        status = state.status(StepId(producer.name, producer_path))
        if status == SKIPPED:
            return SKIP
        expansion = state.expansion(source.level, producer_path)
        if status != SUCCEEDED or expansion is None:
            return OPEN
        output = producer.output(source.level.output)
        if not len(expansion):
            return READY if output is None or output.required else SKIP  # rule X3
        member = state.graph.by_name[source.node]
        if member.name == producer.name:
            return READY
        columns = state.steps(member, project(step.key_path, node.scope, member.scope[:-1]))
        if columns.settled < len(expansion):
            return OPEN
        values = columns.outputs[source.output]
        return (
            READY
            if any(values[slot] and columns.status[slot] == SUCCEEDED for slot in expansion.order)
            else SKIP
        )


def _meets_at_key(reader: Node, producer: Node) -> bool:
    """True when a clone of the producer is read just by the reader's clone of the same key."""
    return bool(producer.scope) and all(
        isinstance(source, FromOutput)
        for source in reader.sources()
        if source.node == producer.name
    )
