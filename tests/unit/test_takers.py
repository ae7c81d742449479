"""Who has taken outputs of whom, for all runs at once: the same as when it is asked for one."""

from pathlib import Path
from typing import Any

import pytest

from execution import execute, rerun
from runstore import RunStore
from runstore.housekeeping.takers import _BASES, Takers
from tests.unit.jobs import chained

JOB = chained("ab")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run, a rerun of it, a rerun of that, and a run that nobody took anything from."""
    opened = RunStore.open(tmp_path / "store", level="fast")
    for run in ("first", "alone"):
        execute(JOB, opened, run_id=run)
    again(opened, "first", "second")
    again(opened, "second", "third")
    return opened


def again(store: RunStore, parent: str, run: str) -> None:
    """A rerun of the last op."""
    last = store.state(parent).graph.nodes[-1].name
    rerun(parent, store, select=last, job=JOB, new_run_id=run)


def check(store: RunStore, takers: Takers) -> None:
    """Every run has the same users by both ways."""
    for summary in store.runs():
        assert sorted(takers.users_of(summary.run_id)) == sorted(store.users_of(summary.run_id))


def test_all_runs_have_the_users_that_each_has(store: RunStore) -> None:
    """Directly or not, and none where nothing was taken."""
    takers = Takers(store)
    check(store, takers)
    assert takers.users_of("first") == ["second", "third"]
    assert takers.users_of("alone") == []


def test_a_run_that_began_meanwhile_is_seen(store: RunStore) -> None:
    """Also when it has the number of one that was removed."""
    takers = Takers(store)
    check(store, takers)
    again(store, "alone", "fourth")
    check(store, takers)
    assert takers.users_of("alone") == ["fourth"]
    store.remove("fourth")
    assert takers.users_of("alone") == []
    again(store, "first", "fifth")
    check(store, takers)
    assert "fifth" in takers.users_of("first")


def test_no_first_event_is_read_twice(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read for one run is known for the next; it is found by its row, not by reading whole logs."""
    plan = store.query(f"EXPLAIN QUERY PLAN {_BASES}", (0, 9)).fetchall()
    steps = [str(row[3]) for row in plan]
    assert any(step.startswith("SEARCH events USING INTEGER PRIMARY KEY") for step in steps)
    assert not any("BLOOM" in step or "SCAN events" in step for step in steps)
    read: list[Any] = []
    ask = store.query

    def query(sql: str, parameters: Any = ()) -> Any:
        if sql == _BASES:
            return (read.append(row) or row for row in ask(sql, parameters))
        return ask(sql, parameters)

    monkeypatch.setattr(store, "query", query)
    check(store, Takers(store))
    assert len(read) == 3  # bases that were named: one by `second`, two by `third`
