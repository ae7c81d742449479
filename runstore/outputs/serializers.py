"""Values to bytes and back, by declared type; what would come back as anything else is refused when it is stored.

`str` is text, `bytes` are raw, arrays of numpy npy, data frames parquet; a user's type is what its serializer makes of
it. Anything else is the first of JSON and MessagePack, both typed on the way back, that gives the very value back.
Pickle needs the explicit word.
"""

import types
import typing
from typing import Any

from runstore.errors import NotReadable, NotStorable, RunStoreError
from runstore.outputs.formats.compression import compressed, expanded, level_of
from runstore.outputs.formats.declared import is_typed, is_untyped, type_name
from runstore.outputs.formats.protocol import Serialized, Serializer
from runstore.outputs.formats.registry import (
    EXACT_BY_NAME,
    Choice,
    by_name,
    find,
    formats_for,
    is_enforced,
    known_names,
    offered_for,
    register_serializer,
    serializer,
)
from runstore.outputs.formats.remedies import REMEDIES, reason

__all__ = [
    "REMEDIES",
    "Serialized",
    "Serializer",
    "deserialize",
    "expanded",
    "find_serializer",
    "is_enforced",
    "is_typed",
    "level_of",
    "register_serializer",
    "serialize",
    "serializer",
    "type_name",
]


def serialize(
    value: Any, declared: Any = None, named: str | None = None, compress: str | None = None
) -> Serialized:
    """The bytes of a value in the format that its declared type picks, or in the named one; `compress`: "zstd".

    Raises NotStorable, with the remedy, if the value would not come back equal and of the same type, ExtraMissing
    where the format needs a package that is not installed.
    """
    kind: Any = type(value)
    try:
        formats, is_plain = formats_for(declared, kind) if named is None else _only(named)
    except TypeError:
        if named is not None:
            raise
        # A declared type that has no hash.
        formats, is_plain = formats_for.__wrapped__(declared, kind)
    for form in formats:
        data = _encoded(form, value, declared, is_plain)
        if data is not None:
            break
    else:
        form, data = _offered(formats, value, declared, named)
    serialized = Serialized(data, form.name, form.extension)
    return serialized if compress is None else compressed(serialized, compress)


def deserialize(data: bytes, serializer: str, declared: Any = None) -> Any:
    """The value of stored bytes; `declared` is the type that the producing op's output has.

    Raises NotReadable where the serializer is not known here, or makes no value of the bytes.
    """
    form = by_name.get(serializer)
    if form is None:
        data, serializer = expanded(data, serializer)
        form = _reader(serializer)
    try:
        return form.decode(data, declared)
    except (RunStoreError, MemoryError):
        raise
    except Exception as error:
        raise NotReadable(
            f"{len(data):,} bytes of {serializer} are no {'value' if declared is None else type_name(declared)} here: "
            f"{type(error).__name__}: {error}; read them with the code that stored them"
        ) from error


def _reader(name: str) -> Serializer:
    form = find(name)
    if form is None:
        raise NotReadable(
            f"an output is stored by serializer {name!r}, which this process does not know; import the module "
            "that registers it, or install the package that offers it"
        )
    return form


def find_serializer(name: str) -> Serializer:
    """The format of that name; raises NotStorable listing the known ones."""
    form = find(name)
    if form is None:
        known = ", ".join(known_names())
        raise NotStorable(
            f"no serializer is named {name!r}; known are {known}. Register it with runstore.register_serializer"
        )
    return form


def _only(name: str) -> Choice:
    return Choice((find_serializer(name),))


def _encoded(form: Serializer, value: Any, declared: Any, is_plain: bool) -> bytes | None:
    """The bytes of a value; None where it would come back as anything else."""
    try:
        if is_plain:
            return form.encode(value, declared)
        exact = EXACT_BY_NAME.get(form.name)
        if exact is None:
            return _answered_for(form, value, declared)
        data = exact.encode(value, declared)
        return data if exact.is_same(value, exact.decode(data, declared)) else None
    except (RunStoreError, MemoryError):
        raise
    except Exception:  # also what a method of the value raises: it has no such form
        return None


def _answered_for(form: Serializer, value: Any, declared: Any) -> bytes:
    """The bytes that a user's format, or pickle, gives: it answers for what comes back."""
    try:
        data = form.encode(value, declared)
        if not isinstance(data, bytes):
            raise TypeError(f"it gave {type(data).__name__} instead of bytes")
    except (RunStoreError, MemoryError):
        raise
    except Exception as error:
        raise NotStorable(
            f"{_describe(value)} cannot be written as {form.name}: {error}; {REMEDIES}"
        ) from error
    return data


def _offered(
    tried: tuple[Serializer, ...], value: Any, declared: Any, named: str | None
) -> tuple[Serializer, bytes]:
    """What a format of an installed package makes of a value that no other holds; raises NotStorable."""
    offered = offered_for(declared, type(value)) if named is None else None
    if offered is None:
        raise _refusal(tried, value, declared)
    return offered, _answered_for(offered, value, declared)


def _refusal(tried: tuple[Serializer, ...], value: Any, declared: Any) -> NotStorable:
    names = " and from ".join(form.name for form in tried)
    why = reason(value, only_json=names == "json")
    is_other = not _is_outwardly(value, declared) or (
        why is None and not isinstance(declared, type)
    )
    if is_other and not is_untyped(declared):
        return NotStorable(
            f"{_describe(value)} is not exactly the declared type {type_name(declared)}; "
            "return that type, or change the annotation"
        )
    return NotStorable(
        f"{_describe(value)} comes back changed from {names}{f': {why}' if why else ''}; {REMEDIES}"
    )


def _is_outwardly(value: Any, declared: Any) -> bool:
    """True for a value of the declared class, whatever is inside."""
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return any(_is_outwardly(value, member) for member in typing.get_args(declared))
    return type(value) is (typing.get_origin(declared) or declared)


def _describe(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "(its repr raises)"
    shown = text if len(text) <= 60 else text[:57] + "…"
    return f"a value of type {type(value).__name__}, {shown},"
