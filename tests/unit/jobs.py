"""Small jobs that several tests run."""

from collections.abc import Iterable

from execution import DynamicOut, DynamicOutput, RetryRequested, job, op
from execution.definition.job import JobDefinition


def chained(keys: Iterable[str], fails: str = "") -> JobDefinition:
    """`fan_out` yields the keys, `echo` is mapped and gives capitals, `total` joins them."""
    keys = list(keys)

    @op(out=DynamicOut())
    def fan_out():
        for key in keys:
            yield DynamicOutput(key, key)

    @op(version="1")
    def echo(x):
        if x == fails:
            raise ValueError(f"no {x}")
        return x.upper()

    @op
    def total(xs):
        return "".join(xs)

    @job
    def chained():
        total(fan_out().map(echo).collect())

    return chained


def fails_at(keys: Iterable[str], key: str) -> JobDefinition:
    """The same job, with a clone that fails."""
    return chained(keys, key)


@op
def flaky(context):
    """Succeeds when it is tried again."""
    if not context.retry_number:
        raise RetryRequested(seconds_to_wait=0.0)
    return 1


@job
def retried_once():
    """One step of two attempts."""
    flaky()
