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
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from runstore import failpoints
from runstore.errors import LogDamaged, StorageFailed, StoreBusy, StoreNotFound
from runstore.log import schema
from runstore.log.medium import make_private_file, refuse_network_disk

LOG_NAME = "runs.db"
LOCK_NAME = "runs.lock"
LOCK_LIMIT_S = 30.0


class CommitUncertain(StorageFailed):
    """COMMIT failed: the transaction may or may not stand. The connection was reopened; look at the log."""


class WriteLock:
    """An exclusive flock; the file holds the pid of whoever took it last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pid = b"%-10d\n" % os.getpid()

    def acquire(self) -> None:
        """Wait for the lock, at most LOCK_LIMIT_S; raises StoreBusy naming the holder."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait()
        os.pwrite(self._fd, self._pid, 0)

    def _wait(self) -> None:
        deadline, pause_s = time.monotonic() + LOCK_LIMIT_S, 0.001
        while time.monotonic() < deadline:
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        holder = os.pread(self._fd, 16, 0).decode().strip() or "unknown"
        raise StoreBusy(
            f"{self._path} has been locked for {LOCK_LIMIT_S:.0f} s by process {holder}, which may be stopped; "
            "continue or end that process, then try again"
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
        self._pid = os.getpid()
        self._lock: WriteLock | _NoLock = _NoLock()
        if path is not None and writable:
            self._lock = _prepare(path)
        self._full: bool | None = None
        self._connection = self._connect()
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

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a reading statement."""
        self._check_process()
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
        self._check_process()
        try:
            self._lock.acquire()
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
        failpoints.reached("commit.before", self.path)
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._reopen()
            raise CommitUncertain(str(self._translated(error))) from error
        failpoints.reached("commit.after", self.path)

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

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
        self._pid = os.getpid()
        self._lock: WriteLock | _NoLock = _NoLock()
        if path is not None and writable:
            self._lock = _prepare(path)
        self._full: bool | None = None
        self._connection = self._connect()
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

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a reading statement."""
        self._check_process()
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    @contextlib.contextmanager
    def transaction(self, *, full: bool) -> Iterator[sqlite3.Connection]:
        """One write transaction; `full`: durable against power loss when this returns, and all before it.

        Raises StorageFailed where the disk refuses, CommitUncertain where COMMIT itself failed.
        """
        self._check_process()
        try:
            self._lock.acquire()
        except OSError as error:
            raise _storage_failed(self.path, error) from error
        try:
            yield from self._within(full)
        finally:
            self._lock.release()

    def _within(self, full: bool) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        try:
            if full is not self._full:
                connection.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
                self._full = full
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            failpoints.reached("commit.before", self.path)
        except BaseException as error:
            self._roll_back()
            raise self._translated(error) if isinstance(error, sqlite3.Error) else error
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._reopen()
            raise CommitUncertain(str(self._translated(error))) from error
        failpoints.reached("commit.after", self.path)

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; the last writer's close also folds the write-ahead log into the file."""
        connection, self._connection = getattr(self, "_connection", None), None  # type: ignore[assignment]
        if connection is None or self._pid != os.getpid():
            return
        self._lock.acquire()
        try:
            connection.close()
        finally:
            self._lock.release()
            self._lock.close()

    # Opening

    def _connect(self) -> sqlite3.Connection:
        try:
            if self.path is None:
                return sqlite3.connect(":memory:", isolation_level=None, cached_statements=64)
            if self.writable:
                return sqlite3.connect(
                    self.path, isolation_level=None, timeout=LOCK_LIMIT_S, cached_statements=64
                )
            return sqlite3.connect(
                _read_only_uri(self.path), uri=True, isolation_level=None, timeout=LOCK_LIMIT_S
            )
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _open_schema(self) -> None:
        try:
            if self.writable:
                with self._locked():
                    schema.prepare(self._connection, in_memory=self.path is None)
            schema.check(self._connection, str(self.path or ":memory:"))
        except sqlite3.Error as error:
            raise self._translated(error) from error

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

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise StorageFailed(
                f"the connection to {self.path} belongs to process {self._pid} and cannot be used in its fork "
                f"{os.getpid()}; open the store anew in each process"
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
    uri = path.absolute().as_uri() + "?mode=ro"
    waiting = path.with_name(path.name + "-wal").exists()
    # A write-ahead log needs a writable folder for its index; on a read-only disk a cleanly closed file is immutable.
    return (
        uri
        if waiting or os.access(path.parent, os.W_OK) and not _read_only(path)
        else uri + "&immutable=1"
    )


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _storage_failed(path: Path | None, error: BaseException) -> StorageFailed:
    fact = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StorageFailed(
        f"{path}: {fact}; what was committed is kept. Free space or make the disk writable, then `runstore resume`"
    )
