"""Is this store in good health, and its disk fit for it? Looks, and tries one write below the outputs.

A check is "ok", a "note" (worth knowing, nothing to mend) or a "problem" with its remedy.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from runstore.config import Settings, find_settings, store_to_read
from runstore.credentials import Options
from runstore.errors import RunStoreError, StoreNotFound
from runstore.log.claims import Claim
from runstore.log.database import LOCK_NAME, LOG_NAME, Database
from runstore.log.digest_index import DigestIndex
from runstore.log.medium import file_system, refuse_network_disk
from runstore.outputs.output_store import open_base
from runstore.outputs.urls import below, public_url, scheme_of

PROBE = b"runstore"

_FIXED = (
    (3, 44, 6, 3, 45),
    (3, 50, 7, 3, 51),
)  # branches of SQLite with the repair: from, and below
# Who has which run, and whether the run's last event is one of housekeeping.
_CLAIMS = """
SELECT id, (SELECT json_valid(body) AND body ->> '$.run_status' IS NOT NULL FROM events
            WHERE row_id BETWEEN claims.run << 32 AND claims.run << 32 | 4294967295 ORDER BY row_id DESC LIMIT 1),
       {columns}
FROM claims JOIN runs USING (run)"""
# (run, parent) of every run; null where it uses no outputs of a parent. Not a join, which would read all events.
_PARENTS = """
SELECT id, (SELECT body ->> '$.parent.run' FROM events WHERE row_id = (runs.run << 32) + 1
            AND json_valid(body) AND body ->> '$.parent.bases' IS NOT NULL)
