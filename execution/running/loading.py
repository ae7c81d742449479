"""The values of a step's arguments, read from storage: the worker's part.

What arrives at an op has always been through storage.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from itertools import islice
from typing import Any

from execution.running.inputs import Argument, Branch, Built, Collected, Given, InputLost, Stored
from runstore.errors import OutputLost, StorageFailed
from runstore.outputs.output_store import OutputStore
from runstore.outputs.serializers import deserialize

Begun = Mapping[int, "Future[bytes]"]
"""Seq of the event that stored an input -> its bytes, on their way."""


def begin_loading(
    arguments: dict[str, Argument | list[Argument]], outputs: OutputStore
) -> dict[int, "Future[bytes]"]:
    """Begin to read the single values among the arguments, where something is gained by it."""
    if not outputs.ever_loads_ahead:
        return {}
    return {
        one.seq: outputs.get_later(one.reference)
        for argument in arguments.values()
        for one in (argument if isinstance(argument, list) else (argument,))
        if isinstance(one, Stored) and outputs.loads_ahead(one.reference)
    }


def load(
    arguments: dict[str, Argument | list[Argument]],
    outputs: OutputStore,
    streamed: Collection[str] = (),
    begun: Begun | None = None,
) -> dict[str, Any]:
    """The values of a step's arguments; raises InputLost if stored bytes are missing or altered.

    A collect for an input in `streamed` comes as a Stream.
    """
    return {
        name: [_load(one, outputs, begun) for one in argument]
        if isinstance(argument, list)
        else _stream(argument, outputs)
        if name in streamed
        else _load(argument, outputs, begun)
        for name, argument in arguments.items()
    }


class Stream:
    """The values of a collect one by one: loaded a few ahead, never all at once (rule D9)."""

    def __init__(self, values: Iterator[Any]) -> None:
        self._values = values
        self.look: Callable[[Any], None] | None = None
        """Called with each value before it is given."""
        self.broken: InputLost | StorageFailed | None = None
        """Why it has not given all: then the attempt does not count, whatever the op has made of it."""

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Any:
        try:
            value = next(self._values)
        except (InputLost, StorageFailed) as error:
            self.broken = error
            raise
        if self.look is not None:
            self.look(value)
        return value


def _stream(argument: Argument, outputs: OutputStore) -> Any:
    if not isinstance(argument, Collected) or argument.tree.form != "list":
        return _load(argument, outputs)
    return Stream(_parts(argument.tree, _each(argument, outputs)))


def _load(argument: Argument, outputs: OutputStore, begun: Begun | None = None) -> Any:
    match argument:
        case Stored():
            return _read(argument, outputs, begun)
        case Given():
            return argument.value
        case Built():
            return argument.build(argument.data)
        case Collected():
            return _built(argument.tree, _each(argument, outputs))


def _built(tree: Branch, values: Iterator[Any]) -> Any:
    found = list(_parts(tree, values))
    return dict(zip(tree.keys, found, strict=True)) if tree.form == "dict" else found


def _parts(tree: Branch, values: Iterator[Any]) -> Iterator[Any]:
    if tree.parts:
        return (_built(part, values) for part in tree.parts)
    return islice(values, len(tree.keys))


def _each(collected: Collected, outputs: OutputStore) -> Iterator[Any]:
    fetches = outputs.get_each(collected.references())
    rest = zip(collected.seqs, fetches, strict=True)
    for seq, (reference, fetch) in rest:
        try:
            data = fetch()
        except OutputLost as error:
            # Find all that is lost at once, so that it is made again at once.
            seqs, references = [], []
            for other, (one, _) in rest:
                seqs.append(other)
                references.append(one)
            there = outputs.are_there(references, deep=True)
            more = [other for other, is_there in zip(seqs, there, strict=True) if not is_there]
            raise InputLost([seq, *more], error) from None
        yield deserialize(data, reference.serializer, collected.declared)


def _read(stored: Stored, outputs: OutputStore, begun: Begun | None) -> Any:
    reference = stored.reference
    try:
        data = begun[stored.seq].result() if begun else outputs.get(reference)
    except OutputLost as error:
        raise InputLost([stored.seq], error) from None
    return deserialize(data, reference.serializer, stored.declared)
