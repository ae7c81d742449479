"""The benchmark's job W(N): one op yields N numbers, `inc` is mapped over them, `total` collects the results.

Nested, the same N numbers come from N/10 clones of an op that yields ten each, and are added up twice.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from execution import DynamicOut, DynamicOutput, OpContext, job, op


@dataclass
class Probe:
    """What `inc` saw in this process, and when it is to die."""

    calls: int = 0
    first_call_at: float | None = None
    """In time.perf_counter's seconds."""
    kill_at: int | None = None
    """Die in the call after this many."""

    def called(self) -> None:
        if self.first_call_at is None:
            self.first_call_at = time.perf_counter()
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1


probe = Probe()


@op(out=DynamicOut(int))
def numbers(context: OpContext) -> Iterator[DynamicOutput[int]]:
    for i in range(context.op_config["n"]):
        yield DynamicOutput(i, mapping_key=str(i))


@op
def inc(number: int) -> int:
    probe.called()
    return number + 1


@op
def total(values: list[int]) -> int:
    return sum(values)


@job
def count_up() -> None:
    total(numbers().map(inc).collect())


@op(out=DynamicOut(int))
def ten_from(begin: int) -> Iterator[DynamicOutput[int]]:
    for i in range(10 * begin, 10 * begin + 10):
        yield DynamicOutput(i, mapping_key=str(i))


@job
def count_up_nested() -> None:
    total(
        numbers()
        .map(lambda begin: total.alias("subtotal")(ten_from(begin).map(inc).collect()))
        .collect()
    )
