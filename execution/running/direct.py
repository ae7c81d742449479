"""An op called as the function that it is, outside every job: for unit tests. Nothing is stored or logged.

What comes back is what the function gives: a value, its `Output` objects, a generator, a coroutine, an async generator.
What it gives is checked as in a run.
"""

import types
from collections.abc import AsyncIterator, Mapping
from typing import Any

from execution.definition.composition import bind
from execution.definition.op import CONFIG_NAME, OpDefinition
from execution.errors import DefinitionError
from execution.running.context import OpContext
from execution.running.step_runner import Attempt, Ticket
from execution.running.type_checks import check_inputs

EPHEMERAL = "EPHEMERAL"
"""The id of the run that there is not."""


def build_op_context(
    resources: Mapping[str, Any] | None = None,
    op_config: Any = None,
    *,
    config: Any = None,
    mapping_key: str | None = None,
    run_id: str = EPHEMERAL,
    tags: Mapping[str, str] | None = None,
    attempt: int = 1,
    retry_number: int = 0,
) -> OpContext:
    """A context to call an op with: `add(build_op_context(config={"by": 2}), 1)`.

    `config` is another name of `op_config`. `mapping_key`: that of a clone.
    """
    path = () if mapping_key is None else (mapping_key,)
    given = op_config if config is None else config
    return OpContext(
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


def invoke(op: OpDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call the function of an op. Raises DefinitionError for arguments that do not fit, StepError for what it gives."""
    context, rest, named = _context(op, args, dict(kwargs))
    arguments = _arguments(op, context, rest, named)
    attempt = Attempt(Ticket(op, context, {}, op.name), None, None)
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
    arguments = {**op.defaults, **dict(bind(op, args, kwargs, where))}
    for name in op.required_inputs:
        if name not in arguments:
            raise DefinitionError(f"{where}: input {name!r} is missing; pass a value for it")
    check_inputs(op.name, arguments, op.input_types)
    if config is None and (context.op_config != {} or not op.has_default_config):
        op.config.check(context.op_config, "$.config")
        config = {CONFIG_NAME: op.config.build(context.op_config)}
    return arguments | (config or {} if op.takes_config else {})


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
