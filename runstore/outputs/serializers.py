"""Values to bytes and back, by declared type; what would come back as anything else is refused when it is stored.

`str` is text and `bytes` are raw; another declared type that msgspec knows is JSON, typed on the way back. Without a
declared type the first of JSON and MessagePack that gives the very value back. Pickle needs the explicit word.
"""

import pickle
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec

from runstore.errors import NotStorable
from runstore.exactness import same

REMEDIES = (
    "annotate the output with a type that JSON can hold, register a serializer (runstore.register_serializer) and "
    "name it in Out(serializer=…), or allow pickle with Out(serializer='pickle')"
)

_WORD = re.compile("[a-z0-9-]{1,16}")


class Serializer(Protocol):
    """A format. `declared` is the type of the op's output, None where it has none."""

    @property
    def name(self) -> str:
        """What stands in the log: lower-case letters, digits and `-`."""

    @property
    def extension(self) -> str:
        """Of the file, without the dot."""

    def encode(self, value: Any, declared: Any) -> bytes:
        """The bytes of a value; raises TypeError or ValueError where it has none."""

    def decode(self, data: bytes, declared: Any) -> Any:
        """The value of the bytes."""


class Serialized(NamedTuple):
    """A value as bytes, and the format they are in."""

    data: bytes
    serializer: str
    extension: str


class _Text:
    name, extension = "text", "txt"

    def encode(self, value: Any, declared: Any) -> bytes:
        return str(_of_type(value, str)).encode()

    def decode(self, data: bytes, declared: Any) -> Any:
        return data.decode()


class _Raw:
    name, extension = "raw", "bin"

    def encode(self, value: Any, declared: Any) -> bytes:
        return bytes(_of_type(value, bytes))

    def decode(self, data: bytes, declared: Any) -> Any:
        return data


class _Json:
    name, extension = "json", "json"
    _encoder = msgspec.json.Encoder()

    def encode(self, value: Any, declared: Any) -> bytes:
        return self._encoder.encode(value)

    def decode(self, data: bytes, declared: Any) -> Any:
        return _json_decoder(declared)(data)


class _MessagePack:
    name, extension = "msgpack", "msgpack"
    _encoder = msgspec.msgpack.Encoder()

    def encode(self, value: Any, declared: Any) -> bytes:
        return self._encoder.encode(value)

    def decode(self, data: bytes, declared: Any) -> Any:
        return msgspec.msgpack.decode(data)


class _Pickle:
    name, extension = "pickle", "pickle"

    def encode(self, value: Any, declared: Any) -> bytes:
        return pickle.dumps(value, protocol=5)

    def decode(self, data: bytes, declared: Any) -> Any:
        return pickle.loads(data)  # only ever bytes whose sha256 is that of the log


_TEXT, _RAW, _JSON, _MESSAGE_PACK = _Text(), _Raw(), _Json(), _MessagePack()
_EXACT = (_TEXT, _RAW, _JSON, _MESSAGE_PACK)
"""Formats of which every value is read back before it counts; of the others the user answers for that."""
_PLAIN = frozenset({int, bool, str, type(None)})
"""Types of which those formats give every value back or refuse it, so that none has to be read back."""
_registry: dict[str, Serializer] = {
    serializer.name: serializer for serializer in (*_EXACT, _Pickle())
}


def register_serializer(serializer: Serializer) -> None:
    """Make a format known by its name, for `Out(serializer=name)`; the process that reads needs it too."""
    for word in (serializer.name, serializer.extension):
        if not _WORD.fullmatch(word):
            raise ValueError(
                f"serializer {serializer.name!r} with extension {serializer.extension!r}: both stand in addresses; "
                "use 1 to 16 lower-case letters, digits and '-'"
            )
    if serializer.name in ("text", "raw", "json", "msgpack", "pickle"):
        raise ValueError(f"serializer name {serializer.name!r} is taken; choose another")
    _registry[serializer.name] = serializer


