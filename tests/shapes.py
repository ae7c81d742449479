"""Random flat jobs: as data, as a job of real ops, and as what plain Python says must come of it.

A shape is a list of nodes, each reading only from nodes before it. Some ops yield keys, some are mapped under
one dynamic output, some collect; some fail for some keys, some leave optional outputs out. `evaluate` knows nothing of
logs or schedulers: it goes through the nodes once.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from execution import DynamicOut, DynamicOutput, Out, Output, job, op
from execution.definition.job import JobDefinition
from execution.definition.op import OpDefinition

KEYS = ["a", "b", "C", "c", "x/y", "é", "[0]", "k" * 90]
Step = tuple[int, str]
"""Number of the node, and the key of the clone (empty where the node is not mapped)."""
Level = tuple[int, str]


@dataclass(frozen=True)
class Source:
    """What one argument, or one element of a list, is: see `kind`."""

    kind: str
    """`constant`, `value` (at the reader's key or shared), `piece` or `collect`."""
    node: int = 0
    output: str = ""
    level: Level | None = None
    as_dict: bool = False


@dataclass(frozen=True)
class OutShape:
    """An output of a node."""

    name: str
    dynamic: bool = False
    required: bool = True
    keys: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    """Keys of clones that do not give this output; only of one that is not required."""


@dataclass(frozen=True)
class NodeShape:
    """An op at its place."""

    arguments: tuple[Source | tuple[Source, ...], ...]
    outs: tuple[OutShape, ...]
    scope: Level | None = None
    failing: frozenset[str] = frozenset()
    returns: bool = False
    """A dynamic op that returns a list instead of yielding."""


Shape = tuple[NodeShape, ...]


# Drawing one


@st.composite
def shapes(draw: st.DrawFn, *, failures: bool = True, most: int = 8) -> Shape:
    """Any flat job of up to `most` nodes."""
    nodes: list[NodeShape] = []
    for number in range(draw(st.integers(2, most))):
        levels = [
            (at, out.name) for at, node in enumerate(nodes) for out in node.outs if out.dynamic
        ]
        scope = draw(st.sampled_from(levels)) if levels and draw(st.integers(0, 2)) else None
        makes_keys = scope is None and (not levels or draw(st.integers(0, 3)) == 0)
        arguments = draw(_arguments(nodes, scope, levels))
        outs = draw(_outs(makes_keys, failures))
        failing = frozenset(draw(_some_keys) if failures and draw(st.integers(0, 5)) == 0 else ())
        nodes.append(NodeShape(arguments, outs, scope, failing, draw(st.booleans())))
        assert len(nodes) == number + 1
    return tuple(nodes)


_some_keys = st.sets(st.sampled_from(["", *KEYS]), max_size=3)


@st.composite
def _outs(draw: st.DrawFn, makes_keys: bool, failures: bool) -> tuple[OutShape, ...]:
    outs = []
    for place in range(draw(st.sampled_from([1, 1, 1, 2]))):
        dynamic = makes_keys and (place == 0 or draw(st.booleans()))
        required = not failures or draw(st.integers(0, 3)) > 0
        keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=5)) if dynamic else ()
        left_out = frozenset(() if required or dynamic else draw(_some_keys))
        outs.append(OutShape(f"out{place}", dynamic, required, tuple(keys), left_out))
    return tuple(outs)


@st.composite
def _arguments(
    draw: st.DrawFn, nodes: list[NodeShape], scope: Level | None, levels: list[Level]
) -> tuple[Any, ...]:
    plain = [Source("constant")]
    under: list[Source] = []
    for at, node in enumerate(nodes):
        for out in node.outs:
            if out.dynamic:
                under += [Source("piece", at, out.name)] if (at, out.name) == scope else []
                plain += [
                    Source("collect", at, out.name, (at, out.name), form) for form in (False, True)
                ]
            elif node.scope is None:
                plain.append(Source("value", at, out.name))
            else:
                under += [Source("value", at, out.name)] if node.scope == scope else []
                plain += [
                    Source("collect", at, out.name, node.scope, form) for form in (False, True)
                ]
    arguments: list[Any] = [draw(st.sampled_from(under))] if scope else []
    anything = st.sampled_from(plain + (under if scope else []))
    for _ in range(draw(st.integers(0, 2))):
        if len(nodes) > 1 and draw(st.integers(0, 3)) == 0:
            items = draw(st.lists(anything, min_size=1, max_size=3))
            if any(item.kind != "constant" for item in items):
                arguments.append(tuple(items))
        else:
            arguments.append(draw(anything))
    return tuple(draw(st.permutations(arguments)))


# As a job


@dataclass
class Calls:
    """Which steps were called, in order."""

    steps: list[Step] = field(default_factory=list)


def step_key(step: Step) -> tuple[str, tuple[str, ...]]:
    """Node and key path, as runstore writes them."""
    return f"n{step[0]}", (step[1],) if step[1] else ()


def value_of(number: int, output: str, key: str, arguments: list[Any]) -> str:
    """What an op gives: a short text that depends on all that it was given, in order."""
    text = repr((number, output, key, arguments))
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
        key = context.mapping_key or ""
        calls.steps.append((number, key))
        if key in node.failing:
            raise ValueError(f"n{number} fails for {key!r}")
        given = list(_given(number, node, key, list(arguments.values())))
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


def _given(number: int, node: NodeShape, key: str, arguments: list[Any]) -> Any:
    for out in node.outs:
        if out.dynamic:
            for piece in out.keys:
                yield DynamicOutput(value_of(number, out.name, piece, arguments), piece, out.name)
        elif key not in out.left_out:
            yield Output(value_of(number, out.name, key, arguments), out.name)


