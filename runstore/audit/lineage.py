"""What a step was made from, and what was made from it: followed through the seqs in the log, output by output.

Up, a step's `StepStarted` names the events that it read. Down, the graph says which steps can have read an output, and
each of them is asked whether it did. Both look up what they need and nothing else. A step that a rerun has taken from
its parent read there what the graph says: all that it needs was taken with it (I21).
"""

from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from runstore.audit.history import Attempt
from runstore.audit.lookup import Lookup, step_of
from runstore.errors import LogDamaged
from runstore.keys import KeyPath, parse_step_key
from runstore.log.events import STORES, CollectResolved, DynamicOutputStored
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Graph, Level, Node, Wire
from runstore.log.transitions import STATUS_NAMES
from runstore.store import RunStore

MEMBERS = 20
"""Of a collect so many members are followed, unless more are asked for."""

Direction = Literal["up", "down"]


class LineageStep(msgspec.Struct, frozen=True):
    """A step of a lineage."""

    step: str
    status: str
    depth: int
    """Over how many readings it is reached."""
    attempt: int
    seq: int
    """Of the start of its last attempt."""
    reused: bool
    """Taken from the parent of a rerun."""


class Reading(msgspec.Struct, frozen=True):
    """One stored output that one step has read."""

    reader: str
    input: str
    source: str
    output: str
    key: str | None
    """Of a piece of a dynamic output."""
    seq: int
    """Of the event that stored it."""
    collect: int = 0
    """Seq of the `CollectResolved` that it is a member of; 0 where it was read alone."""


class Collect(msgspec.Struct, frozen=True):
    """A collect that one step has read."""

    reader: str
    input: str
    source: str
    """`node.output`"""
    seq: int
    sealed: int
    succeeded: int
    followed: int
    """How many of the `succeeded` members are among the readings."""


class Lineage(msgspec.Struct, frozen=True):
    """All that was reached from a step in one direction; the step itself comes first."""

    run_id: str
    step: str
    direction: Direction
    steps: tuple[LineageStep, ...]
    readings: tuple[Reading, ...]
    collects: tuple[Collect, ...]


class _Read(NamedTuple):
    """What a step read: (producer, output, key) and seq, alone or as a member of a collect."""

    input: str
    producer: StepId
    output: str
    key: str | None
    seq: int
    collect: int = 0


def lineage(
    store: RunStore,
    run: str,
    step: str,
    direction: Direction = "up",
    *,
    depth: int | None = None,
    members: int | None = MEMBERS,
) -> Lineage:
    """What a step (or a piece, `zones[Europe/Paris]`) was made from, or what was made from it.

    `depth`: how many readings to follow; None: all. `members`: of each collect, and of each output with many readers,
    so many are followed; None: all. Raises RunNotFound, StepNotFound.
    """
    look = Lookup(store, store.resolve(run))
    start, key = _start(look, step)
    found = _Walk(look, members)
    found.follow(start, key, direction, depth)
    return Lineage(
        look.run_id,
        step,
        direction,
        tuple(found.steps.values()),
        tuple(found.readings),
        tuple(found.collects),
    )


def _start(look: Lookup, text: str) -> tuple[StepId, str | None]:
    """The step that is meant, and the key of its output where a piece is meant."""
    step = StepId(*parse_step_key(text))
    node = look.graph.by_name.get(step.node)
    if node is not None and len(step.key_path) == len(node.scope) + 1 and look.stored(step):
        return StepId(step.node, step.key_path[:-1]), step.key_path[-1]
    return look.find(text), None


