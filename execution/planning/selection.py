"""Which steps of a run are selected: expressions to patterns, patterns to steps.

    EXPR     = pattern {"," pattern}
    pattern  = [up] name {"[" key "]"} [down]
    up       = "*" | "+" {"+"}      all that it needs, or so many levels of it
    down     = "*" | "+" {"+"}      all that needs it, or so many levels of it

A name is an op, or a graph (`prepare` for `prepare.load`, `prepare.clean`). A key is written as in a step key, and may
hold `*` (any text) and `?` (any character); `%2A` and `%3F` are the characters themselves. Fewer keys than the op has
select everything below them. What is printed as a step key selects that step, whatever characters its keys hold.

Pure: patterns are held against the graph and the key paths that are known of each node.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from execution.errors import InvalidSelection
from runstore.errors import InvalidKey
from runstore.keys import KeyPath, escape_key, format_step_key, parse_step_key
from runstore.log.expanded import StepId
from runstore.log.graph import Graph, Level, Node, Wire, project

ALL = -1
"""As a number of levels: all there are."""
_COMPARED = 5_000  # keys that a mistyped one is compared with

_PATTERN = re.compile(r"(\*|\+*)([^\s,*+\[\]]+)((?:\[[^\[\]]+\])*)(\*|\+*)")
_COMMA = re.compile(r",(?![^\[\]]*\])")
_WILD = re.compile(r"([*?])")

KnownPaths = Callable[[Node], Iterable[KeyPath]]
"""The key paths of a node's steps, as far as they are known."""


class Pattern(NamedTuple):
    """One op, graph, clone or set of clones, and how far to go up and down from there."""

    name: str
    keys: tuple[str, ...] = ()
    """As written between the brackets."""
    up: int = 0
    down: int = 0

    def __str__(self) -> str:
        keys = "".join(f"[{key}]" for key in self.keys)
        return f"{_hops(self.up)}{self.name}{keys}{_hops(self.down)}"


def _hops(levels: int) -> str:
    return "*" if levels == ALL else "+" * levels


def parse_selection(expressions: str | Iterable[str]) -> tuple[Pattern, ...]:
    """The patterns of one or more expressions; raises InvalidSelection."""
    given = [expressions] if isinstance(expressions, str) else list(expressions)
    return tuple(
        _parse(part.strip(), expression)
        for expression in given
        for part in _COMMA.split(expression)
    )


def _parse(text: str, expression: str) -> Pattern:
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise InvalidSelection(
            f"{text!r} is not a pattern{_inside(text, expression)}; write op, 'op[key]', 'op[2024-*]', "
            "with + or * before it for what it needs, behind it for what needs it"
        )
    up, name, keys, down = found.groups()
    pattern = Pattern(
        name, tuple(keys[1:-1].split("][")) if keys else (), _levels(up), _levels(down)
    )
    for key in pattern.keys:
        _key_expression(key, text)
    return pattern


def _inside(text: str, expression: str) -> str:
    return "" if text == expression else f" (in {expression!r})"


def _levels(text: str) -> int:
    return ALL if text == "*" else len(text)


def literal_key(key: str) -> str:
    """A mapping key as a pattern writes it so that it means just this key."""
    return escape_key(key).replace("*", "%2A").replace("?", "%3F")


def _key_expression(key: str, text: str) -> re.Pattern[str]:
    """What a mapping key is held against."""
    parts = []
    for piece in _WILD.split(key):
        if piece in ("*", "?"):
            parts.append(".*" if piece == "*" else ".")
        elif piece:
            parts.append(re.escape(_unescaped(piece, text)))
    return re.compile("".join(parts), re.DOTALL)


def _unescaped(piece: str, text: str) -> str:
    try:
        return parse_step_key(f"op[{piece}]")[1][0]
    except InvalidKey:
        raise InvalidSelection(
            f"{text!r} is not a pattern: {piece!r} is no part of a key; write % as %25, [ as %5B, ] as %5D"
        ) from None


