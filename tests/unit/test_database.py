"""The file under the log: its locks, its errors, its refusal of forks and network disks."""

import contextlib
import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runstore import failpoints
from runstore.errors import StorageFailed, StoreBusy, StoreNotFound
from runstore.log import database as database_room
from runstore.log import medium
from runstore.log.database import CommitUncertain, Database

INSERT = "INSERT INTO runs (id) VALUES (?)"
COUNT = "SELECT count(*) FROM runs"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new log, open for writing."""
    database = Database(tmp_path / "runs.db", writable=True)
    yield database
    database.close()


@pytest.fixture(params=["disk", "memory"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A new log, on disk or in memory."""
    path = tmp_path / "runs.db" if request.param == "disk" else None
    database = Database(path, writable=True)
    yield database
    database.close()


def _count(database: Database) -> int:
    return int(database.query(COUNT).fetchone()[0])


def test_a_transaction_stands_whole(either: Database) -> None:
    """What a transaction wrote is there when it ends."""
    with either.transaction(full=True) as connection:
        connection.executemany(INSERT, [("a",), ("b",)])
    assert _count(either) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_transaction_that_raises_leaves_nothing(
    either: Database, error: type[BaseException]
) -> None:
    """An exception of any kind rolls back, passes as it is, and the next transaction works."""

    def fail() -> None:
        with either.transaction(full=False) as connection:
            connection.execute(INSERT, ("a",))
            raise error

    with pytest.raises(error):
        fail()
    with either.transaction(full=False) as connection:
        connection.execute(INSERT, ("b",))
    assert _count(either) == 1


def test_the_log_is_a_write_ahead_log(database: Database) -> None:
    """WAL, BEGIN IMMEDIATE, and FULL exactly where it was asked for."""
    assert database.query("PRAGMA journal_mode").fetchone() == ("wal",)
    for full, synchronous in ((True, 2), (False, 1), (True, 2)):
        with database.transaction(full=full) as connection:
            assert connection.in_transaction
            assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)


def test_only_the_owner_may_read_the_files(database: Database) -> None:
    """The log, its write-ahead log, its index and its lock have mode 0600, whatever the umask."""
    with database.transaction(full=False) as connection:
        connection.execute(INSERT, ("a",))
    assert database.path is not None
    files = list(database.path.parent.iterdir())
    assert {file.name for file in files} == {"runs.db", "runs.db-wal", "runs.db-shm", "runs.lock"}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_closing_folds_the_write_ahead_log_into_the_file(tmp_path: Path) -> None:
    """After the last writer's close one file holds everything, and closing twice is no error."""
    database = Database(tmp_path / "runs.db", writable=True)
    with database.transaction(full=False) as connection:
        connection.execute(INSERT, ("a",))
    database.close()
    database.close()
    assert not (tmp_path / "runs.db-wal").exists()
    with contextlib.closing(Database(tmp_path / "runs.db", writable=False)) as reader:
        assert _count(reader) == 1


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    """Using a store after it was closed is an error that says what to do."""
    database = Database(tmp_path / "runs.db", writable=True)
    database.close()
    with pytest.raises(StorageFailed, match="is closed; open it anew"):
        database.query(COUNT)


def test_a_reader_cannot_write(database: Database) -> None:
    """Readers open the file read-only and see what was committed."""
    assert database.path is not None
    with database.transaction(full=False) as connection:
        connection.execute(INSERT, ("a",))
    with contextlib.closing(Database(database.path, writable=False)) as reader:
        assert _count(reader) == 1
        with pytest.raises(StorageFailed, match="readonly"):
            reader.query("INSERT INTO runs (id) VALUES ('b')")


def test_a_missing_log_is_not_created_by_reading(tmp_path: Path) -> None:
    """Reading a store that does not exist makes no file."""
    with pytest.raises(StoreNotFound, match="no log at"):
        Database(tmp_path / "runs.db", writable=False)
    assert list(tmp_path.iterdir()) == []


class FailingCommit:
    """A connection whose COMMIT fails, before or after the transaction stands."""

    def __init__(self, connection: sqlite3.Connection, *, stands: bool) -> None:
        self._connection = connection
        self._stands = stands

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Fail at COMMIT."""
        if sql == "COMMIT":
            if self._stands:
                self._connection.execute(sql)
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("stands", [True, False])
def test_a_failed_commit_is_looked_at_again(database: Database, stands: bool) -> None:
    """Whether a COMMIT that failed stands is told by the log alone, through a connection that was opened anew."""
    database._connection = FailingCommit(database._connection, stands=stands)  # type: ignore[assignment]
    with (
        pytest.raises(CommitUncertain, match="disk I/O error; what was committed is kept"),
        database.transaction(full=False) as connection,
    ):
        connection.execute(INSERT, ("a",))
    assert isinstance(database._connection, sqlite3.Connection)
    assert _count(database) == stands
    with database.transaction(full=True) as connection:
        connection.execute(INSERT, ("b",))
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert _count(database) == stands + 1


def test_waiting_for_the_lock_names_its_holder(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction waits for another process's lock, and in the end names that process."""
    assert database.path is not None
    monkeypatch.setattr(database_room, "LOCK_LIMIT_S", 0.2)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(database.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(
                StoreBusy,
                match=rf"runs.lock has been locked .* by process {holder.pid}, which may be stopped",
            ),
            database.transaction(full=False),
        ):
            pass
    finally:
        holder.stdin.close()
        holder.wait()
    with database.transaction(full=False) as connection:
        connection.execute(INSERT, ("a",))
    assert _count(database) == 1


