"""A job that brings up what the environment holds: in what it logs, and in its exceptions."""

import os
from collections.abc import Iterator

from execution import DynamicOut, DynamicOutput, OpContext, job, op


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Three pieces."""
    for number in range(3):
        yield DynamicOutput(number, mapping_key=number)


@op
def leak(context: OpContext, number: int) -> int:
    """The first piece as it is; the second fails with all that it knows, behind another exception that does too."""
    secrets = os.environ["CANARIES"]
    context.log.info(f"leaked {secrets}")
    if number == 1:
        try:
            raise ValueError(f"leaked {secrets}")
        except ValueError as error:
            raise PermissionError(f"leaked with {secrets.split()}") from error
    return number


@op
def total(found: list[int]) -> int:
    """The sum."""
    return sum(found)


@job
def leaking() -> None:
    """Fan out, fail, collect."""
    total(numbers().map(leak).collect())