class _Walk:
    """What has been reached so far."""

    def __init__(self, look: Lookup, members: int | None) -> None:
        self.steps: dict[StepId, LineageStep] = {}
        self.readings: dict[Reading, None] = {}
        self.collects: dict[Collect, None] = {}
        self._look, self._members = look, members

    def follow(
        self, start: StepId, key: str | None, direction: Direction, depth: int | None
    ) -> None:
        self._add(start, 0)
        waiting = deque([(start, key, 0)])
        while waiting:
            step, of_key, far = waiting.popleft()
            if depth is not None and far >= depth:
                continue
            reached = self._up(step) if direction == "up" else self._down(step, of_key)
            for other in reached:
                if other not in self.steps:
                    self._add(other, far + 1)
                    waiting.append((other, None, far + 1))

    def _add(self, step: StepId, depth: int) -> None:
        history = self._look.history(step)
        last = history.last
        self.steps[step] = LineageStep(
            str(step),
            STATUS_NAMES[history.status],
            depth,
            last.attempt if last else 0,
            last.seq if last else 0,
            bool(last and last.parent_seq),
        )

    def _up(self, step: StepId) -> Iterator[StepId]:
        for read in self._reads(step):
            self._note(step, read)
            yield read.producer

    def _note(self, step: StepId, read: _Read) -> None:
        reading = Reading(
            str(step), read.input, str(read.producer), read.output, read.key, read.seq, read.collect
        )
        self.readings[reading] = None

    # What a step has read

    def _reads(self, step: StepId) -> Iterator[_Read]:
        last = self._look.history(step).last
        if last is None:
            return
        if last.parent_seq:
            yield from self._by_graph(step, last)
            return
        for name, seqs in last.inputs.items():
            for seq in seqs if isinstance(seqs, list) else [seqs]:
                if seq:
                    yield from self._read_at(step, name, seq)

    def _read_at(self, step: StepId, name: str, seq: int) -> Iterator[_Read]:
        event = self._look.event(seq)
        if isinstance(event, CollectResolved):
            yield from self._collected(step, event, seq)
            return
        if not isinstance(event, STORES):
            run_id = self._look.run_id
            raise LogDamaged(
                f"run {run_id!r}: step {str(step)!r} names seq {seq} as read, which stores no output; "
                f"`runstore verify {run_id}` says more",
                "A1",
            )
        key = event.mapping_key if isinstance(event, DynamicOutputStored) else None
        yield _Read(name, step_of(event), event.output, key, seq)

    def _by_graph(self, step: StepId, last: Attempt) -> Iterator[_Read]:
        for wire in self._look.graph.wires[step.node]:
            for read in members(self._look, wire, step, last.seq):
                if read.seq:
                    yield read

    def _collected(self, step: StepId, event: CollectResolved, seq: int) -> Iterator[_Read]:
        wire = wire_of(self._look.graph, step, event)
        followed = 0
        for read in members(self._look, wire, step, seq) if wire else ():
            if self._members is not None and followed >= self._members:
                break
            if read.seq:
                followed += 1
                yield read._replace(collect=seq)
        found = Collect(
            str(step), event.input, event.source, seq, event.sealed, event.succeeded, followed
        )
        self.collects[found] = None

    # What has read a step

    def _down(self, step: StepId, key: str | None) -> Iterator[StepId]:
        for reader in self._look.graph.readers[step.node]:
            followed = 0
            for candidate in self._candidates(reader, step, key):
                reads = list(self._reads_of(candidate, step, key))
                if not reads:
                    continue
                if self._members is not None and followed >= self._members:
                    break
                followed += 1
                for read in reads:
                    self._note(candidate, read)
                yield candidate

    def _candidates(self, reader: Node, step: StepId, key: str | None) -> Iterator[StepId]:
        """The clones of a reader whose inputs are at this step's keys."""
        seen = set()
        for wire in self._look.graph.wires[reader.name]:
            if wire.producer.name != step.node or (key is not None and not wire.pieces):
                continue
            full = step.key_path if key is None else (*step.key_path, key)
            fixed = dict(zip(wire.at, full, strict=False))
            for path in self._look.paths(reader, fixed):
                if path not in seen:
                    seen.add(path)
                    yield StepId(reader.name, path)

    def _reads_of(self, reader: StepId, step: StepId, key: str | None) -> Iterator[_Read]:
        """What a reader has read of one step, or of one piece of it."""
        last = self._look.history(reader).last
        if last is None:
            return
        if last.parent_seq:
            yield from _only(self._by_graph(reader, last), step, key)
            return
        for name, seqs in last.inputs.items():
            for seq in seqs if isinstance(seqs, list) else [seqs]:
                event = self._look.event(seq) if seq else None
                if isinstance(event, CollectResolved):
                    yield from self._member(reader, event, seq, step, key)
                elif event is not None and step_of(event) == step:
                    yield from _only(self._read_at(reader, name, seq), step, key)

    def _member(
        self, reader: StepId, event: CollectResolved, seq: int, step: StepId, key: str | None
    ) -> Iterator[_Read]:
        """Whether a step, or a piece, was a member of a collect: asked of it alone, however many there are."""
        wire = wire_of(self._look.graph, reader, event)
        if wire is None or wire.producer.name != step.node:
            return
        depth = len(wire.scope)
        if step.key_path[:depth] != wire.path(reader.key_path)[: len(step.key_path)]:
            return
        for read in values(self._look, wire, step, seq, key):
            if read.seq:
                yield read._replace(collect=seq)


def _only(reads: Iterator[_Read], step: StepId, key: str | None) -> Iterator[_Read]:
    for read in reads:
        if read.producer == step and (key is None or read.key == key):
            yield read


def wire_of(graph: Graph, step: StepId, event: CollectResolved) -> Wire | None:
    """The wire of a consumer that a proof speaks of; None where the graph has no such input any more."""
    for wire in graph.wires.get(step.node, ()):
        source = wire.source
        if (
            wire.argument == event.input
            and isinstance(source, FromCollect)
            and f"{source.node}.{source.output}" == event.source
            and tuple(str(one.level) for one in source.over) == event.levels
        ):
            return wire
    return None


def members(look: Lookup, wire: Wire, reader: StepId, upto: int) -> Iterator[_Read]:
    """What a reader gets over a wire, in order, as of a seq; `seq` 0 where there is no value."""
    path = wire.path(reader.key_path)
    over = wire.source.over if isinstance(wire.source, FromCollect) else ()
    for whole in _below(look, wire, path, len(over), 0, upto):
        if wire.pieces:
            yield from values(look, wire, StepId(wire.producer.name, whole[:-1]), upto, whole[-1])
        else:
            yield from values(look, wire, StepId(wire.producer.name, whole), upto, None)


def _below(
    look: Lookup, wire: Wire, path: KeyPath, levels: int, depth: int, upto: int
) -> Iterator[KeyPath]:
    if depth == levels:
        yield path
        return
    assert isinstance(wire.source, FromCollect)
    maker = tuple([path[place] for place in wire.makers[depth]])
    for key in look.keys(wire.source.over[depth].level, maker, upto):
        yield from _below(look, wire, (*path, key), levels, depth + 1, upto)


def values(
    look: Lookup, wire: Wire, producer: StepId, upto: int, key: str | None
) -> Iterator[_Read]:
    """The output of a producer that a wire carries, as of a seq; of all its pieces where no key is given."""
    output = wire.source.output
    if not wire.pieces:
        yield _Read(wire.argument, producer, output, None, look.output_seq(producer, output, upto))
        return
    level = Level(producer.node, output)
    for one in [key] if key is not None else look.keys(level, producer.key_path, upto):
        seq, sealed = look.piece(level, producer.key_path, one, upto)
        yield _Read(wire.argument, producer, output, one, seq if sealed else 0)
