"""Which rows of the log store which bytes, by digest: an index that is filled in behind the log's end.

An index of SQLite's own costs two pages in nearly every commit, since digests come in no order; filled in for many
thousand rows at a time it costs a tenth of that. Whoever asks reads the view `digests`, which is the entries filled in
so far and the rows behind them, so that no answer depends on how far they go. All of it is derived from `events`.
"""

from runstore.log.database import Connection, Database

FILL_EVENTS = 16_384
"""Entries are filled in once so many rows wait for theirs: more make them cheaper, but each question reads as many,
a microsecond each."""

_FILL = """
INSERT INTO digest_index (sha8, row_id)
SELECT substr(body ->> '$.reference.sha256', 1, 8) AS sha8, row_id FROM events
WHERE row_id BETWEEN coalesce((SELECT last FROM digest_index_ends WHERE run = ?1), ?1 << 32) + 1
    AND ?1 << 32 | 4294967295
    AND instr(body, '"sha256"') AND sha8 IS NOT NULL -- the first spares half of the bodies a second look
ORDER BY sha8, row_id"""
_MARK = """
INSERT OR REPLACE INTO digest_index_ends (run, last)
SELECT ?1, max(row_id) FROM events WHERE row_id BETWEEN ?1 << 32 AND ?1 << 32 | 4294967295"""
_FORGET = (
    "DELETE FROM digest_index WHERE row_id BETWEEN ?1 << 32 AND ?1 << 32 | 4294967295",
    "DELETE FROM digest_index_ends WHERE run = ?1",
)
# An entry that no row bears out, or a row that should have one and has none.
_DIFFERENCES = """
WITH stored AS (
    SELECT substr(body ->> '$.reference.sha256', 1, 8) AS sha8, row_id
    FROM digest_index_ends AS ends JOIN events ON row_id BETWEEN ends.run << 32 AND last
)
SELECT count(*) FROM (
    SELECT * FROM (SELECT * FROM stored WHERE sha8 IS NOT NULL EXCEPT SELECT sha8, row_id FROM digest_index)
    UNION ALL
    SELECT * FROM (SELECT sha8, row_id FROM digest_index EXCEPT SELECT * FROM stored)
)"""


class DigestIndex:
    """The tables `digest_index` and `digest_index_ends`; writes happen inside a transaction of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting = 0

    def appended(self, connection: Connection, run: int, rows: int) -> None:
        """Count rows that were appended in this transaction, and fill in where many wait."""
        self._waiting += rows
        if self._waiting >= FILL_EVENTS:
            self.fill(connection, run)

    def fill(self, connection: Connection, run: int) -> None:
        """Fill in the entries of all rows of a run."""
        connection.execute(_FILL, (run,))
        connection.execute(_MARK, (run,))
        self._waiting = 0

    def forget(self, connection: Connection, run: int) -> None:
        """Delete the entries of a run that is being deleted."""
        for sql in _FORGET:
            connection.execute(sql, (run,))

    def differences(self) -> int:
        """How many entries disagree with the log, or are missing; reads it whole."""
        return int(self._database.query(_DIFFERENCES).fetchone()[0])