FROM runs ORDER BY run"""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    verdict: Literal["ok", "note", "problem"]
    fact: str
    remedy: str = ""


def doctor(
    directory: str | os.PathLike[str] | None = None, outputs: str | None = None
) -> Iterator[Check]:
    """Every check, in turn. Raises StoreNotFound only for a store that was named and is not there."""
    settings = find_settings(directory, outputs)
    try:
        store = store_to_read(settings)
    except StoreNotFound:
        if settings.store is not None:
            raise
        yield Check("store", "note", "none yet: `runstore run` makes one in ./.runstore")
        with closing(Database.in_memory()) as database:
            yield _sqlite(database)
        return
    yield Check("store", "ok", f"{store}, {_how_found(directory, settings)}")
    yield from _modes(store)
    yield _medium(store)
    try:
        database = Database(store / LOG_NAME, writable=False)
    except RunStoreError as error:
        yield Check("log", "problem", str(error))
        return
    with closing(database):
        yield _sqlite(database)
        yield Check("log", "ok", "tables, indexes and append-only triggers are as they were made")
        yield from _log(database)
    yield _outputs(settings, store)


def _how_found(given: object, settings: Settings) -> str:
    if given is not None:
        return "named by --store"
    if os.environ.get("RUNSTORE_STORE"):
        return "named by RUNSTORE_STORE"
    if settings.store is not None:
        return "named by [tool.runstore] in pyproject.toml"
    return "found from this folder"


def _modes(store: Path) -> Iterator[Check]:
    wrong = [
        (path, mode, wanted)
        for path, wanted in [(store, 0o700), *[(store / name, 0o600) for name in _files()]]
        if path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & ~wanted
    ]
    if not wrong:
        yield Check("permissions", "ok", "only you can read the store")
    for path, mode, wanted in wrong:
        yield Check(
            "permissions",
            "problem",
            f"{path} has mode {mode:04o}, so that others can reach it",
            f"chmod {wanted:o} '{path}'",
        )


def _files() -> list[str]:
    return [LOG_NAME, f"{LOG_NAME}-wal", f"{LOG_NAME}-shm", LOCK_NAME]


def _medium(store: Path) -> Check:
    try:
        refuse_network_disk(store)
    except RunStoreError as error:
        return Check("disk", "problem", str(error))
    return Check("disk", "ok", f"{file_system(store) or 'unknown file system'}, of this machine")


def _sqlite(database: Database) -> Check:
    text = str(_value(database, "SELECT sqlite_version()"))
    number = tuple(int(part) for part in text.split("."))
    fact = f"SQLite {text}"
    if _can_lose_pages(number):
        fact += "; it has the WAL-reset bug (mended in 3.51.3), against which runstore's lock guards every write"
    return Check("sqlite", "ok", fact)


def _can_lose_pages(number: tuple[int, ...]) -> bool:
    mended = any((*fixed[:3],) <= number < (*fixed[3:],) for fixed in _FIXED)
    return (3, 7, 0) <= number < (3, 51, 3) and not mended


def _log(database: Database) -> Iterator[Check]:
    found = [str(row[0]) for row in database.query("PRAGMA quick_check").fetchall()]
    if found == ["ok"]:
        runs, events = database.query(
            "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM events)"
        ).fetchone()
        yield Check("database", "ok", f"quick_check is ok; runs: {runs:,}, events: {events:,}")
    else:
        fact = f"quick_check: {'; '.join(found[:3])}"
        yield Check("database", "problem", fact, f"restore {LOG_NAME} from a copy")
    yield from _digest_index(database)
    columns = "claims.run, epoch, host, boot, pid, pid_started, heartbeat, cancel_requested"
    rows = database.query(f"{_CLAIMS.format(columns=columns)} ORDER BY run")
    for run_id, is_housekeeping, *claim in rows.fetchall():
        yield _claim(run_id, Claim(*claim), is_housekeeping=bool(is_housekeeping))
    yield from _reuse(database)


def _digest_index(database: Database) -> Iterator[Check]:
    """By which `who` finds bytes: derived from the log, so that it may be dropped and is filled in anew."""
    wrong = DigestIndex(database).differences()
    if wrong:
        yield Check(
            "digest index",
            "problem",
            f"{wrong:,} entries disagree with the log or are missing, so `runstore who` may miss what was stored",
            f"sqlite3 {LOG_NAME} 'DELETE FROM digest_index; DELETE FROM digest_index_ends'",
        )


def _reuse(database: Database) -> Iterator[Check]:
    """Reruns live on the bytes of the runs that they took from."""
    runs = dict(database.query(_PARENTS).fetchall())
    parents = {run_id: parent for run_id, parent in runs.items() if parent is not None}
    gone = {run_id: parent for run_id, parent in parents.items() if parent not in runs}
    if len(parents) > len(gone):
        yield Check("reuse", "ok", f"reruns whose parent is here: {len(parents) - len(gone):,}")
    for run_id, parent in gone.items():
        yield Check(
            "reuse",
            "note",
            f"run {run_id} uses outputs of run {parent}, whose log is gone, and perhaps its outputs too",
            f"`runstore cat {run_id} STEP` says whether they are there",
        )


def _claim(run_id: str, claim: Claim, *, is_housekeeping: bool) -> Check:
    if claim.is_alive():
        what = "pruned or moved" if is_housekeeping else "executed"
        return Check("claim", "ok", f"run {run_id} is being {what} by {claim}")
    if is_housekeeping:
        fact = f"a prune or move of run {run_id} was cut off, of {claim}; the run is as it was"
        return Check("claim", "note", fact, "`runstore prune` or `runstore storage move` it again")
    return Check(
        "claim", "note", f"run {run_id} has crashed; it had {claim}", f"runstore resume {run_id}"
    )


def _value(database: Database, sql: str) -> object:
    return database.query(sql).fetchone()[0]


def _outputs(settings: Settings, store: Path) -> Check:
    url = settings.outputs or str(store / "outputs")
    shown = public_url(url)
    try:
        _try_write(url, settings.options)
    except (RunStoreError, OSError) as error:
        return Check(
            "outputs", "problem", f"{shown} cannot be written: {error}", "mend the storage"
        )
    return Check("outputs", "ok", f"{shown} can be written")


def _try_write(url: str, options: Options) -> None:
    """Write and remove one small object in a folder of its own, where no run looks."""
    local = scheme_of(url) == "file"
    folder = Path(url.removeprefix("file://"))
    made = local and not folder.exists()
    place = below(url, f".doctor-{secrets.token_hex(8)}")
    base = open_base(place, durable=False, options=options)
    try:
        base.write("probe", PROBE, hashlib.sha256(PROBE).hexdigest())
    finally:
        base.remove()
        if made and folder.is_dir():
            folder.rmdir()
