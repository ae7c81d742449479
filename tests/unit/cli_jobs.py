"""Jobs for the tests of the command; their ops wait for files, so that a test decides how long a step takes."""

import os
import time
from pathlib import Path
from typing import Any

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    Out,
    Output,
    RetryRequested,
    job,
    op,
)

KEYS = ["a", "b/c", "-dash", "x[0]%", "é", "q'\"$"]


def wait_here(name: str) -> None:
    """Say that the step is running, and go on when told to; where nobody listens, go on at once."""
    folder = os.environ.get("CLI_TEST_FOLDER")
    if folder is None:
        return
    Path(folder, f"reached-{name}").touch()
    deadline = time.monotonic() + 20
    while not Path(folder, f"go-{name}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@op(out=DynamicOut(str))
def fan() -> Any:
    for key in KEYS:
        yield DynamicOutput(key.upper(), mapping_key=key)


@op
def look(text: str) -> dict[str, str]:
    if text == "-DASH":
        wait_here("dash")
    return {"text": text}


@op
def total(texts: list[dict[str, str]]) -> str:
    return ",".join(each["text"] for each in texts)


@job
def slow() -> None:
    total(fan().map(look).collect())


@op
def fragile(context: OpContext, text: str) -> str:
    if context.attempt == 1 and len(text) > 1:
        raise ValueError(f"no {text}\x1b[31m\nsecond line")
    return text


@op
def count(texts: list[str]) -> int:
    return len(texts)


@job
def failing() -> None:
    count(fan().map(fragile).collect())


@op
def busy(context: OpContext, text: str) -> str:
    if context.attempt == 1 and text == "B/C":
        raise RetryRequested(seconds_to_wait=3600) from OSError("the service is busy")
    return text


@job
def retrying() -> None:
    count(fan().map(busy).collect())


@op
def configured(context: OpContext) -> int:
    return int(context.op_config["n"])


@job
def with_config() -> None:
    configured()


@op(
    out={
        "raw": Out(bytes),
        "packed": Out(),
        "pickled": Out(serializer="pickle"),
        "text": Out(str),
    }
)
def formats() -> Any:
    yield Output(b"\x00\xff", "raw")
    yield Output({"nan": float("nan"), "bytes": b"\x01"}, "packed")
    yield Output(Unwelcome(), "pickled")
    yield Output("line", "text")


class Unwelcome:
    """Leaves a trace if it is ever unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("unpickled",))


@job
def many_formats() -> None:
    formats()
