"""The flattened tables of a run: its events, and the views of `runs.db`, row by row, each with its columns.

What FORMAT.md says of a view is what stands in its table; nothing is added or left out.
"""

from collections.abc import Iterator
from typing import Any

from runstore.store import RunStore

TABLES = {
    "events": (
        "SELECT run_id, seq, kind, epoch, time, step, node, key_path, attempt, sha256, body FROM event_list "
        "WHERE run_id = ? ORDER BY seq"
    ),
    "steps": "SELECT * FROM steps WHERE run_id = ?",
    "outputs": "SELECT * FROM outputs WHERE run_id = ? ORDER BY seq",
    "keys": "SELECT * FROM keys WHERE run_id = ?",
    "lineage": "SELECT * FROM lineage WHERE run_id = ? ORDER BY seq",
    "collects": "SELECT * FROM collects WHERE run_id = ? ORDER BY seq, number",
}
"""Name -> the question, which takes the id of the run."""

Row = dict[str, Any]


def table(store: RunStore, run: str, name: str) -> Iterator[Row]:
    """The rows of a table of a run, each by column. Raises RunNotFound."""
    run_id = store.resolve(run)
    names = columns(store, name)
    for row in store.query(TABLES[name], (run_id,)):
        yield dict(zip(names, row, strict=True))


def columns(store: RunStore, name: str) -> list[str]:
    """The names of a table's columns, also where it has no row."""
    return [str(column[0]) for column in store.query(TABLES[name], ("",)).description]
