"""Values that an op is given, and that it gives, held against the types that it declares. They are never changed."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from execution.definition.annotations import item_type
from execution.definition.op import OpDefinition
from execution.definition.types import misfit
from execution.errors import WrongType
from execution.running.loading import Stream


def check_inputs(step_key: str, values: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    """Raise WrongType naming step, input, the place inside the value and both types."""
    for name, kind in declared.items():
        if isinstance(values.get(name), Stream):
            values[name].look = partial(_check_input, step_key, name, kind=item_type(kind))
        elif name in values:
            _check_input(step_key, name, values[name], kind=kind)


def _check_input(step_key: str, name: str, value: Any, *, kind: Any) -> None:
    found = misfit(value, kind)
    if found is not None:
        raise WrongType(
            f"step {step_key!r}, input {name!r}: {found}; connect an output of that type, or change the annotation"
        )


def check_output(step_key: str, op: OpDefinition, output: str, value: Any) -> None:
    """Raise WrongType naming step, output, the place inside the value and both types.

    A value that is stored as JSON comes back as the declared type, so it must be of that very type.
    """
    found = misfit(value, op.declared[output], exact=output not in op.unenforced)
    if found is not None:
        raise WrongType(
            f"step {step_key!r}, output {output!r}: {found}; return that type, or change the annotation"
        )
