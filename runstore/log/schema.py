"""The tables of `runs.db`: FORMAT.md, section "Tables", in SQL.

One truth, `events`, whose rows can only be appended; what is asked of them are generated columns, so nothing can
disagree. sqlite-utils keeps the migrations (`migrations.py`); it has no words for
generated columns or triggers, so the tables are DDL, and `events` never goes through `transform`, `insert` or
`upsert`.
"""

import sqlite3

from runstore.errors import FormatTooNew, LogDamaged, StoreNotFound
from runstore.log.views import VIEWS

APPLICATION_ID = 0x52554E53  # "RUNS"
SCHEMA_VERSION = 1

# Runs by number, since the number stands in every row of `events`. A number is never given twice.
RUNS = """
CREATE TABLE runs (
    run INTEGER PRIMARY KEY AUTOINCREMENT,
    id  TEXT NOT NULL UNIQUE
) STRICT"""

# The log. `row_id` is the run's number times 2^32, plus the seq: rows lie in the order in which they are read, and an
# append goes to the end, which dirties half the pages that a key of two columns does. `body` is the event as JSON; the
# other columns are computed at every append, so there are just those that the indexes and the trigger need;
# `event_list` has the rest. `epoch` is STORED, so that the trigger need not parse the body of the row before.
EVENTS = """
CREATE TABLE events (
    row_id INTEGER PRIMARY KEY,
    body   TEXT NOT NULL CHECK (json_valid(body)),
    run    INTEGER GENERATED ALWAYS AS (row_id >> 32) VIRTUAL,
    seq    INTEGER GENERATED ALWAYS AS (row_id & 4294967295) VIRTUAL,
    epoch  INTEGER GENERATED ALWAYS AS (body ->> '$.epoch') STORED,
    step   TEXT GENERATED ALWAYS AS (body ->> '$.step') VIRTUAL,
    key    TEXT GENERATED ALWAYS AS (body ->> '$.mapping_key') VIRTUAL,
    kind   TEXT GENERATED ALWAYS AS (body ->> '$.kind') VIRTUAL
) STRICT"""

# Where the events of a step are, one entry for each row: what happened to the step itself (`key` is null), apart from
# what it yielded under each key, however many these are; and what happened to the run as a whole (`step` is null too).
# With the kind of each, so that no body is read to find the start of an attempt, or its end.
STEP_INDEX = "CREATE INDEX ix_step ON events (run, step, key, kind)"

# Which events store certain bytes, by the first eight digits of their sha256; whoever asks compares the others. Derived
# from `events` and filled in behind its end (`digest_index.py`): digests come in no order, so an index of `events`
# itself would cost two pages in nearly every commit. `last` is the row up to which the entries of a run are there.
DIGEST_INDEX = """
CREATE TABLE digest_index (
    sha8   TEXT NOT NULL,
    row_id INTEGER NOT NULL,
    PRIMARY KEY (sha8, row_id)
) STRICT, WITHOUT ROWID"""
DIGEST_INDEX_ENDS = """
CREATE TABLE digest_index_ends (
    run  INTEGER PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT"""

# Appending means: the next seq of a known run, of an epoch that is not over. Plain triggers against UPDATE and DELETE
# would let INSERT OR REPLACE rewrite history; this one does not. It runs at every append, so it is one lookup.
APPEND_TRIGGER = """
CREATE TRIGGER events_append BEFORE INSERT ON events
WHEN NEW.row_id IS NOT coalesce(
    (SELECT iif(epoch <= NEW.epoch, row_id + 1, 0) FROM events
     WHERE row_id BETWEEN NEW.row_id >> 32 << 32 AND NEW.row_id | 4294967295 ORDER BY row_id DESC LIMIT 1),
    (SELECT (run << 32) + 1 FROM runs WHERE run = NEW.row_id >> 32)
) BEGIN
    SELECT RAISE(ABORT, 'runstore: not the next event of a run, or of an epoch that is over');
END"""
UPDATE_TRIGGER = """
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN
    SELECT RAISE(ABORT, 'runstore: events are append-only');
END"""
# The events of a run leave only with the run itself: its row in `runs` goes first, in the same transaction.
DELETE_TRIGGER = """
CREATE TRIGGER events_no_delete BEFORE DELETE ON events WHEN EXISTS (SELECT 1 FROM runs WHERE run = OLD.run) BEGIN
    SELECT RAISE(ABORT, 'runstore: events are append-only');
END"""
RUNS_TRIGGER = """
CREATE TRIGGER runs_no_update BEFORE UPDATE ON runs BEGIN
    SELECT RAISE(ABORT, 'runstore: runs are append-only');
END"""

