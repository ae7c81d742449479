"""Random jobs: as data, as a job of real ops, and as what plain Python says must come of it.

A shape is a list of nodes, each reading only from nodes before it. Some ops yield keys, also while they are themselves
mapped; some are mapped under one or several dynamic outputs, nested or as a product; some collect, over one level or
several; some fail for some keys, some leave optional outputs out. `evaluate` knows no log and no scheduler: it goes
through the nodes once.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from execution import DynamicOut, DynamicOutput, Out, Output, job, op
from execution.definition.job import JobDefinition
from execution.definition.op import OpDefinition

KEYS = ["a", "b", "C", "c", "x/y", "é", "[0]", "k" * 90]
DEEPEST = 3
Path = tuple[str, ...]
Step = tuple[int, Path]
"""Number of the node, and the key path of the clone (empty where the node is not mapped)."""
Level = tuple[int, str]
Scope = tuple[Level, ...]


@dataclass(frozen=True)
class Source:
    """What one argument, or one element of a list, is: see `kind`."""

    kind: str
    """`constant`, `value` (of an output at the reader's keys), `piece` or `collect`."""
    node: int = 0
    output: str = ""
    scope: Scope = ()
    """The levels that it depends on; of a collect what is left of them."""
    over: tuple[tuple[Level, bool], ...] = ()
    """Of a collect: its levels, outermost first, and whether each gives a dict."""
    outside: bool = False
    """Of a collect: written outside of the maps of its reader."""


@dataclass(frozen=True)
class OutShape:
    """An output of a node."""

    name: str
    dynamic: bool = False
    required: bool = True
    keys: Path = ()
    left_out: frozenset[str] = frozenset()
    """Keys of clones that do not give this output; only of one that is not required."""

    def keys_at(self, path: Path) -> Path:
        """What a clone yields: not the same everywhere, and nothing in some places."""
        return self.keys[len(path[-1]) % (len(self.keys) + 1) :] if path else self.keys


@dataclass(frozen=True)
class NodeShape:
    """An op at its place."""

    arguments: tuple[Source | tuple[Source, ...], ...]
    outs: tuple[OutShape, ...]
    scope: Scope = ()
    """In the order in which its maps stand inside each other (rule D7)."""
    failing: frozenset[str] = frozenset()
    returns: bool = False
    """A dynamic op that returns a list instead of yielding."""


Shape = tuple[NodeShape, ...]


def innermost(path: Path) -> str:
    """The key by which a clone fails or leaves something out."""
    return path[-1] if path else ""


# Drawing one


@st.composite
def shapes(draw: st.DrawFn, *, failures: bool = True, most: int = 8) -> Shape:
    """Any job of up to `most` nodes."""
    nodes: list[NodeShape] = []
    for number in range(draw(st.integers(2, most))):
        wanted = draw(_scopes(nodes)) if draw(st.integers(0, 3)) else ()
        arguments = draw(_arguments(nodes, wanted))
        reached = {level for source in _flat(arguments) for level in source.scope}
        scope = tuple(level for level in wanted if level in reached)
        makes_keys = not levels_of(nodes) or (
            len(scope) < DEEPEST and draw(st.integers(0, 2 if not scope else 1)) == 0
        )
        outs = draw(_outs(makes_keys, failures, 3 if scope else 5))
        failing = frozenset(draw(_some_keys) if failures and draw(st.integers(0, 5)) == 0 else ())
        nodes.append(NodeShape(arguments, outs, scope, failing, draw(st.booleans())))
        assert len(nodes) == number + 1
    return tuple(nodes)


_some_keys = st.sets(st.sampled_from(["", *KEYS]), max_size=3)


def levels_of(nodes: list[NodeShape] | Shape) -> list[Level]:
    """Every dynamic output."""
    return [(at, out.name) for at, node in enumerate(nodes) for out in node.outs if out.dynamic]


@st.composite
def _scopes(draw: st.DrawFn, nodes: list[NodeShape]) -> Scope:
    """Some levels, each after those of its producer, in any order that allows that."""
    scope: list[Level] = []
    for _ in range(draw(st.integers(1, DEEPEST))):
        left = [level for level in levels_of(nodes) if level not in scope]
        if left:
            level = draw(st.sampled_from(left))
            more = [one for one in (*nodes[level[0]].scope, level) if one not in scope]
            scope += more if len(scope) + len(more) <= DEEPEST else []
    return tuple(scope)


@st.composite
def _outs(draw: st.DrawFn, makes_keys: bool, failures: bool, most: int) -> tuple[OutShape, ...]:
    outs = []
    for place in range(draw(st.sampled_from([1, 1, 1, 2]))):
        dynamic = makes_keys and (place == 0 or draw(st.booleans()))
        required = not failures or draw(st.integers(0, 3)) > 0
        keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=most)) if dynamic else ()
        left_out = frozenset(() if required or dynamic else draw(_some_keys))
        outs.append(OutShape(f"out{place}", dynamic, required, tuple(keys), left_out))
    return tuple(outs)


