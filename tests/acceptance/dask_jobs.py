"""A job on a cluster whose first clone waits, and its collect, in a file that workers load."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from execution import DynamicOut, DynamicOutput, OpContext, job, op


def wait_for(file: Path) -> None:
    """Until it is there."""
    while not file.exists():
        time.sleep(0.01)


def called(context: OpContext) -> Path:
    """Note that a step was called; the folder of the test."""
    folder = Path(context.op_config["folder"])
    with (folder / "calls").open("a") as calls:
        calls.write(f"{context.step_key}\n")
    return folder


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """A few."""
    for number in range(4):
        yield DynamicOutput(number, number)


@op(config_schema={"folder": str})
def held(context: OpContext, number: int) -> str:
    """What it gives depends on the attempt; the first attempt of the first clone waits."""
    folder = called(context)
    if number == 0 and context.attempt == 1:
        (folder / "pid").write_text(str(os.getpid()))
        wait_for(folder / "late")
    return f"attempt {context.attempt}"


@op(config_schema={"folder": str})
def joined(context: OpContext, texts: list[str]) -> str:
    """All of them; waits."""
    wait_for(called(context) / "last")
    return ", ".join(texts)


@job
def holding() -> None:
    """Clones that wait, and their collect."""
    joined(numbers().map(held).collect())
