"""The job of `scripts/chaos.py`: clones that take some time, one of each ten with keys of its own, and their sum."""

import time
from collections.abc import Iterator

from execution import DynamicOut, DynamicOutput, OpContext, job, op, success_hook

CLONES = 200
STEP_S = 0.02


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Told one by one, with a moment between them in which a kill may fall."""
    for number in range(CLONES):
        time.sleep(STEP_S / 10)
        yield DynamicOutput(number, number)


@op
def squared(context: OpContext, number: int) -> int:
    """Takes a while, and says so."""
    context.log.info("at work")
    time.sleep(STEP_S)
    return number * number


@success_hook
def noted(context: OpContext) -> None:
    """Called for each clone, at least once."""


@op
def total(squares: list[int]) -> int:
    """Their sum."""
    return sum(squares)


@job
def chaos() -> None:
    """What is killed."""
    total(numbers().map(squared.with_hooks({noted})).collect())


EXPECTED = sum(number * number for number in range(CLONES))
