"""What the annotations of a function say of an op: the types of its inputs and outputs (rule D2). Pure."""

import collections.abc
import types
import typing
from collections.abc import Callable
from typing import Any

from execution.definition.ins_outs import DynamicOut, DynamicOutput, Out, Output

_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)


def inferred_out(function: Callable[..., Any]) -> Out:
    """The one output of an op that declares none: dynamic where the annotation says so."""
    annotation = _return_annotation(function)
    for inner in (annotation, *typing.get_args(annotation)):
        if inner is DynamicOutput or typing.get_origin(inner) is DynamicOutput:
            return DynamicOut()
    return Out()


def annotated_outputs(function: Callable[..., Any], names: list[str]) -> dict[str, Any]:
    """Output -> the type that the annotation gives to its values; for a dynamic output to one of them."""
    annotation = _return_annotation(function)
    if annotation is None:
        return {}
    if len(names) == 1:
        return {names[0]: _value_type(annotation)}
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and len(parts) == len(names):
        return {name: _value_type(part) for name, part in zip(names, parts, strict=True)}
    return {}


def _value_type(annotation: Any) -> Any:
    """`int` from `int`, `Output[int]`, `Iterator[DynamicOutput[int]]`, `list[DynamicOutput[int]]`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Output, DynamicOutput):
        return None
    if origin in (Output, DynamicOutput):
        return arguments[0]
    if origin in _STREAMS:
        return _value_type(arguments[0]) if _is_given(arguments[0]) else None
    if origin is list and _is_given(arguments[0]):
        return _value_type(arguments[0])
    return annotation


def _is_given(annotation: Any) -> bool:
    members = (
        typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    )
    return any(
        (typing.get_origin(member) or member) in (Output, DynamicOutput) for member in members
    )


def _return_annotation(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # an annotation that cannot be resolved is no declaration
        annotation = getattr(function, "__annotations__", {}).get("return")
        return None if isinstance(annotation, str) else annotation


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameter -> its annotation; as text where it cannot be resolved."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        return dict(getattr(function, "__annotations__", {}))


def is_resolvable(function: Callable[..., Any]) -> bool:
    """True where every annotation is known by now."""
    return not any(isinstance(one, str) for one in hints(function).values())


def is_stream(annotation: Any) -> bool:
    """True for `Iterator`, `Iterable`, `Iterator[T]` and `Iterable[T]` (rule D9)."""
    asked = (collections.abc.Iterator, collections.abc.Iterable)
    return annotation in asked or typing.get_origin(annotation) in asked


def item_type(annotation: Any) -> Any:
    """`T` of `Iterator[T]`; None where it does not say."""
    return next(iter(typing.get_args(annotation)), None)
