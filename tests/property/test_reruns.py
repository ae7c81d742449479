"""Random jobs, random selections: a rerun mixes nothing, and ends the same wherever it was cut.

The ops of a random job are functions of their keys and arguments, so whatever a rerun gives must be what its parent
gave; what ran and what was reused is read from both logs.
"""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution import RunResult, execute, plan_rerun, rerun, resume
from execution.definition.job import JobDefinition
from execution.errors import InvalidSelection, SelectionIncomplete
from execution.planning.rerun_plan import NOT_SELECTED, selected
from execution.planning.selection import ALL, Pattern, literal_key
from runstore.audit import verify
from runstore.errors import StepNotFound
from runstore.keys import parse_step_key
from runstore.log.events import (
    STORES,
    ReuseSealed,
    StepReused,
    StepSkipped,
    StepStarted,
)
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Node, project
from runstore.log.state import RunState
from runstore.log.transitions import SKIPPED, SUCCEEDED
from runstore.store import RunStore
from tests.property.logs import RUN, behind_the_triggers, facts
from tests.property.test_runs import many, some
from tests.shapes import Shape, job_of, shapes

CHILD = "child"
hops = st.sampled_from([0, 0, 1, 2, ALL])


@st.composite
def selections(draw: st.DrawFn, state: RunState) -> list[str]:
    """One to three patterns that name ops, clones, or all below some keys."""
    patterns = []
    for _ in range(draw(st.integers(1, 3))):
        node = draw(st.sampled_from(state.graph.nodes))
        steps = list(state.sealed_steps(node))
        path = draw(st.sampled_from(steps)).key_path if steps else ()
        keys = [draw(st.sampled_from([literal_key(key), "*"])) for key in path]
        depth = draw(st.integers(0, len(keys)))
        patterns.append(Pattern(node.name, tuple(keys[:depth]), draw(hops), draw(hops)))
    return [str(pattern) for pattern in patterns]


def a_rerun_mixes_nothing(shape: Shape, data: st.DataObject, root: Path) -> None:
    """Refused with nothing written, or: just the selected steps ran, on what belongs together, as the plan had said."""
    job = job_of(shape)
    with RunStore.open(root, level="fast") as store:
        execute(job, store, run_id=RUN)
        parent = store.state(RUN)
        select = data.draw(selections(parent))
        from_failure = data.draw(st.integers(0, 5)) == 0
        given = {"select": select, "from_failure": from_failure, "job": job}
        try:
            plan = plan_rerun(RUN, store, **given)
        except (InvalidSelection, SelectionIncomplete):
            with pytest.raises((InvalidSelection, SelectionIncomplete)):
                rerun(RUN, store, new_run_id=CHILD, **given)
            assert not store.has_run(CHILD)
            return
        assert not store.has_run(CHILD)
        result = rerun(RUN, store, new_run_id=CHILD, **given)
        check_log(store, parent)
        check_plan(store, plan)
        check_values(store, result, job)
        assert facts(store.state(CHILD)) == facts(result._state)
        length = store.run(CHILD).events
        ends = states(result._state)
    rows = data.draw(st.integers(1, length))
    with behind_the_triggers(root / "runs.db") as connection:
        connection.execute("DELETE FROM events WHERE run = 2 AND seq > ?", (rows,))
    with RunStore.open(root, level="fast") as store:
        resumed = resume(CHILD, store, job=job)
        check_log(store, parent)
        check_values(store, resumed, job)
        assert states(resumed._state) == ends


def states(state: RunState) -> dict[str, int]:
    """The status of every step."""
    return {
        str(step): state.status(step)
        for node in state.graph.nodes
        for step in state.sealed_steps(node)
    }


def check_log(store: RunStore, parent: RunState) -> None:
    """Who ran was selected, or cloned for new keys; who was reused had read nothing that ran or was left out."""
    started, reused, left_out = set(), {}, set()
    for _, event in store.events(CHILD):
        if isinstance(event, StepStarted):
            started.add(event.step)
        elif isinstance(event, StepReused):
            reused[event.step] = event.parent_seq
        elif isinstance(event, StepSkipped) and event.cause == NOT_SELECTED:
            left_out.add(event.step)
    state = store.state(CHILD)
    assert state.started is not None
    assert state.started.parent is not None
    chosen = selected(parent, state.graph, state.started.parent)
    assert not state.is_taking
    assert not started & (left_out | set(reused))
    for text in started:
        step = StepId(*parse_step_key(text))
        makers = {str(maker) for maker in makers_of(state, step)}
        assert step in chosen or started & makers, text
        assert not makers & left_out
    origin = dict(store.events(RUN))
    for text, seq in reused.items():
        assert origin[seq].step == text  # type: ignore[union-attr]
        step = StepId(*parse_step_key(text))
        assert parent.status(step) == SUCCEEDED
        assert step not in chosen
        assert all(str(maker) in reused for maker in makers_of(state, step))
        assert {one for one in read_by(origin, text) if one not in reused} == set()
        assert {one for one in collected_by(state, step) if one in started | left_out} == set()
    for text in left_out:
        assert StepId(*parse_step_key(text)) not in chosen
    assert verify(store, CHILD).ok


