"""Inside a `@job` or `@graph` body: calling an op records a node and gives a handle (rules D3, D6, D7, D10).

Everything here happens once, at definition, with symbols; no value is known yet. What comes out is runstore's
graph data.
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from execution.definition.handles import (
    Body,
    DynamicHandle,
    Handle,
    MappedHandle,
    OutputHandle,
    Scope,
)
from execution.definition.hooks import HookDefinition, Hooks, joined
from execution.definition.retries import RetryPolicy, check_policy
from execution.definition.tags import checked_tags
from execution.errors import DefinitionError
from runstore.errors import NotStorable
from runstore.log.codec import check_exact
from runstore.log.graph import (
    Constant,
    FanIn,
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


class Composition:
    """The job that is being defined."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.body = Body(job)
        self.nodes: list[Node] = []
        self.ops: dict[str, OpDefinition] = {}
        self.retry_policies: dict[str, RetryPolicy] = {}
        """Node -> its policy, else that of its op; without those that have neither."""
        self.hooks: dict[str, Hooks] = {}
        """Node -> its own hooks; without those that have none."""
        self._names: set[str] = set()
        self._scopes: dict[str, Scope] = {}
        self._within = ""
        """`outer.inner.` in the body of a graph, before the names of its nodes (rule D10)."""

    def scope_of(self, name: str) -> Scope:
        """The scope of the node of that name."""
        return self._scopes[name]

    def graph(self) -> Graph:
        """What has been composed."""
        return Graph(self.job, tuple(self.nodes))

    def take_name(self, alias: str | None, name: str) -> str:
        """The full name of a node or graph: its alias, or else `echo`, `echo_2`, `echo_3`, … (rule D3)."""
        full, number = self._within + (alias or name), 1
        if alias is not None and full in self._names:
            raise DefinitionError(
                f"job {self.job!r} has two nodes named {full!r}; choose another alias"
            )
        while full in self._names:
            number += 1
            full = f"{self._within}{name}_{number}"
        self._names.add(full)
        return full

    def address(self, kind: str, name: str) -> str:
        """What an error is about: `job 'j', op 'graph.echo'`."""
        return f"job {self.job!r}, {kind} {self._within + name!r}"

    @contextmanager
    def within(self, graph: str) -> Iterator[None]:
        """The body of the graph of this full name is being evaluated."""
        before, self._within = self._within, f"{graph}."
        try:
            yield
        finally:
            self._within = before

    def hook_within(self, graph: str, hooks: Iterable[HookDefinition]) -> None:
        """Give each node of the graph of this full name these hooks too."""
        for node in self.nodes:
            if node.name.startswith(f"{graph}."):
                own = self.hooks.get(node.name, ())
                self.hooks[node.name] = joined(f"job {self.job!r}, op {node.name!r}", own, hooks)

    def add(
        self,
        op: "OpDefinition",
        name: str | None,
        tags: Mapping[str, str],
        inputs: list[Input],
        scope: Scope,
    ) -> Node:
        """Record a node."""
        outputs = tuple(
            GraphOutput(key, out.dynamic, out.is_required) for key, out in op.outs.items()
        )
        node = Node(
            self.take_name(name, op.name),
            op.name,
            tuple(inputs),
            outputs,
            scope,
            {**op.tags, **tags},
        )
        self.nodes.append(node)
        self.ops[node.name] = op
        self._scopes[node.name] = scope
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


def current() -> Composition | None:
    """The job whose body is being evaluated."""
    return _composing.get()


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
        more = checked_tags(tags, f"op {self._op.name!r}")
        return Invocation(
            self._op, self._name, {**self._tags, **more}, self._retry_policy, self._hooks
        )

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
        where = composition.address("op", self._name or self._op.name)
        inputs, scopes = [], []
        for name, value in bind(self._op, args, kwargs, where):
            source, scope = _source(value, composition, f"{where}, input {name!r}")
            inputs.append(Input(name, source, order=name in self._op.nothing_inputs))
            scopes.append(scope)
        scope = composition.body.ordered(scopes, composition.scope_of)
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
    if isinstance(value, list | tuple) and any(_is_wired(item) for item in value):
        pairs = [_single(item, composition, where) for item in value]
        levels = dict.fromkeys(level for _, scope in pairs for level in scope)
        return FanIn(tuple(single for single, _ in pairs)), tuple(levels)
    return _single(value, composition, where)


def _is_wired(item: Any) -> bool:
    return isinstance(item, Handle) or callable(item)


def _single(value: Any, composition: Composition, where: str) -> tuple[Single, Scope]:
    if isinstance(value, Handle) and value._body is not composition.body:
        raise DefinitionError(f"{where} was given a handle of another job, {value._body.job!r}")
    if isinstance(value, MappedHandle):
        value._refuse(f"{where} was given", "passed to an op")
    if isinstance(value, Handle):
        return value._source, value._scope
    if isinstance(value, Mapping) and any(isinstance(item, Handle) for item in value.values()):
        raise DefinitionError(
            f"{where} was given a dict of handles; pass a handle or a list of handles"
        )
    if callable(value):
        raise DefinitionError(
            f"{where} was given {value!r}, which has not been called; pass what it returns"
        )
    try:
        return Constant(check_exact(value, f"{where}: the value")), ()
    except NotStorable as error:
        raise DefinitionError(str(error)) from None


def _handles(composition: Composition, node: Node) -> Any:
    handles = [_handle(composition, node, output) for output in node.outputs]
    if len(handles) == 1:
        return handles[0]
    names = [output.name for output in node.outputs]
    return namedtuple(node.op, names)(*handles)


def _handle(composition: Composition, node: Node, output: GraphOutput) -> Handle:
    if output.dynamic:
        return DynamicHandle(composition.body, Level(node.name, output.name), node.scope)
    return OutputHandle(composition.body, FromOutput(node.name, output.name), node.scope)
