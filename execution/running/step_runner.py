"""One attempt of one step: load its inputs, call the op, store what it gives, and tell it as events.

This is a worker's whole part. It never sees the log; it gives events without envelope, in the order in which
things became true, each after its bytes are durable, the last one saying how the attempt ended.
"""

import traceback
import types
import unicodedata
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import Any, NamedTuple

import msgspec

from execution.definition.ins_outs import DynamicOutput, Output
from execution.definition.op import OpDefinition
from execution.definition.retries import Failure, RetryPolicy, wait_before_retry
from execution.errors import ResourceFailed, StepError, StepTimedOut
from execution.running.context import OpContext, added_metadata, taken_log
from execution.running.inputs import Argument, InputLost, Stream, begin_loading, load
from execution.running.output_metadata import exact_metadata
from execution.running.storable_text import storable_text
from execution.running.type_checks import check_inputs, check_output
from execution.running.worker import Worker
from runstore.errors import InvalidKey, NotStorable, StorageFailed, TransferFailed
from runstore.exactness import first_inexact
from runstore.keys import KeyPath, check_mapping_key
from runstore.log.codec import check_exact, keys_digest
from runstore.log.events import (
    UNSTAMPED,
    AnyEvent,
    DynamicOutputStored,
    ErrorInfo,
    ExpansionSealed,
    OutputStored,
    StepFailed,
    StepRetried,
    StepSucceeded,
)
from runstore.log.messages import Message
from runstore.outputs.output_store import Flight, OutputStore
from runstore.outputs.reference import OutputReference
from runstore.outputs.serializers import Serialized, serialize

MAX_ERROR_TEXT = 65_536
GIVEN, SEQUENCES = (Output, DynamicOutput), (list, tuple)


class Ticket(msgspec.Struct, frozen=True):
    """All that a worker needs to run one attempt."""

    op: OpDefinition
    context: OpContext
    arguments: dict[str, Argument | list[Argument]]
    step_key: str
    checks: Mapping[str, Any] | None = None
    """Input -> type, where what arrives may be of another."""
    retry_policy: RetryPolicy | None = None
    losses: int = 0
    """How many workers were lost over this step since the run was last started or resumed."""


class Told(msgspec.Struct, frozen=True):
    """What a worker tells the engine: events in order, of which those of a generator come as they become true."""

    step_key: str
    events: Sequence[AnyEvent]
    is_last: bool = True
    lost: InputLost | None = None
    """Set, without events, where an input's bytes are gone."""
    exception: BaseException | None = None
    """What the op raised, where it can travel and the step has failed for good."""
    messages: Sequence[Message] = ()
    """What the op has logged since it last told something."""
    wait_s: float | None = None
    """Set where the last event is a `StepRetried`: how long from now until it is due."""


class Wait(NamedTuple):
    """Told in between: there is nothing to do for this attempt before these are done. A worker may wait, or go on
    with other attempts meanwhile; before it waits with nothing else to do it flushes the outputs.
    """

    futures: "Sequence[Future[Any]]"
    op_has_run: bool = False
    """The op has given all, and what it gave is on its way; else what it reads is."""


def run_step(
    ticket: Ticket, outputs: OutputStore, worker: Worker | None = None
) -> Iterator[Told | Wait]:
    """Run an attempt. Raises StorageFailed where no output can be written, ResourceFailed where a resource cannot be
    opened: that stops the run, not the step.
    """
    key, number = ticket.step_key, ticket.context.attempt
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
            worker = worker or Worker()
            arguments.update(worker.equip(ticket.op, ticket.context))
        result = attempt.call(arguments)
        if ticket.op.is_async:
            result = attempt.awaited(result, worker or Worker())
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
    except (Exception, SystemExit) as raised:
        attempt.close()
        error: BaseException = raised
        if ticket.op.streamed_inputs:
            error = _broken(arguments) or raised
        if isinstance(error, InputLost):
            yield Told(key, (), lost=error)
            return
        if stops_the_run(error):
            raise error from None
        told = failed(ticket, done, error, _since(begun))
        yield msgspec.structs.replace(told, messages=attempt.logged())
    else:
        done.append(StepSucceeded(key, _since(begun), number))
        yield Told(key, done, messages=attempt.logged())


