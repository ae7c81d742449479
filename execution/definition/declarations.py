"""What an op declares, held against itself and its function: names that cannot be, inputs that nothing takes. Pure."""

import inspect
import keyword
from collections.abc import Mapping, Sequence
from typing import Any

from execution.definition.ins_outs import In, Nothing, Out
from execution.definition.types import misfit
from execution.errors import DefinitionError


def check_declarations(
    where: str,
    parameters: Sequence[inspect.Parameter],
    ins: Mapping[str, Any],
    outs: Mapping[str, Any],
) -> None:
    """Raise DefinitionError for the first that does not fit; `where`: as "op 'inc'"."""
    _check_kinds(where, ins, outs)
    _check_defaults(where, ins)
    _check_parameters(where, parameters)
    _check_ins(where, {parameter.name for parameter in parameters}, ins)
    _check_outs(where, outs)


def check_name(name: str) -> None:
    """Raise DefinitionError for a name that no op can have."""
    if not _is_identifier(name):
        raise DefinitionError(f"op name {name!r} is not a Python identifier; choose another")


def is_nothing(one: Any) -> bool:
    """True for a declared input that carries no value."""
    return getattr(one, "declared", None) is Nothing


def _check_kinds(where: str, ins: Mapping[str, Any], outs: Mapping[str, Any]) -> None:
    for what, declared, kind in (("ins", ins, In), ("out", outs, Out)):
        for name, one in declared.items():
            if not isinstance(one, kind):
                raise DefinitionError(
                    f"{where}: {what} {name!r} is {one!r}; declare it with {kind.__name__}(…)"
                )


def _check_defaults(where: str, ins: Mapping[str, In]) -> None:
    for name, one in ins.items():
        found = misfit(one.default_value, one.declared) if one.has_default else None
        if found is not None:
            raise DefinitionError(
                f"{where}, default of input {name!r}: {found}; give a default of that type"
            )


def _check_parameters(where: str, parameters: Sequence[inspect.Parameter]) -> None:
    for one in parameters:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.POSITIONAL_ONLY):
            raise DefinitionError(f"{where}: parameter {one} cannot be an input; name each input")


def _check_ins(where: str, names: set[str], ins: Mapping[str, In]) -> None:
    for name, one in ins.items():
        if name in names and is_nothing(one):
            raise DefinitionError(
                f"{where}: input {name!r} is Nothing, so its function gets no value for it; remove the parameter"
            )
        if name not in names and not is_nothing(one):
            raise DefinitionError(
                f"{where} declares In {name!r}, but its function has no such parameter"
            )


def _check_outs(where: str, outs: Mapping[str, Out]) -> None:
    for name in outs:
        if not _is_identifier(name) or name.startswith("_"):
            raise DefinitionError(
                f"{where}: output name {name!r} is not a public Python identifier"
            )


def _is_identifier(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)
