"""Whatever is done to the rows of a run is a finding, never an error; whatever a run has been through is not."""

import sqlite3
import tempfile
from pathlib import Path

from hypothesis import given, reject, settings
from hypothesis import strategies as st

from runstore.audit import verify
from runstore.store import RunStore
from tests.property.crashed import Crash, crashed_run, crashes, some_shapes
from tests.property.logs import RUN, behind_the_triggers
from tests.property.test_runs import COMMON, altered
from tests.shapes import Shape, shapes

TRIED = settings(COMMON, max_examples=25)


@TRIED
@given(shapes(most=5), st.data())
def test_any_damage_is_a_finding(shape: Shape, data: st.DataObject) -> None:
    """Rows removed, swapped, doubled, edited or emptied: each is found, and has the number of a rule."""
    with tempfile.TemporaryDirectory() as root, crashed_run(shape, [], Path(root)) as store:
        rows = [body for _, body in store.rows(RUN)]
        directory = store.directory
        damaged = data.draw(altered(rows))
        store.close()
        assert directory is not None
        with behind_the_triggers(directory / "runs.db") as connection:
            connection.execute("DELETE FROM events")
            try:
                connection.executemany(
                    "INSERT INTO events (row_id, body) VALUES (1 << 32 | ?, ?)", damaged
                )
            except sqlite3.IntegrityError:
                reject()  # an epoch that is no int: the table itself refuses it
        with RunStore.open(directory, level="fast") as again:
            found = verify(again, RUN, deep=True)
        assert not found.ok
        assert all(one.rule and one.fact for one in found.findings)


@TRIED
@given(some_shapes, crashes)
def test_whatever_a_run_has_been_through(shape: Shape, history: list[Crash]) -> None:
    """Crashes, lost outputs and resumes leave a log that is valid and consistent; outputs alone may be missing."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        assert {one.rule for one in verify(store, RUN, deep=True).findings} <= {"O1"}
