"""Random jobs, random crashes: what comes of a run does not depend on how often it was cut off.

A shape (see `tests.shapes`) is executed for real; its result is compared with what plain Python computes,
its log is cut at a random row, and the rest is resumed. The default tier tries some shapes, the slow tier many.
"""

import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from execution import RunResult, execute, plan_resume, processes, resume, threads
from execution.definition.job import JobDefinition
from runstore.errors import FormatTooNew, LogDamaged, StepNotFound
from runstore.log.events import RunFailed, RunSucceeded, StepSkipped, StepStarted
from runstore.log.transitions import SKIPPED, SUCCEEDED
from runstore.store import RunStore
from tests.property.logs import RUN, behind_the_triggers, cut, facts
from tests.shapes import (
    Calls,
    Outcome,
    Shape,
    Source,
    Step,
    at_levels,
    evaluate,
    job_of,
    shapes,
    step_key,
)
from tests.shapes import (
    Path as KeyPath,
)

COMMON = settings(
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SETTLED = ("succeeded", "skipped")


def some(count: int) -> Callable[[Any], Any]:
    """Settings of the default tier."""
    return settings(COMMON, max_examples=count)


many = settings(COMMON, max_examples=3000)


# What must come of a run


def check_values(result: RunResult, shape: Shape, expected: Outcome) -> None:
    """Every output of every node, and the order of its keys, is what plain Python gives."""
    for number, node in enumerate(shape):
        for out in node.outs:
            values = {
                path[0] if len(path) == 1 else path: value
                for (at, name, path), value in expected.values.items()
                if (at, name) == (number, out.name)
            }
            if out.dynamic or node.scope:
                found = result.output_for_node(f"n{number}", out.name)
                assert list(found.items()) == list(values.items())
            elif values:
                assert result.output_for_node(f"n{number}", out.name) == values[()]
            else:
                with pytest.raises(StepNotFound):
                    result.output_for_node(f"n{number}", out.name)


def check_end(store: RunStore, result: RunResult, expected: Outcome) -> None:
    """Status, counts in the last event, and the failures in the order of rule X4."""
    assert result.success == expected.succeeded
    *_, (_, last) = store.events(RUN)
    assert isinstance(last, RunSucceeded | RunFailed)
    counts = Counter((f"n{number}", state) for (number, _), state in expected.states.items())
    found = {
        (node, state): n for node, states in last.counts.items() for state, n in states.items()
    }
    assert {pair: n for pair, n in found.items() if n} == counts
    failed = {shown(step) for step, state in expected.states.items() if state == "failed"}
    assert {failure.step_key for failure in result.failures} == failed


def shown(step: Step) -> str:
    """A step key as it is printed."""
    from runstore.keys import format_step_key

    return format_step_key(*step_key(step))


def sources_of(shape: Shape, expected: Outcome, step: Step) -> Iterable[Step]:
    """The steps that must be settled before one is ready."""
    number, path = step
    node = shape[number]
    for depth, (maker, _) in enumerate(node.scope):
        yield maker, expected.maker_path(node.scope, path[:depth])
    for argument in node.arguments:
        for source in argument if isinstance(argument, tuple) else (argument,):
            if source.kind != "constant":
                at = at_levels(node.scope, path, source.scope)
                yield from _sources(shape, expected, source, at, 0)


def _sources(
    shape: Shape, expected: Outcome, source: Source, path: KeyPath, depth: int
) -> Iterable[Step]:
    if depth == len(source.over):
        yield source.node, path[: len(shape[source.node].scope)]
        return
    whole = (*source.scope, *(level for level, _ in source.over))
    yield whole[len(path)][0], expected.maker_path(whole, path)
    keys = expected.keys_below(whole, path)
    for key in keys if isinstance(keys, tuple) else ():
        yield from _sources(shape, expected, source, (*path, key), depth + 1)


def expected_order(
    shape: Shape, expected: Outcome, depth: dict[str, int], done: set[Step]
) -> list[Step]:
    """X4, the slow way: again and again the first ready step by key positions, depth, definition."""
    settled, order = set(done), []
    waiting = {step for step, state in expected.states.items() if state != "blocked"} - settled
    while True:
        ready = [step for step in waiting if settled.issuperset(sources_of(shape, expected, step))]
        if not ready:
            assert not waiting
            return order
        step = min(ready, key=lambda step: _rank(shape, expected, depth, step))
        order.append(step)
        waiting.remove(step)
        if expected.states[step] in SETTLED:
            settled.add(step)


def _rank(shape: Shape, expected: Outcome, depth: dict[str, int], step: Step) -> Any:
    scope, path = shape[step[0]].scope, step[1]
    place = tuple(
        expected.keys_below(scope, path[:depth]).index(key) for depth, key in enumerate(path)
    )
    return place, -depth[f"n{step[0]}"], step[0]


def begun(store: RunStore, after: int) -> list[str]:
    """The steps that were started or skipped after a row, in order."""
    rows = store.events(RUN, after)
    return [event.step for _, event in rows if isinstance(event, StepStarted | StepSkipped)]


# The properties


def runs_give_what_plain_python_gives(shape: Shape, limits: Sequence[int | None] = ()) -> None:
    """Values, order of keys and steps, counts and failures of a run are those of the model; each step ran once.

    `limits`: how many steps of the first ops may run at a time, which changes nothing where there is one worker.
    """
    expected, calls = evaluate(shape), Calls()
    job = job_of(shape, calls)
    limit(job, limits)
    with RunStore.in_memory() as store:
        result = execute(job, store, run_id=RUN)
        check_values(result, shape, expected)
        check_end(store, result, expected)
        ran = [step for step, state in expected.states.items() if state in ("succeeded", "failed")]
        assert Counter(calls.steps) == Counter(ran)
        order = expected_order(shape, expected, job.graph.depth, set())
        assert begun(store, 0) == [shown(step) for step in order]
        assert facts(store.state(RUN)) == facts(result._state)


def limit(job: JobDefinition, limits: Sequence[int | None]) -> None:
    """Say how many steps of the first ops of a job may run at a time."""
    for definition, most in zip(job.ops.values(), limits, strict=False):
        definition.concurrency = most


def threads_give_the_same(shape: Shape, workers: int, limits: Sequence[int | None] = ()) -> None:
    """Values, order of keys, counts and failures do not depend on how many steps run at the same time."""
    expected, calls = evaluate(shape), Calls()
    job = job_of(shape, calls)
    limit(job, limits)
    with RunStore.in_memory() as store:
        result = execute(job, store, run_id=RUN, executor=threads(workers))
        check_values(result, shape, expected)
        check_end(store, result, expected)
        ran = [step for step, state in expected.states.items() if state in ("succeeded", "failed")]
        assert Counter(calls.steps) == Counter(ran)
        assert facts(store.state(RUN)) == facts(result._state)


def a_cut_run_resumes_to_the_same_end(
    shape: Shape, cuts: list[tuple[float, bool]], root: Path
) -> None:
    """Wherever a log is cut, the resumed run ends as the uninterrupted one, and no finished step ran again."""
    expected = evaluate(shape)
    with RunStore.open(root / "0", level="fast") as store:
        execute(job_of(shape), store, run_id=RUN)
    for number, (fraction, all_files) in enumerate(cuts, 1):
        with RunStore.open(root / str(number - 1), level="fast") as before:
            length = sum(1 for _ in before.rows(RUN))
        rows = max(1, round(fraction * length))
        with cut(root / str(number - 1), root / str(number), rows, all_files=all_files) as store:
            check_resume(shape, expected, store, rows)


def check_resume(shape: Shape, expected: Outcome, store: RunStore, rows: int) -> None:
    """R4: one resume: its plan, which it follows exactly, what it runs, in which order, and what comes of it."""
    calls = Calls()
    job = job_of(shape, calls)
    before = store.state(RUN)
    done = {step for step in expected.states if before.status(_id(step)) in (SUCCEEDED, SKIPPED)}
    over = isinstance(before.ended, RunSucceeded)
    plan = plan_resume(RUN, store, job=job)
    assert sum(1 for _ in store.rows(RUN)) == rows, "a plan writes nothing"
    planned = {
        node.node: (node.reuse, sum(node.run.values())) for node in plan.nodes if not node.waiting
    }
    for name, (reuse, run) in planned.items():
        steps = {step for step in expected.states if f"n{step[0]}" == name}
        assert reuse == len(steps & done)
        assert run == len(steps - done)

    result = resume(RUN, store, job=job)
    check_values(result, shape, expected)
    check_end(store, result, expected)
    assert facts(store.state(RUN)) == facts(result._state)
    ran = [step for step, state in expected.states.items() if state in ("succeeded", "failed")]
    assert Counter(calls.steps) == Counter(step for step in ran if step not in done)
    if not over and not any(deaths > 1 for deaths in store_deaths(store)):
        order = expected_order(shape, expected, job.graph.depth, done)
        assert begun(store, rows) == [shown(step) for step in order]


def store_deaths(store: RunStore) -> Iterable[int]:
    """How often in a row each step was running when an epoch died, at any time of the run (rule R2)."""
    from runstore.log.state import RunState

    state = RunState(RUN)
    for seq, event in store.events(RUN):
        state.apply(seq, event)
        yield from state.deaths.values()


def _id(step: Step) -> Any:
    from runstore.log.expanded import StepId

    return StepId(*step_key(step))


def damage_is_never_silent(shape: Shape, data: st.DataObject, root: Path) -> None:
    """Any change to the rows of a run that has ended is found before anything is written, whatever it is."""
    with RunStore.open(root, level="fast") as store:
        execute(job_of(shape), store, run_id=RUN)
        rows = [body for _, body in store.rows(RUN)]
    damaged = data.draw(altered(rows))
    with behind_the_triggers(root / "runs.db") as connection:
        connection.execute("DELETE FROM events")
        try:
            connection.executemany(
                "INSERT INTO events (row_id, body) VALUES (1 << 32 | ?, ?)", damaged
            )
        except sqlite3.IntegrityError:
            reject()  # an epoch that is no int: the table itself refuses it, also without triggers
    with RunStore.open(root, level="fast") as store:
        for use in (
            lambda: store.state(RUN),
            lambda: plan_resume(RUN, store, job=job_of(shape)),
            lambda: resume(RUN, store, job=job_of(shape)),
        ):
            with pytest.raises((LogDamaged, FormatTooNew), match=r"run 'r'.*nothing was written"):
                use()
        assert list(store.rows(RUN)) == damaged


@st.composite
def altered(draw: st.DrawFn, rows: list[str]) -> list[tuple[int, str]]:
    """The rows after someone has removed, swapped, doubled, edited or emptied some of all but the last."""
    count = len(rows)
    one = draw(st.integers(0, count - 2))
    other = draw(st.integers(0, count - 1).filter(lambda place: place != one))
    match draw(
        st.sampled_from(["remove", "close the gap", "swap", "double", "edit", "empty", "unknown"])
    ):
        case "remove":
            changed = [(seq, body) for seq, body in enumerate(rows, 1) if seq != one + 1]
        case "close the gap":
            changed = list(enumerate([*rows[:one], *rows[one + 1 :]], 1))
        case "swap":
            swapped = list(rows)
            swapped[one], swapped[other] = rows[other], rows[one]
            changed = list(enumerate(swapped, 1))
        case "double":
            changed = list(enumerate([*rows[: one + 1], *rows[one:]], 1))
        case "edit":
            event = json.loads(rows[one])
            _edit(draw, event)
            changed = _with(rows, one, json.dumps(event, separators=(",", ":"), ensure_ascii=False))
        case "unknown":
            changed = _with(rows, one, json.dumps({**json.loads(rows[one]), "kind": "StepDreamt"}))
        case _:
            changed = _with(rows, one, draw(st.sampled_from(["{}", "[]", "null", '"x"', "1"])))
    return changed


def _with(rows: list[str], place: int, body: str) -> list[tuple[int, str]]:
    return list(enumerate([*rows[:place], body, *rows[place + 1 :]], 1))


def _edit(draw: st.DrawFn, value: Any) -> None:
    """Change one leaf, or remove one member, somewhere inside."""
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    name, inner = draw(st.sampled_from(inside))
    if isinstance(inner, dict | list) and inner and draw(st.integers(0, 4)):
        _edit(draw, inner)
    elif draw(st.integers(0, 3)) == 0:
        del value[name]
    else:
        others = [0, 1, -1, "", "x", "n0", None, True, 1.5, [], {}, 2**70, "2026-11-22T18:00:00Z"]
        value[name] = draw(st.sampled_from([other for other in others if other != inner]))


# Some in the default tier, many in the slow one

bounds = st.lists(st.none() | st.integers(1, 3), max_size=8)

cuts = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=3)