def _broken(arguments: Mapping[str, Any]) -> InputLost | StorageFailed | None:
    """Why a stream has not given all, also where the op has caught the exception that said so."""
    streams = (value for value in arguments.values() if isinstance(value, Stream))
    return next((stream.broken for stream in streams if stream.broken), None)


def stops_the_run(error: BaseException) -> bool:
    """True for what will meet every other step too; a transfer that failed may be bad luck, and ends the attempt."""
    return isinstance(error, (StorageFailed, ResourceFailed)) and not isinstance(
        error, TransferFailed
    )


def failed(ticket: Ticket, done: list[AnyEvent], error: BaseException, duration_s: float) -> Told:
    """The last word of an attempt that raised: it will be tried again, or not (rule F3)."""
    key, context = ticket.step_key, ticket.context
    try:
        described = _with_metadata(key, error)
    except StepError as refused:
        error, described = refused, describe_error(refused)
    wait_s = wait_before_retry(error, ticket.retry_policy, context.retry_number)
    if wait_s is None:
        done.append(StepFailed(key, described, duration_s, context.attempt))
        return Told(key, done, exception=error)
    done.append(StepRetried(key, described, duration_s, UNSTAMPED, context.attempt))
    return Told(key, done, wait_s=wait_s)


def _with_metadata(step: str, error: BaseException) -> ErrorInfo:
    """The error as text, with what a `Failure` says beside it."""
    described = describe_error(error)
    if not isinstance(error, Failure) or not error.metadata:
        return described
    place, part = first_inexact(error.metadata) or ("$", error.metadata)
    try:
        check_exact(part, f"its metadata {place}")
    except NotStorable as refused:
        raise StepError(
            f"step {step!r} raised Failure({described.message!r}), but {refused}"
        ) from error
    return msgspec.structs.replace(described, metadata=error.metadata)


def _since(begun: float) -> float:
    return round(perf_counter() - begun, 6)


Metadata = dict[str, Any] | None
_Flying = tuple[str, str | None, Flight, Metadata]
"""Output, mapping key, the store that is under way, and what is said of the output."""


