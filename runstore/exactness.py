"""Is what came back the very value that was stored, type and all?

`==` is not enough: `1 == True`, `1 == 1.0`, an IntEnum equals its number, a namedtuple equals a tuple. Pure.
"""

import dataclasses
import datetime as dt
import math
from itertools import starmap
from typing import Any

import msgspec

_ATOMS = (int, str, bool, bytes, type(None))


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
    if isinstance(one, (dt.datetime, dt.time)):
        return bool(one == other) and one.utcoffset() == other.utcoffset()
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            starmap(_same_item, zip(one.items(), other.items(), strict=True))
        )
    if isinstance(one, (set, frozenset)):
        return bool(one == other) and sorted(map(_type_name, one)) == sorted(map(_type_name, other))
    fields = _field_names(one)
    if fields is not None:
        return all(same(getattr(one, name, None), getattr(other, name, None)) for name in fields)
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


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _field_names(value: Any) -> tuple[str, ...] | None:
    names = getattr(type(value), "__struct_fields__", None)
    if names is not None:
        return tuple(names)
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return None
