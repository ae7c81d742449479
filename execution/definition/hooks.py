"""Hooks: functions that are told how a step has ended, `@success_hook` and `@failure_hook`; definitions only."""

import keyword
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, overload

from execution.definition.ins_outs import refuse_unknown
from execution.definition.resources import checked_keys
from execution.errors import DefinitionError

Outcome = Literal["success", "failure"]


class HookDefinition:
    """A function of one parameter, the hook's context, and the outcome that it is told of."""

    def __init__(
        self,
        function: Callable[..., Any],
        outcome: Outcome,
        name: str | None = None,
        required_resource_keys: Iterable[str] = (),
    ) -> None:
        self.function = function
        self.outcome = outcome
        self.name = name or function.__name__
        if not self.name.isidentifier() or keyword.iskeyword(self.name):
            raise DefinitionError(
                f"hook name {self.name!r} is not a Python identifier; choose another"
            )
        self.required_resource_keys = checked_keys(required_resource_keys, f"hook {self.name!r}")
        self.__doc__ = function.__doc__
        self.__name__ = self.name

    def __call__(self, told: Any) -> Any:
        """As a decorator of a job or op, the same with this hook; else what the function gives, for unit tests."""
        with_hooks = getattr(told, "with_hooks", None)
        return self.function(told) if with_hooks is None else with_hooks({self})

    def __repr__(self) -> str:
        return f"<{self.outcome} hook {self.name}>"


@overload
def success_hook(hook_fn: Callable[..., Any], /) -> HookDefinition: ...
@overload
def success_hook(
    *, name: str | None = None, required_resource_keys: Iterable[str] = (), **unknown: Any
) -> Callable[[Callable[..., Any]], HookDefinition]: ...
def success_hook(
    hook_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    required_resource_keys: Iterable[str] = (),
    **unknown: Any,
) -> HookDefinition | Callable[[Callable[..., Any]], HookDefinition]:
    """Make a hook that is called once a step has succeeded, each clone by itself, with its outcome on disk.

    It is called at least once for each success: again, where the process died before its end was recorded. What it
    raises is recorded, and changes nothing else. Raises DefinitionError.
    """
    refuse_unknown("@success_hook", unknown)
    return _hook(hook_fn, "success", name, required_resource_keys)


@overload
def failure_hook(hook_fn: Callable[..., Any], /) -> HookDefinition: ...
@overload
def failure_hook(
    *, name: str | None = None, required_resource_keys: Iterable[str] = (), **unknown: Any
) -> Callable[[Callable[..., Any]], HookDefinition]: ...
def failure_hook(
    hook_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    required_resource_keys: Iterable[str] = (),
    **unknown: Any,
) -> HookDefinition | Callable[[Callable[..., Any]], HookDefinition]:
    """As `success_hook`, for a step that has failed and will not be tried again."""
    refuse_unknown("@failure_hook", unknown)
    return _hook(hook_fn, "failure", name, required_resource_keys)


def _hook(
    function: Callable[..., Any] | None,
    outcome: Outcome,
    name: str | None,
    keys: Iterable[str],
) -> HookDefinition | Callable[[Callable[..., Any]], HookDefinition]:
    if function is not None:
        return HookDefinition(function, outcome, name, keys)
    return lambda decorated: HookDefinition(decorated, outcome, name, keys)


Hooks = tuple[HookDefinition, ...]
"""Of a node, by name."""


def joined(where: str, *several: Iterable[HookDefinition]) -> Hooks:
    """Hooks from several places, each once, by name; raises DefinitionError for what is none, and for a name twice."""
    found: dict[str, HookDefinition] = {}
    for hooks in several:
        if isinstance(hooks, HookDefinition) or not isinstance(hooks, Iterable):
            raise DefinitionError(f"{where}: hooks is {hooks!r}; write a set of hooks")
        for hook in hooks:
            if not isinstance(hook, HookDefinition):
                raise DefinitionError(
                    f"{where}: {hook!r} is no hook; decorate a function with @success_hook or @failure_hook"
                )
            if found.setdefault(hook.name, hook) is not hook:
                raise DefinitionError(
                    f"{where} has two hooks named {hook.name!r}; give one another name"
                )
    return tuple(found[name] for name in sorted(found))


def hooks_of_nodes(
    job: str, nodes: Iterable[str], hooks: Iterable[HookDefinition], own: Mapping[str, Hooks]
) -> dict[str, Hooks]:
    """Node -> the job's hooks and its own; without nodes that have none."""
    everywhere = joined(f"job {job!r}", hooks)
    all_of_them = {
        node: joined(f"job {job!r}, op {node!r}", everywhere, own.get(node, ())) for node in nodes
    }
    return {node: hooks for node, hooks in all_of_them.items() if hooks}
