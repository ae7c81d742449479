"""Values that an op is given, and that it gives, held against the types that it declares. They are never changed."""

from collections.abc import Mapping
from typing import Any

from execution.definition.op import OpDefinition
from execution.definition.types import misfit
from execution.errors import WrongType


def check_inputs(step_key: str, values: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    """Raise WrongType naming step, input, the place inside the value and both types."""
    for name, kind in declared.items():
        if name in values:
            found = misfit(values[name], kind)
            if found is not None:
                raise WrongType(
                    f"step {step_key!r}, input {name!r}: {found}; connect an output of that type, or change the "
                    "annotation"
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