@st.composite
def _arguments(draw: st.DrawFn, nodes: list[NodeShape], scope: Scope) -> tuple[Any, ...]:
    sources = [Source("constant")]
    for at, node in enumerate(nodes):
        for out in node.outs:
            whole = (*node.scope, (at, out.name)) if out.dynamic else node.scope
            sources += draw(_readings("piece" if out.dynamic else "value", at, out.name, whole))
    sources = [source for source in sources if set(source.scope) <= set(scope)]
    mapped = [source for source in sources if source.scope]
    arguments: list[Any] = [draw(st.sampled_from(mapped))] if mapped else []
    if mapped and len(scope) > 1:
        arguments.append(draw(st.sampled_from(mapped)))
    anything = st.sampled_from(sources)
    for _ in range(draw(st.integers(0, 2))):
        if len(nodes) > 1 and draw(st.integers(0, 3)) == 0:
            items = draw(st.lists(anything, min_size=1, max_size=3))
            if any(item.kind != "constant" for item in items):
                arguments.append(tuple(items))
        else:
            arguments.append(draw(anything))
    return tuple(draw(st.permutations(arguments)))


@st.composite
def _readings(draw: st.DrawFn, kind: str, at: int, output: str, whole: Scope) -> list[Source]:
    """Every way to read an output: as it is, or collected over its last levels."""
    found = [Source(kind, at, output, whole)]
    for depth in range(1, len(whole) + 1):
        forms = [draw(st.booleans()) for _ in range(depth)]
        over = tuple(zip(whole[-depth:], forms, strict=True))
        found.append(Source("collect", at, output, whole[:-depth], over, draw(st.booleans())))
    return [source for source in found if source.kind != "value" or source.output]


# As a job


@dataclass
class Calls:
    """Which steps were called, in order."""

    steps: list[Step] = field(default_factory=list)


def step_key(step: Step) -> tuple[str, Path]:
    """Node and key path, as runstore writes them."""
    return f"n{step[0]}", step[1]


def value_of(number: int, output: str, path: Path, arguments: list[Any]) -> str:
    """What an op gives: a short text that depends on all that it was given, in order."""
    text = repr((number, output, path, arguments))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def job_of(shape: Shape, calls: Calls | None = None) -> JobDefinition:
    """The shape as a job of real ops, wired with map and collect."""
    calls = calls if calls is not None else Calls()

    def body() -> None:
        made: list[dict[str, Any]] = []
        for number, node in enumerate(shape):
            called = _call(_op_of(number, node, calls), node, made)
            names = [out.name for out in node.outs]
            handles = called if len(names) > 1 else (called,)
            made.append(dict(zip(names, handles, strict=True)))

    body.__name__ = "shape"
    return job(body)