@some(150)
@given(shapes())
def test_runs_give_what_plain_python_gives(shape: Shape) -> None:
    """A random job gives the values, the order and the failures that plain Python gives."""
    runs_give_what_plain_python_gives(shape)


@some(60)
@given(shapes(), st.integers(1, 5), bounds)
def test_threads_give_the_same(shape: Shape, workers: int, limits: list[int | None]) -> None:
    """A random job gives in threads what it gives in one, whatever its limits are."""
    threads_give_the_same(shape, workers, limits)


@some(60)
@given(shapes(), bounds)
def test_limits_keep_the_order_of_one_worker(shape: Shape, limits: list[int | None]) -> None:
    """Where steps run one at a time their order is the same with limits."""
    runs_give_what_plain_python_gives(shape, limits)


@some(5)
@given(shapes())
def test_processes_give_the_same(shape: Shape) -> None:
    """A random job gives in processes what it gives in one."""
    expected = evaluate(shape)
    with (
        tempfile.TemporaryDirectory() as folder,
        RunStore.open(folder, level="fast") as store,
    ):
        result = execute(job_of(shape), store, run_id=RUN, executor=processes(2))
        check_values(result, shape, expected)
        check_end(store, result, expected)
        assert facts(store.state(RUN)) == facts(result._state)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@many
