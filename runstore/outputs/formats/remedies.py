"""What to do about a value that no format gives back as it was: the first part of it that is known to be the reason."""

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

REMEDIES = (
    "annotate the output with a type that JSON can hold, register a serializer (runstore.register_serializer) and "
    "name it in Out(serializer=…), or allow pickle with Out(serializer='pickle')"
)

_CONTAINERS = (list, tuple, dict, set, frozenset)
_PLAIN = (*_CONTAINERS, str, int, float, bytes)
_LIBRARIES = ("numpy", "pandas", "polars", "pyarrow")


def reason(value: Any) -> str | None:
    """Where in a value something stands that formats change, what, and what to store instead; None: nothing known."""
    try:
        return next(_reasons(value, "$"), None)
    except RecursionError:
        return "it is nested too deeply, or in itself; store it flat"
    except Exception:  # a value whose own methods raise has no more to say
        return None


def _reasons(value: Any, path: str) -> Iterator[str]:
    kind = type(value)
    known = _reason_of(value, kind)
    if known is not None:
        yield f"{path} {known}"
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _reasons(name, f"{path} key {str(name)[:40]!r}")
            yield from _reasons(part, f"{path}[{str(name)[:40]!r}]")
    elif isinstance(value, _CONTAINERS):
        for place, part in enumerate(value):
            yield from _reasons(part, f"{path}[{place}]")
    else:
        for name in _fields(value):
            yield from _reasons(getattr(value, name, None), f"{path}.{name}")


def _reason_of(value: Any, kind: type) -> str | None:
    if isinstance(value, dt.datetime | dt.time):
        if value.tzinfo is not None and type(value.tzinfo) is not dt.timezone:
            return (
                "has a zone, of which only the offset comes back; store .astimezone(datetime.UTC)"
            )
        if value.fold:
            return "has a fold, which is not stored; store .astimezone(datetime.UTC)"
        return None
    if kind is float:
        return None if math.isfinite(value) else "is not finite, which JSON does not hold"
    if kind is str:
        return None if _has_utf8(value) else "has a lone surrogate, hence no UTF-8; store bytes"
    library = kind.__module__.partition(".")[0]
    if library in _LIBRARIES:
        return f"is a {library}.{kind.__name__}; give it an output of its own"
    base = next((base for base in _PLAIN if isinstance(value, base)), None)
    if base is None or kind is base or _fields(value) or kind is bool:
        return None
    if base is int or hasattr(kind, "__members__"):
        return None  # enumerations, which a declared type restores
    return f"is a subclass of {base.__name__}; store {base.__name__}(value)"


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fields(value: Any) -> tuple[str, ...]:
    kind = type(value)
    names: Any = getattr(kind, "__struct_fields__", None) or getattr(kind, "_fields", None)
    return tuple(names or getattr(kind, "__dataclass_fields__", ()))
