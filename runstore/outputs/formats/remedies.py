"""What to do about a value that no format gives back as it was: the first part of it that is known to be the reason."""

import datetime as dt
import math
from collections.abc import Iterator
from enum import Enum
from typing import Any

REMEDIES = (
    "annotate the output with a type that JSON can hold, register a serializer (runstore.register_serializer) and "
    "name it in Out(serializer=…), or allow pickle with Out(serializer='pickle') or allow_pickle = true"
)

_CONTAINERS = (list, tuple, dict, set, frozenset)
_PLAIN = (*_CONTAINERS, str, int, float, bytes)
_LIBRARIES = ("numpy", "pandas", "polars", "pyarrow")
_OWN_OUTPUT = "give it an output of its own"
_INSTEAD = {
    "ndarray": f"store .tolist(), or {_OWN_OUTPUT}",
    "generic": f"store .item(), or {_OWN_OUTPUT}",
    "MaskedArray": "store .filled(), and its mask as an output of its own",
    "Series": f"store .to_frame(), and {_OWN_OUTPUT}",
    "LazyFrame": f"store .collect(), and {_OWN_OUTPUT}",
    "RecordBatch": f"store pyarrow.Table.from_batches([it]), and {_OWN_OUTPUT}",
    "DataFrame": _OWN_OUTPUT,
    "Table": _OWN_OUTPUT,
    "Timestamp": "store .to_pydatetime()",
    "Timedelta": "store .to_pytimedelta()",
}


def reason(value: Any, *, only_json: bool = False) -> str | None:
    """Where in a value something stands that formats change, what, and what to store instead; None: nothing known."""
    try:
        return next(_reasons(value, "$", only_json), None)
    except RecursionError:
        return "it is nested too deeply, or in itself; store it flat"
    except Exception:  # a value whose own methods raise has no more to say
        return None


def instead_of(kind: type) -> str | None:
    """What a class of a library for arrays and tables is, and what to store instead; None for any other class."""
    origin = next((one for one in kind.__mro__ if _library(one)), None)
    if origin is None:
        return None
    names = [one.__name__ for one in kind.__mro__ if _library(one)]
    instead = next((_INSTEAD[name] for name in names if name in _INSTEAD), "store a plain value")
    if origin is not kind:
        return f"is a subclass of {_library(origin)}.{origin.__name__}; store a plain one"
    return f"is a {_library(kind)}.{kind.__name__}; {instead}"


def _library(kind: type) -> str | None:
    library = str(kind.__module__).partition(".")[0]
    return library if library in _LIBRARIES else None


def _reasons(value: Any, path: str, only_json: bool) -> Iterator[str]:
    known = _reason_of(value, type(value), only_json)
    if known is not None:
        yield f"{path} {known}"
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _reasons(name, f"{path} key {str(name)[:40]!r}", only_json)
            yield from _reasons(part, f"{path}[{str(name)[:40]!r}]", only_json)
    elif isinstance(value, _CONTAINERS):
        for place, part in enumerate(value):
            yield from _reasons(part, f"{path}[{place}]", only_json)
    else:
        for name in _fields(value):
            yield from _reasons(getattr(value, name, None), f"{path}.{name}", only_json)


def _reason_of(value: Any, kind: type, only_json: bool) -> str | None:
    found = instead_of(kind)
    if found is not None:
        return found
    if isinstance(value, dt.datetime | dt.time):
        return _reason_of_time(value)
    if kind is float and only_json and not math.isfinite(value):
        return "is not finite, which JSON does not hold; use Out(serializer='msgpack')"
    if kind is str and not _has_utf8(value):
        return "has a lone surrogate, hence no UTF-8; store bytes"
    base = next((base for base in _PLAIN if isinstance(value, base)), None)
    if base is None or kind is base or kind is bool or _fields(value) or isinstance(value, Enum):
        return None
    return f"is a subclass of {base.__name__}; store {base.__name__}(value)"


def _reason_of_time(value: dt.datetime | dt.time) -> str | None:
    if value.tzinfo is not None and type(value.tzinfo) is not dt.timezone:
        return "has a zone, of which only the offset comes back; store .astimezone(datetime.UTC)"
    if value.fold:
        return "has a fold, which is not stored; store .astimezone(datetime.UTC)"
    return None


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
