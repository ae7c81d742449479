"""Inside a `@job` body: calling an op records a node and gives a handle; `.map` and `.collect` wire handles (D3-D9).

Everything here happens once, at definition, with symbols; no value is known yet. What comes out is runstore's
graph data.
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from execution.definition.hooks import HookDefinition, Hooks, joined
from execution.definition.retries import RetryPolicy, check_policy
from execution.errors import DefinitionError
from runstore.errors import NotStorable
from runstore.log.codec import check_exact
from runstore.log.graph import (
    Constant,
    FanIn,
    FromCollect,
    FromOutput,
    Graph,
    Input,
    Level,
    Node,
    Single,
    Source,
)
from runstore.log.graph import Output as GraphOutput

if TYPE_CHECKING:
    from execution.definition.op import OpDefinition

Scope = tuple[Level, ...]


class Composition:
    """The job that is being defined."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.nodes: list[Node] = []
        self.ops: dict[str, OpDefinition] = {}
        self.retry_policies: dict[str, RetryPolicy] = {}
        """Node -> its policy, else that of its op; without those that have neither."""
        self.hooks: dict[str, Hooks] = {}
        """Node -> its own hooks; without those that have none."""

    def graph(self) -> Graph:
        """What has been composed."""
        return Graph(self.job, tuple(self.nodes))

    def free_name(self, op: str) -> str:
        """`echo`, `echo_2`, `echo_3`, … (rule D3)."""
        name, number = op, 1
        while name in self.ops:
            number += 1
            name = f"{op}_{number}"
        return name

    def add(
        self,
        op: "OpDefinition",
        name: str | None,
        tags: Mapping[str, str],
        inputs: list[Input],
        scope: Scope,
    ) -> Node:
        """Record a node."""
        if name is not None and name in self.ops:
            raise DefinitionError(
                f"job {self.job!r} has two nodes named {name!r}; choose another alias"
            )
        outputs = tuple(
            GraphOutput(key, out.dynamic, out.is_required) for key, out in op.outs.items()
        )
        node = Node(
            name or self.free_name(op.name),
            op.name,
            tuple(inputs),
            outputs,
            scope,
            {**op.tags, **tags},
        )
        self.nodes.append(node)
        self.ops[node.name] = op
        return node


_composing: ContextVar[Composition | None] = ContextVar("composing", default=None)


_invoker: Callable[..., Any] | None = None


def set_invoker(invoker: Callable[..., Any]) -> None:
    """Say what calling an op outside every job does; the rooms that know how stand above this one."""
    global _invoker
    _invoker = invoker


@contextmanager
def composing(job: str) -> Iterator[Composition]:
    """The body of a job is being evaluated."""
    composition = Composition(job)
    token = _composing.set(composition)
    try:
        yield composition
    finally:
        _composing.reset(token)


class Invocation:
    """An op about to be called: with an alias, with tags, with a retry policy, with hooks."""

    def __init__(
        self,
        op: "OpDefinition",
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        retry_policy: RetryPolicy | None = None,
        hooks: Hooks = (),
    ) -> None:
        self._op = op
        self._name = name
        self._tags = dict(tags or {})
        self._retry_policy = check_policy(retry_policy, f"op {op.name!r}") or op.retry_policy
        self._hooks = hooks

    def alias(self, name: str) -> "Invocation":
        """Call the node by this name."""
        if not name.isidentifier():
            raise DefinitionError(
                f"alias {name!r} of op {self._op.name!r} is not a Python identifier; choose another"
            )
        return Invocation(self._op, name, self._tags, self._retry_policy, self._hooks)

    def tag(self, tags: Mapping[str, str]) -> "Invocation":
        """Give the node more tags."""
        tags = {**self._tags, **tags}
        return Invocation(self._op, self._name, tags, self._retry_policy, self._hooks)

    def with_retry_policy(self, retry_policy: RetryPolicy) -> "Invocation":
        """Give the node a retry policy, in place of its op's or its job's."""
        return Invocation(self._op, self._name, self._tags, retry_policy, self._hooks)

    def with_hooks(self, hooks: Iterable[HookDefinition]) -> "Invocation":
        """Tell these hooks too how each step of the node ends."""
        all_hooks = joined(f"op {self._op.name!r}", self._hooks, hooks)
        return Invocation(self._op, self._name, self._tags, self._retry_policy, all_hooks)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        composition = _composing.get()
        if composition is None:
            assert _invoker is not None, "import execution"
            return _invoker(self._op, args, kwargs)
        where = f"job {composition.job!r}, op {self._name or self._op.name!r}"
        inputs, scopes = [], []
        for name, value in bind(self._op, args, kwargs, where):
            source, scope = _source(value, composition, f"{where}, input {name!r}")
            inputs.append(Input(name, source, order=name in self._op.nothing_inputs))
            scopes.append(scope)
        scope = _union(scopes, where)
        if scope and self._op.is_dynamic:
            raise DefinitionError(
                f"{where}: an op with a dynamic output cannot be mapped in this version (nested maps); "
                "yield all keys from one op"
            )
        node = composition.add(self._op, self._name, self._tags, inputs, scope)
        if self._retry_policy is not None:
            composition.retry_policies[node.name] = self._retry_policy
        if self._hooks:
            composition.hooks[node.name] = self._hooks
        return _handles(composition, node)


