"""The SQLite file under the log: opened, locked, written in transactions.

One write connection per process and store, owned by one thread, stamped with its pid. Every write transaction, and the
closing of a writing connection, holds an exclusive flock on `runs.lock`, since SQLite before 3.51.3 can lose committed
pages when one connection commits while another checkpoints. Readers open `mode=ro`.
"""

import contextlib
import fcntl
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from runstore import failpoints
from runstore.errors import LogDamaged, StorageFailed, StoreBusy, StoreNotFound
from runstore.log import schema
from runstore.log.medium import lock_holder, make_private_file, refuse_network_disk

Connection = sqlite3.Connection
Cursor = sqlite3.Cursor

LOG_NAME = "runs.db"
LOCK_NAME = "runs.lock"
LOCK_LIMIT_S = 30.0

_PRAGMAS = (
    "page_size = 2048",  # of a new file: a commit writes each page that it touches whole, and touches few bytes of each
    "recursive_triggers = ON",
    "wal_autocheckpoint = 64000",  # 128 MB: a checkpoint waits for the disk; the rarer, the more is there by itself
    "cache_size = -16000",  # 16 MB
    "fullfsync = ON",  # macOS, where fsync alone does not reach the disk; no meaning elsewhere
    "checkpoint_fullfsync = ON",
)

_this_pid = os.getpid()
"""Of this process; kept, since the system is asked at every statement otherwise."""
_open: "weakref.WeakSet[Database]" = weakref.WeakSet()
_of_parents: list[sqlite3.Connection] = []
"""Connections that came through a fork: to forget one would close it, and with it touch the parent's log."""
_paths_of_parents: set[str] = set()
"""Logs that were open at a fork. What SQLite knows of the locks on a file it knows per process, and a fork has a copy,
which is wrong: a new connection to such a file holds no lock, and loses what it writes when the parent closes its own.
"""


def _forked() -> None:
    global _this_pid
    _this_pid = os.getpid()
    for database in list(_open):
        if database._connection is not None:
            _of_parents.append(database._connection)
            if database.path is not None:
                _paths_of_parents.add(os.path.realpath(database.path))


os.register_at_fork(after_in_child=_forked)


class CommitUncertain(StorageFailed):
    """COMMIT failed: the transaction may or may not stand. The connection was reopened; look at the log."""


