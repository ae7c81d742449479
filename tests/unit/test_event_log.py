"""The log's two verbs: append at an expected seq, read in order."""

from collections.abc import Iterator

import pytest

from runstore.errors import LogDamaged, TakenOver
from runstore.log.database import Database
from runstore.log.event_log import EventLog

ROWS = [f'{{"epoch":{epoch},"n":{n}}}' for n, epoch in enumerate([1, 1, 1, 2])]


@pytest.fixture
def database() -> Iterator[Database]:
    """A log in memory with two runs; the first has four rows, the last of epoch 2."""
    database = Database.in_memory()
    with database.transaction(full=False) as connection:
        connection.execute("INSERT INTO runs (id) VALUES ('one'), ('two')")
        EventLog(database).append(connection, 1, 1, ROWS)
    yield database
    database.close()


def test_rows_are_read_in_order(database: Database) -> None:
    """Reading gives every row of one run after a seq, in order."""
    log = EventLog(database)
    assert list(log.read(1)) == list(enumerate(ROWS, 1))
    assert list(log.read(1, after=2)) == list(enumerate(ROWS, 1))[2:]
    assert list(log.read(2)) == []


def test_rows_are_read_by_seq(database: Database) -> None:
    """Named rows are read in any number, and a missing one is damage that names it."""
    log = EventLog(database)
    assert log.read_one(1, 3) == ROWS[2]
    assert log.read_some(1, [4, 2, 4]) == {2: ROWS[1], 4: ROWS[3]}
    assert log.read_some(1, []) == {}
    for ask in (lambda: log.read_one(1, 5), lambda: log.read_some(1, [2, 5])):
        with pytest.raises(LogDamaged, match="seq 5: the row is missing"):
            ask()


@pytest.mark.parametrize(
    ("run", "first_seq", "row"),
    [(1, 4, ROWS[3]), (1, 6, ROWS[3]), (1, 5, ROWS[0]), (3, 1, ROWS[0])],
)
def test_who_was_overtaken_is_told(database: Database, run: int, first_seq: int, row: str) -> None:
    """An append that is not at the end, or of an epoch that is over, raises TakenOver, and leaves nothing."""
    with (
        pytest.raises(TakenOver, match=rf"seq {first_seq} is not the next, or .*`runstore runs`"),
        database.transaction(full=False) as connection,
    ):
        EventLog(database).append(connection, run, first_seq, [row])
    assert list(EventLog(database).read(1)) == list(enumerate(ROWS, 1))


def test_an_append_is_whole_or_not_at_all(database: Database) -> None:
    """Where one row of several is refused, none of them stands."""
    with (
        pytest.raises(LogDamaged, match=r"refused by the database|malformed JSON"),
        database.transaction(full=False) as connection,
    ):
        EventLog(database).append(connection, 1, 5, [ROWS[3], "no json"])
    assert list(EventLog(database).read(1)) == list(enumerate(ROWS, 1))
