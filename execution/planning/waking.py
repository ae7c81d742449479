"""What a graph alone says of when its steps are ready, made once for each scheduler. Pure."""

from itertools import groupby
from typing import NamedTuple

from runstore.log.graph import FromCollect, Graph, Level, Node, Wire

Shared = tuple[tuple[int, int], ...]
"""(place in the reader's key path, place in the producer's) of each key that both have."""


class Waking(NamedTuple):
    """A node to look at when a step settles."""

    reader: Node
    shared: Shared | None
    """The keys that both have; None for all keys of both."""
    at_last: bool
    """It only collects these steps: nothing to see before the last one below their key path has settled."""


class ArgumentWires(NamedTuple):
    """The wires of one argument; several where it is a fan-in list."""

    name: str
    wires: tuple[Wire, ...]
    has_constant: bool


def woken_by(node: Node, graph: Graph) -> list[Waking]:
    """The nodes to look at when a step of `node` settles."""
    levels = {Level(node.name, output) for output in graph.dynamic_outputs[node.name]}
    woken: list[Waking] = []
    for reader in graph.nodes:
        wires = [
            wire
            for wire in graph.wires[reader.name]
            if wire.producer is node or levels.intersection(_collect_levels(wire))
        ]
        found = {_shared(wire, node) for wire in wires}
        at_last = not levels and all(isinstance(wire.source, FromCollect) for wire in wires)
        least = [one for one in found if not any(set(other) < set(one) for other in found)]
        for shared in sorted(least):
            same = reader.scope == node.scope and len(shared) == len(reader.scope)
            woken.append(Waking(reader, None if same and reader.scope else shared, at_last))
    return woken


def gates_of(node: Node, wires: tuple[Wire, ...]) -> list[list[Wire]]:
    """By number of keys: the sources that are the same for all steps that share so many first keys. While one of them
    is open, none of these steps is ready.
    """
    return [
        [wire for wire in wires if max(wire.at, default=-1) == depth - 1]
        for depth in range(len(node.scope))
    ]


def arguments_of(node: Node, wires: tuple[Wire, ...]) -> tuple[ArgumentWires, ...]:
    """The wires of a node, argument by argument."""
    sizes = {argument.name: len(argument.singles) for argument in node.inputs}
    grouped = [
        (name, tuple(group)) for name, group in groupby(wires, key=lambda wire: wire.argument)
    ]
    return tuple(ArgumentWires(name, group, len(group) < sizes[name]) for name, group in grouped)


def _collect_levels(wire: Wire) -> set[Level]:
    """The levels that a collect goes over, and those left to it: where the ones are empty, the others alone make the
    reader ready.
    """
    if not isinstance(wire.source, FromCollect):
        return set()
    return {*wire.scope, *(one.level for one in wire.source.over)}


def _shared(wire: Wire, node: Node) -> Shared:
    """The keys that the reader at a wire has in common with a step of `node` that it depends on."""
    return tuple(
        (at, node.scope.index(level))
        for level, at in sorted(zip(wire.scope, wire.at, strict=True), key=lambda pair: pair[1])
        if level in node.scope
    )
