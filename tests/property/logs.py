"""Logs of real runs, cut, altered and compared."""

import contextlib
import shutil
import sqlite3
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from runstore.log.database import Database
from runstore.log.event_log import EventLog
from runstore.log.events import DynamicOutputStored, OutputStored
from runstore.log.state import RunState
from runstore.store import RunStore

RUN = "r"


def cut(source: Path, target: Path, rows: int, *, all_files: bool) -> RunStore:
    """A store that holds the first rows of a run, as a crash leaves them: with the files that they name, or more."""
    target.mkdir()
    with RunStore.open(source, level="fast") as store:
        kept = list(store.rows(RUN))[:rows]
        named = [
            event.reference.path
            for seq, event in store.events(RUN)
            if seq <= rows and isinstance(event, OutputStored | DynamicOutputStored)
        ]
    if all_files and (source / "outputs").exists():
        shutil.copytree(source / "outputs", target / "outputs")
    for path in named:
        file = target / "outputs" / RUN / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # lost before
            shutil.copy(source / "outputs" / RUN / path, file)
    database = Database(target / "runs.db", writable=True)
    with database.transaction(full=False) as connection:
        connection.execute("INSERT INTO runs (id) VALUES (?)", (RUN,))
        EventLog(database).append(connection, 1, 1, [body for _, body in kept])
    database.close()
    return RunStore.open(target, level="fast")


@contextlib.contextmanager
def behind_the_triggers(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that may rewrite history; the triggers stand again afterwards."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    yield connection
    for _, sql in triggers:
        connection.execute(sql)
    connection.close()


CACHES = {"_lookup", "_placed", "_placed_key"}


def facts(state: RunState) -> Any:
    """All that a state holds, columns and all, as plain values that can be compared."""
    for node in state.graph.nodes:
        for prefix in state.prefixes(node):
            state.steps(node, prefix)  # columns come into being when they are first asked for
    found = {name: _plain(value) for name, value in vars(state).items() if name not in CACHES}
    return {**found, "_steps": {node: below for node, below in found["_steps"].items() if below}}


def _plain(value: Any) -> Any:
    if isinstance(value, bytearray | array | range):
        return list(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, msgspec.Struct) or not hasattr(type(value), "__slots__"):
        return value
    if type(value).__module__.startswith("runstore") and not isinstance(value, tuple):
        return {name: _plain(getattr(value, name)) for name in type(value).__slots__}
    return value