def _call(definition: OpDefinition, node: NodeShape, made: list[dict[str, Any]]) -> Any:
    """Call an op in the body of a job; what is mapped is reached by maps inside maps."""
    mapped: dict[Source, Any] = {}
    for source in _flat(node.arguments):
        if source.kind == "piece" or (source.kind == "value" and _is_mapped(source, made)):
            mapped[source] = made[source.node][source.output]
    return _nest(list(mapped.items()), {}, lambda inner: definition(*_wired(node, made, inner)))


def _nest(handles: list[tuple[Source, Any]], inner: dict[Source, Any], call: Any) -> Any:
    if not handles:
        return call(inner)
    (source, handle), *rest = handles
    return handle.map(lambda symbol: _nest(rest, {**inner, source: symbol}, call))


def _is_mapped(source: Source, made: list[dict[str, Any]]) -> bool:
    return type(made[source.node][source.output]).__name__ == "MappedHandle"


def _flat(arguments: tuple[Any, ...]) -> list[Source]:
    return [
        one for source in arguments for one in (source if isinstance(source, tuple) else (source,))
    ]


def _wired(node: NodeShape, made: list[dict[str, Any]], inner: dict[Source, Any]) -> list[Any]:
    def wire(source: Source) -> Any:
        if source.kind == "constant":
            return "constant"
        if source in inner:
            return inner[source]
        handle = made[source.node][source.output]
        return handle.collect(as_dict=source.as_dict) if source.kind == "collect" else handle

    return [
        [wire(one) for one in source] if isinstance(source, tuple) else wire(source)
        for source in node.arguments
    ]


# As plain Python

OPEN, SKIPPED, BLOCKED = object(), object(), object()


@dataclass
class Outcome:
    """What must come of a shape."""

    states: dict[Step, str] = field(default_factory=dict)
    """succeeded, failed, skipped or blocked, of every step whose key is known."""
    values: dict[tuple[int, str, str], Any] = field(default_factory=dict)
    """(node, output, key of clone or piece) -> value, in the order of keys."""
    keys: dict[Level, Any] = field(default_factory=dict)
    """The keys of a dynamic output; SKIPPED or BLOCKED where its op was."""

    @property
    def succeeded(self) -> bool:
        """True for a run without a failure."""
        return "failed" not in self.states.values()


def evaluate(shape: Shape) -> Outcome:
    """What plain Python says must come of a shape."""
    outcome = Outcome()
    for number, node in enumerate(shape):
        known = outcome.keys[node.scope] if node.scope else ("",)
        for key in known if isinstance(known, tuple) else ():
            _evaluate_step(outcome, shape, number, node, key)
        for out in node.outs:
            if out.dynamic:
                state = outcome.states.get((number, ""), "blocked")
                outcome.keys[number, out.name] = {"succeeded": out.keys, "skipped": SKIPPED}.get(
                    state, BLOCKED
                )
    return outcome


def _evaluate_step(outcome: Outcome, shape: Shape, number: int, node: NodeShape, key: str) -> None:
    arguments = [_argument(outcome, shape, source, key) for source in node.arguments]
    flat = [one for a in arguments for one in (a if isinstance(a, _List) else [a])]
    if any(one is BLOCKED for one in flat):
        outcome.states[number, key] = "blocked"
    elif any(_is_skipped(argument) for argument in arguments):
        outcome.states[number, key] = "skipped"
    elif key in node.failing:
        outcome.states[number, key] = "failed"
    else:
        outcome.states[number, key] = "succeeded"
        passed = [
            [one for one in a if one is not SKIPPED] if isinstance(a, _List) else a
            for a in arguments
        ]
        for given in _given(number, node, key, passed):
            piece = getattr(given, "mapping_key", key)
            outcome.values[number, given.output_name, piece] = given.value


class _List(list[Any]):
    """A fan-in list, as distinct from a value that is a list."""


def _is_skipped(argument: Any) -> bool:
    if isinstance(argument, _List):
        return all(one is SKIPPED for one in argument)
    return argument is SKIPPED


def _argument(outcome: Outcome, shape: Shape, source: Any, key: str) -> Any:
    if isinstance(source, tuple):
        return _List(_argument(outcome, shape, one, key) for one in source)
    if source.kind == "constant":
        return "constant"
    if source.kind == "piece":
        return outcome.values[source.node, source.output, key]
    if source.kind == "collect":
        return _collected(outcome, shape, source)
    at = key if shape[source.node].scope else ""
    return _value(outcome, source, at)


def _value(outcome: Outcome, source: Source, key: str) -> Any:
    state = outcome.states.get((source.node, key), "blocked")
    if state == "succeeded":
        return outcome.values.get((source.node, source.output, key), SKIPPED)
    return SKIPPED if state == "skipped" else BLOCKED


def _collected(outcome: Outcome, shape: Shape, source: Source) -> Any:
    assert source.level is not None
    keys = outcome.keys[source.level]
    if not isinstance(keys, tuple):
        return keys
    maker, output = source.level
    required = next(out.required for out in shape[maker].outs if out.name == output)
    if not keys:
        return ({} if source.as_dict else []) if required else SKIPPED
    if (source.node, source.output) == source.level:
        found = {key: outcome.values[source.node, source.output, key] for key in keys}
    else:
        found = {key: _value(outcome, source, key) for key in keys}
    if any(value is BLOCKED for value in found.values()):
        return BLOCKED
    found = {key: value for key, value in found.items() if value is not SKIPPED}
    if not found:
        return SKIPPED
    return found if source.as_dict else list(found.values())