def _op_of(number: int, node: NodeShape, calls: Calls) -> OpDefinition:
    def run(context: Any, **arguments: Any) -> Any:
        path = context.key_path
        calls.steps.append((number, path))
        if innermost(path) in node.failing:
            raise ValueError(f"n{number} fails for {path!r}")
        given = [one for _, one in _given(number, node, path, list(arguments.values()))]
        return given if node.returns and given else iter_of(given)

    def iter_of(given: list[Any]) -> Any:
        yield from given

    names = [f"x{place}" for place in range(len(node.arguments))]
    scope: dict[str, Any] = {"run": run}
    parameters = ", ".join(["context", *names])
    passed = ", ".join(["context", *(f"{name}={name}" for name in names)])
    exec(f"def n{number}({parameters}): return run({passed})", scope)
    outs = {
        out.name: (DynamicOut if out.dynamic else Out)(is_required=out.required)
        for out in node.outs
    }
    return op(name=f"n{number}", out=outs, version="1")(scope[f"n{number}"])


def _given(
    number: int, node: NodeShape, path: Path, arguments: list[Any]
) -> Iterator[tuple[Path, Output[Any] | DynamicOutput[Any]]]:
    """What a clone gives, each with the key path of the value."""
    for out in node.outs:
        if out.dynamic:
            for key in out.keys_at(path):
                value = value_of(number, out.name, (*path, key), arguments)
                yield (*path, key), DynamicOutput(value, key, out.name)
        elif innermost(path) not in out.left_out:
            yield path, Output(value_of(number, out.name, path, arguments), out.name)


def _call(definition: OpDefinition, node: NodeShape, made: list[dict[str, Any]]) -> Any:
    """Call an op in the body of a job; what is mapped is reached by maps inside maps, in the order of the scope."""
    handles = [(None, made[at][output]) for at, output in node.scope]
    ready: dict[Any, Any] = {}
    for source in dict.fromkeys(_flat(node.arguments)):
        # Where what is left after the first collect is open, it is a plain handle: no second collect can follow there.
        if source.outside or len(source.over) > 1 or (source.scope and source.kind != "collect"):
            handle = _outside(source, made)
            if source.scope:
                handles.append((source, handle))
            else:
                ready[source] = handle
    return _nest(handles, ready, lambda inner: definition(*_wired(node, made, inner)))


def _outside(source: Source, made: list[dict[str, Any]]) -> Any:
    handle = made[source.node][source.output]
    for _, as_dict in reversed(source.over):
        handle = handle.collect(as_dict=as_dict)
    return handle


def _nest(handles: list[tuple[Any, Any]], inner: dict[Any, Any], call: Any) -> Any:
    if not handles:
        return call(inner)
    (source, handle), *rest = handles
    return handle.map(lambda symbol: _nest(rest, {**inner, source: symbol}, call))


def _flat(arguments: tuple[Any, ...]) -> list[Source]:
    return [
        one for source in arguments for one in (source if isinstance(source, tuple) else (source,))
    ]


def _wired(node: NodeShape, made: list[dict[str, Any]], inner: dict[Any, Any]) -> list[Any]:
    def wire(source: Source) -> Any:
        if source.kind == "constant":
            return "constant"
        return inner[source] if source in inner else _outside(source, made)

    return [
        [wire(one) for one in source] if isinstance(source, tuple) else wire(source)
        for source in node.arguments
    ]


# As plain Python

SKIPPED, BLOCKED = object(), object()


