"""The tables refuse to forget: append-only by triggers, quick by seeded statistics, checked when they are opened."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database as SqliteUtils

from runstore.errors import FormatTooNew, LogDamaged, StoreNotFound
from runstore.keys import format_step_key
from runstore.log import schema
from runstore.log.database import Database
from runstore.log.events import OutputStored, RunSucceeded, StepInvalidated
from tests.unit.logs import T0, body, fan_out, reference, run_started, start

FIRST = body(run_started())
LATER = body(start("echo[a]"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store's log, as created, with two runs of which the first has three events, the last of epoch 2."""
    path = tmp_path / "runs.db"
    database = Database(path, writable=True)
    with database.transaction(full=False) as connection:
        connection.execute("INSERT INTO runs (id) VALUES ('one'), ('two')")
        for seq, text in enumerate([FIRST, LATER, body(start("echo[b]"), epoch=2)], 1):
            connection.execute(
                "INSERT INTO events (row_id, body) VALUES (1 << 32 | ?, ?)", (seq, text)
            )
    database.close()
    return path


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """The log through plain sqlite3: what any program can do to it."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("UPDATE events SET body = '{}' WHERE seq = 2", "append-only"),
        ("UPDATE events SET row_id = 9 WHERE seq = 3", "append-only"),
        ("DELETE FROM events WHERE seq = 3", "append-only"),
        ("DELETE FROM events", "append-only"),
        ("INSERT OR REPLACE INTO events (row_id, body) VALUES (1 << 32 | 2, '{}')", "not the next"),
        (
            "REPLACE INTO events (row_id, body) VALUES (1 << 32 | 3, '{\"epoch\": 9}')",
            "not the next",
        ),
        ("INSERT OR IGNORE INTO events (row_id, body) VALUES (1 << 32 | 3, '{}')", "not the next"),
        (
            "INSERT INTO events (row_id, body) VALUES (1 << 32 | 3, '{}') ON CONFLICT DO UPDATE SET body = '{}'",
            "not the next",
        ),
        (
            "INSERT INTO events (row_id, body) VALUES (1 << 32 | 5, '{\"epoch\": 2}')",
            "not the next",
        ),
        (
            "INSERT INTO events (row_id, body) VALUES (1 << 32 | 0, '{\"epoch\": 2}')",
            "not the next",
        ),
        (
            "INSERT INTO events (row_id, body) VALUES (2 << 32 | 2, '{\"epoch\": 2}')",
            "not the next",
        ),
        (
            "INSERT INTO events (row_id, body) VALUES (1 << 32 | 4, '{\"epoch\": 1}')",
            "of an epoch that is over",
        ),
        (
            "INSERT INTO events (row_id, body) VALUES (1 << 32 | 4, '{}')",
            "of an epoch that is over",
        ),
        (
            "INSERT INTO events (row_id, body) VALUES (3 << 32 | 1, '{\"epoch\": 1}')",
            "not the next",
        ),
        (
            "INSERT INTO events (row_id, body) VALUES (1 << 32 | 4, 'text')",
            "json_valid|malformed JSON",
        ),
        ("INSERT INTO events (row_id, body) VALUES (1 << 32 | 4, NULL)", "NOT NULL|not the next"),
        ("UPDATE runs SET id = 'other'", "append-only"),
        ("UPDATE OR REPLACE runs SET run = 2 WHERE run = 1", "append-only"),
        ("INSERT INTO runs (id) VALUES ('one')", "UNIQUE"),
    ],
)
def test_history_cannot_be_rewritten(db: sqlite3.Connection, sql: str, refusal: str) -> None:
    """The database itself refuses every statement that is not the next append, and changes nothing."""
    before = db.execute("SELECT * FROM events").fetchall()
    with pytest.raises(sqlite3.DatabaseError, match=refusal):
        db.execute(sql)
    assert db.execute("SELECT * FROM events").fetchall() == before


def test_the_next_append_is_accepted(db: sqlite3.Connection) -> None:
    """The next seq of the same or a newer epoch is an append, in each run by itself."""
    for run, seq, epoch in ((1, 4, 2), (1, 5, 3), (2, 1, 1)):
        row = f'{{"epoch": {epoch}}}'
        db.execute("INSERT INTO events (row_id, body) VALUES (? << 32 | ?, ?)", (run, seq, row))
    assert db.execute("SELECT count(*) FROM events").fetchone() == (6,)


def test_events_leave_only_with_their_run(db: sqlite3.Connection) -> None:
    """The row in `runs` goes first; then the events of that run may go, and no other's; its number never returns."""
    db.execute("DELETE FROM runs WHERE run = 2")
    db.execute("DELETE FROM events WHERE run = 2")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("DELETE FROM events WHERE run = 1")
    db.execute("INSERT INTO runs (id) VALUES ('three')")
    assert db.execute("SELECT run FROM runs WHERE id = 'three'").fetchone() == (3,)


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT seq, body FROM events WHERE run = 1 AND step = 'echo[a]' ORDER BY seq", "ix_step"),
        ("SELECT seq, body FROM events WHERE run = ? AND step = ? ORDER BY row_id", "ix_step"),
        (
            "SELECT seq FROM events WHERE run = 1 AND step = 'x' AND key IS NULL ORDER BY row_id",
            "(run=? AND step=? AND key=?)",
        ),
        (
            "SELECT seq FROM events WHERE run = 1 AND step = 'x' AND key = 'a'",
            "(run=? AND step=? AND key=?)",
        ),
        ("SELECT seq FROM events WHERE run = 1 AND step IS NULL ORDER BY row_id", "ix_step"),
        ("SELECT row_id FROM digests WHERE sha8 = '0123abcd'", "PRIMARY KEY (sha8=?)"),
        ("SELECT * FROM steps WHERE run_id = 'one' AND step = 'x'", "ix_step"),
        (
            "SELECT body FROM events WHERE run = 1 AND step = 'x' AND body ->> '$.kind' = 'StepFailed'",
            "ix_step",
        ),
    ],
)
def test_point_questions_use_their_index(db: sqlite3.Connection, sql: str, index: str) -> None:
    """On a store as created, a step or a digest is looked up by its index, never by walking the run."""
    parameters = (1, "echo[a]") if "?" in sql else ()
    plan = " ".join(row[3] for row in db.execute("EXPLAIN QUERY PLAN " + sql, parameters))
    assert index in plan
    if "FROM events" in sql:
        assert "PRIMARY KEY" not in plan
        assert "SCAN" not in plan
    assert "SCAN events" not in plan