def makers_of(state: RunState, step: StepId) -> list[StepId]:
    """The steps that yielded the keys of a step."""
    node = state.graph.by_name[step.node]
    makers = [(state.graph.by_name[level.node], level) for level in node.scope]
    return [
        StepId(maker.name, project(step.key_path, node.scope, maker.scope)) for maker, _ in makers
    ]


def read_by(origin: dict[int, Any], text: str) -> set[str]:
    """The steps whose outputs the last attempt of a step has read, without those that it collected."""
    starts = [e for e in origin.values() if isinstance(e, StepStarted) and e.step == text]
    seqs = starts[-1].inputs.values()
    flat = [seq for one in seqs for seq in (one if isinstance(one, list) else [one])]
    return {origin[seq].step for seq in flat if isinstance(origin[seq], STORES)}


def collected_by(state: RunState, step: StepId) -> set[str]:
    """The steps whose values a step collects: those with its keys at the levels that are not collected over."""
    node, found = state.graph.by_name[step.node], set()
    mine = dict(zip(node.scope, step.key_path, strict=True))
    for source in node.sources():
        if not isinstance(source, FromCollect):
            continue
        free = [one.level for one in source.over]
        producer = state.graph.by_name[source.node]
        for other in state.sealed_steps(producer):
            theirs = dict(zip(producer.scope, other.key_path, strict=True))
            if all(level in free or mine.get(level) == key for level, key in theirs.items()):
                found.add(str(other))
    return found


def check_plan(store: RunStore, plan: Any) -> None:
    """What was taken, left out and run is what the plan had counted."""
    events = [event for _, event in store.events(CHILD)]
    (sealed,) = [event for event in events if isinstance(event, ReuseSealed)]
    assert (sealed.reused, sealed.left_out) == (plan.to_reuse, plan.left_out)
    after = events[events.index(sealed) :]
    begun = [event.step for event in after if isinstance(event, StepStarted | StepSkipped)]
    state = store.state(CHILD)
    for node in plan.nodes:
        if not node.waiting:
            ran = sum(parse_step_key(step)[0] == node.node for step in begun)
            blocked = node.run - ran
            assert blocked >= 0
            assert not blocked or state.failures


def check_values(store: RunStore, result: RunResult, job: JobDefinition) -> None:
    """Every value is the one that the parent has; a selected step that had one has one again."""
    first = RunResult.load(RUN, store, job=job)
    parent, child = first._state, result._state
    for node in child.graph.nodes:
        for output in node.outputs:
            had, has = values_of(first, node, output.name), values_of(result, node, output.name)
            assert (
                has.items() <= had.items() if _hashable(had) else all(had[k] == has[k] for k in has)
            )
        for step in child.sealed_steps(node):
            if child.status(step) == SUCCEEDED:
                assert parent.status(step) == SUCCEEDED
            elif parent.status(step) == SUCCEEDED:
                assert child.status(step) == SKIPPED or child.failures


def values_of(result: RunResult, node: Node, output: str) -> dict[Any, Any]:
    """The values of an output, by key."""
    try:
        found = result.output_for_node(node.name, output)
    except StepNotFound:
        return {}
    return found if isinstance(found, dict) else {"": found}


def _hashable(values: dict[Any, Any]) -> bool:
    return all(isinstance(value, str) for value in values.values())


@some(80)
@given(shapes(), st.data())
def test_a_rerun_mixes_nothing(shape: Shape, data: st.DataObject) -> None:
    """A random job, a random selection, a random cut."""
    with tempfile.TemporaryDirectory() as root:
        a_rerun_mixes_nothing(shape, data, Path(root))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@many
@given(shapes(most=12), st.data())
def test_many_reruns_mix_nothing(shape: Shape, data: st.DataObject) -> None:
    """The same with many and larger jobs."""
    with tempfile.TemporaryDirectory() as root:
        a_rerun_mixes_nothing(shape, data, Path(root))