@dataclass
class Outcome:
    """What must come of a shape."""

    shape: Shape
    states: dict[Step, str] = field(default_factory=dict)
    """succeeded, failed, skipped or blocked, of every step whose keys are known."""
    values: dict[tuple[int, str, Path], Any] = field(default_factory=dict)
    """(node, output, key path of clone or piece) -> value, in the order of keys."""
    keys: dict[tuple[Level, Path], Any] = field(default_factory=dict)
    """The keys of a dynamic output by the key path of its producer; SKIPPED or BLOCKED where that was."""

    @property
    def succeeded(self) -> bool:
        """True for a run without a failure."""
        return "failed" not in self.states.values()

    def maker_path(self, scope: Scope, path: Path) -> Path:
        """Where the producer of the level after `path` stands; `path` may be shorter than the scope."""
        return at_levels(scope, path, self.shape[scope[len(path)][0]].scope)

    def keys_below(self, scope: Scope, path: Path) -> Any:
        """The keys at the level after `path`."""
        return self.keys.get((scope[len(path)], self.maker_path(scope, path)), BLOCKED)

    def paths(self, scope: Scope, path: Path = ()) -> Iterator[Path]:
        """Every key path of a scope, in order."""
        if len(path) == len(scope):
            yield path
            return
        keys = self.keys_below(scope, path)
        for key in keys if isinstance(keys, tuple) else ():
            yield from self.paths(scope, (*path, key))


def at_levels(scope: Scope, path: Path, wanted: Scope) -> Path:
    """The keys of a path that belong to these levels."""
    return tuple(path[scope.index(level)] for level in wanted)


def evaluate(shape: Shape) -> Outcome:
    """What plain Python says must come of a shape."""
    outcome = Outcome(shape)
    for number, node in enumerate(shape):
        for path in outcome.paths(node.scope):
            state = _evaluate_step(outcome, number, node, path)
            outcome.states[number, path] = state
            for out in node.outs:
                if out.dynamic:
                    found = {"succeeded": out.keys_at(path), "skipped": SKIPPED}
                    outcome.keys[(number, out.name), path] = found.get(state, BLOCKED)
    return outcome


def _evaluate_step(outcome: Outcome, number: int, node: NodeShape, path: Path) -> str:
    arguments = [_argument(outcome, source, node.scope, path) for source in node.arguments]
    flat = [one for a in arguments for one in (a if isinstance(a, _List) else [a])]
    if any(one is BLOCKED for one in flat):
        return "blocked"
    if any(_is_skipped(argument) for argument in arguments):
        return "skipped"
    if innermost(path) in node.failing:
        return "failed"
    passed = [
        [one for one in a if one is not SKIPPED] if isinstance(a, _List) else a for a in arguments
    ]
    for at, given in _given(number, node, path, passed):
        outcome.values[number, given.output_name, at] = given.value
    return "succeeded"


class _List(list[Any]):
    """A fan-in list, as distinct from a value that is a list."""


def _is_skipped(argument: Any) -> bool:
    if isinstance(argument, _List):
        return all(one is SKIPPED for one in argument)
    return argument is SKIPPED


def _argument(outcome: Outcome, source: Any, scope: Scope, path: Path) -> Any:
    if isinstance(source, tuple):
        return _List(_argument(outcome, one, scope, path) for one in source)
    if source.kind == "constant":
        return "constant"
    at = at_levels(scope, path, source.scope)
    return _collected(outcome, source, at, 0) if source.over else _value(outcome, source, at)


def _value(outcome: Outcome, source: Source, path: Path) -> Any:
    depth = len(outcome.shape[source.node].scope)
    state = outcome.states.get((source.node, path[:depth]), "blocked")
    if state == "succeeded":
        return outcome.values.get((source.node, source.output, path), SKIPPED)
    return SKIPPED if state == "skipped" else BLOCKED


def _collected(outcome: Outcome, source: Source, path: Path, depth: int) -> Any:
    if depth == len(source.over):
        return _value(outcome, source, path)
    whole = (*source.scope, *(level for level, _ in source.over))
    (maker, output), as_dict = source.over[depth]
    keys = outcome.keys_below(whole, path)
    if not isinstance(keys, tuple):
        return keys
    required = next(out.required for out in outcome.shape[maker].outs if out.name == output)
    if not keys:
        return ({} if as_dict else []) if required else SKIPPED
    found = {key: _collected(outcome, source, (*path, key), depth + 1) for key in keys}
    if any(value is BLOCKED for value in found.values()):
        return BLOCKED
    found = {key: value for key, value in found.items() if value is not SKIPPED}
    if not found:
        return SKIPPED
    return found if as_dict else list(found.values())
