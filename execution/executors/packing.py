"""Tickets and what is told of them, as bytes on their way between the executor and a worker in another process.

A ticket names its node; what its op, its types and its config are both sides know by the brief. It carries references,
also those of a collect, in messages of their own, and constants of the graph: no value of a step. Back come events as
msgspec writes them, so that nothing an op makes or raises has to be picklable.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from execution.errors import CodeChanged, ResourceFailed, WorkerLost
from execution.running.brief import Brief
from execution.running.failing import describe_error
from execution.running.hook_runner import HookContext, HookTicket
from execution.running.inputs import (
    REFERENCES_AT_ONCE,
    Argument,
    Collected,
    InputLost,
    Stored,
    changed,
    references_to_travel,
    with_references,
)
from execution.running.told import Ticket, Told
from runstore import errors
from runstore.keys import KeyPath, format_step_key
from runstore.log.events import AnyEvent, ErrorInfo
from runstore.log.messages import Message

Arguments = dict[str, Argument | list[Argument]]


class _Packed(NamedTuple):
    """A ticket without what the brief says."""

    node: str
    code: str
    """Of its op (rule R5)."""
    key_path: KeyPath
    attempt: int
    retry_number: int
    arguments: Arguments
    """Without types; a collect without its references, which follow."""
    losses: int = 0
    hook: str = ""
    error: ErrorInfo | None = None


def pack(ticket: Ticket | HookTicket, brief: Brief) -> Iterator[bytes]:
    """The messages that a ticket is sent as."""
    if isinstance(ticket, HookTicket):
        step, arguments = ticket.context.step, cast(Arguments, dict(ticket.context.outputs))
        more: tuple[Any, ...] = (0, ticket.hook.name, ticket.context.error)
    else:
        given = brief.given.get(ticket.context.node, {})
        step, more = ticket.context, (ticket.losses,)
        arguments = {n: one for n, one in ticket.arguments.items() if n not in given}
    bare = {name: changed(argument, _bare) for name, argument in arguments.items()}
    code = brief.job.ops[step.node].code
    packed = _Packed(step.node, code, step.key_path, step.attempt, step.retry_number, bare, *more)
    yield pickle.dumps(tuple(packed), protocol=5)
    for collected in _collects(arguments):
        yield from references_to_travel(collected)


def unpack(message: bytes, rest: Callable[[], bytes], brief: Brief) -> Ticket | HookTicket:
    """The ticket that begins with this message; `rest` gives the messages that follow."""
    packed = _Packed(*pickle.loads(message))  # of the process that started this one
    node = packed.node
    _check_code(brief, node, packed.code)
    arguments: Arguments = {
        name: changed(argument, lambda one: _whole(one, rest, brief))
        for name, argument in packed.arguments.items()
    }
    context = brief.context(node, packed.key_path, packed.attempt, packed.retry_number)
    if not packed.hook:
        step_key = format_step_key(node, packed.key_path)
        return brief.ticket(context, arguments, step_key, packed.losses)
    hook = next(one for one in brief.job.hooks[node] if one.name == packed.hook)
    op = brief.job.ops[node]
    outputs = cast(Mapping[str, Argument], arguments)
    return HookTicket(hook, HookContext(hook.name, op, context, packed.error, outputs))


def _check_code(brief: Brief, node: str, code: str) -> None:
    """A worker that begins late may find other code than the run began with: never a silent mix."""
    if brief.job.ops[node].code != code:
        raise CodeChanged(
            f"the code of {node} has changed since the run was last started or resumed, and a new worker process has "
            "loaded the new code; `runstore resume` goes on with it"
        )


def _bare(argument: Argument) -> Argument:
    if isinstance(argument, Stored):
        return msgspec.structs.replace(argument, declared=None)
    if isinstance(argument, Collected):
        return msgspec.structs.replace(argument, declared=None, references=iter)
    return argument


def _collects(arguments: Mapping[str, Any]) -> Iterator[Collected]:
    for argument in arguments.values():
        for one in argument if isinstance(argument, list) else (argument,):
            if isinstance(one, Collected):
                yield one


def _whole(argument: Argument, rest: Callable[[], bytes], brief: Brief) -> Argument:
    if isinstance(argument, Stored):
        return msgspec.structs.replace(argument, declared=brief.job.declared(*argument.output))
    if isinstance(argument, Collected):
        pieces = [rest() for _ in range(0, len(argument.seqs), REFERENCES_AT_ONCE)]
        declared = brief.job.declared(*argument.output)
        return with_references(msgspec.structs.replace(argument, declared=declared), pieces)
    return argument


# Back to the engine


class _Reported(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a worker says: what is `Told`, or why the run has to stop."""

    events: list[AnyEvent]
    is_last: bool = True
    messages: list[Message] = []
    wait_s: float | None = None
    lost: tuple[list[int], str, str] | None = None
    """Seqs, and the error as class and text."""
    stops: tuple[str, str] | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Reported).decode


def pack_told(told: Told) -> bytes:
    """What a worker tells; exceptions stay where they were raised."""
    lost = None
    if told.lost is not None:
        lost = (told.lost.seqs, type(told.lost.error).__name__, str(told.lost.error))
    return _encode(
        _Reported(list(told.events), told.is_last, list(told.messages), told.wait_s, lost)
    )


def pack_stop(error: BaseException) -> bytes:
    """What stops the run."""
    text = str(error)
    known = errors.RunStoreError | ResourceFailed | CodeChanged | WorkerLost | KeyboardInterrupt
    if not isinstance(error, known):
        text = describe_error(error).traceback
    return _encode(_Reported([], stops=(type(error).__name__, text)))


def unpack_told(message: bytes, step_key: str) -> Told:
    """What a worker told of its step; raises what stops the run."""
    found = _decode(message)
    if found.stops is not None:
        raise _stopping(*found.stops)
    lost = None
    if found.lost is not None:
        seqs, kind, text = found.lost
        known = {"OutputCorrupted": errors.OutputCorrupted}
        lost = InputLost(seqs, known.get(kind, errors.OutputMissing)(text))
    return Told(
        step_key,
        found.events,
        found.is_last,
        lost,
        messages=found.messages,
        wait_s=found.wait_s,
    )


def _stopping(kind: str, text: str) -> BaseException:
    if kind in ("CodeChanged", "ResourceFailed"):
        return (CodeChanged if kind == "CodeChanged" else ResourceFailed)(text)
    if kind == "WorkerLost":
        return WorkerLost(text)
    if kind == "KeyboardInterrupt":
        return KeyboardInterrupt(text)
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, errors.RunStoreError):
        return known(text)
    return WorkerLost(f"a worker process cannot go on; the run stops.\n{text}")
