"""What a declared type says about a format: can msgspec decode into it, and may a value of some class stand for it?"""

import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

Decode = Callable[[bytes], Any]
_UNIONS = (typing.Union, types.UnionType)


def is_untyped(declared: Any) -> bool:
    """True where nothing is declared, or what fits everything."""
    return declared is None or declared is Any or declared is object


def is_typed(declared: Any) -> bool:
    """True for a declared type that msgspec can decode JSON into."""
    return not is_untyped(declared) and json_decoder(declared) is not msgspec.json.decode


def json_decoder(declared: Any) -> Decode:
    """JSON to the declared type, or to what JSON itself has."""
    try:
        return _json(declared)
    except TypeError:  # a type that has no hash, such as Annotated[int, {}]
        return _json.__wrapped__(declared)


def message_pack_decoder(declared: Any) -> Decode:
    """MessagePack to the declared type, or to what MessagePack itself has."""
    try:
        return _message_pack(declared)
    except TypeError:
        return _message_pack.__wrapped__(declared)


@lru_cache(maxsize=512)
def _json(declared: Any) -> Decode:
    if is_untyped(declared):
        return msgspec.json.decode
    return _typed(msgspec.json.Decoder, declared) or msgspec.json.decode


@lru_cache(maxsize=512)
def _message_pack(declared: Any) -> Decode:
    if is_untyped(declared):
        return msgspec.msgpack.decode
    return _typed(msgspec.msgpack.Decoder, declared) or msgspec.msgpack.decode


def _typed(decoder: Callable[[Any], Any], declared: Any) -> Decode | None:
    try:
        decode: Decode = decoder(declared).decode
    except (TypeError, NameError, ValueError):
        return None
    return decode


def admits(declared: Any, kind: type) -> bool:
    """True where a value of the class `kind` may stand for the declared type."""
    if is_untyped(declared):
        return True
    origin = typing.get_origin(declared)
    if origin in _UNIONS:
        return any(admits(member, kind) for member in typing.get_args(declared))
    if origin is typing.Annotated:
        return admits(declared.__origin__, kind)
    if isinstance(declared, typing.NewType):
        return admits(declared.__supertype__, kind)
    if getattr(declared, "__module__", None) == "builtins":
        return kind is declared  # numpy.float64 is a subclass of float, and another type
    try:
        return issubclass(kind, origin or declared)
    except TypeError:  # a protocol that cannot be asked, or no class at all
        return True


def type_name(declared: Any) -> str:
    """A type as a person would write it."""
    return (
        declared.__name__
        if isinstance(declared, type) and not hasattr(declared, "__args__")
        else str(declared)
    )