@given(shapes(most=12), st.integers(1, 5), bounds)
def test_threads_often_give_the_same(shape: Shape, workers: int, limits: list[int | None]) -> None:
    """The same for many."""
    threads_give_the_same(shape, workers, limits)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@many
@given(shapes(most=12))
def test_many_runs_give_what_plain_python_gives(shape: Shape) -> None:
    """The same with many and larger jobs."""
    runs_give_what_plain_python_gives(shape)


@some(80)
@given(shapes(), cuts)
def test_a_cut_run_resumes_to_the_same_end(shape: Shape, cuts: list[tuple[float, bool]]) -> None:
    """R2, R8: a random job, cut at random up to three times, ends as if it had never been cut."""
    with tempfile.TemporaryDirectory() as root:
        a_cut_run_resumes_to_the_same_end(shape, cuts, Path(root))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@many
@given(shapes(most=12), cuts)
def test_many_cut_runs_resume_to_the_same_end(shape: Shape, cuts: list[tuple[float, bool]]) -> None:
    """The same with many and larger jobs."""
    with tempfile.TemporaryDirectory() as root:
        a_cut_run_resumes_to_the_same_end(shape, cuts, Path(root))


@some(100)
@given(shapes(most=5), st.data())
def test_damage_is_never_silent(shape: Shape, data: st.DataObject) -> None:
    """A random change to a random log is an error that names the run, and nothing is written."""
    with tempfile.TemporaryDirectory() as root:
        damage_is_never_silent(shape, data, Path(root))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@many
@given(shapes(most=6), st.data())
def test_much_damage_is_never_silent(shape: Shape, data: st.DataObject) -> None:
    """The same with many logs."""
    with tempfile.TemporaryDirectory() as root:
        damage_is_never_silent(shape, data, Path(root))
