"""Logs changed behind the triggers' back, with every digest computed anew afterwards, as a forger would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runstore import RunStore
from runstore.log.codec import LogDigest
from runstore.log.event_log import row_id
from runstore.log.events import KINDS
from runstore.log.replay import SEALED_KINDS
from tests.property.logs import behind_the_triggers

Rows = list[Any]
Edit = Callable[[Rows], Any]


def forge(directory: Path, run: str, edit: Edit, *, redo_digests: bool = True) -> None:
    """Change the rows of a run, and have every digest fit again."""
    with RunStore.open(directory, must_exist=True) as store:
        rows: Rows = [json.loads(body) for _, body in store.rows(run)]
        (number,) = next(store.query("SELECT run FROM runs WHERE id = ?", (run,)))
    edit(rows)
    numbered: list[tuple[int, str]] = []
    digest = LogDigest()
    for seq, row in enumerate(rows, 1):
        if row is None:
            continue  # a row that is gone
        is_sealed = isinstance(row, dict) and KINDS.get(row.get("kind", "")) in SEALED_KINDS
        if is_sealed and redo_digests:
            row["log_digest"] = digest.hexdigest()
        body = json.dumps(row, separators=(",", ":"), ensure_ascii=False)
        digest.update(seq, body)
        numbered.append((row_id(number, seq), body))
    with behind_the_triggers(directory / "runs.db") as connection:
        connection.execute("DELETE FROM events WHERE run = ?", (number,))
        connection.executemany("INSERT INTO events (row_id, body) VALUES (?, ?)", numbered)


def at(rows: Rows, kind: str, step: str | None = None, nth: int = 0) -> int:
    """Where the nth event of a kind, of a step, stands."""
    places = [
        place
        for place, row in enumerate(rows)
        if row["kind"] == kind and step in (None, row.get("step"))
    ]
    return places[nth]


def change(kind: str, step: str | None = None, nth: int = 0, /, **fields: Any) -> Edit:
    """Change fields of an event."""
    return lambda rows: rows[at(rows, kind, step, nth)].update(fields)


def instead(kind: str, step: str | None, nth: int, /, **fields: Any) -> Edit:
    """Put another event in place of one, with the same epoch and time."""

    def edit(rows: Rows) -> None:
        place = at(rows, kind, step, nth)
        kept = {name: rows[place][name] for name in ("epoch", "time")}
        rows[place] = {**fields, **kept}

    return edit
