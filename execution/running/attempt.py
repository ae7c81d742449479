"""What one attempt has given so far: each output checked, stored, and told as an event behind its bytes."""

import types
import unicodedata
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

from execution.definition.ins_outs import DynamicOutput, Output
from execution.errors import StepError
from execution.running.context import added_metadata, taken_log
from execution.running.output_metadata import exact_metadata
from execution.running.told import Ticket, Wait
from execution.running.type_checks import check_output
from execution.running.worker import Worker
from runstore.errors import InvalidKey, NotStorable
from runstore.keys import KeyPath, check_mapping_key
from runstore.log.codec import keys_digest
from runstore.log.events import AnyEvent, DynamicOutputStored, ExpansionSealed, OutputStored
from runstore.log.messages import Message
from runstore.outputs.output_store import Flight, OutputStore
from runstore.outputs.reference import OutputReference
from runstore.outputs.serializers import Serialized, serialize

GIVEN, SEQUENCES = (Output, DynamicOutput), (list, tuple)

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
        if outputs is not None and (self._op.dynamic_outputs or outputs.window > 1):
            self._ahead = outputs.ahead
        self._given: set[str] = set()
        self._keys: dict[str, dict[str, int]] = {name: {} for name in self._op.dynamic_outputs}
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