def bind(
    op: "OpDefinition", args: tuple[Any, ...], kwargs: dict[str, Any], where: str
) -> list[tuple[str, Any]]:
    """(input, what was given for it) in the order of the inputs; raises DefinitionError where that does not fit."""
    names = [parameter.name for parameter in op.inputs]
    if len(args) > len(names):
        raise DefinitionError(f"{where} takes {len(names)} inputs, {len(args)} were given")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names:
            raise DefinitionError(
                f"{where} has no input {name!r}; it has {', '.join(names) or 'none'}"
            )
        if name in given:
            raise DefinitionError(f"{where}: input {name!r} was given twice")
        given[name] = value
    return [(name, given[name]) for name in names if name in given]


def _source(value: Any, composition: Composition, where: str) -> tuple[Source, Scope]:
    if isinstance(value, list | tuple) and any(isinstance(item, _Handle) for item in value):
        pairs = [_single(item, composition, where) for item in value]
        return FanIn(tuple(single for single, _ in pairs)), _union(
            [scope for _, scope in pairs], where
        )
    return _single(value, composition, where)


def _single(value: Any, composition: Composition, where: str) -> tuple[Single, Scope]:
    if isinstance(value, OutputHandle):
        if value._composition is not composition:
            raise DefinitionError(
                f"{where} was given a handle of another job, {value._composition.job!r}"
            )
        return value._source, value._scope
    if isinstance(value, _Handle):
        value._refuse(f"{where} was given", "passed to an op")
    if isinstance(value, Mapping) and any(isinstance(item, _Handle) for item in value.values()):
        raise DefinitionError(
            f"{where} was given a dict of handles; pass a handle or a list of handles"
        )
    try:
        return Constant(check_exact(value, f"{where}: the value")), ()
    except NotStorable as error:
        raise DefinitionError(str(error)) from None


def _union(scopes: list[Scope], where: str) -> Scope:
    union: dict[Level, None] = {}
    for scope in scopes:
        union.update(dict.fromkeys(scope))
    if len(union) > 1:
        levels = " and ".join(str(level) for level in union)
        raise DefinitionError(
            f"{where} is mapped under {levels}; one node under several dynamic outputs (a product) is not available in "
            "this version. Collect one of them first"
        )
    return tuple(union)


def _handles(composition: Composition, node: Node) -> Any:
    handles = [_handle(composition, node, output) for output in node.outputs]
    if len(handles) == 1:
        return handles[0]
    names = [output.name for output in node.outputs]
    return namedtuple(node.op, names)(*handles)


def _handle(composition: Composition, node: Node, output: GraphOutput) -> "_Handle":
    if output.dynamic:
        return DynamicHandle(composition, node, output.name)
    return OutputHandle(composition, FromOutput(node.name, output.name), node.scope)


class _Handle:
    """A symbol for a value that a run will have."""

    _composition: Composition

    def _name(self) -> str:
        raise AssertionError

    def _refuse(self, fact: str, verb: str) -> NoReturn:
        raise DefinitionError(f"{fact} {self._name()}, which cannot be {verb}; use map or collect")

    def _refuse_use(self, verb: str) -> NoReturn:
        raise DefinitionError(
            f"job {self._composition.job!r}: {self._name()} cannot be {verb}; use map or collect"
        )

    def __iter__(self) -> Iterator[Any]:
        self._refuse_use("iterated")

    def __getitem__(self, key: Any) -> Any:
        self._refuse_use("indexed")

    def alias(self, name: str) -> NoReturn:
        """A handle has no alias; the op it comes from has."""
        self._refuse_use("aliased")


