"""The static graph as data: what a job compiles to, and what stands in `RunStarted`.

Nodes in definition order. A scope is the ordered list of the dynamic outputs ("levels") that a node is mapped under;
a node reads an input at its own key path, cut down to the scope of that input's producer (rules D6, D7).
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, NamedTuple

import msgspec

from runstore.keys import KeyPath


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dynamic output that something is mapped under."""

    node: str
    output: str

    def __str__(self) -> str:
        return f"{self.node}.{self.output}"


class FromOutput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="output"
):
    """One value: a plain output, or one piece of the dynamic output that is a level of the reader's scope."""

    node: str
    output: str


class FromCollect(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="collect"
):
    """All values of an output over the keys of `level`, in the order of the keys (rule D9)."""

    node: str
    output: str
    level: Level
    form: Literal["list", "dict"] = "list"


class Constant(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="constant"
):
    """A plain value that was passed beside handles (rule D3); exact in JSON."""

    value: Any


class FanIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="list"):
    """A list of handles that was passed as one argument."""

    items: tuple[FromOutput | FromCollect | Constant, ...]


Single = FromOutput | FromCollect | Constant
Source = FromOutput | FromCollect | Constant | FanIn


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An argument of a node and where its value comes from."""

    name: str
    source: Source
    order: bool = False
    """It is only waited for: no value is read."""

    @property
    def singles(self) -> tuple[Single, ...]:
        """The sources without lists around them."""
        return self.source.items if isinstance(self.source, FanIn) else (self.source,)


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a node gives out under one name."""

    name: str
    dynamic: bool = False
    required: bool = True


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An op at a place in the graph."""

    name: str
    op: str
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    scope: tuple[Level, ...] = ()
    tags: dict[str, str] = {}

    def sources(self) -> Iterator[FromOutput | FromCollect]:
        """Every output that this node reads, without constants."""
        for argument in self.inputs:
            for single in argument.singles:
                if not isinstance(single, Constant):
                    yield single

    def read_sources(self) -> Iterator[FromOutput | FromCollect]:
        """Every output whose value this node reads, without those that it only waits for."""
        for argument in self.inputs:
            for single in argument.singles if not argument.order else ():
                if not isinstance(single, Constant):
                    yield single

    def output(self, name: str) -> Output | None:
        """The output of that name, if there is one."""
        return next((output for output in self.outputs if output.name == name), None)


class Wire(NamedTuple):
    """A source of a node, with what follows from the graph about how it is read."""

    argument: str
    source: FromOutput | FromCollect
    producer: Node
    aligned: bool
    """The producer has the reader's scope: it is read at the reader's own key path."""
    piece: Level | None
    """Of a FromOutput that reads one piece of a dynamic output: the level that it is."""
    pieces: bool
    """Of a FromCollect: it collects the pieces themselves, not what was made of them."""


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A job's nodes; every source names a node of this graph that stands before its reader."""

    name: str
    nodes: tuple[Node, ...]

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def dynamic_outputs(self) -> dict[str, tuple[str, ...]]:
        """For each node the names of its dynamic outputs."""
        return {
            node.name: tuple(out.name for out in node.outputs if out.dynamic) for node in self.nodes
        }

    @cached_property
    def wires(self) -> dict[str, tuple[Wire, ...]]:
        """For each node its sources, without constants, in the order of its arguments."""
        return {
            node.name: tuple(
                self._wire(node, argument.name, source)
                for argument in node.inputs
                for source in argument.singles
                if not isinstance(source, Constant)
            )
            for node in self.nodes
        }

    def _wire(self, node: Node, argument: str, source: FromOutput | FromCollect) -> Wire:
        producer = self.by_name[source.node]
        dynamic = source.output in self.dynamic_outputs[source.node]
        collects = isinstance(source, FromCollect)
        return Wire(
            argument,
            source,
            producer,
            not collects and producer.scope == node.scope,
            Level(source.node, source.output) if dynamic and not collects else None,
            dynamic and collects,
        )

    @cached_property
    def depth(self) -> dict[str, int]:
        """How far each node is from the start: 1 + the deepest of its sources (for rule X4)."""
        depth: dict[str, int] = {}
        for node in self.nodes:
            depth[node.name] = 1 + max((depth[source.node] for source in node.sources()), default=0)
        return depth

    @cached_property
    def readers(self) -> dict[str, tuple[Node, ...]]:
        """For each node the nodes that read any of its outputs, in definition order."""
        readers: dict[str, dict[str, Node]] = {node.name: {} for node in self.nodes}
        for node in self.nodes:
            for source in node.sources():
                readers[source.node][node.name] = node
        return {name: tuple(nodes.values()) for name, nodes in readers.items()}

    @cached_property
    def under(self) -> dict[Level, tuple[Node, ...]]:
        """For each level the nodes that are cloned per key of it, in definition order."""
        under: dict[Level, list[Node]] = {}
        for node in self.nodes:
            for level in node.scope:
                under.setdefault(level, []).append(node)
        return {level: tuple(nodes) for level, nodes in under.items()}

    def downstream(self, names: set[str]) -> set[str]:
        """The given nodes and all that read from them, directly or not."""
        reached = set(names)
        for node in self.nodes:
            if any(source.node in reached for source in node.sources()) or any(
                level.node in reached for level in node.scope
            ):
                reached.add(node.name)
        return reached


def project(key_path: KeyPath, scope: tuple[Level, ...], onto: tuple[Level, ...]) -> KeyPath:
    """The part of a key path of `scope` that belongs to the levels of `onto` (rule D7)."""
    if scope == onto:
        return key_path
    return tuple([key_path[scope.index(level)] for level in onto])
