"""One attempt of one step: load its inputs, call the op, store what it gives, and tell it as events.

This is a worker's whole part. It never sees the log; it gives events without envelope, in the order in which
things became true, each after its bytes are durable, the last one saying how the attempt ended.
"""

from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any

import msgspec

from execution.errors import StepTimedOut
from execution.running.attempt import Attempt
from execution.running.failing import comes_from_outside, failed, stops_the_run
from execution.running.inputs import InputLost
from execution.running.loading import Stream, begin_loading, load
from execution.running.told import Ticket, Told, Wait
from execution.running.type_checks import check_inputs
from execution.running.worker import Worker
from runstore.errors import StorageFailed
from runstore.log.events import AnyEvent, StepSucceeded
from runstore.outputs.output_store import OutputStore


def run_step(
    ticket: Ticket, outputs: OutputStore, worker: Worker | None = None
) -> Iterator[Told | Wait]:
    """Run an attempt. Raises StorageFailed where no output can be written, ResourceFailed where a resource cannot be
    opened: that stops the run, not the step.
    """
    key, number = ticket.step_key, ticket.context.attempt
    worker = worker or Worker()
    attempt = Attempt(ticket, outputs)
    begun = perf_counter()
    done: list[AnyEvent] = []
    arguments: dict[str, Any] = {}
    try:
        loads = begin_loading(ticket.arguments, outputs)
        if loads:
            left = perf_counter()
            yield Wait(tuple(loads.values()))
            begun += perf_counter() - left  # others had the worker meanwhile
        arguments = load(ticket.arguments, outputs, ticket.op.streamed_inputs, loads)
        if ticket.checks:
            check_inputs(key, arguments, ticket.checks)
        if ticket.op.required_resource_keys:
            arguments.update(worker.equip(ticket.op, ticket.context))
        result = attempt.call(arguments)
        if ticket.op.is_async:
            result = attempt.awaited(result, worker)
        for event in attempt.events(result):
            if isinstance(event, Wait):
                left = perf_counter()
                yield event
                begun += perf_counter() - left
            elif attempt.streams:
                yield Told(key, (event,), is_last=False, messages=attempt.logged())
            else:
                done.append(event)
        if ticket.op.streamed_inputs and (broken := _broken(arguments)):
            raise broken
        if ticket.op.timeout_s is not None and (took_s := _since(begun)) > ticket.op.timeout_s:
            raise StepTimedOut(
                f"step {key!r} took {took_s:g} s, longer than its timeout of {ticket.op.timeout_s:g} s; this was "
                "noticed when it ended, since only a process can be stopped: use the executor processes"
            )
    except InputLost as lost:
        yield Told(key, (), lost=lost)
    except BaseException as raised:
        if comes_from_outside(raised, worker.name):
            raise
        attempt.close()
        error: BaseException = raised
        if ticket.op.streamed_inputs:
            error = _broken(arguments) or raised
        if isinstance(error, InputLost):
            yield Told(key, (), lost=error)
            return
        if stops_the_run(error):
            raise error from None
        told = failed(ticket, done, error, _since(begun), worker.name)
        yield msgspec.structs.replace(told, messages=attempt.logged())
    else:
        done.append(StepSucceeded(key, _since(begun), number, worker.name))
        yield Told(key, done, messages=attempt.logged())


def _broken(arguments: Mapping[str, Any]) -> InputLost | StorageFailed | None:
    """Why a stream has not given all, also where the op has caught the exception that said so."""
    streams = (value for value in arguments.values() if isinstance(value, Stream))
    return next((stream.broken for stream in streams if stream.broken), None)


def _since(begun: float) -> float:
    return int((perf_counter() - begun) * 1e6) / 1e6
