"""A page of keys against ops is the same whether its steps are looked up and counted, or the whole log is folded."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.audit.counted import counted
from runstore.audit.key_grid import Filter, _page_folded, _page_looked_up
from runstore.audit.lookup import Lookup, TooMany
from runstore.audit.progress import progress, progress_of
from runstore.log.events import StepInvalidated
from runstore.log.graph import Graph
from runstore.log.remaining import Remaining
from runstore.store import RunStore
from tests.property import nested
from tests.property.crashed import Crash, crashed, crashed_run, crashes
from tests.property.logs import RUN, behind_the_triggers
from tests.property.test_runs import COMMON
from tests.property.test_waiting_for import failing_shapes
from tests.shapes import Shape, shapes

TRIED = settings(COMMON, max_examples=12)
FILTERS = [
    Filter(),
    Filter(retried=True),
    *(Filter(like=glob) for glob in ("a*", "*", "?", "[a-c]", "[!a]*", "*[", "nobody")),
    Filter(like="C", retried=True),
    Filter(status=frozenset({"pending", "blocked"}), like="[a-c]"),
    *(
        Filter(status=frozenset({one}))
        for one in (
            "succeeded",
            "failed",
            "blocked",
            "pending",
            "interrupted",
            "waiting",
            "skipped",
        )
    ),
]


def check_pages(store: RunStore, *, most: int) -> None:
    """All pages of every filter, in both ways."""
    state = store.state(RUN)
    for wanted in FILTERS:
        look, after = Lookup(store, RUN), None
        for _ in range(3):
            try:
                page, counts = _page_looked_up(look, wanted, after, most)
            except TooMany:
                break
            folded, all_counts = _page_folded(state, wanted, after, most, alive=False)
            assert page == folded, wanted
            for op, states in all_counts.items():
                states.pop("orphan", 0)
                assert counts.get(op, {}) == states
            if len(page) <= most:
                break
            after = page[most - 1].cursor


@TRIED
@given(st.one_of(failing_shapes(), shapes(most=6)), st.one_of(st.just([]), crashes), st.booleans())
def test_both_ways_give_the_same_pages(shape: Shape, history: list[Crash], all_rows: bool) -> None:
    """Rows, states, attempts and counts, by every filter, in runs that have ended well or badly, or broke off."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        check_pages(store, most=1_000 if all_rows else 2)


@TRIED
@given(nested.plans, crashes, st.floats(0, 1), st.booleans())
def test_both_ways_give_the_same_pages_of_nested_keys(
    plan: nested.Plan, history: list[Crash], when: float, all_rows: bool
) -> None:
    """Also where steps are retried, skipped, and yield other keys in each attempt."""
    with tempfile.TemporaryDirectory() as root:
        with crashed(nested.job_of(plan), history, Path(root)) as store:
            check_pages(store, most=1_000 if all_rows else 2)
            directory, rows = store.directory, store.run(RUN).events
            check_counts(store, max(1, round(when * rows)))
        assert directory is not None
        for last in range(rows, 0, -max(1, rows // 8)):
            cut_short(directory, last)
            with RunStore.open(directory, level="fast") as store:
                check_counts(store)
                if last <= when * rows:
                    check_pages(store, most=3)


def cut_short(directory: Path, last: int) -> None:
    """Leave the first rows of the run."""
    with behind_the_triggers(directory / "runs.db") as connection:
        connection.execute("DELETE FROM events WHERE run = 1 AND seq > ?", (last,))


@TRIED
@given(failing_shapes(), crashes)
def test_the_index_counts_what_the_fold_counts(shape: Shape, history: list[Crash]) -> None:
    """At many seqs of a run; it gives up only where it has a reason to."""
    with tempfile.TemporaryDirectory() as root:
        with crashed_run(shape, history, Path(root)) as store:
            directory, rows = store.directory, store.run(RUN).events
            for last in range(rows, 0, -max(1, rows // 8)):
                check_counts(store, last)
        assert directory is not None
        for last in range(rows, 0, -max(1, rows // 8)):
            cut_short(directory, last)
            with RunStore.open(directory, level="fast") as store:
                check_counts(store)


def check_counts(store: RunStore, upto: int | None = None) -> None:
    """The counts of a run, op by op, and how far it is; `upto`: as of a seq, as while the run goes on."""
    if upto is None:
        assert progress(store, store.run(RUN)) == progress_of(store.state(RUN))
    look, remaining = Lookup(store, RUN), Remaining(store.state(RUN, upto=upto))
    try:
        _, counts = counted(look, upto=upto)
    except TooMany:
        assert was_invalidated(look) or has_products_below_keys(look.graph)
        return
    assert counts == {one.node: one.states for one in remaining.nodes()}


def was_invalidated(look: Lookup) -> bool:
    """Work was said to count no more."""
    return any(isinstance(event, StepInvalidated) for _, event in look.wide)


def has_products_below_keys(graph: Graph) -> bool:
    """A level is independent of some of the levels before it, and not of all."""
    return any(
        set(graph.by_name[level.node].scope) not in (set(), set(node.scope[:depth]))
        for node in graph.nodes
        for depth, level in enumerate(node.scope)
    )