def test_point_questions_use_their_index_in_the_writing_connection(tmp_path: Path) -> None:
    """The connection that has made the tables knows the statistics too, without being opened again."""
    database = Database(tmp_path / "runs.db", writable=True)
    plan = database.query(
        "EXPLAIN QUERY PLAN SELECT body FROM events WHERE run = 1 AND step = 'a' ORDER BY seq"
    ).fetchall()
    database.close()
    assert "ix_step" in plan[0][3]


@pytest.mark.parametrize(
    ("node", "keys", "shown"),
    [
        ("echo", ("a",), "[a]"),
        ("resize", ("cat.jpg", "128"), "[cat.jpg][128]"),
        ("total", (), ""),
        ("echo", ("c[0]",), "[c%5B0%5D]"),
        ("graph.op", ("a", "b", "c"), "[a][b][c]"),
        ("op", ('"\\',), '["\\]'),
    ],
)
def test_columns_are_read_from_the_body(
    db: sqlite3.Connection, node: str, keys: tuple[str, ...], shown: str
) -> None:
    """Kind, epoch, step, node, key path and sha256 of a row are those of its event, nested keys too."""
    step = format_step_key(node, keys)
    stored = OutputStored(step, "result", reference(), epoch=2, time=T0)
    db.execute("INSERT INTO events (row_id, body) VALUES (1 << 32 | 4, ?)", (body(stored, 2),))
    columns = "kind, epoch, step, node, key_path, sha256"
    assert db.execute(f"SELECT {columns} FROM event_list WHERE run = 1 AND seq = 4").fetchone() == (
        "OutputStored",
        2,
        step,
        node,
        shown,
        reference().sha256,
    )


