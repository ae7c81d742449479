"""What is counted, and how few rows are found among many, is answered by the index `ix_step`."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from execution import execute
from runstore.audit import errors, explain, key_grid, progress, progress_of
from runstore.audit.sifted import Sifted
from runstore.audit.waiting_for import Folded, LookedUp
from runstore.log.lines import to_lines
from runstore.store import RunStore
from tests.property import nested

RUN = "r"


@pytest.fixture
def crashed(tmp_path: Path) -> Any:
    """A store with the most part of a nested run's log, as a crash leaves it."""
    job = nested.job_of(nested.Plan((2, 3, 3), 2, (0, 1, 0), frozenset({"a"})))
    with RunStore.open(tmp_path / "whole", level="fast") as whole:
        execute(job, whole, run_id=RUN)
        with RunStore.open(tmp_path / "part", level="fast") as part:
            rows = islice(whole.rows(RUN), whole.run(RUN).events - 8)
            part.take_in(to_lines(RUN, rows), "a part")
            yield part


def test_it_is_answered_by_the_index(crashed: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement looks through all events, or through those of a run."""
    asked = []
    query = RunStore.query

    def noted(store: RunStore, sql: str, parameters: Any = ()) -> Any:
        asked.append((sql, parameters))
        return query(store, sql, parameters)

    monkeypatch.setattr(RunStore, "query", noted)
    monkeypatch.setattr(LookedUp, "most", 0)
    key_grid(crashed, RUN, status=["failed", "waiting", "interrupted"])
    key_grid(crashed, RUN, status=["pending"])
    key_grid(crashed, RUN, retried=True)
    key_grid(crashed, RUN, like="a*")
    explain(crashed, RUN, "total")
    errors(crashed, RUN)
    assert len(asked) > 50
    for sql, parameters in asked:
        plan = [row[3] for row in query(crashed, f"EXPLAIN QUERY PLAN {sql}", parameters)]
        steps = [step for step in plan if "events" in step]
        if "+run = ?" not in sql:  # the keys of one step, where they lie close together
            assert all("USING INDEX ix_step (run=?" in step for step in steps), (sql, plan)
        assert not any("SCAN events" in step for step in steps), (sql, plan)


@pytest.mark.parametrize("too_slow", [(LookedUp,), (LookedUp, Sifted)])
def test_the_log_is_not_folded(
    crashed: RunStore, monkeypatch: pytest.MonkeyPatch, too_slow: tuple[type[LookedUp], ...]
) -> None:
    """How far a crashed run is, a page of it, its rare rows, what a large collect waits for: known without it."""

    def refused(*_: Any) -> None:
        raise AssertionError("the log was folded")

    expected = explain(crashed, RUN, "total").because, key_grid(crashed, RUN, retried=True)
    far = progress_of(crashed.state(RUN))
    monkeypatch.setattr(RunStore, "state", refused)
    monkeypatch.setattr(Folded, "__init__", refused)
    for way in too_slow:
        monkeypatch.setattr(way, "most", 0)
    assert progress(crashed, crashed.run(RUN)) == far
    assert key_grid(crashed, RUN).counts["leaf"]["succeeded"] > 0
    assert key_grid(crashed, RUN, like="[a-c]").rows
    assert (
        explain(crashed, RUN, "total").because,
        key_grid(crashed, RUN, retried=True),
    ) == expected
