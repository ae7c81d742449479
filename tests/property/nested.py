"""A nested job that does all that makes counting hard: it retries, fails, skips, yields other keys in each attempt.

`outer` yields keys of two outputs; under one of them `inner` yields keys again, `leaf` and `after` are a chain below
these, `sub` collects them; `pair` is a product; `deep` and `total` collect it all.
"""

import zlib
from typing import Any, NamedTuple

from hypothesis import strategies as st

from execution import DynamicOut, DynamicOutput, OpContext, Out, Output, RetryPolicy, job, op
from execution.definition.job import JobDefinition

KEYS = ["a", "[0]", "x/y", "é%"]


class Plan(NamedTuple):
    """What the ops do."""

    inner: tuple[int, ...]
    """How many keys there are below each key."""
    more: int
    """How many keys the second output of `outer` has."""
    fails: tuple[int, ...]
    """How often steps fail, by a digest of their step key; more than once is for good."""
    skips: frozenset[str]
    """The last keys of leaves that give nothing."""

    def fails_at(self, step: str) -> int:
        """How often a step fails."""
        return self.fails[zlib.crc32(step.encode()) % len(self.fails)]


plans = st.builds(
    Plan,
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.integers(0, 2),
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 1, 2]), min_size=1, max_size=20).map(tuple),
    st.frozensets(st.sampled_from(KEYS), max_size=2),
)


def job_of(plan: Plan) -> JobDefinition:
    """The job of a plan."""

    def fail(context: OpContext) -> None:
        if context.retry_number < plan.fails_at(context.step_key):
            raise ValueError(context.step_key)

    @op(out={"keys": DynamicOut(is_required=False), "more": DynamicOut()}, version="1")
    def outer(context: OpContext) -> Any:
        for number, _ in enumerate(plan.inner):
            yield DynamicOutput(number, KEYS[number], "keys")
            if not number:
                fail(context)
        for number in range(plan.more):
            yield DynamicOutput(number, KEYS[number], "more")

    @op(out=DynamicOut(), version="1")
    def inner(context: OpContext, x: int) -> Any:
        if context.retry_number < plan.fails_at(context.step_key):
            yield DynamicOutput(-1, f"of attempt {context.attempt}")
        fail(context)
        for number in range(plan.inner[x]):
            yield DynamicOutput(number, KEYS[-1 - number])

    @op(out=Out(int, is_required=False), version="1")
    def leaf(context: OpContext, y: int) -> Any:
        fail(context)
        if context.key_path[-1] not in plan.skips:
            yield Output(y)

    @op(version="1")
    def after(context: OpContext, y: int) -> int:
        fail(context)
        return y

    @op(version="1")
    def pair(context: OpContext, x: int, y: int) -> int:
        fail(context)
        return x + y

    @op(version="1")
    def sub(context: OpContext, ys: list[int]) -> int:
        fail(context)
        return sum(ys)

    @op(version="1")
    def deep(yss: list[list[int]]) -> int:
        return len(yss)

    @op(version="1")
    def total(xs: list[int], pairs: list[list[int]]) -> int:
        return len(xs) + len(pairs)

    @job(op_retry_policy=RetryPolicy(max_retries=1))
    def nested() -> None:
        keys, more = outer()
        leaves = keys.map(lambda x: inner(x).map(leaf))
        deep(leaves.collect().collect())
        subs = leaves.map(after).collect().map(sub)
        pairs = keys.map(lambda x: more.map(lambda y: pair(x, y)))
        total(subs.collect(), pairs.collect().collect())

    return nested