def test_columns_of_events_without_a_step(db: sqlite3.Connection) -> None:
    """An invalidation has its node; the end of a run has neither node nor key path."""
    rows = [StepInvalidated(node="echo", reason="asked for"), RunSucceeded({})]
    for seq, event in enumerate(rows, 4):
        db.execute(
            "INSERT INTO events (row_id, body) VALUES (1 << 32 | ?, ?)", (seq, body(event, 2))
        )
    found = db.execute(
        "SELECT kind, step, node, key_path FROM event_list WHERE run = 1 AND seq > 3 ORDER BY seq"
    ).fetchall()
    assert found == [("StepInvalidated", None, "echo", None), ("RunSucceeded", None, None, None)]


def test_the_list_of_runs_is_derived_from_events(db: sqlite3.Connection) -> None:
    """`run_list` shows job, status, epoch and number of events, each from the first or the last row of the run."""
    for seq, event in enumerate([*fan_out("ab"), RunSucceeded({})], 4):
        db.execute(
            "INSERT INTO events (row_id, body) VALUES (1 << 32 | ?, ?)", (seq, body(event, 2))
        )
    found = db.execute("SELECT id, name, status, epoch, events FROM run_list").fetchall()
    assert found == [("one", "chain", "succeeded", 2, 9)]


def test_an_outside_tool_reads_the_log(path: Path) -> None:
    """sqlite-utils opens the file and finds rows, views and migrations."""
    found = SqliteUtils(path)
    assert found["events"].count == 3
    assert "run_list" in found.view_names()
    found.close()


ALTERATIONS = [
    *(
        f"DROP TRIGGER {name}"
        for name in ("events_append", "events_no_update", "events_no_delete", "runs_no_update")
    ),
    "DROP INDEX ix_step",
    "DROP TABLE digest_index",
    "DROP VIEW run_list",
    "DROP TABLE claims",
    "DROP TRIGGER events_no_update; CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT 1; END",
]


@pytest.mark.parametrize("sql", ALTERATIONS)
@pytest.mark.parametrize("writable", [True, False])
def test_an_altered_schema_is_refused(path: Path, sql: str, writable: bool) -> None:
    """Opening a store checks that its triggers, indexes and tables stand; the message names which does not."""
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()
    with pytest.raises(
        LogDamaged, match=r"runs.db: '\w+' (is missing|was altered).*Restore the file"
    ):
        Database(path, writable=writable)


def test_a_newer_schema_is_refused_and_left_alone(path: Path, db: sqlite3.Connection) -> None:
    """A store of a newer version is not touched, and the remedy is to upgrade."""
    db.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    for writable in (True, False):
        with pytest.raises(FormatTooNew, match="Upgrade runstore"):
            Database(path, writable=writable)
    assert db.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION + 1,)


def test_another_database_is_not_a_log(tmp_path: Path) -> None:
    """A SQLite file that is no log is refused by a reader, and so is a file that is no database at all."""
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    text.write_text("dear diary " * 100)
    with pytest.raises(StoreNotFound, match="is not a runstore log"):
        Database(other, writable=False)
    with pytest.raises(LogDamaged, match="not a database"):
        Database(text, writable=False)


def test_the_tables_of_a_foreign_database_are_not_added_to(tmp_path: Path) -> None:
    """A writer does not turn another program's database into a log."""
    other = tmp_path / "runs.db"
    connection = sqlite3.connect(other)
    connection.executescript(
        "CREATE TABLE notes (text); PRAGMA user_version = 7; PRAGMA application_id = 5"
    )
    connection.close()
    with pytest.raises((StoreNotFound, FormatTooNew)):
        Database(other, writable=True)
    connection = sqlite3.connect(other)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("notes",)]
    connection.close()