def find_serializer(name: str) -> Serializer:
    """The format of that name; raises NotStorable listing the known ones."""
    try:
        return _registry[name]
    except KeyError:
        known = ", ".join(sorted(_registry))
        raise NotStorable(
            f"no serializer is named {name!r}; known are {known}. Register it with runstore.register_serializer"
        ) from None


def serialize(value: Any, declared: Any = None, named: str | None = None) -> Serialized:
    """The bytes of a value in the format that its declared type picks, or in the named one.

    Raises NotStorable, with the remedy, if the value would not come back equal and of the same type.
    """
    if named is not None:
        return _in_format(find_serializer(named), value, declared)
    serializer = _format_of(declared)
    if serializer is not None:
        return _exactly(serializer, value, declared)
    for serializer in (_JSON, _MESSAGE_PACK):
        data = _exact_bytes(serializer, value, None)
        if data is not None:
            return Serialized(data, serializer.name, serializer.extension)
    raise NotStorable(
        f"{_describe(value)} comes back changed from JSON and from MessagePack; {REMEDIES}"
    )


@lru_cache(maxsize=512)
def _format_of(declared: Any) -> Serializer | None:
    """The format that a declared type picks; None where the value decides."""
    if declared is str:
        return _TEXT
    if declared is bytes:
        return _RAW
    return _JSON if is_typed(declared) else None


def deserialize(data: bytes, serializer: str, declared: Any = None) -> Any:
    """The value of stored bytes; `declared` is the type that the producing op's output has."""
    return find_serializer(serializer).decode(data, declared)


def _in_format(serializer: Serializer, value: Any, declared: Any) -> Serialized:
    if serializer in _EXACT:
        return _exactly(serializer, value, declared)
    try:
        return Serialized(serializer.encode(value, declared), serializer.name, serializer.extension)
    except Exception as error:
        raise NotStorable(
            f"{_describe(value)} cannot be written as {serializer.name}: {error}; {REMEDIES}"
        ) from error


def _exactly(serializer: Serializer, value: Any, declared: Any) -> Serialized:
    data = _exact_bytes(serializer, value, declared)
    if data is not None:
        return Serialized(data, serializer.name, serializer.extension)
    if declared in (None, Any, object) or _is_instance(value, declared):
        raise NotStorable(
            f"{_describe(value)} comes back changed from {serializer.name}; {REMEDIES}"
        )
    raise NotStorable(
        f"{_describe(value)} is not exactly the declared type {type_name(declared)}; "
        "return that type, or change the annotation"
    )


def _is_instance(value: Any, declared: Any) -> bool:
    return isinstance(declared, type) and type(value) is declared


def _exact_bytes(serializer: Serializer, value: Any, declared: Any) -> bytes | None:
    try:
        data = serializer.encode(value, declared)
        if type(value) in _PLAIN and declared in (None, type(value)):
            return data
        return data if same(serializer.decode(data, declared), value) else None
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None


def is_typed(declared: Any) -> bool:
    """True for a declared type that msgspec can decode JSON into."""
    return declared not in (None, Any, object) and _typed_decoder(declared) is not None


@lru_cache(maxsize=512)
def _typed_decoder(declared: Any) -> Callable[[bytes], Any] | None:
    try:
        return msgspec.json.Decoder(declared).decode
    except (TypeError, NameError, ValueError):
        return None


def _json_decoder(declared: Any) -> Callable[[bytes], Any]:
    if declared is None or declared is Any or declared is object:
        return msgspec.json.decode
    return _typed_decoder(declared) or msgspec.json.decode


def type_name(declared: Any) -> str:
    """A type as a person would write it."""
    return (
        declared.__name__
        if isinstance(declared, type) and not hasattr(declared, "__args__")
        else str(declared)
    )


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}")
    return value


def _describe(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "(its repr raises)"
    shown = text if len(text) <= 60 else text[:57] + "…"
    return f"a value of type {type(value).__name__}, {shown},"
