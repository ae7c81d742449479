"""Lines that ops have logged: for people to read, truth of nothing, and pruned at will.

They are written in the transaction of the events that they came with, so that they are there exactly when these are.
Nothing is ever decided on them: a run without its messages is the same run.
"""

import datetime as dt
from collections.abc import Iterator, Sequence

import msgspec

from runstore.log.database import Connection, Database

COLUMNS = "number, step, attempt, epoch, time, level, logger, text"
_LAST = "SELECT coalesce(max(number), 0) FROM messages WHERE run = ?"
_INSERT = f"INSERT INTO messages (run, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_READ = f"SELECT {COLUMNS} FROM messages WHERE run = ? AND number > ? ORDER BY number LIMIT ?"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One line that an op logged. A worker builds it without number and epoch."""

    number: int = 0
    """Its place among the run's messages, which are in the order of their commits."""
    step: str
    attempt: int
    epoch: int = 0
    time: dt.datetime
    """UTC, when it was logged; by the worker's clock, so that it need not fit the times of events."""
    level: int
    """As of `logging`: 10 debug, 20 info, 30 warning, 40 error, 50 critical."""
    logger: str
    text: str
    """With the traceback, where there was an exception; may have several lines."""


class Messages:
    """The messages of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, connection: Connection, run: int, epoch: int, messages: Sequence[Message]
    ) -> None:
        """Write lines behind those that the run has, inside a transaction."""
        last = connection.execute(_LAST, (run,)).fetchone()[0]
        connection.executemany(
            _INSERT,
            [_row(run, number, epoch, one) for number, one in enumerate(messages, last + 1)],
        )

    def read(self, run: int, after: int = 0, limit: int = -1) -> Iterator[Message]:
        """The messages of a run behind number `after`, in order."""
        for number, step, attempt, epoch, time, level, logger, text in self._database.query(
            _READ, (run, after, limit)
        ):
            yield Message(
                number=number,
                step=step,
                attempt=attempt,
                epoch=epoch,
                time=dt.datetime.fromisoformat(time),
                level=level,
                logger=logger,
                text=text,
            )


def _row(run: int, number: int, epoch: int, one: Message) -> tuple[object, ...]:
    time = one.time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return run, number, one.step, one.attempt, epoch, time, one.level, one.logger, one.text
