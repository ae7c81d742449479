"""`@op`: a function, what goes into it and what comes out. Read once, from signature and annotations (rule D2)."""

import ast
import collections.abc
import hashlib
import inspect
import keyword
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, overload

from execution.definition.composition import Invocation
from execution.definition.ins_outs import DynamicOut, DynamicOutput, In, Out, Output, refuse_unknown
from execution.errors import DefinitionError

CONTEXT_NAMES = ("context", "_context", "_")
_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)


class OpDefinition:
    """An op: called inside a `@job` body it becomes a node."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        description: str | None,
        ins: Mapping[str, In],
        outs: Mapping[str, Out],
        tags: Mapping[str, str],
        version: str | None,
    ) -> None:
        self.function = function
        self.name = name
        self.description = description
        self.tags = dict(tags)
        self.outs = dict(outs)
        self.is_dynamic = any(out.dynamic for out in self.outs.values())
        self.is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(
            function
        )
        self._version = version
        self.parameters = list(inspect.signature(function).parameters.values())
        self.takes_context = bool(self.parameters) and self.parameters[0].name in CONTEXT_NAMES
        self.inputs = self.parameters[1:] if self.takes_context else self.parameters
        self._check(ins)
        self.__doc__ = function.__doc__
        self.__name__ = name

    def _check(self, ins: Mapping[str, In]) -> None:
        if not self.name.isidentifier() or keyword.iskeyword(self.name):
            raise DefinitionError(
                f"op name {self.name!r} is not a Python identifier; choose another"
            )
        for parameter in self.inputs:
            if parameter.kind in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
                parameter.POSITIONAL_ONLY,
            ):
                raise DefinitionError(
                    f"op {self.name!r}: parameter {parameter} cannot be an input; name each input"
                )
        names = {parameter.name for parameter in self.inputs}
        for name in ins:
            if name not in names:
                raise DefinitionError(
                    f"op {self.name!r} declares In {name!r}, but its function has no such parameter"
                )
        for name in self.outs:
            if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
                raise DefinitionError(
                    f"op {self.name!r}: output name {name!r} is not a public Python identifier"
                )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Invocation(self)(*args, **kwargs)

    def alias(self, name: str) -> Invocation:
        """The same op as a node of another name."""
        return Invocation(self).alias(name)

    def tag(self, tags: Mapping[str, str]) -> Invocation:
        """The same op with more tags."""
        return Invocation(self).tag(tags)

    @cached_property
    def code(self) -> str:
        """Digest of the op's source without comments and layout, or of its declared version (rule R5).

        Sixteen hexadecimal digits. Functions that the op calls are not seen.
        """
        text = (
            f"version {self._version}"
            if self._version is not None
            else _normal_source(self.function)
        )
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    @cached_property
    def declared(self) -> dict[str, Any]:
        """Output -> the type of its value, None where none is declared; for a dynamic output that of one value."""
        annotated = _annotated_outputs(self.function, list(self.outs))
        return {
            name: out.declared if out.declared is not None else annotated.get(name)
            for name, out in self.outs.items()
        }

    def __repr__(self) -> str:
        return f"<op {self.name}>"


@overload
def op(compute_fn: Callable[..., Any], /) -> OpDefinition: ...
@overload
def op(
    *,
    name: str | None = None,
    description: str | None = None,
    ins: Mapping[str, In] | None = None,
    out: Out | Mapping[str, Out] | None = None,
    tags: Mapping[str, str] | None = None,
    version: str | None = None,
    **unknown: Any,
) -> Callable[[Callable[..., Any]], OpDefinition]: ...
def op(
    compute_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    ins: Mapping[str, In] | None = None,
    out: Out | Mapping[str, Out] | None = None,
    tags: Mapping[str, str] | None = None,
    version: str | None = None,
    **unknown: Any,
) -> OpDefinition | Callable[[Callable[..., Any]], OpDefinition]:
    """Make an op of a function.

    A first parameter named `context` (or `_context`, `_`) receives the context; all others are inputs. Without `out`
    there is one output `result`, typed by the return annotation; `-> list[DynamicOutput[T]]` declares a dynamic one.
    `version` stands for the source where resume asks whether the code has changed. Raises DefinitionError.
    """
    if "code_version" in unknown and version is None:
        version = unknown.pop("code_version")
    refuse_unknown("@op", unknown)

    def decorate(function: Callable[..., Any]) -> OpDefinition:
        outs = dict(out) if isinstance(out, Mapping) else {"result": out or _inferred_out(function)}
        return OpDefinition(
            function, name or function.__name__, description, ins or {}, outs, tags or {}, version
        )

    return decorate if compute_fn is None else decorate(compute_fn)


def _inferred_out(function: Callable[..., Any]) -> Out:
    annotation = _return_annotation(function)
    for inner in (annotation, *typing.get_args(annotation)):
        if inner is DynamicOutput or typing.get_origin(inner) is DynamicOutput:
            return DynamicOut()
    return Out()


def _annotated_outputs(function: Callable[..., Any], names: list[str]) -> dict[str, Any]:
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


def _normal_source(function: Callable[..., Any]) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        code = getattr(function, "__code__", None)
        return repr((code.co_code, code.co_names)) if code else repr(function)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = []
            break
    return ast.unparse(tree)
