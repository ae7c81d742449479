"""The tables made and brought up to date, step by step, by sqlite-utils.

A step, once released, is never edited: a store of any version runs those that it has not seen.
"""

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from runstore.log import schema

migrations = Migrations("runstore")


@migrations()
def version_1(db: Database) -> None:
    """The tables of format 1."""
    for ddl in schema.OBJECTS.values():
        db.execute(ddl)
    db.execute("ANALYZE sqlite_schema")
    db.execute("DELETE FROM sqlite_stat1")
    for row in schema.STATISTICS:
        db.execute("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", row)
    db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")


def migrate(connection: sqlite3.Connection) -> None:
    """Run the steps that this store has not seen, each in a transaction of its own."""
    migrations.apply(Database(connection, execute_plugins=False))
