"""An op called as the function that it is, outside every job: for unit tests. Nothing is stored or logged.

What comes back is what the function gives: a value, its `Output` objects, a generator, a coroutine, an async generator.
What it gives is checked as in a run.
"""

import types
from collections.abc import AsyncIterator, Mapping
from typing import Any

from execution.definition.composition import bind
from execution.definition.op import CONFIG_NAME, OpDefinition
from execution.definition.resources import check_resources, stand_ins
from execution.errors import DefinitionError
from execution.running.attempt import Attempt
from execution.running.context import OpContext
from execution.running.resources import Resources
from execution.running.told import Ticket
from execution.running.type_checks import check_inputs
from execution.running.worker import Worker

EPHEMERAL = "EPHEMERAL"
"""The id of the run that there is not."""


class DirectContext(OpContext, frozen=True, dict=True):
    """A context of no run. `with` it where its resources want to be closed."""

    def __enter__(self) -> "DirectContext":
        vars(self)["entered"] = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        vars(self)["worker"].close()


def build_op_context(
    resources: Mapping[str, Any] | None = None,
    op_config: Any = None,
    *,
    config: Any = None,
    resources_config: Mapping[str, Any] | None = None,
    mapping_key: str | None = None,
    run_id: str = EPHEMERAL,
    tags: Mapping[str, str] | None = None,
    attempt: int = 1,
    retry_number: int = 0,
) -> OpContext:
    """A context to call an op with: `add(build_op_context(config={"by": 2}), 1)`.

    `config` is another name of `op_config`. `mapping_key`: that of a clone. `resources`: plain objects, given as they
    are, and definitions, which are opened now; those that want to be closed need `with build_op_context(…) as context`.
    """
    path = () if mapping_key is None else (mapping_key,)
    given = op_config if config is None else config
    context = DirectContext(
        run_id,
        "",
        "",
        path,
        attempt,
        1,
        {} if given is None else given,
        dict(tags or {}),
        retry_number,
    )
    standing = stand_ins(resources or {})
    check_resources("build_op_context", standing, ())
    opened = Resources(standing, resources_config or {}, run_id)
    worker = vars(context)["worker"] = Worker(opened)
    vars(context)["resources"] = opened.take(frozenset(standing), worker.loop)
    return context


def invoke(op: OpDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call the function of an op. Raises DefinitionError for arguments that do not fit, StepError for what it gives."""
    context, rest, named = _context(op, args, dict(kwargs))
    arguments = _arguments(op, context, rest, named)
    attempt = Attempt(Ticket(op, context, {}, op.name), None)
    result = attempt.call(arguments)
    if not op.is_async:
        return _checked(attempt, result)
    return (
        _checked_stream(attempt, result)
        if hasattr(result, "__anext__")
        else _checked_later(attempt, result)
    )


def _arguments(
    op: OpDefinition, context: OpContext, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    where = f"op {op.name!r}, called outside a job"
    config = {CONFIG_NAME: kwargs.pop(CONFIG_NAME)} if CONFIG_NAME in kwargs else None
    _check_places(op, args, where)
    _check_resources(op, context, kwargs, where)
    resources = {name: kwargs.pop(name) for name in op.resource_parameters if name in kwargs}
    arguments = {**op.defaults, **dict(bind(op, args, kwargs, where))}
    for name in op.resource_parameters:
        arguments[name] = resources[name] if name in resources else getattr(context.resources, name)
    for name in op.nothing_inputs:
        arguments.pop(name, None)
    for name in op.required_inputs:
        if name not in arguments:
            raise DefinitionError(f"{where}: input {name!r} is missing; pass a value for it")
    check_inputs(op.name, arguments, op.input_types)
    if config is None and (context.op_config != {} or not op.has_default_config):
        op.config.check(context.op_config, "$.config")
        config = {CONFIG_NAME: op.config.build(context.op_config)}
    return arguments | (config or {} if op.takes_config else {})


def _check_places(op: OpDefinition, args: tuple[Any, ...], where: str) -> None:
    """Positions are those of inputs: what else the function takes would shift them."""
    others = [*([CONFIG_NAME] if op.takes_config else []), *op.resource_parameters]
    if others and len(args) > len(op.inputs):
        raise DefinitionError(
            f"{where}: {len(args)} values were given for {len(op.inputs)} inputs; pass {', '.join(others)} by name, "
            "or with build_op_context(config=…, resources={…})"
        )


def _check_resources(
    op: OpDefinition, context: OpContext, kwargs: Mapping[str, Any], where: str
) -> None:
    if not op.required_resource_keys:
        return
    worker = vars(context).get("worker")
    if worker is not None and worker.resources.must_be_closed and "entered" not in vars(context):
        worker.close()
        raise DefinitionError(
            f"{where}: its resources want to be closed; write `with build_op_context(…) as context:`"
        )
    for key in sorted(op.required_resource_keys.difference(vars(context.resources), kwargs)):
        raise DefinitionError(
            f"{where}: resource {key!r} is missing; pass build_op_context(resources={{{key!r}: …}})"
        )


def _context(
    op: OpDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[OpContext, tuple[Any, ...], dict[str, Any]]:
    name = op.parameters[0].name if op.takes_context else "context"
    if args and (isinstance(args[0], OpContext) or (op.takes_context and args[0] is None)):
        return args[0] or build_op_context(), args[1:], kwargs
    if isinstance(kwargs.get(name), OpContext):
        return kwargs.pop(name), args, kwargs
    if op.takes_context:
        raise DefinitionError(
            f"op {op.name!r} takes a context, and was called outside a job without one; pass it first: "
            f"{op.name}(build_op_context(), …)"
        )
    return build_op_context(), args, kwargs


def _checked(attempt: Attempt, result: Any) -> Any:
    if isinstance(result, types.GeneratorType):
        return attempt.checked(result)
    for _ in attempt.checked(result):
        pass
    return result


async def _checked_later(attempt: Attempt, coroutine: Any) -> Any:
    return _checked(attempt, await coroutine)


async def _checked_stream(attempt: Attempt, stream: Any) -> AsyncIterator[Any]:
    async for given in stream:
        attempt.examine(given)
        yield given
    attempt.check_complete()