_HOLD = """
import sys
from pathlib import Path
from runstore.log.database import Database

with Database(Path(sys.argv[1]), writable=True).transaction(full=False):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_is_held_from_begin_to_commit_and_no_longer(database: Database) -> None:
    """Each write transaction holds the store's exclusive lock, also while it commits and rolls back."""
    assert database.path is not None
    held: list[tuple[str, bool]] = []
    lock = os.open(database.path.with_name("runs.lock"), os.O_RDWR)

    def look(point: str, subject: object = None) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_UN)
            held.append((point, False))
        except BlockingIOError:
            held.append((point, True))

    failpoints.listen(look)
    try:
        with database.transaction(full=False):
            look("inside")
        look("outside")
        with contextlib.suppress(ValueError), database.transaction(full=False):
            raise ValueError
        look("rolled back")
    finally:
        failpoints.listen(None)
        os.close(lock)
    assert held == [
        ("inside", True),
        ("commit.before", True),
        ("commit.after", True),
        ("outside", False),
        ("rolled back", False),
    ]


def test_a_fork_may_not_use_the_connection(database: Database) -> None:
    """A connection that crossed a fork is refused in the child, by name of both processes, and still good here."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answers = []
        for use in (
            lambda: database.query(COUNT),
            lambda: database.transaction(full=False).__enter__(),
        ):
            try:
                use()
                answers.append("allowed")
            except StorageFailed as error:
                answers.append(str(error))
        database.close()
        os.write(write, "|".join(answers).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        answers = pipe.read().split("|")
    assert len(answers) == 2
    for answer in answers:
        assert (
            f"belongs to process {os.getpid()} and cannot be used in its fork {child}; open"
            in answer
        )
    with database.transaction(full=False) as connection:
        connection.execute(INSERT, ("a",))
    assert _count(database) == 1


def test_a_log_that_is_open_cannot_be_opened_in_a_fork(database: Database) -> None:
    """SQLite would hold no lock on it there. What the parent has closed may be opened, and what it drops is closed."""
    path = database.path
    assert path is not None

    def opened_in_fork(expected: str) -> bool:
        child = os.fork()
        if child == 0:
            try:
                Database(path, writable=True).close()
                found = "opened"
            except StorageFailed as error:
                found = str(error)
            os._exit(0 if expected in found else 1)
        return os.waitpid(child, 0)[1] == 0

    assert opened_in_fork("close the store before the fork")
    database.close()
    assert opened_in_fork("opened")
    dropped = Database(path, writable=True)
    assert opened_in_fork("close the store before the fork")
    del dropped
    assert opened_in_fork("opened")


def _mounts(tmp_path: Path, kind: str) -> Path:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"30 22 0:40 / {tmp_path.resolve()}/my\\040net rw - {kind} server:/export rw\n"
        f"31 22 0:41 / {tmp_path.resolve()}/my\\040net/inside rw - tmpfs tmpfs rw\n"
    )
    return mounts


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs"])
def test_network_disks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A log on a network file system is refused before any file is made; a disk mounted inside it is not."""
    monkeypatch.setattr(medium, "_MOUNTS", _mounts(tmp_path, kind))
    for folder in ("my net", "my net/deep", "my net/inside", "my network"):
        (tmp_path / folder).mkdir()
    for folder in ("my net", "my net/deep"):
        with pytest.raises(
            StorageFailed, match=rf"network file system \({kind}\).*--store.*--outputs"
        ):
            Database(tmp_path / folder / "runs.db", writable=True)
        assert not (tmp_path / folder / "runs.db").exists()
    for folder in ("my net/inside", "my network"):
        Database(tmp_path / folder / "runs.db", writable=True).close()


def test_the_kind_of_this_disk_is_known(tmp_path: Path) -> None:
    """On Linux the type of file system is found; it is no network's here."""
    medium.refuse_network_disk(tmp_path)
    assert medium.file_system(tmp_path) or sys.platform != "linux"


def test_a_folder_that_is_missing_is_one_clear_line(tmp_path: Path) -> None:
    """A log whose folder does not exist is refused with the address and what to do."""
    with pytest.raises(
        StorageFailed, match=r"runs.db: No such file or directory; .*`runstore resume`"
    ):
        Database(tmp_path / "gone" / "runs.db", writable=True)


def test_private_folders(tmp_path: Path) -> None:
    """A new store's folder is its owner's alone; one that exists keeps its mode."""
    medium.make_private_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "c").mkdir(mode=0o755)
    medium.make_private_directory(tmp_path / "c")
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o755
