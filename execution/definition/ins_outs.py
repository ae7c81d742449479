"""What goes into an op and what comes out: declared (`In`, `Out`, `DynamicOut`) and given (`Output`,
`DynamicOutput`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from execution.errors import DefinitionError
from runstore.outputs.serializers import level_of

T = TypeVar("T")


def refuse_unknown(what: str, unknown: Mapping[str, Any]) -> None:
    """Raise one error naming the arguments that a job written for another system brings and this one lacks."""
    if unknown:
        names = ", ".join(sorted(unknown))
        raise DefinitionError(f"{what} has no argument {names} here; remove it")


def _check_compress(what: str, compress: str) -> None:
    try:
        level_of(compress)
    except ValueError as error:
        raise DefinitionError(f"{what}: {error}") from None


class Nothing:
    """The type of an input or output that carries no value, only order: `In(Nothing)`, `Out(Nothing)`.

    Such an input is no parameter of the function: it is passed by name, or by place after the others. Such an output
    is given by ending.
    """


_NO_DEFAULT = object()


class In:
    """An input, declared.

    `default_value`: what the op is given where the input is not connected and the run config gives it no value.
    """

    def __init__(
        self,
        dagster_type: Any = None,
        *,
        description: str | None = None,
        default_value: Any = _NO_DEFAULT,
        **unknown: Any,
    ) -> None:
        refuse_unknown("In", unknown)
        self.declared = dagster_type
        self.description = description
        self.default_value = default_value

    @property
    def has_default(self) -> bool:
        """A default was declared, be it None."""
        return self.default_value is not _NO_DEFAULT


class Out:
    """An output, declared.

    `dagster_type`: the type of its value, which picks the stored format; default: the return annotation.
    `is_required=False`: an output that the op may leave out, which skips what needs it (rule F1).
    `serializer`: a format by name, in place of the one that the type picks.
    `compress`: "zstd", or "zstd:LEVEL" with a level of 1 to 22: the stored bytes are compressed.
    """

    dynamic = False

    def __init__(
        self,
        dagster_type: Any = None,
        *,
        description: str | None = None,
        is_required: bool = True,
        serializer: str | None = None,
        compress: str | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown)
        if compress is not None:
            _check_compress(type(self).__name__, compress)
        self.declared = dagster_type
        self.description = description
        self.is_required = is_required
        self.serializer = serializer
        self.compress = compress


class DynamicOut(Out):
    """An output of any number of values, each under a mapping key of its own; `dagster_type` is that of one value."""

    dynamic = True


@dataclass(frozen=True, init=False)
class Output(Generic[T]):
    """A value for the output `output_name`; `metadata`: JSON data about it, for the log."""

    value: T
    output_name: str
    metadata: Mapping[str, Any] | None = None

    def __init__(
        self,
        value: T,
        output_name: str = "result",
        metadata: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            refuse_unknown("Output", unknown)
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "output_name", output_name)
        if metadata is not None:
            object.__setattr__(self, "metadata", metadata)


@dataclass(frozen=True, init=False)
class DynamicOutput(Generic[T]):
    """One value of the dynamic output `output_name`, under `mapping_key` (any text or an int; rule K1).

    `metadata`: JSON data about it, for the log.
    """

    value: T
    mapping_key: str | int
    output_name: str
    metadata: Mapping[str, Any] | None = None

    def __init__(
        self,
        value: T,
        mapping_key: str | int,
        output_name: str = "result",
        metadata: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            refuse_unknown("DynamicOutput", unknown)
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "mapping_key", mapping_key)
        object.__setattr__(self, "output_name", output_name)
        if metadata is not None:
            object.__setattr__(self, "metadata", metadata)
