"""Which formats there are, by name and by type: the built-in ones, those of the user, those of installed packages."""

import inspect
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, TypeVar, cast

from runstore.errors import ConfigError
from runstore.outputs.formats.arrays import Npy, NpyScalar
from runstore.outputs.formats.declared import admits, is_typed
from runstore.outputs.formats.pickled import CloudPickle, Pickle
from runstore.outputs.formats.plain import Json, MessagePack, Raw, Text
from runstore.outputs.formats.protocol import ExactSerializer, Serializer, check_words
from runstore.outputs.formats.tables import Parquet

GROUP = "runstore.serializers"
"""The group of entry points in which a package offers formats: name = object or class of a Serializer."""

C = TypeVar("C", bound=type)

TEXT, RAW, JSON, MESSAGE_PACK = Text(), Raw(), Json(), MessagePack()
NPY, NPY_SCALAR, PARQUET = Npy(), NpyScalar(), Parquet()
EXACT: tuple[ExactSerializer, ...] = (JSON, MESSAGE_PACK, TEXT, RAW, NPY, NPY_SCALAR, PARQUET)
"""Formats of which every value is read back before it counts; of the others the user answers for that."""
EXACT_BY_NAME = {serializer.name: serializer for serializer in EXACT}
_BUILT_IN: tuple[Serializer, ...] = (*EXACT, Pickle(), CloudPickle())
_LIBRARY_TYPES: dict[tuple[str, str], Serializer] = {
    ("numpy", "ndarray"): NPY,
    ("pandas", "DataFrame"): PARQUET,
    ("polars", "DataFrame"): PARQUET,
    ("pyarrow", "Table"): PARQUET,
}
"""By the names of library and class, so that no library has to be imported to know its types."""
_PLAIN_TYPES = frozenset({str, int, float, bool, bytes, type(None), list, dict})

by_name: dict[str, Serializer] = {serializer.name: serializer for serializer in _BUILT_IN}
_by_type: dict[type, Serializer] = {}


def register_serializer(serializer: Serializer) -> None:
    """Make a format known by its name, for `Out(serializer=name)`; the process that reads needs it too.

    Where it has `types`, values of these very classes are stored in it without being told. Raises ValueError for a
    name that is taken or cannot stand in an address.
    """
    check_words(serializer.name, serializer.extension)
    if any(serializer.name == taken.name for taken in _BUILT_IN):
        raise ValueError(f"serializer name {serializer.name!r} is taken; choose another")
    kinds = tuple(getattr(serializer, "types", ()))
    for kind in kinds:
        if not isinstance(kind, type) or kind in _PLAIN_TYPES:
            raise ValueError(
                f"serializer {serializer.name!r} cannot be the one of {kind!r}; types are classes other than "
                "those that text, raw and JSON hold"
            )
    by_name[serializer.name] = serializer
    _by_type.update(dict.fromkeys(kinds, serializer))
    formats_for.cache_clear()


def serializer(name: str, *, extension: str, types: Iterable[type] = ()) -> Callable[[C], C]:
    """Decorate a class with `encode(value, declared)` and `decode(data, declared)`: a format of that name.

    Values of the very classes in `types` are stored in it, declared or not; others by `Out(serializer=name)`.
    """
    kinds = tuple(types)

    def register(cls: C) -> C:
        made = cast(Any, cls)
        made.name, made.extension, made.types = name, extension, kinds
        register_serializer(made())
        return cls

    return register


def find(name: str) -> Serializer | None:
    """The format of that name; None where neither the process nor an installed package has one."""
    return by_name.get(name) or (_loaded(name) if name in _offers() else None)


def registered() -> list[Serializer]:
    """The formats that were registered in this process."""
    return [one for one in by_name.values() if one not in _BUILT_IN]


def known_names() -> list[str]:
    """The names of all formats that `find` finds."""
    return sorted({*by_name, *_offers()})


class Choice(NamedTuple):
    """The formats to try for a value, in this order."""

    formats: tuple[Serializer, ...]
    is_plain: bool = False
    """They give back, or refuse, every value of its class, so that none has to be read back."""


@lru_cache(maxsize=1024)
def formats_for(declared: Any, kind: type) -> Choice:
    """What a declared type and the class of a value pick."""
    own = _by_type.get(kind) or _library_format(kind)
    if own is not None and admits(declared, kind):
        return Choice((own,))
    is_plain = kind in (int, bool, str, type(None)) and declared in (None, kind)
    if declared is str:
        return Choice((TEXT,), is_plain)
    if declared is bytes:
        return Choice((RAW,), kind is bytes)
    return Choice((JSON, MESSAGE_PACK), is_plain)


def _library_format(kind: type) -> Serializer | None:
    library = str(kind.__module__).partition(".")[0]
    found = _LIBRARY_TYPES.get((library, kind.__name__))
    if found is None and library == "numpy":
        is_scalar = any(
            f"{one.__module__}.{one.__name__}" == "numpy.generic" for one in kind.__mro__
        )
        return NPY_SCALAR if is_scalar else None
    return found


# What installed packages offer, looked at only where nothing else is found


def offered_for(declared: Any, kind: type) -> Serializer | None:
    """The format of an installed package for values of the class `kind`, where it may stand for the declared type."""
    if not admits(declared, kind):
        return None
    offered = [_loaded(name) for name in _offers()]
    return next((one for one in offered if kind in getattr(one, "types", ())), None)


@cache
def _offers() -> dict[str, EntryPoint]:
    return {offer.name: offer for offer in entry_points(group=GROUP)}


@cache
def _loaded(name: str) -> Serializer:
    offer = _offers()[name]
    try:
        found = offer.load()
        made = cast(Serializer, found() if inspect.isclass(found) else found)
        check_words(made.name, made.extension)
        if made.name != name:
            raise ValueError(f"{offer.value} is named {made.name!r}")
    except Exception as error:
        distribution = offer.dist.name if offer.dist else "an unknown distribution"
        raise ConfigError(
            f"serializer {name!r} of {distribution} cannot be loaded: {type(error).__name__}: {error}; "
            f"mend or uninstall {distribution}"
        ) from error
    return made


def is_enforced(declared: Any, name: str | None) -> bool:
    """True where the format alone sees to it that a value is of its declared type."""
    return is_typed(declared) and name in (None, "json", "msgpack", "text", "raw")
