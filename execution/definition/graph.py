"""`@graph`: nodes under a name, to be used in jobs and in other graphs like an op (rule D10).

A graph leaves no trace of its own in the graph data but the names of its nodes, `graph.op`: its body is evaluated anew,
with symbols, wherever it is called. So it can be mapped, yield dynamic outputs and return handles of any shape.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

from execution.definition.composition import current
from execution.definition.handles import in_shape
from execution.definition.hooks import HookDefinition, Hooks, joined
from execution.definition.ins_outs import refuse_unknown
from execution.definition.job import JobDefinition, job
from execution.errors import DefinitionError


class GraphDefinition:
    """A graph: called inside the body of a job or graph, its nodes join those of that body."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        description: str | None,
        alias: str | None = None,
        hooks: Hooks = (),
    ) -> None:
        self.function = function
        self.name = name
        self.description = description
        self._alias = alias
        self._hooks = hooks
        self._signature = inspect.signature(function)
        self.__doc__ = function.__doc__
        self.__name__ = name

    def alias(self, name: str) -> "GraphDefinition":
        """The same graph under another name: its nodes are `name.op`."""
        if not name.isidentifier():
            raise DefinitionError(
                f"alias {name!r} of graph {self.name!r} is not a Python identifier; choose another"
            )
        return GraphDefinition(self.function, self.name, self.description, name, self._hooks)

    def with_hooks(self, hooks: Iterable[HookDefinition]) -> "GraphDefinition":
        """The same graph, with hooks that are told how each step of each of its nodes ends."""
        both = joined(f"graph {self.name!r}", self._hooks, hooks)
        return GraphDefinition(self.function, self.name, self.description, self._alias, both)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        composition = current()
        if composition is None:
            raise DefinitionError(
                f"graph {self.name!r} was called outside a job; call it in the body of a @job or @graph, "
                f"or make a job of it with {self.name}.to_job()"
            )
        where = composition.address("graph", self._alias or self.name)
        bound = self._bind(where, args, kwargs)
        full = composition.take_name(self._alias, self.name)
        with composition.within(full):
            returned = self.function(*bound.args, **bound.kwargs)
        if self._hooks:
            composition.hook_within(full, self._hooks)
        return in_shape(returned, lambda handle: handle, where)

    def _bind(
        self, where: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> inspect.BoundArguments:
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError as error:
            inputs = ", ".join(self._signature.parameters) or "none"
            raise DefinitionError(f"{where}: {error}; its inputs: {inputs}") from None

    def to_job(
        self,
        name: str | None = None,
        *,
        input_values: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> JobDefinition:
        """A job of this graph's nodes. `input_values`: a plain value for each input; `arguments`: those of `@job`."""
        bound = self._bind(f"job of graph {self.name!r}", (), input_values or {})

        def body() -> None:
            self.function(*bound.args, **bound.kwargs)

        functools.update_wrapper(body, self.function)
        del body.__wrapped__  # type: ignore[attr-defined]  # the job takes no inputs, whatever the graph takes
        arguments.setdefault("description", self.description)
        arguments["hooks"] = {*self._hooks, *arguments.get("hooks", ())}
        return job(name=name or self.name, **arguments)(body)

    def __repr__(self) -> str:
        return f"<graph {self.name}>"


@overload
def graph(compose_fn: Callable[..., Any], /) -> GraphDefinition: ...
@overload
def graph(
    *, name: str | None = None, description: str | None = None, **unknown: Any
) -> Callable[[Callable[..., Any]], GraphDefinition]: ...
def graph(
    compose_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    **unknown: Any,
) -> GraphDefinition | Callable[[Callable[..., Any]], GraphDefinition]:
    """Make a graph of a function that wires ops; its parameters are the graph's inputs.

    The function is called wherever the graph is used, and may return a handle, a tuple, list or dict of handles, or
    None. Raises DefinitionError.
    """
    refuse_unknown("@graph", unknown)

    def decorate(function: Callable[..., Any]) -> GraphDefinition:
        return GraphDefinition(function, name or function.__name__, description)

    return decorate if compose_fn is None else decorate(compose_fn)