class Attempt:
    """What one attempt has given so far."""

    def __init__(self, ticket: Ticket, outputs: OutputStore | None) -> None:
        self._ticket = ticket
        self._op = ticket.op
        self._outputs = outputs
        self._ahead = 0
        """How many stores may be in flight; 0: each is awaited at once."""
        if outputs is not None and (self._op.is_dynamic or outputs.window > 1):
            self._ahead = outputs.ahead
        self._given: set[str] = set()
        self._keys: dict[str, dict[str, int]] = {
            name: {} for name, out in self._op.outs.items() if out.dynamic
        }
        self._flying: deque[_Flying] = deque()
        self._stream: Generator[Any, None, None] | None = None
        """What an async generator gives."""
        self.streams = False
        """The op gives its outputs one by one; each is told as it is stored."""

    def call(self, arguments: dict[str, Any]) -> Any:
        """Call the op."""
        if self._op.takes_context:
            return self._op.function(self._ticket.context, **arguments)
        return self._op.function(**arguments)

    def awaited(self, result: Any, worker: Worker) -> Any:
        """What an async op gives in the end, or as a stream."""
        if isinstance(result, types.AsyncGeneratorType):
            self._stream = worker.loop.iterate(result)
            return self._stream
        return worker.loop.run(result)

    def logged(self) -> Sequence[Message]:
        """What the op has logged since the last call."""
        return taken_log(self._ticket.context) if self._op.takes_context else ()

    def close(self) -> None:
        """Let an async generator clean up that nobody will ask for more."""
        if self._stream is not None:
            self._stream.close()

    def checked(self, result: Any) -> Iterator[Any]:
        """What an op gives, one given output after the other, each checked, none stored."""
        each = self._each(result)
        for given in self._with_nothing(each) if self._op.nothing_outputs else each:
            self.examine(given)
            yield given
        self.check_complete()

    def examine(self, given: Any) -> None:
        """Check one given output as if it were stored."""
        self._metadata(given, self.check(given))
        check_output(self._ticket.step_key, self._op, given.output_name, given.value)

    def events(self, result: Any) -> Iterator[AnyEvent | Wait]:
        """Store what the op gives; ends once everything is durable."""
        each = self._each(result)
        if self._op.nothing_outputs:
            each = self._with_nothing(each)
        for given in each:
            key, output = self.check(given), given.output_name
            serialized, said = self._serialized(output, given.value), given.metadata
            if said is not None or self._op.takes_context:
                said = self._metadata(given, key)
            del given  # the op may be at work on the next for long; this one is not kept
            if not self._ahead:
                yield self._event(output, key, self._put(output, key, serialized), said)
            else:
                yield from self._fly(output, key, serialized, said)
        if self._flying:
            yield Wait([flight.written for _, _, flight, _ in self._flying], op_has_run=True)
        while self._flying:
            yield self._landed()
        self.check_complete()
        for output, keys in self._keys.items():
            yield ExpansionSealed(
                self._ticket.step_key,
                output,
                len(keys),
                keys_digest(keys),
                attempt=self._ticket.context.attempt,
            )

    def _each(self, result: Any) -> Iterable[Any]:
        """What an op yields or returns, one given output after the other (rule D2)."""
        outs = self._op.value_outputs
        if isinstance(result, types.GeneratorType):
            self.streams = True
            return result
        if isinstance(result, GIVEN):
            return (result,)
        is_sequence = isinstance(result, SEQUENCES)
        if is_sequence and _are_given(result):
            return self._by_position(result) if self._has_places(result) else result
        if len(outs) == 1 and not self._keys:
            return (Output(result, outs[0]),)
        if result is None or (is_sequence and not result):
            return ()
        if self._has_places(result):
            return self._by_position(result)
        raise StepError(
            f"step {self._ticket.step_key!r} returned a {type(result).__name__}; yield Output and "
            f"DynamicOutput for its outputs {', '.join(outs)}, or return a list of DynamicOutput"
        )

    def _with_nothing(self, each: Iterable[Any]) -> Iterator[Any]:
        """What an op gives, and then the required outputs without a value that it did not name."""
        yield from each
        for name in self._op.nothing_outputs:
            if name not in self._given and self._op.outs[name].is_required:
                yield Output(None, name)

    def _by_position(self, result: tuple[Any, ...]) -> Iterator[Any]:
        outs = self._op.outs
        names = tuple(outs) if len(result) == len(outs) else self._op.value_outputs
        for name, value in zip(names, result, strict=True):
            if isinstance(value, list) and outs[name].dynamic:
                yield from value
            else:
                yield self._placed(value, name)

    def _has_places(self, result: Any) -> bool:
        places = (len(self._op.outs), len(self._op.value_outputs))
        return isinstance(result, tuple) and len(result) in places

    def _placed(self, value: Any, name: str) -> Any:
        """In a tuple an Output without a name of its own is that of its place."""
        if not isinstance(value, GIVEN):
            return Output(value, name)
        if isinstance(value, Output) and value.output_name not in self._op.outs:
            unnamed = value.output_name == "result"
            return Output(value.value, name, value.metadata) if unnamed else value
        return value

    def _fly(
        self, output: str, key: str | None, serialized: Serialized, said: Metadata
    ) -> Iterator[AnyEvent]:
        """Start a store; tell of those that have landed, in the order in which they were yielded."""
        outputs, place = self._outputs, self._place(output, key)
        assert outputs is not None
        self._flying.append((output, key, outputs.put_later(serialized, *place), said))
        while len(self._flying) >= self._ahead or (
            self._flying and self._flying[0][2].written.done()
        ):
            yield self._landed()

    def _landed(self) -> AnyEvent:
        output, key, flight, said = self._flying.popleft()
        if not flight.written.done():
            assert self._outputs is not None
            self._outputs.flush()
        return self._event(output, key, flight.landed(), said)

    def _put(self, output: str, key: str | None, serialized: Serialized) -> OutputReference:
        assert self._outputs is not None
        return self._outputs.put(serialized, *self._place(output, key))

    def _place(self, output: str, key: str | None) -> tuple[str, str, KeyPath, int, int]:
        """Node, output, key path, epoch and attempt: what an address is made of."""
        context = self._ticket.context
        path = context.key_path if key is None else (*context.key_path, key)
        return context.node, output, path, context.epoch, context.attempt

    def _event(
        self, output: str, key: str | None, reference: OutputReference, said: Metadata
    ) -> AnyEvent:
        step, attempt = self._ticket.step_key, self._ticket.context.attempt
        if key is None:
            return OutputStored(step, output, reference, attempt, said)
        return DynamicOutputStored(step, output, key, reference, attempt, said)

    def _metadata(self, given: Any, key: str | None) -> Metadata:
        """What is said of an output, with it or beforehand; None where nothing is."""
        added, output = added_metadata(self._ticket.context), given.output_name
        said = given.metadata
        if added is not None:
            before = added.take(output, key, is_only=len(self._op.outs) == 1)
            said = {**before, **(said or {})}
        return None if said is None else exact_metadata(self._ticket.step_key, output, said)

    def _serialized(self, output: str, value: Any) -> Serialized:
        op, out = self._op, self._op.outs[output]
        if output in op.unenforced:
            check_output(self._ticket.step_key, op, output, value)
        try:
            return serialize(value, op.declared[output], out.serializer, out.compress)
        except NotStorable as error:
            check_output(self._ticket.step_key, op, output, value)
            refused = error
        assert self._outputs is not None
        if out.serializer is None and self._outputs.allow_pickle:
            try:
                return serialize(value, op.declared[output], "pickle", out.compress)
            except NotStorable as error:
                refused = error
        raise NotStorable(f"step {self._ticket.step_key!r}, output {output!r}: {refused}")

    # What may be given

    def check(self, given: Any) -> str | None:
        """Check that this output may be given now; its mapping key, if it is dynamic."""
        if not isinstance(given, GIVEN):
            raise StepError(
                f"step {self._ticket.step_key!r} yielded a {type(given).__name__}; yield Output(value) or "
                "DynamicOutput(value, mapping_key)"
            )
        step, name = self._ticket.step_key, given.output_name
        out = self._op.outs.get(name)
        if out is None:
            raise StepError(
                f"step {step!r} gave output {name!r}; op {self._op.name!r} has {', '.join(self._op.outs)}"
            )
        if isinstance(given, Output):
            self._check_plain(step, name, out.dynamic)
            return None
        if not out.dynamic:
            raise StepError(
                f"step {step!r} gave a DynamicOutput for {name!r}, which is not a DynamicOut; yield Output"
            )
        try:
            key = check_mapping_key(given.mapping_key)
        except InvalidKey as error:
            raise InvalidKey(f"step {step!r}, output {name!r}: {error}") from None
        self._check_new(step, name, key)
        return key

    def _check_plain(self, step: str, name: str, dynamic: bool) -> None:
        if dynamic:
            raise StepError(
                f"step {step!r} gave an Output for {name!r}, which is a DynamicOut; yield DynamicOutput"
            )
        if name in self._given:
            raise StepError(f"step {step!r} gave output {name!r} twice; give each output once")
        self._given.add(name)

    def _check_new(self, step: str, name: str, key: str) -> None:
        keys = self._keys[name]
        if key in keys:
            raise StepError(
                f"step {step!r} yielded mapping key {key!r} twice, as items {keys[key] + 1} and {len(keys) + 1}; "
                "mapping keys must be unique within one output"
            )
        keys[key] = len(keys)
        if not key.isascii():
            other = unicodedata.normalize(
                "NFD" if unicodedata.is_normalized("NFC", key) else "NFC", key
            )
            if other != key and other in keys:
                warnings.warn(
                    f"step {step!r}: mapping keys {key!r} and {other!r} look alike but are different Unicode forms; "
                    "they are two keys",
                    stacklevel=2,
                )

    def check_complete(self) -> None:
        """Raise StepError where a required output was not given, or something was said of one that was not."""
        added = added_metadata(self._ticket.context) if self._op.takes_context else None
        if added is not None:
            added.check_taken(self._ticket.step_key)
        if not self._op.required_outputs <= self._given:
            missing = [
                name for name in self._op.outs if name in self._op.required_outputs - self._given
            ]
            raise StepError(
                f"step {self._ticket.step_key!r} ended without output {', '.join(missing)}; yield it, "
                "or declare it is_required=False"
            )


def _are_given(result: Any) -> bool:
    return bool(result) and all(isinstance(one, GIVEN) for one in result)


def describe_error(error: BaseException) -> ErrorInfo:
    """An exception as text, whatever its `repr` does, however long it is (rule F5)."""
    try:
        message = str(error)
    except Exception:
        message = "(the error's own text cannot be shown)"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:
        trace = "".join(traceback.format_tb(error.__traceback__))
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    name, message, trace = (storable_text(text, MAX_ERROR_TEXT) for text in (name, message, trace))
    return ErrorInfo(name, message, trace)