class WriteLock:
    """An exclusive flock on a file that holds nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> None:
        """Wait for the lock, at most LOCK_LIMIT_S; raises StoreBusy naming the holder."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait()

    def _wait(self) -> None:
        deadline, pause_s = time.monotonic() + LOCK_LIMIT_S, 0.001
        while time.monotonic() < deadline:
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        raise StoreBusy(
            f"{self._path} has been locked for {LOCK_LIMIT_S:.0f} s by {lock_holder(self._fd)}, which may be "
            "stopped; continue or end that process, then try again"
        )

    def release(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back; releases the lock if it is held."""
        os.close(self._fd)


class _NoLock:
    """For a database in memory, which no other process can reach."""

    def acquire(self) -> None: ...
    def release(self) -> None: ...
    def close(self) -> None: ...


class Database:
    """A connection to one store's log."""

    def __init__(self, path: Path | None, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._pid = _this_pid
        if path is not None and os.path.realpath(path) in _paths_of_parents:
            raise StorageFailed(
                f"{path} was open in the process that this one, {self._pid}, was forked from, so SQLite cannot open "
                "it again here; close the store before the fork, or begin processes by spawn"
            )
        self._lock: WriteLock | _NoLock = _NoLock()
        if path is not None and writable:
            self._lock = _prepare(path)
        self._full: bool | None = None
        self._connection = self._connect()
        _open.add(self)
        try:
            self._open_schema()
        except BaseException:
            self.close()
            raise

    @classmethod
    def in_memory(cls) -> "Database":
        """A log that lives as long as this object."""
        return cls(None, writable=True)

    # Reading and writing

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Run a reading statement."""
        self.check_process()
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def transaction(self, *, full: bool) -> "Transaction":
        """One write transaction; `full`: durable against power loss when this returns, and all before it.

        Raises StorageFailed where the disk refuses, CommitUncertain where COMMIT itself failed.
        """
        return Transaction(self, full)

    def _begin(self, full: bool) -> sqlite3.Connection:
        self.check_process()
        try:
            self._lock.acquire()
        except StorageFailed:
            raise
        except OSError as error:
            raise _storage_failed(self.path, error) from error
        try:
            if full is not self._full:
                self._connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
                self._full = full
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._lock.release()
            raise self._translated(error) from error
        return self._connection

    def _commit(self) -> None:
        try:
            failpoints.reached("commit.before", self.path)
        except BaseException:
            self._roll_back()
            raise
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._reopen()
            raise CommitUncertain(str(self._translated(error))) from error

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; the last writer's close also folds the write-ahead log into the file."""
        connection, self._connection = getattr(self, "_connection", None), None  # type: ignore[assignment]
        if connection is None:
            return
        _open.discard(self)
        if self._pid != _this_pid:
            _of_parents.append(connection)
            return
        self._lock.acquire()
        try:
            connection.close()
        finally:
            self._lock.release()
            self._lock.close()

    def __del__(self) -> None:
        # A connection of sqlite3 refers to itself, so that one nobody closes stays open until the garbage is collected.
        with contextlib.suppress(Exception):
            self.close()

    # Opening

    def _connect(self) -> sqlite3.Connection:
        try:
            if self.path is None:
                return sqlite3.connect(":memory:", isolation_level=None, cached_statements=64)
            if self.writable:
                connection = sqlite3.connect(
                    self.path, isolation_level=None, timeout=LOCK_LIMIT_S, cached_statements=64
                )
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")
                return connection
            return sqlite3.connect(
                _read_only_uri(self.path), uri=True, isolation_level=None, timeout=LOCK_LIMIT_S
            )
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _open_schema(self) -> None:
        try:
            if self.writable:
                with self._locked():
                    self._make_tables()
            schema.check(self._connection, str(self.path or ":memory:"))
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _make_tables(self) -> None:
        if schema.is_outdated(self._connection):
            # Imported late, at its one door: sqlite-utils takes as long to import as all else together.
            from runstore.log.migrations import migrate

            if self.path is not None:
                self._connection.execute("PRAGMA journal_mode = WAL")
            migrate(self._connection)
            # Makes this connection read the statistics that the migration wrote.
            self._connection.execute("ANALYZE sqlite_schema")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _reopen(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._full = None
        self._connection = self._connect()

    def check_process(self) -> None:
        """Raise StorageFailed in a fork of the process that opened this, and after `close`."""
        if self._pid != _this_pid:
            raise StorageFailed(
                f"the connection to {self.path} belongs to process {self._pid} and cannot be used in its fork "
                f"{_this_pid}; open a store of its own in each process, and none before a fork"
            )
        if self._connection is None:
            raise StorageFailed(f"the store at {self.path} is closed; open it anew")

    def _translated(self, error: BaseException) -> Exception:
        text = str(error)
        if isinstance(error, sqlite3.IntegrityError):
            return error
        if isinstance(error, sqlite3.DatabaseError) and (
            "malformed" in text or "not a database" in text
        ):
            return LogDamaged(
                f"{self.path}: {text}; nothing was written. Restore the file from a copy"
            )
        return _storage_failed(self.path, error)


class Transaction:
    """`with` it: committed at the end, rolled back if the block raises. The write lock is held throughout."""

    def __init__(self, database: Database, full: bool) -> None:
        self._database = database
        self._full = full

    def __enter__(self) -> sqlite3.Connection:
        return self._database._begin(self._full)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._database._commit()
                failpoints.reached("commit.after", self._database.path)
                return
            self._database._roll_back()
            if isinstance(error, sqlite3.Error):
                raise self._database._translated(error) from error
        finally:
            self._database._lock.release()


def _prepare(path: Path) -> WriteLock:
    refuse_network_disk(path.parent)
    try:
        make_private_file(path)
        return WriteLock(path.with_name(LOCK_NAME))
    except OSError as error:
        raise _storage_failed(path, error) from error


def _read_only_uri(path: Path) -> str:
    if not path.is_file():
        raise StoreNotFound(f"no log at {path}; `runstore run` creates one")
    if not os.access(path, os.R_OK):
        raise StorageFailed(f"{path}: Permission denied; make it readable for this user")
    uri = path.absolute().as_uri() + "?mode=ro"
    waiting = path.with_name(path.name + "-wal").exists()
    # A write-ahead log needs a writable folder for its index; on a read-only disk a cleanly closed file is immutable.
    return (
        uri
        if waiting or (os.access(path.parent, os.W_OK) and not _read_only(path))
        else uri + "&immutable=1"
    )


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _storage_failed(path: Path | None, error: BaseException) -> StorageFailed:
    fact = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StorageFailed(
        f"{path}: {fact}; what was committed is kept. Free space or make the disk writable, then `runstore resume`"
    )
