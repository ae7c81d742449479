"""The static graph as data: what a job compiles to, and what stands in `RunStarted`.

Nodes in definition order. A scope is the ordered list of the dynamic outputs ("levels") that a node is mapped under;
a node reads an input at its own key path, cut down to the scope of that input's producer (rules D6, D7).
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

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


class Over(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A level that a collect goes over, and what its values come as."""

    level: Level
    form: Literal["list", "dict"] = "list"


class FromCollect(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="collect"
):
    """All values of an output over the keys of a level, in the order of the keys (rules D8, D9).

    `over` are the last levels of what is collected, outermost first: two of them make a list of lists.
    """

    node: str
    output: str
    over: tuple[Over, ...]


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

    def output(self, name: str) -> Output | None:
        """The output of that name, if there is one."""
        return next((output for output in self.outputs if output.name == name), None)


class Wire(msgspec.Struct, frozen=True, eq=False):
    """A source of a node, with what follows from the graph about how it is read."""

    argument: str
    source: FromOutput | FromCollect
    producer: Node
    scope: tuple[Level, ...]
    """The levels that what is read depends on, after collecting; all of them are levels of the reader."""
    at: tuple[int, ...]
    """Where the keys of `scope` stand in the reader's key path."""
    aligned: bool
    """`scope` is the reader's own: it is read at the reader's own key path."""
    pieces: bool
    """It reads a dynamic output itself, not what was made of its pieces."""
    collects: bool
    """It reads what a `FromCollect` gathers."""
    reads: bool
    """False where the reader only waits, for no value."""
    makers: tuple[tuple[int, ...], ...]
    """For each level of `over`: where the keys of its producer stand in the key path of what is collected."""

    def path(self, key_path: KeyPath) -> KeyPath:
        """Of a reader's key path the keys at which it reads this source (rule D7)."""
        return key_path if self.aligned else tuple([key_path[place] for place in self.at])


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
                self._wire(node, argument, source)
                for argument in node.inputs
                for source in argument.singles
                if not isinstance(source, Constant)
            )
            for node in self.nodes
        }

    def _wire(self, node: Node, argument: Input, source: FromOutput | FromCollect) -> Wire:
        producer = self.by_name[source.node]
        pieces = source.output in self.dynamic_outputs[source.node]
        whole = (*producer.scope, Level(source.node, source.output)) if pieces else producer.scope
        over = source.over if isinstance(source, FromCollect) else ()
        scope = whole[: len(whole) - len(over)]
        makers = [places(self.by_name[one.level.node].scope, whole) for one in over]
        at = places(scope, node.scope)
        return Wire(
            argument.name,
            source,
            producer,
            scope,
            at,
            scope == node.scope,
            pieces,
            isinstance(source, FromCollect),
            not argument.order,
            tuple(makers),
        )

    @cached_property
    def makers(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """For each node and level of its scope: where the keys of the level's producer stand in its key path."""
        return {
            node.name: tuple(
                places(self.by_name[level.node].scope, node.scope) for level in node.scope
            )
            for node in self.nodes
        }

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

    def upstream(self, name: str) -> set[str]:
        """A node and all that it needs, directly or not: what it reads, and whose keys it is cloned for."""
        reached = {name}
        for node in reversed(self.nodes):
            if node.name in reached:
                reached.update(source.node for source in node.sources())
                reached.update(level.node for level in node.scope)
        return reached

    def downstream(self, names: set[str]) -> set[str]:
        """The given nodes and all that read from them, directly or not."""
        reached = set(names)
        for node in self.nodes:
            if any(source.node in reached for source in node.sources()) or any(
                level.node in reached for level in node.scope
            ):
                reached.add(node.name)
        return reached


def flaw_of(graph: Graph) -> str:
    """Why a graph does not hold together, as only that of a damaged log does not; empty where it does."""
    known: dict[str, Node] = {}
    for node in graph.nodes:
        if node.name in known:
            return f"has two nodes {node.name!r}"
        for level in node.scope:
            if not _yields(known.get(level.node), level, node.scope):
                return f"clones {node.name!r} for {level}, which no node before it yields there"
        for source in node.sources():
            if not _can_read(known.get(source.node), source, node):
                return f"has {node.name!r} read {source.node}.{source.output}, which no node before it gives it"
        known[node.name] = node
    return ""


def _yields(maker: Node | None, level: Level, scope: tuple[Level, ...]) -> bool:
    output = maker.output(level.output) if maker is not None else None
    return (
        maker is not None
        and output is not None
        and output.dynamic
        and set(maker.scope) <= set(scope)
    )


def _can_read(producer: Node | None, source: FromOutput | FromCollect, reader: Node) -> bool:
    output = producer.output(source.output) if producer is not None else None
    if producer is None or output is None:
        return False
    level = (Level(source.node, source.output),) if output.dynamic else ()
    whole = (*producer.scope, *level)
    over = tuple([one.level for one in source.over]) if isinstance(source, FromCollect) else ()
    kept = len(whole) - len(over)
    return kept >= 0 and whole[kept:] == over and set(whole[:kept]) <= set(reader.scope)


def places(levels: tuple[Level, ...], scope: tuple[Level, ...]) -> tuple[int, ...]:
    """Where levels stand in a scope that holds them all."""
    return tuple([scope.index(level) for level in levels])


def project(key_path: KeyPath, scope: tuple[Level, ...], onto: tuple[Level, ...]) -> KeyPath:
    """The part of a key path of `scope` that belongs to the levels of `onto` (rule D7)."""
    if scope == onto:
        return key_path
    return tuple([key_path[scope.index(level)] for level in onto])