class OutputHandle(_Handle):
    """One value per key path of its scope: a plain output, a piece inside a map, or a collected list."""

    def __init__(
        self, composition: Composition, source: FromOutput | FromCollect, scope: Scope
    ) -> None:
        self._composition = composition
        self._source = source
        self._scope = scope

    def _name(self) -> str:
        return f"output {self._source.output!r} of {self._source.node!r}"

    def _refuse_use(self, verb: str) -> NoReturn:
        raise DefinitionError(
            f"job {self._composition.job!r}: {self._name()} cannot be {verb} at definition; pass it to an op, "
            "or declare it DynamicOut to map over its values"
        )

    def map(self, fn: Callable[[Any], Any]) -> NoReturn:
        """Only a dynamic output can be mapped."""
        self._refuse_dynamic("mapped")

    def collect(self) -> NoReturn:
        """Only a dynamic output can be collected."""
        self._refuse_dynamic("collected")

    def _refuse_dynamic(self, verb: str) -> NoReturn:
        job, source = self._composition.job, self._source
        if isinstance(source, FromCollect):
            raise DefinitionError(
                f"job {job!r}: {self._name()} cannot be {verb}, since it is collected already; pass it to an op"
            )
        if Level(source.node, source.output) in self._scope:
            raise DefinitionError(
                f"job {job!r}: one piece of {self._name()} cannot be {verb}; pass it to an op, "
                f"or call map and collect on what {source.node!r} returned"
            )
        raise DefinitionError(
            f"job {self._composition.job!r}: {self._name()} cannot be {verb}, since it is not a DynamicOut; "
            "declare it with out=DynamicOut()"
        )


class DynamicHandle(_Handle):
    """A dynamic output."""

    def __init__(self, composition: Composition, node: Node, output: str) -> None:
        self._composition = composition
        self._level = Level(node.name, output)
        self._piece = OutputHandle(
            composition, FromOutput(node.name, output), (*node.scope, self._level)
        )

    def _name(self) -> str:
        return f"dynamic output {self._level.output!r} of {self._level.node!r}"

    def map(self, fn: Callable[[Any], Any]) -> Any:
        """Call `fn` once with a symbol for one piece; what it wires is cloned per key (rule D5)."""
        return _wrap(fn(self._piece), self._level, self._composition)

    def collect(self, *, as_dict: bool = False) -> OutputHandle:
        """All pieces, in the order of their keys: a list, or {key: value}."""
        return _collected(self._piece, self._level, as_dict)


class MappedHandle(_Handle):
    """What `.map` returned: one value per key."""

    def __init__(self, handle: OutputHandle, level: Level) -> None:
        self._composition = handle._composition
        self._inner = handle
        self._level = level

    def _name(self) -> str:
        return f"{self._inner._name()}, mapped under {self._level},"

    def map(self, fn: Callable[[Any], Any]) -> Any:
        """Go on with each of the values; same clones, one op further."""
        return _wrap(fn(self._inner), self._level, self._composition)

    def collect(self, *, as_dict: bool = False) -> OutputHandle:
        """All values, in the order of the keys: a list, or {key: value}."""
        if self._level not in self._inner._scope:
            raise DefinitionError(
                f"job {self._composition.job!r}: {self._inner._name()} cannot be collected over {self._level}, "
                "since it does not depend on the mapped value; use it as it is"
            )
        return _collected(self._inner, self._level, as_dict)


def _collected(handle: OutputHandle, level: Level, as_dict: bool) -> OutputHandle:
    source = handle._source
    if isinstance(source, FromCollect):
        raise DefinitionError(
            f"job {handle._composition.job!r}: {handle._name()} is collected already; pass it to an op"
        )
    rest = tuple(other for other in handle._scope if other != level)
    collect = FromCollect(source.node, source.output, level, "dict" if as_dict else "list")
    return OutputHandle(handle._composition, collect, rest)


def _wrap(result: Any, level: Level, composition: Composition) -> Any:
    if result is None or isinstance(result, MappedHandle):
        return result
    if isinstance(result, OutputHandle):
        return MappedHandle(result, level)
    if isinstance(result, tuple):
        parts = [_wrap(part, level, composition) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    if isinstance(result, list):
        return [_wrap(part, level, composition) for part in result]
    if isinstance(result, dict):
        return {name: _wrap(part, level, composition) for name, part in result.items()}
    raise DefinitionError(
        f"job {composition.job!r}: the callable mapped over {level} returned a {type(result).__name__}; "
        "return a handle, a tuple, list or dict of handles, or None"
    )