class Selection:
    """The selected steps: of a node all, also those that are not known yet, or those at some key paths."""

    def __init__(self) -> None:
        self._paths: dict[str, set[KeyPath] | None] = {}

    def __contains__(self, step: StepId) -> bool:
        paths = self._paths.get(step.node, _NONE)
        return paths is None or step.key_path in paths

    def __bool__(self) -> bool:
        return bool(self._paths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self._paths == other._paths

    __hash__ = None  # type: ignore[assignment]

    def items(self) -> Iterator[tuple[str, set[KeyPath] | None]]:
        """(node, its selected key paths; None: all of them, also those not known yet)."""
        yield from self._paths.items()

    def paths(self, node: str) -> set[KeyPath] | None:
        """The selected key paths of a node; None: all of them, also those not known yet."""
        return self._paths.get(node, _NONE)

    def add(self, node: str, paths: set[KeyPath] | None) -> set[KeyPath] | None:
        """Select more steps of a node; gives those that were not selected before."""
        known = self._paths.get(node, _NONE)
        if known is None or (paths is not None and not paths - known):
            return set()
        if paths is None:
            self._paths[node] = None
            return None
        self._paths[node] = known | paths
        return paths - known

    def update(self, other: "Selection") -> None:
        """Select also what another one does."""
        for node, paths in other.items():
            self.add(node, paths)


_NONE: set[KeyPath] = set()


class Tie(NamedTuple):
    """Of two nodes one reads the other: their steps belong together where the keys of the shared levels agree."""

    start: Node
    end: Node
    shared: tuple[Level, ...]


_Ties = dict[str, list[Tie]]


class Selector:
    """Holds patterns against one graph and the key paths that are known of its nodes."""

    def __init__(self, graph: Graph, known: KnownPaths, run_id: str) -> None:
        self._graph = graph
        self._known = known
        self._run_id = run_id

    def select(self, patterns: Iterable[Pattern]) -> Selection:
        """The steps that any of the patterns selects; raises InvalidSelection where one selects nothing."""
        selected = Selection()
        for pattern in patterns:
            base = self._base(pattern)
            selected.update(base)
            selected.update(self.upstream(base, pattern.up))
            selected.update(self.downstream(base, pattern.down))
        return selected

    def downstream(self, base: Selection, levels: int = ALL) -> Selection:
        """What is selected, and what needs it, so many levels far."""
        return self._spread(base, levels, self._down)

    def upstream(self, base: Selection, levels: int = ALL) -> Selection:
        """What is selected, and what it needs, so many levels far."""
        return self._spread(base, levels, self._up)

    # The steps that a pattern names

    def _base(self, pattern: Pattern) -> Selection:
        base = Selection()
        nodes = [node for node in self._graph.nodes if _is_named(node, pattern.name)]
        deep = [node for node in nodes if len(node.scope) >= len(pattern.keys)]
        for node in deep:
            paths = self._matching(node, pattern)
            if paths is None or paths:
                base.add(node.name, paths)
        if not base:
            raise InvalidSelection(self._nothing(pattern, nodes, deep))
        return base

    def _matching(self, node: Node, pattern: Pattern) -> set[KeyPath] | None:
        """The key paths that a pattern selects; None: all, also those not known yet."""
        if not pattern.keys:
            return None
        known, literal = set(self._known(node)), _literal_path(pattern)
        if literal in known:
            return {literal}
        if all(key == "*" for key in pattern.keys):
            return None
        expressions = [_key_expression(key, str(pattern)) for key in pattern.keys]
        return {
            path
            for path in known
            if all(one.fullmatch(key) for one, key in zip(expressions, path, strict=False))
        }

    def _nothing(self, pattern: Pattern, nodes: list[Node], deep: list[Node]) -> str:
        start = f"{str(pattern)!r} selects nothing of run {self._run_id!r}"
        if not nodes:
            names = list(self._graph.by_name)
            close = get_close_matches(pattern.name, names, 3)
            meant = f"did you mean {_either(close)}? " if close else ""
            return f"{start}: job {self._graph.name!r} has no op {pattern.name!r}; {meant}it has {', '.join(names)}"
        node = nodes[0]
        if not deep:
            right = format_step_key(node.name) + "[key]" * len(node.scope)
            return f"{start}: {node.name!r} has {len(node.scope)} keys; write {right!r}"
        known = [format_step_key(node.name, path) for path in islice(self._known(node), _COMPARED)]
        if not known:
            return f"{start}: the keys of {node.name!r} are not known; write {node.name!r} to select all of them"
        asked = Pattern(pattern.name, pattern.keys)
        close = get_close_matches(str(asked), known, 3) or known[:3]
        return f"{start}; did you mean {_either(close)}? `runstore keys {self._run_id} {node.name}` lists all"

    # From step to step

    @cached_property
    def _down(self) -> _Ties:
        ties: _Ties = {node.name: [] for node in self._graph.nodes}
        for up in self._up.values():
            for tie in up:
                ties[tie.end.name].append(Tie(tie.end, tie.start, tie.shared))
        return ties

    @cached_property
    def _up(self) -> _Ties:
        return {
            node.name: [Tie(node, wire.producer, shared_levels(wire)) for wire in wires]
            for node in self._graph.nodes
            for wires in [self._graph.wires[node.name]]
        }

    def _spread(self, base: Selection, levels: int, ties: _Ties) -> Selection:
        reached = Selection()
        reached.update(base)
        front = dict(base.items())
        while front and levels != 0:
            levels -= 1
            found = Selection()
            for name, paths in front.items():
                for tie in ties[name]:
                    found.add(tie.end.name, self._across(tie, paths))
            front = {
                name: new
                for name, paths in found.items()
                if (new := reached.add(name, paths)) is None or new
            }
        return reached

    def _across(self, tie: Tie, paths: set[KeyPath] | None) -> set[KeyPath] | None:
        """The key paths at the end of a tie that belong to some at its start."""
        if paths is None or not tie.shared:
            return None
        agreed = {project(path, tie.start.scope, tie.shared) for path in paths}
        if tie.shared == tie.end.scope:
            return agreed
        return {p for p in self._known(tie.end) if project(p, tie.end.scope, tie.shared) in agreed}


def shared_levels(wire: Wire) -> tuple[Level, ...]:
    """The levels whose keys a step has in common with the steps that it reads over a wire."""
    return tuple(level for level in wire.producer.scope if level in wire.scope)


def _is_named(node: Node, name: str) -> bool:
    return node.name == name or node.name.startswith(f"{name}.")


def _literal_path(pattern: Pattern) -> KeyPath:
    """The key path of the pattern, read as a step key: `*` and `?` are themselves."""
    if not pattern.keys:
        return ()
    return parse_step_key(str(Pattern(pattern.name, pattern.keys)))[1]


def _either(names: list[str]) -> str:
    return " or ".join(map(repr, names))
