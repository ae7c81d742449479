"""Is what came back the very value that was stored, type and all?

`==` is not enough: `1 == True`, `1 == 1.0`, an IntEnum equals its number, a namedtuple equals a tuple. Pure.
"""

import dataclasses
import datetime as dt
import math
from itertools import starmap
from typing import Any

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
