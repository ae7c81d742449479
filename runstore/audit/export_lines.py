"""A run as lines of JSON: its log as it stands on disk, which another store can take in, or one of its tables."""

from collections.abc import Iterator

import msgspec

from runstore.audit.rows import raw_rows
from runstore.audit.tables import table
from runstore.log.lines import to_lines
from runstore.store import RunStore


def export_log(store: RunStore, run: str = "last") -> Iterator[str]:
    """The lines of a run's log, `RunStore.take_in` reads them. Raises RunNotFound, LogDamaged."""
    run_id = store.resolve(run)
    return to_lines(run_id, raw_rows(store, run_id))


def export_rows(store: RunStore, run: str, name: str) -> Iterator[str]:
    """The rows of a table (see `TABLES`), an object each."""
    for row in table(store, run, name):
        yield msgspec.json.encode(row).decode()
