"""What a valid log says of itself, checked: that steps have read what the graph says, and that sums add up.

The rules A1 to A4 of FORMAT.md. A replay does not check them, since they are made sure when an event is written; an
auditor does, event by event, against the state before it. Pure. Of what may be collected the digests are held, 40 bytes
for each output, so that a collect is computed without reading its members back.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from runstore.audit.collect_inputs import Tree
from runstore.audit.lineage import wire_of
from runstore.keys import parse_step_key
from runstore.log.events import (
    AnyEvent,
    CollectResolved,
    DynamicOutputStored,
    OutputStored,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    StepStarted,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Constant, FanIn, FromCollect, Graph, Level, Node, Wire, flaw_of
from runstore.log.remaining import Remaining
from runstore.log.state import RunState

CHECKED = frozenset(
    {
        OutputStored,
        DynamicOutputStored,
        StepStarted,
        CollectResolved,
        RunStarted,
        RunResumed,
        RunSucceeded,
        RunFailed,
        RunCancelled,
    }
)
"""The kinds of events that it looks at; any other is as it must be once it may follow."""
Fault = tuple[str, str]
"""(rule, fact)"""


class _Argument(NamedTuple):
    """An argument of a node, as its `StepStarted` names it."""

    name: str
    is_list: bool
    items: tuple[tuple[int, Wire], ...]
    """(place in a list of handles, wire)."""


class Consistency:
    """Looks at each event before the state takes it in."""

    def __init__(self) -> None:
        self._contents = _Contents()
        self._arguments: dict[str, tuple[_Argument, ...]] = {}
        self._proofs: dict[tuple[str, str, int], int] = {}
        """(step, input, place) -> seq of the last `CollectResolved`, of steps that have not started since."""

    def faults(self, state: RunState, seq: int, event: AnyEvent) -> Iterator[Fault]:
        """What is wrong with an event that may follow."""
        match event:
            case OutputStored() | DynamicOutputStored():
                self._contents.keep(seq, event)
            case StepStarted():
                yield from self._inputs(state, event)
            case CollectResolved():
                self._proofs[event.step, event.input, event.place] = seq
                yield from self._collect(state, event)
            case RunStarted():
                self._regraph(event.graph)
            case RunResumed():
                self._proofs.clear()
                if event.graph is not None:
                    self._regraph(event.graph)
            case RunSucceeded() | RunFailed() | RunCancelled():
                yield from _end(state, event)

    def _regraph(self, graph: Graph) -> None:
        if flaw_of(graph):
            return  # the replay refuses it (V2)
        self._arguments = {node.name: tuple(_of_node(graph, node)) for node in graph.nodes}
        self._contents.wanted |= {
            (wire.source.node, wire.source.output)
            for wires in graph.wires.values()
            for wire in wires
            if isinstance(wire.source, FromCollect)
        }

    def _inputs(self, state: RunState, event: StepStarted) -> Iterator[Fault]:
        step = StepId(*parse_step_key(event.step))
        expected: dict[str, int | list[int]] = {}
        for argument in self._arguments.get(step.node, ()):
            seqs = [self._source(state, step, place, wire) for place, wire in argument.items]
            found = [seq for seq in seqs if seq]
            if argument.is_list:
                expected[argument.name] = found
            elif found:
                expected[argument.name] = found[0]
        if event.inputs != expected and step.node in self._arguments:
            yield (
                "A1",
                f"{event.step!r} names as read {event.inputs}, the graph and the log say {expected}",
            )

    def _source(self, state: RunState, step: StepId, place: int, wire: Wire) -> int:
        if isinstance(wire.source, FromCollect):
            return self._proofs.pop((str(step), wire.argument, place), 0)
        path = wire.path(step.key_path)
        if wire.pieces:
            level = Level(wire.source.node, wire.source.output)
            return state.piece_seq(level, path[:-1], path[-1])
        return state.output_seq(StepId(wire.producer.name, path), wire.source.output)

    def _collect(self, state: RunState, event: CollectResolved) -> Iterator[Fault]:
        step = StepId(*parse_step_key(event.step))
        wire = wire_of(state.graph, step, event)
        if wire is None:
            yield "A2", f"{event.step!r} has no input {event.input!r} that collects {event.source}"
            return
        tree = Tree(state, wire, step)
        seqs = [seq for _, _, seq in tree.leaves()]
        kept = [seq for seq in seqs if seq]
        counts = (len(seqs), len(kept), len(seqs) - len(kept))
        if counts != (event.sealed, event.succeeded, event.skipped):
            fact = f"{event.sealed}, {event.succeeded} and {event.skipped}; the log holds {counts}"
            yield (
                "A2",
                f"{event.input!r} of {event.step!r} counts as sealed, succeeded and skipped {fact}",
            )
            return
        if tree.digest(self._contents) != event.digest:
            yield (
                "A2",
                f"the digest of {event.input!r} of {event.step!r} is not that of the sealed keys and their values",
            )


class _Contents:
    """The sha256 of each stored output that a collect may read, by seq."""

    def __init__(self) -> None:
        self.wanted: set[tuple[str, str]] = set()
        """(op, output)"""
        self._seqs = array("q")
        self._digests = bytearray()

    def keep(self, seq: int, event: OutputStored | DynamicOutputStored) -> None:
        """Remember an output; seqs come in order."""
        if (event.step.partition("[")[0], event.output) in self.wanted:
            self._seqs.append(seq)
            self._digests += _bytes_of(event.reference.sha256)

    def __getitem__(self, seq: int) -> str:
        place = bisect_left(self._seqs, seq)
        return self._digests[32 * place : 32 * place + 32].hex()


def _bytes_of(sha256: str) -> bytes:
    """The 32 bytes of a digest; of what is none, as a forger may write it, bytes that no content has."""
    try:
        digest = bytes.fromhex(sha256)
    except ValueError:
        digest = b""
    return digest if len(digest) == 32 else bytes(32)


def _of_node(graph: Graph, node: Node) -> Iterator[_Argument]:
    wires = iter(graph.wires[node.name])
    for given in node.inputs:
        items = tuple(
            (place, next(wires))
            for place, single in enumerate(given.singles)
            if not isinstance(single, Constant)
        )
        is_list = isinstance(given.source, FanIn)
        if items or is_list:
            yield _Argument(given.name, is_list, items)


def _end(state: RunState, event: RunSucceeded | RunFailed | RunCancelled) -> Iterator[Fault]:
    remaining = Remaining(state)
    counts = _without_zeros(remaining.counts())
    if _without_zeros(event.counts) != counts:
        yield "A3", f"counts {_without_zeros(event.counts)}, the log holds {counts}"
    if isinstance(event, RunSucceeded):
        left = [one.node for one in remaining.nodes() if not one.is_done]
        if left:
            yield "A4", f"says that the run has succeeded, and {', '.join(left)} has work left"


def _without_zeros(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {node: {state: n for state, n in states.items() if n} for node, states in counts.items()}
