"""Is a value of a declared type, and if not, where inside it is not. Pure; a value is looked at, never changed.

A type is what annotations are made of: classes, containers of types, unions, literals, Structs, dataclasses, typed
dicts. What no rule here speaks of, such as a protocol that cannot be asked, fits anything.
"""

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from runstore.outputs.serializers import type_name

_UNIONS = (typing.Union, types.UnionType)
_SCALARS = frozenset({int, str, float, bool, bytes})
_STREAMS = (
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Collection,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Generator,
)
_TABLES = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Misfit(NamedTuple):
    """The first place inside a value where it is not of its type."""

    path: str
    declared: Any
    value: Any

    def __str__(self) -> str:
        return (
            f"{self.path} is {_shown(self.value)} of type {type_name(type(self.value))}, "
            f"where {type_name(self.declared)} is declared"
        )


def is_untyped(declared: Any) -> bool:
    """True where anything fits: nothing is declared, or a name that cannot be resolved."""
    return (
        declared is None
        or declared is Any
        or declared is object
        or isinstance(declared, str | typing.TypeVar | typing.ForwardRef)
    )


def misfit(value: Any, declared: Any, path: str = "$", *, exact: bool = False) -> Misfit | None:
    """Where a value is not of the declared type; None where it fits.

    An int fits a float, and an object of a subclass its class, unless `exact`: what is stored comes back as the type
    that is declared, and so must be of that very type.
    """
    kind = type(value)
    if (kind is declared and kind in _SCALARS) or is_untyped(declared):
        return None
    return next(_misfits(value, declared, path, exact), None)


def _misfits(value: Any, declared: Any, path: str, exact: bool) -> Iterator[Misfit]:
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in _UNIONS:
        yield from _misfits_of_union(value, declared, arguments, path, exact)
    elif origin is typing.Annotated:
        yield from _misfits_of_annotated(value, declared, arguments[0], path, exact)
    elif origin is typing.Literal:
        if not any(type(one) is type(value) and one == value for one in arguments):
            yield Misfit(path, declared, value)
    elif isinstance(declared, typing.NewType):
        yield from _inner(value, declared.__supertype__, path, exact)
    elif not _is_instance(value, origin or declared, exact):
        yield Misfit(path, declared, value)
    else:
        yield from _misfits_inside(value, origin or declared, arguments, path, exact)


def _inner(value: Any, declared: Any, path: str, exact: bool) -> Iterator[Misfit]:
    found = misfit(value, declared, path, exact=exact)
    if found is not None:
        yield found


def _misfits_of_union(
    value: Any, declared: Any, members: tuple[Any, ...], path: str, exact: bool
) -> Iterator[Misfit]:
    found = [misfit(value, member, path, exact=exact) for member in members]
    if None in found:
        return
    inside = [one for one in found if one is not None and one.path != path]
    yield inside[0] if len(inside) == 1 else Misfit(path, declared, value)


def _misfits_of_annotated(
    value: Any, declared: Any, inner: Any, path: str, exact: bool
) -> Iterator[Misfit]:
    """`Annotated[int, msgspec.Meta(gt=0)]`: the type, then what msgspec knows of its limits."""
    found = misfit(value, inner, path, exact=exact)
    if found is not None:
        yield found
        return
    try:
        msgspec.convert(value, declared, strict=True)
    except msgspec.ValidationError:
        yield Misfit(path, declared, value)
    except (TypeError, ValueError, RecursionError):
        return


def _is_instance(value: Any, kind: Any, exact: bool) -> bool:
    if typing.is_typeddict(kind):
        return isinstance(value, dict)
    if kind in _STREAMS and not exact:
        return isinstance(value, collections.abc.Iterable)
    if kind is int or kind is float:
        accepted = (kind,) if exact or kind is int else (int, float)
        return type(value) is kind or (
            not exact and isinstance(value, accepted) and not isinstance(value, bool)
        )
    if exact and isinstance(kind, type) and not getattr(kind, "__abstractmethods__", None):
        return type(value) is kind
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked, or no class at all
        return True


def _misfits_inside(
    value: Any, kind: Any, arguments: tuple[Any, ...], path: str, exact: bool
) -> Iterator[Misfit]:
    if kind in _TABLES and arguments:
        for name, part in value.items():
            yield from _inner(name, arguments[0], f"{path} key {name!r}", exact)
            yield from _inner(part, arguments[1], f"{path}[{name!r}]", exact)
    elif kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            yield Misfit(path, types.GenericAlias(tuple, arguments), value)
        for place, (part, one) in enumerate(zip(value, arguments, strict=False)):
            yield from _inner(part, one, f"{path}[{place}]", exact)
    elif arguments and isinstance(value, list | tuple | set | frozenset | collections.deque):
        one = arguments[0]
        for place, part in enumerate(value):
            if type(part) is not one or one not in _SCALARS:
                yield from _inner(part, one, f"{path}[{place}]", exact)
    elif typing.is_typeddict(kind):
        yield from _misfits_of_keys(value, kind, path, exact)
    else:
        for name, declared in _field_types(kind).items():
            yield from _inner(getattr(value, name, None), declared, f"{path}.{name}", exact)


def _misfits_of_keys(value: Any, kind: Any, path: str, exact: bool) -> Iterator[Misfit]:
    hints = typing.get_type_hints(kind)
    if kind.__required_keys__ - value.keys() or value.keys() - hints.keys():
        yield Misfit(path, kind, value)
    for name, part in value.items():
        yield from _inner(part, hints.get(name), f"{path}.{name}", exact)


@lru_cache(maxsize=512)
def _field_types(kind: Any) -> dict[str, Any]:
    """Field -> type of a Struct, dataclass or namedtuple; empty for any other class."""
    names = getattr(kind, "__struct_fields__", None) or getattr(kind, "_fields", None)
    if names is None and dataclasses.is_dataclass(kind):
        names = tuple(field.name for field in dataclasses.fields(kind))
    if not names:
        return {}
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # an annotation that cannot be resolved is no declaration
        return {}
    return {name: hints[name] for name in names if name in hints}


def covers(declared: Any, given: Any) -> bool:
    """True where every value of the type `given` surely fits `declared`, so that none has to be looked at."""
    if is_untyped(declared) or declared == given:
        return True
    origin, arguments = typing.get_origin(declared) or declared, typing.get_args(declared)
    given_origin, given_arguments = typing.get_origin(given) or given, typing.get_args(given)
    if given_origin in _UNIONS:
        return all(covers(declared, member) for member in given_arguments)
    if origin in _UNIONS:
        return any(covers(member, given) for member in arguments)
    if given_origin is list and (origin is list or origin in _STREAMS):
        return not arguments or covers(arguments[0], (*given_arguments, Any)[0])
    if given_origin is dict and origin in _TABLES:
        return not arguments or all(map(covers, arguments, given_arguments or (Any, Any)))
    if arguments or given_arguments or not isinstance(declared, type):
        return False
    if declared is float and given is int:
        return True
    return isinstance(given, type) and given is not bool and issubclass(given, declared)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "(its repr raises)"
    return text if len(text) <= 60 else text[:57] + "…"
