"""Is what came back the very value that was stored, type and all?

`==` is not enough: `1 == True`, `1 == 1.0`, an IntEnum equals its number, a namedtuple equals a tuple, and a time in
Paris one at +01:00. Pure.
"""

import dataclasses
import datetime as dt
import decimal
import math
from itertools import starmap
from typing import Any

import msgspec

_ATOMS = (int, str, bool, bytes, type(None))
_MISSING = object()


def same(one: Any, other: Any) -> bool:
    """True when both have the same type and content, all the way down."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _ATOMS:
        return bool(one == other)
    if kind is float:
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (
            one != one and other != other
        )
    if kind is list or kind is tuple or (isinstance(one, tuple) and hasattr(kind, "_fields")):
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        return len(one) == len(other) and all(
            starmap(_same_item, zip(one.items(), other.items(), strict=True))
        )
    if kind is set or kind is frozenset:
        return _same_set(one, other)
    fields = _field_names(one)
    if fields is not None:
        return all(
            same(getattr(one, name, _MISSING), getattr(other, name, _MISSING)) for name in fields
        )
    if isinstance(one, (dt.datetime, dt.time)):
        return bool(one == other) and _zone(one) == _zone(other)
    if isinstance(one, decimal.Decimal):
        return bool(one.as_tuple() == other.as_tuple())  # 1.0 equals 1.00, and NaN not itself
    return bool(one == other)


def first_inexact(value: Any, path: str = "$") -> tuple[str, Any] | None:
    """(path, part) of the first part of a value that JSON does not give back as it was; None where it holds all."""
    kind = type(value)
    if kind is list:
        found = (first_inexact(part, f"{path}[{place}]") for place, part in enumerate(value))
    elif kind is dict:
        found = (
            (path, value) if type(name) is not str else first_inexact(part, f"{path}.{name}")
            for name, part in value.items()
        )
    else:
        try:
            exact = same(msgspec.json.decode(msgspec.json.encode(value)), value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            exact = False
        return None if exact else (path, value)
    try:
        return next((one for one in found if one is not None), None)
    except RecursionError:
        return path, value


def _same_item(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return same(one[0], other[0]) and same(one[1], other[1])


def _same_set(one: Any, other: Any) -> bool:
    found = {part: part for part in other}
    return len(one) == len(other) and all(part in found and same(part, found[part]) for part in one)


def _zone(time: dt.datetime | dt.time) -> tuple[Any, ...]:
    """What a zone is, beside its offset at that time: Europe/Paris and +01:00 are the same only for a moment."""
    zone = time.tzinfo
    return type(zone), zone, time.utcoffset(), time.tzname(), time.fold


def _field_names(value: Any) -> tuple[str, ...] | None:
    names = getattr(type(value), "__struct_fields__", None)
    if names is not None:
        return tuple(names)
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    attributes = getattr(type(value), "__attrs_attrs__", None)
    return None if attributes is None else tuple(one.name for one in attributes)
