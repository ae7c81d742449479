"""Random jobs with retries, cut anywhere: the end is that of a run without a crash, and F3 holds in the log."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    RetryPolicy,
    RetryRequested,
    RunResult,
    execute,
    graph,
    job,
    op,
    resume,
)
from execution.definition.job import JobDefinition
from runstore.log.events import RunSucceeded, StepFailed, StepRetried, StepStarted
from runstore.store import RunStore
from tests.property.logs import RUN, cut, facts
from tests.property.test_runs import some


class Plan(NamedTuple):
    """How often each step fails in each budget, and how often it may be tried again."""

    max_retries: int
    delay: float | None
    asks: bool
    """Ops ask for their retries, in place of a policy."""
    fan_out: int
    clones: tuple[int, ...]

    @property
    def clones_that_fail(self) -> set[str]:
        """The clones whose budget is too small."""
        return {f"k{key}" for key, fails in enumerate(self.clones) if fails > self.max_retries}


plans = st.builds(
    Plan,
    st.integers(0, 2),
    st.sampled_from([None, 0.001]),
    st.booleans(),
    st.sampled_from([0, 0, 1, 2]),
    st.lists(st.sampled_from([0, 0, 0, 1, 2]), max_size=4).map(tuple),
)


def job_of(plan: Plan) -> JobDefinition:
    """Fan out, map, collect, with failures as planned."""
    policy = None if plan.asks else RetryPolicy(plan.max_retries, plan.delay)

    def fail(context: OpContext, times: int) -> None:
        if context.retry_number < times:
            if plan.asks:
                raise RetryRequested(plan.max_retries, plan.delay)
            raise ValueError(context.retry_number)

    @op(out=DynamicOut(), version="1")
    def fan_out(context: OpContext) -> Any:
        yield (
            DynamicOutput(-1, f"only in attempt {context.attempt}")
            if (context.retry_number < plan.fan_out)
            else DynamicOutput(0, "first")
        )
        fail(context, plan.fan_out)
        for key in range(len(plan.clones)):
            yield DynamicOutput(key, f"k{key}")

    @op(version="1")
    def echo(context: OpContext, x: int) -> int:
        if context.mapping_key != "first":
            fail(context, plan.clones[x])
        return x

    @op(version="1")
    def total(xs: dict[str, int]) -> list[str]:
        return list(xs)

    @job(op_retry_policy=policy)
    def tried() -> None:
        total(fan_out().map(echo).collect(as_dict=True))

    return tried


def check_end(plan: Plan, store: RunStore, result: RunResult) -> None:
    """What must have come of it, however often it was cut off."""
    keys = ["first", *(f"k{key}" for key in range(len(plan.clones)))]
    if plan.fan_out > plan.max_retries:
        assert [failure.step_key for failure in result.failures] == ["fan_out"]
        return
    failed = plan.clones_that_fail
    assert list(result.output_for_node("fan_out")) == keys
    assert list(result.output_for_node("echo")) == [key for key in keys if key not in failed]
    assert {failure.step_key for failure in result.failures} == {f"echo[{key}]" for key in failed}
    assert result.success == (not failed)
    if not failed:
        assert result.output_for_node("total") == keys
    assert facts(store.state(RUN)) == facts(result._state)


def check_log(plan: Plan, store: RunStore) -> None:
    """Attempts count on; in an epoch no step is retried more often than planned; no start is before it is due."""
    attempts: Counter[str] = Counter()
    retries: Counter[tuple[int, str]] = Counter()
    due: dict[str, Any] = {}
    for _, event in store.events(RUN):
        if isinstance(event, StepStarted):
            attempts[event.step] += 1
            assert event.attempt == attempts[event.step]
            assert event.time >= due.pop(event.step, event.time)
        elif isinstance(event, StepRetried):
            retries[event.epoch, event.step] += 1
            assert retries[event.epoch, event.step] <= plan.max_retries
            due[event.step] = event.due
        elif isinstance(event, StepFailed):
            assert retries[event.epoch, event.step] == plan.max_retries


@some(40)
@given(plan=plans, cuts=st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_a_cut_run_with_retries_comes_to_the_same_end(plan: Plan, cuts: list[float]) -> None:
    """F3, F4, R8: also where it is cut between a failure and its retry, again and again."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with RunStore.open(root / "0", level="fast") as store:
            check_end(plan, store, execute(job_of(plan), store, run_id=RUN))
            check_log(plan, store)
        for number, fraction in enumerate(cuts, 1):
            before = root / str(number - 1)
            with RunStore.open(before, level="fast") as store:
                rows = max(1, round(fraction * sum(1 for _ in store.rows(RUN))))
            with cut(before, root / str(number), rows, all_files=False) as store:
                over = isinstance(store.state(RUN).ended, RunSucceeded)
                result = resume(RUN, store, job=job_of(plan))
                assert over == (result._state.seq == rows)
                check_end(plan, store, result)
                check_log(plan, store)


@op(out=DynamicOut(), version="1")
def pages() -> Any:
    """Two outer keys."""
    yield from (DynamicOutput(key, key) for key in "ab")


@op(out=DynamicOut(), retry_policy=RetryPolicy(1, 0.001), version="1")
def lines(context: OpContext, page: str) -> Any:
    """Two inner keys; for one outer key only after a first attempt with another key."""
    if page == "b" and not context.retry_number:
        yield DynamicOutput("gone", "gone")
        raise ValueError("not yet")
    yield from (DynamicOutput(page + key, key) for key in "12")


@op(version="1")
def shout(context: OpContext, line: str) -> str:
    """One inner clone of each page fails once in each budget."""
    if line in ("a1", "b2") and not context.retry_number:
        raise ValueError(line)
    return line.upper()


@op(version="1")
def joined(parts: list[str]) -> str:
    """One text."""
    return " ".join(parts)


@graph
def page_text(page: Any) -> Any:
    """Lines of a page, shouted and joined."""
    shouted = lines(page).map(shout.with_retry_policy(RetryPolicy(1, 0.001)))
    return joined(shouted.collect())


@job
def book() -> None:
    """A nested job whose inner generator and clones are tried again."""
    joined.alias("text")(pages().map(page_text).collect())


def test_a_nested_job_with_retries_cut_at_every_row(tmp_path: Path) -> None:
    """F3, F4: policies reach nodes of a graph; an inner generator tried again has its last keys alone, at any cut."""
    with RunStore.open(tmp_path / "0", level="fast") as store:
        assert execute(book, store, run_id=RUN).output_for_node("text") == "A1 A2 B1 B2"
        length = sum(1 for _ in store.rows(RUN))
        retried = [event.step for _, event in store.events(RUN) if isinstance(event, StepRetried)]
    assert sorted(retried) == [
        "page_text.lines[b]",
        "page_text.shout[a][1]",
        "page_text.shout[b][2]",
    ]
    for rows in range(1, length):
        with cut(tmp_path / "0", tmp_path / str(rows), rows, all_files=False) as store:
            result = resume(RUN, store, job=book)
            assert result.output_for_node("text") == "A1 A2 B1 B2", rows
            assert facts(store.state(RUN)) == facts(result._state), rows
