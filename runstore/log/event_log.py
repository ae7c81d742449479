"""The log of events: append at an expected seq, read in order. Two verbs.

It never asks what an event means. `append` runs inside a transaction of the database; the triggers of the schema refuse
a seq that is not the next and an epoch that is over, which is how an executor learns that it was taken over.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from runstore.errors import LogDamaged, TakenOver
from runstore.log.database import Database

_INSERT = "INSERT INTO events (row_id, body) VALUES (?, ?)"
_READ = "SELECT seq, body FROM events WHERE row_id > ? AND row_id < ? ORDER BY row_id"
_READ_ONE = "SELECT body FROM events WHERE row_id = ?"
_READ_SOME = "SELECT seq, body FROM events WHERE row_id IN"

Row = tuple[int, str]


class EventLog:
    """The rows of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(
        self, connection: sqlite3.Connection, run: int, first_seq: int, bodies: Sequence[str]
    ) -> None:
        """Append rows `first_seq`, `first_seq + 1`, …; raises TakenOver where that is not the next seq."""
        try:
            connection.executemany(_INSERT, enumerate(bodies, row_id(run, first_seq)))
        except sqlite3.IntegrityError as error:
            if "runstore:" not in str(error):
                raise LogDamaged(f"row {first_seq} was refused by the database: {error}") from error
            raise TakenOver(
                f"another executor has appended to this run since: seq {first_seq} is not the next, or its epoch is "
                "over; this one stops. `runstore runs` shows who has it"
            ) from error

    def read(self, run: int, after: int = 0) -> Iterator[Row]:
        """(seq, body) of every row after `after`, in order."""
        return iter(self._database.query(_READ, (row_id(run, after), row_id(run + 1))))

    def read_some(self, run: int, seqs: Sequence[int]) -> dict[int, str]:
        """Seq -> body of the named rows."""
        first, marks = row_id(run), ",".join("?" * len(seqs))
        found = self._database.query(f"{_READ_SOME} ({marks})", [first + seq for seq in seqs])
        rows: dict[int, str] = dict(found.fetchall())
        if len(rows) != len(set(seqs)):
            raise _missing(run, next(seq for seq in seqs if seq not in rows))
        return rows

    def read_one(self, run: int, seq: int) -> str:
        """The body of one row."""
        row = self._database.query(_READ_ONE, (row_id(run, seq),)).fetchone()
        if row is None:
            raise _missing(run, seq)
        return str(row[0])


def row_id(run: int, seq: int = 0) -> int:
    """The `row_id` of an event; those of a run lie between `row_id(run)` and `row_id(run + 1)`."""
    return (run << 32) + seq


def _missing(run: int, seq: int) -> LogDamaged:
    return LogDamaged(
        f"run number {run}, seq {seq}: the row is missing; nothing was written. Restore it from a copy"
    )
