"""What the contract of executors is tried on: one job, in a module that every worker can import."""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from execution import (
    DynamicOut,
    DynamicOutput,
    Out,
    Output,
    failure_hook,
    job,
    op,
    resource,
    success_hook,
)
from execution.running.context import OpContext


@resource(config_schema={"folder": str})
def pen(context: Any) -> Iterator[Any]:
    """Writes down where it was opened and closed."""
    folder = Path(context.resource_config["folder"])
    if (folder / "no-pen").exists():
        raise OSError("no ink")
    with (folder / "pen.txt").open("a") as file:
        file.write(f"open {os.getpid()}\n")
        file.flush()
        yield file
        if (folder / "slow-pen").exists():
            signal.pause()
        if (folder / "stuck-pen").exists():
            raise OSError("does not close")
        file.write(f"close {os.getpid()}\n")


@success_hook(required_resource_keys={"pen"})
def told(context: Any) -> None:
    """Logs what it was given."""
    context.log.info("hook saw %s", context.op_output_values)


@failure_hook
def raising(context: Any) -> None:
    """Does not return."""
    raise ValueError(f"hook of {context.step_key}: {context.op_exception}")


@op(out=DynamicOut(int))
def pieces(context: OpContext, count: int) -> Iterator[DynamicOutput[int]]:
    """As many as asked for, with a line in the log before each."""
    for number in range(count):
        context.log.info("piece %d", number)
        yield DynamicOutput(number, number)


@op(out={"one": Out(int), "two": Out(str)})
def pair(number: int) -> Any:
    """Two outputs."""
    yield Output(number + 1, "one")
    yield Output(str(number), "two")


@op
async def summed(numbers: list[int]) -> int:
    """A collect, in an async op."""
    return sum(numbers)


class Unspeakable(Exception):
    """Cannot be shown, and not be pickled."""

    def __init__(self, _: Any) -> None:
        super().__init__("nothing")
        self.lock = sys._getframe()

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class Panic(BaseException):
    """No Exception, as the panics of extensions written in Rust."""


@op
def fails(how: str) -> int:
    """Fails in the way that it is told to."""
    if how == "exit":
        sys.exit(3)
    if how.startswith("atexit "):
        atexit.register(Path(how.removeprefix("atexit ")).write_text, "bye")
    if how == "panic":
        raise Panic("index out of bounds")
    if how == "unspeakable":
        raise Unspeakable(0)
    raise ValueError(how)


@op(required_resource_keys={"pen"})
def writes(context: OpContext, number: int) -> int:
    """Uses a resource."""
    context.resources.pen.write(f"write {number}\n")
    return os.getpid()


@op
def whereabouts() -> list[int]:
    """Of the process and the thread in which it runs."""
    return [os.getpid(), threading.get_ident()]


@op
def waits(folder: str) -> None:
    """Says that it is there, and waits for a word to go on."""
    Path(folder, "here").touch()
    until = time.monotonic() + 60
    while not Path(folder, "go").exists() and time.monotonic() < until:
        time.sleep(0.005)


@job(resource_defs={"pen": pen}, hooks={told, raising})
def contract() -> None:
    """All of them."""
    pieces(3).map(pair)
    summed(pieces.alias("more")(2).collect())
    fails("x")
    writes(1)
    whereabouts()
    waits("")
