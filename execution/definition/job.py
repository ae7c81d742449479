"""`@job`: ops wired into a graph, once, when the function is decorated."""

import copy
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, overload

from execution.definition.bounds import checked_count, checked_tag_counts
from execution.definition.composition import composing
from execution.definition.hooks import HookDefinition, hooks_of_nodes
from execution.definition.ins_outs import refuse_unknown
from execution.definition.op import OpDefinition
from execution.definition.resources import check_resources, stand_ins
from execution.definition.retries import RetryPolicy, check_policy
from execution.definition.tags import checked_tags
from execution.definition.wire_types import check_wires
from execution.errors import DefinitionError
from runstore.log.graph import Graph

_launcher: Callable[..., Any] | None = None


def set_launcher(launcher: Callable[..., Any]) -> None:
    """Say what `JobDefinition.execute_in_process` does; the rooms that run jobs stand above this one."""
    global _launcher
    _launcher = launcher


class JobDefinition:
    """A job: its graph as data, and the ops of its nodes."""

    def __init__(
        self,
        function: Callable[[], object],
        name: str,
        description: str | None,
        tags: Mapping[str, str],
        op_retry_policy: RetryPolicy | None = None,
        resources: Mapping[str, Any] | None = None,
        hooks: Iterable[HookDefinition] = (),
        executor: Any = None,
        *,
        max_concurrent: int | None = None,
        tag_concurrency: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.description = description
        self.tags = checked_tags(tags, f"job {name!r}")
        self._module = function.__module__
        if function.__code__.co_argcount:
            raise DefinitionError(
                f"job {name!r} takes parameters; read configuration in an op, context.op_config"
            )
        with composing(name) as composition:
            returned = function()
        if returned is not None:
            raise DefinitionError(
                f"job {name!r} returns a {type(returned).__name__}; a job returns nothing, "
                "read its outputs with RunResult.output_for_node"
            )
        self.graph: Graph = composition.graph()
        self.ops: dict[str, OpDefinition] = composition.ops
        check_wires(self.graph, self.ops)
        policy = check_policy(op_retry_policy, f"job {name!r}")
        self.retry_policies: dict[str, RetryPolicy] = (
            {**dict.fromkeys(self.ops, policy), **composition.retry_policies}
            if policy
            else composition.retry_policies
        )
        """Node -> when its failed steps are tried again; without those that are not."""
        self.resources = dict(resources or {})
        self.hooks = hooks_of_nodes(name, self.ops, hooks, composition.hooks)
        """Node -> what is told how its steps end; without those that have none."""
        self.executor = checked_executor(f"job {name!r}", executor)
        """What runs its steps where nothing else is chosen; None: the default."""
        self.max_concurrent = checked_count(max_concurrent, f"job {name!r}: max_concurrent")
        """How many steps of a run may run at a time; None: as many as its executor has places."""
        self.tag_concurrency = checked_tag_counts(tag_concurrency, f"job {name!r}")
        """Tag, or `tag=value` -> how many steps of a run may run at a time that have it, with the same value."""
        self._check_resources()
        self.__doc__ = function.__doc__
        self.__name__ = name

    def _check_resources(self) -> None:
        required = [(f"op {node!r}", op.required_resource_keys) for node, op in self.ops.items()]
        for node, hooks in self.hooks.items():
            of_hooks = [(hook.name, hook.required_resource_keys) for hook in hooks]
            required += [(f"hook {name!r} of op {node!r}", keys) for name, keys in of_hooks]
        check_resources(f"job {self.name!r}", self.resources, required)

    def with_hooks(self, hooks: Iterable[HookDefinition]) -> "JobDefinition":
        """The same job, with more hooks for each of its ops; give it the name that this one had in its module."""
        other = copy.copy(self)
        other.hooks = hooks_of_nodes(self.name, self.ops, hooks, self.hooks)
        other._check_resources()
        return other

    def with_resources(self, given: Mapping[str, Any]) -> "JobDefinition":
        """The same job with stand-ins for some of its resources, for a test; it is no longer the one of its module."""
        other = copy.copy(self)
        other.resources = {**self.resources, **stand_ins(given)}
        return other

    def declared(self, node: str, output: str) -> Any:
        """The type that an output's op declares for its values; None where the node or the type is unknown."""
        op = self.ops.get(node)
        return op.declared.get(output) if op else None

    @property
    def reference(self) -> str:
        """`module:name` or `/path/file.py:name`, by which another process can load this job; empty for `__main__`."""
        module = sys.modules.get(self._module)
        if module is None or self._module == "__main__":
            return ""
        name = next((name for name, value in vars(module).items() if value is self), None)
        if name is None:
            return ""
        if module.__package__:
            return f"{self._module}:{name}"
        file = getattr(module, "__file__", None)
        return f"{Path(file).absolute()}:{name}" if file else ""

    def execute_in_process(
        self,
        *,
        run_config: Mapping[str, Any] | None = None,
        store: Any = None,
        raise_on_error: bool = True,
        resources: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run this job for a test or a notebook, in memory unless a store is given; returns a RunResult.

        The run ends like any other; then the first failure in the order of steps is raised, unless
        `raise_on_error=False`. `resources`: in place of those of the job; plain objects are given as they are, and not
        closed.
        """
        assert _launcher is not None, "import execution"
        job = self if resources is None else self.with_resources(resources)
        return _launcher(job, run_config=run_config, store=store, raise_on_error=raise_on_error)

    def __call__(self) -> None:
        raise DefinitionError(
            f"job {self.name!r} is not called; run it with execute({self.name}, store)"
        )

    def __repr__(self) -> str:
        return f"<job {self.name}>"


@overload
def job(compose_fn: Callable[[], object], /) -> JobDefinition: ...
@overload
def job(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    op_retry_policy: RetryPolicy | None = None,
    resource_defs: Mapping[str, Any] | None = None,
    hooks: Iterable[HookDefinition] | None = None,
    executor: Any = None,
    max_concurrent: int | None = None,
    tag_concurrency: Mapping[str, int] | None = None,
    **unknown: Any,
) -> Callable[[Callable[[], object]], JobDefinition]: ...
def job(
    compose_fn: Callable[[], object] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    op_retry_policy: RetryPolicy | None = None,
    resource_defs: Mapping[str, Any] | None = None,
    hooks: Iterable[HookDefinition] | None = None,
    executor: Any = None,
    max_concurrent: int | None = None,
    tag_concurrency: Mapping[str, int] | None = None,
    **unknown: Any,
) -> JobDefinition | Callable[[Callable[[], object]], JobDefinition]:
    """Make a job of a function that wires ops. The function runs once, now. Raises DefinitionError.

    `op_retry_policy`: that of each op which has none of its own.
    `resource_defs`: key -> what ops require under it: a `@resource`, a plain object, or one with `__enter__` and
    `__exit__`, which is entered when it is first needed and left when the run ends. `hooks`: what is told how each step
    of each op ends. `executor`: what runs the steps of its runs where nothing else is chosen, `threads(32)` or
    `processes(4)`. `max_concurrent`: how many steps of a run may run at a time; `tag_concurrency`: how many of those
    that have a tag, `{"database": 4}` for each of its values, `{"database=main": 1}` for one.
    """
    refuse_unknown("@job", unknown)

    def decorate(function: Callable[[], object]) -> JobDefinition:
        return JobDefinition(
            function,
            name or function.__name__,
            description,
            tags or {},
            op_retry_policy,
            resource_defs or {},
            hooks or (),
            executor,
            max_concurrent=max_concurrent,
            tag_concurrency=tag_concurrency,
        )

    return decorate if compose_fn is None else decorate(compose_fn)


def checked_executor(where: str, executor: Any) -> Any:
    """What runs steps; raises DefinitionError for anything else, such as a name of the command line."""
    methods = ("open", "submit", "next_message", "close")
    if executor is not None and not all(hasattr(executor, name) for name in methods):
        raise DefinitionError(
            f"{where}: the executor is a {type(executor).__name__}; write threads(…) or processes(…)"
        )
    return executor


def check_given(job: Any, executor: Any) -> None:
    """Raise DefinitionError, before anything is written, for what a call can run nothing with."""
    if job is not None and not isinstance(job, JobDefinition):
        raise DefinitionError(
            f"a {type(job).__name__} is no job; write @job above a function that calls ops, and pass that"
        )
    checked_executor("this call", executor)
