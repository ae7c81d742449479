"""What a step waits for is the same whether the log is asked step by step, counted, or folded as a whole."""

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.audit.census import Census
from runstore.audit.counted import Counted
from runstore.audit.lookup import Lookup, TooMany
from runstore.audit.sifted import Sifted
from runstore.audit.waiting_for import Folded, LookedUp, Run, culprit, waits_for
from runstore.log.expanded import StepId
from runstore.log.state import RunState
from runstore.log.transitions import PENDING
from runstore.store import RunStore
from tests.property import nested
from tests.property.crashed import Crash, crashed, crashed_run, crashes
from tests.property.logs import RUN, behind_the_triggers
from tests.property.test_runs import COMMON
from tests.shapes import KEYS, Shape, shapes

TRIED = settings(COMMON, max_examples=25)


@st.composite
def failing_shapes(draw: st.DrawFn) -> Shape:
    """A job in which one op fails, for some keys or all."""
    shape = draw(shapes(most=6))
    at = draw(st.integers(0, len(shape) - 2))
    failing = draw(st.sampled_from([frozenset({"", *KEYS}), frozenset({"", KEYS[0]})]))
    return tuple(
        replace(node, failing=failing) if number == at else node
        for number, node in enumerate(shape)
    )


def pending(state: RunState) -> list[StepId]:
    """The steps that may be asked for."""
    return [
        step
        for node in state.graph.nodes
        for step in state.steps_of(node)
        if state.status(step) == PENDING and state.is_sealed(step)
    ]


def said(run: Run, step: StepId) -> Any:
    """All that is said of a step; None where that would take too long."""
    try:
        failed = culprit(run, step)
        at = run.failed_at(failed) if failed else 0
        return run.is_blocked(step), failed, at, list(waits_for(run, step))
    except TooMany:
        return None


def check_pending(store: RunStore) -> None:
    """Every pending step, in all ways."""
    state, look = store.state(RUN), Lookup(store, RUN)
    for step in pending(state):
        expected = said(Folded(state), step)
        assert said(LookedUp(look), step) in (None, expected), step
        with contextlib.suppress(TooMany):
            census = Census(look)
            assert said(Sifted(look, census), step) in (None, expected), step
            assert said(Counted(look, census, look.graph.nodes), step) in (None, expected), step


def check_at(store: RunStore, when: float) -> None:
    """A log, and the first part of it."""
    directory, rows = store.directory, store.run(RUN).events
    assert directory is not None
    check_pending(store)
    store.close()
    with behind_the_triggers(directory / "runs.db") as connection:
        last = max(1, round(when * rows))
        connection.execute("DELETE FROM events WHERE run = 1 AND seq > ?", (last,))
    with RunStore.open(directory, level="fast") as earlier:
        check_pending(earlier)


@TRIED
@given(failing_shapes(), crashes, st.floats(0, 1))
def test_all_ways_say_the_same(shape: Shape, history: list[Crash], when: float) -> None:
    """Blocked or not, by which failure, and what is still to come, of every pending step."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        check_at(store, when)


@TRIED
@given(nested.plans, crashes, st.floats(0, 1))
def test_all_ways_say_the_same_of_nested_keys(
    plan: nested.Plan, history: list[Crash], when: float
) -> None:
    """Also where collects go over two levels, and steps are retried, skipped and lost."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed(nested.job_of(plan), history, Path(root)) as store,
    ):
        check_at(store, when)
