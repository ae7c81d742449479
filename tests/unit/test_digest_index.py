"""The digest index: whatever is filled in, `digests` says which rows store which bytes."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.log import digest_index
from runstore.log.database import Database
from runstore.log.digest_index import DigestIndex
from runstore.log.events import AnyEvent, OutputStored, StepStarted, StepSucceeded
from runstore.log.recorder import Recorder
from tests.unit.logs import fan_out, reference, run_resumed, run_started

KEYS = [str(i) for i in range(8)]
_STORED = """
SELECT substr(body ->> '$.reference.sha256', 1, 8), row_id FROM events WHERE body ->> '$.reference' IS NOT NULL"""
_ENTRIES = "SELECT sha8, row_id FROM digest_index"


def found(
    database: Database, sql: str = "SELECT sha8, row_id FROM digests"
) -> list[tuple[str, int]]:
    """Rows of one question, in order."""
    return sorted(database.query(sql).fetchall())


def echoed(key: str) -> list[AnyEvent]:
    """A whole attempt of one clone, with bytes of its own."""
    step = f"echo[{key}]"
    stored = OutputStored(step, "result", reference("x.json", key.encode()))
    return [StepStarted(step, {}, "c"), stored, StepSucceeded(step, 0.1)]


sessions = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=1, max_size=4
)


@given(sessions, st.integers(1, 30))
def test_digests_are_those_of_the_log(
    sessions: list[tuple[int, bool, bool]], fill_events: int
) -> None:
    """Over runs that end, are killed, are resumed, with entries filled in at any rate, also after some were dropped."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(digest_index, "FILL_EVENTS", fill_events)
        database = Database.in_memory()
        index, numbers = DigestIndex(database), count(1)
        for clones, grouped, killed in sessions:
            run = next(numbers)
            recorder = Recorder.start(database, f"r{run}", run_started())
            for event in (*fan_out(KEYS), *(e for key in KEYS[:clones] for e in echoed(key))):
                recorder.append(event)
                if not grouped:
                    recorder.commit()
            recorder.commit()
            if not killed:
                recorder.close()
                resumed = Recorder.reopen(database, run, f"r{run}")
                resumed.append(run_resumed())
                resumed.open_epoch()
            assert found(database) == found(database, _STORED)
            assert index.differences() == 0
        with database.transaction(full=False) as connection:
            index.forget(connection, 1)
        assert found(database) == found(database, _STORED)
        database.close()


def test_entries_are_filled_in_behind_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """None before enough rows wait, all of them then, and the rest when the run is given back."""
    monkeypatch.setattr(digest_index, "FILL_EVENTS", 12)
    database = Database.in_memory()
    recorder = Recorder.start(database, "r", run_started())
    for event in fan_out(KEYS):
        recorder.append(event)
    recorder.commit()  # 11 rows without that of the run's begin
    assert found(database, _ENTRIES) == []
    for event in echoed("0"):
        recorder.append(event)
        recorder.commit()
    assert len(found(database, _ENTRIES)) == 8
    recorder.close()
    assert found(database, _ENTRIES) == found(database, _STORED)
    assert len(found(database, _STORED)) == 9
    database.close()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM digest_index WHERE row_id = (SELECT min(row_id) FROM digest_index)",
        "UPDATE digest_index SET sha8 = 'ffffffff' WHERE row_id = (SELECT min(row_id) FROM digest_index)",
        "INSERT INTO digest_index VALUES ('00000000', 1)",
    ],
)
def test_an_index_that_was_edited_is_noticed(sql: str) -> None:
    """An entry that is gone, is another's, or is of no row, is counted."""
    database = Database.in_memory()
    recorder = Recorder.start(database, "r", run_started())
    for event in fan_out(KEYS):
        recorder.append(event)
    recorder.commit()
    recorder.close()
    index = DigestIndex(database)
    assert index.differences() == 0
    with database.transaction(full=False) as connection:
        connection.execute(sql)
    assert index.differences() > 0
    database.close()
