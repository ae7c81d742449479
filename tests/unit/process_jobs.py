"""Jobs whose workers die, in a module that worker processes can import."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from execution import DynamicOut, DynamicOutput, OpContext, RetryPolicy, job, op

COUNT = 6


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Some."""
    for number in range(COUNT):
        yield DynamicOutput(number, number)


def die(how: str) -> None:
    """End this process without a word."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "forked":  # a child of its own holds for a while all that it had open
        if os.fork() == 0:
            time.sleep(5)
        os._exit(4)
    signal.pause()


@op(
    config_schema={"folder": str, "how": str, "times": int}, retry_policy=RetryPolicy(max_retries=1)
)
def deadly(context: OpContext, number: int) -> int:
    """At the third key its process dies, the first few times."""
    folder, how = Path(context.op_config["folder"]), context.op_config["how"]
    if number == 3:
        died = folder / f"died-{context.attempt}"
        if context.attempt <= context.op_config["times"]:
            died.write_text(f"{os.getpid()} {context.retry_number}")
            die(how)
    return number


@op
def total(values: list[int]) -> int:
    """Their sum."""
    return sum(values)


@job
def dying() -> None:
    """Numbers, each through an op that may die, and their sum."""
    total(numbers().map(deadly).collect())


@op(config_schema={"folder": str})
def waits(context: OpContext, number: int) -> int:
    """Says that it runs, and does not end."""
    (Path(context.op_config["folder"]) / f"pid-{number}").write_text(str(os.getpid()))
    signal.pause()
    return number


@job
def waiting() -> None:
    """Steps that do not end."""
    numbers().map(waits)


@op(out=DynamicOut(int))
def many(context: Any) -> Iterator[DynamicOutput[int]]:
    """More than a message holds references."""
    for number in range(2_345):
        yield DynamicOutput(number, number)


@job
def wide() -> None:
    """A collect over many."""
    total(many().collect())


@op(config_schema={"folder": str})
def starts(context: OpContext, number: int) -> int:
    """Starts a program that does not end, and waits for it."""
    program = subprocess.Popen(["sleep", "1000"])
    (Path(context.op_config["folder"]) / f"pid-{number}").write_text(str(program.pid))
    return program.wait()


@job
def starting() -> None:
    """Steps that start programs."""
    numbers().map(starts)


def hangs(context: OpContext, number: int) -> int:
    """The second clone does not end, as often as it is told to; it has a program of its own by then."""
    folder = Path(context.op_config["folder"])
    if number == 1 and context.attempt <= context.op_config["times"]:
        program = subprocess.Popen(["sleep", "1000"])
        (folder / f"hung-{context.attempt}").write_text(f"{os.getpid()} {program.pid}")
        program.wait()
    return number


SCHEMA = {"folder": str, "times": int}
timed = op(name="timed", config_schema=SCHEMA, timeout=1.0)(hangs)
timed_twice = op(
    name="timed_twice", config_schema=SCHEMA, timeout=1.0, retry_policy=RetryPolicy(max_retries=2)
)(hangs)


@job
def hanging() -> None:
    """Clones of which one hangs."""
    numbers().map(timed)


@job
def hanging_twice() -> None:
    """Clones of which one hangs, and is tried again."""
    numbers().map(timed_twice)