# Who runs what, now. Courtesy, not safety: safety is (run, seq) and epoch.
CLAIMS = """
CREATE TABLE claims (
    run              INTEGER PRIMARY KEY,
    epoch            INTEGER NOT NULL,
    host             TEXT NOT NULL,
    boot             TEXT NOT NULL,
    pid              INTEGER NOT NULL,
    pid_started      TEXT NOT NULL,
    heartbeat        REAL NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0
) STRICT"""

# What ops have logged: not truth, may be pruned. A run's lines lie together, in the order of their commits.
MESSAGES = """
CREATE TABLE messages (
    run     INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    step    TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    time    TEXT NOT NULL,
    level   INTEGER NOT NULL,
    logger  TEXT NOT NULL,
    text    TEXT NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID"""

# Seeded statistics: without them the planner takes the primary key for a step's lookup, a thousand times slower. Of
# `runs` too, since SQLite puts a Bloom filter before a join that it thinks large, and where the columns are generated
# such a filter of 3.40 lets nothing pass.
# No join is larger than `events` is said to be here, so that it gets none.
STATISTICS = [
    ("runs", None, "1000"),
    ("events", None, "1000000000000"),
    ("events", "ix_step", "1000000000000 100000 4 4 1"),
    ("digest_index", "digest_index", "500000 2 1"),
    ("digest_index_ends", None, "1000"),
]

OBJECTS = {
    "runs": RUNS,
    "events": EVENTS,
    "claims": CLAIMS,
    "messages": MESSAGES,
    "digest_index": DIGEST_INDEX,
    "digest_index_ends": DIGEST_INDEX_ENDS,
    "ix_step": STEP_INDEX,
    "events_append": APPEND_TRIGGER,
    "events_no_update": UPDATE_TRIGGER,
    "events_no_delete": DELETE_TRIGGER,
    "runs_no_update": RUNS_TRIGGER,
    **VIEWS,
}


def is_outdated(connection: sqlite3.Connection) -> bool:
    """True for a new file, and for the store of an older version; false for what `check` will refuse."""
    version = _pragma(connection, "user_version")
    return version < SCHEMA_VERSION and not (version == 0 and _has_tables_of_others(connection))


def check(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a file that is no log, is of a newer version, or whose tables, triggers or indexes were altered."""
    version = _pragma(connection, "user_version")
    if version == 0 and _pragma(connection, "application_id") == 0:
        raise StoreNotFound(
            f"{path} is not a runstore log; name the folder of a store with --store"
        )
    if version > SCHEMA_VERSION:
        raise FormatTooNew(
            f"{path} has schema version {version}, this runstore knows up to {SCHEMA_VERSION}; "
            "nothing was written. Upgrade runstore"
        )
    found = dict(
        connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    )
    for name, ddl in OBJECTS.items():
        if _normal(found.get(name, "")) != _normal(ddl):
            fact = "is missing" if name not in found else "was altered"
            raise LogDamaged(
                f"{path}: {name!r} {fact}, so the log is not protected; nothing was written. Restore the "
                f"file from a copy"
            )


def _has_tables_of_others(connection: sqlite3.Connection) -> bool:
    # The tables come in one transaction, so a store whose making was cut short holds none but those of the migrations.
    found = "SELECT 1 FROM sqlite_schema WHERE name NOT LIKE '%sqlite%'"
    return connection.execute(found).fetchone() is not None


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _normal(ddl: str) -> str:
    return " ".join(ddl.split())
