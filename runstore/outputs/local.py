"""Outputs on a disk of this machine: the one room that knows that a base is local.

A file appears under its name whole or not at all. Where it has to be durable it is written beside the target, synced
and renamed; else it gets its name only when it is whole, on disks that have files without one (rename is the dearest
part of a small write), so that a crash leaves nothing behind.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence

from runstore import failpoints
from runstore.errors import OutputMissing, StorageFailed
from runstore.outputs.base import Found

SMALL_BYTES = 8192
"""A file of fewer is read in one go, without asking for its size first."""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_TMPFILE: int = getattr(os, "O_TMPFILE", 0)
"""Linux: opens a file in a folder, without a name there."""
_CREATE_UNNAMED = _TMPFILE | os.O_WRONLY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""A pipe in the place of a file must hold up nobody."""


class LocalBase:
    """A folder that outputs are written below; `durable`: every file and folder is fsynced before it counts."""

    reads = window = 1

    def __init__(self, root: str, *, durable: bool) -> None:
        self.root = root
        self._durable = durable
        # Not where a power cut is to be survived: the sync of a folder need not cover a file's count of names.
        self._may_be_unnamed = bool(_TMPFILE) and not durable
        self._known: set[str] = set()
        self._making = threading.Lock()

    @property
    def writes(self) -> int:
        """How many writes are worth having in flight: fsyncs overlap, plain writes do not."""
        return 4 if self._durable else 1

    def write(self, path: str, data: bytes, sha256: str = "") -> None:
        """Store `data` under `path`; raises StorageFailed naming the file. A disk has no use for the checksum."""
        target = f"{self.root}/{path}"
        folder = target.rpartition("/")[0]
        failpoints.reached("output.before", target)
        try:
            if folder not in self._known:
                self._make(folder)
            if not (self._may_be_unnamed and self._write_unnamed(folder, target, data)):
                self._write_beside(folder, target, data)
        except OSError as error:
            raise StorageFailed(
                f"{target}: {error.strerror}; nothing that was committed is lost. "
                "Free space or make the disk writable, then `runstore resume`"
            ) from error
        failpoints.reached("output.after", target)

    def _write_unnamed(self, folder: str, target: str, data: bytes) -> bool:
        """Write a file, then name it; False where this disk cannot, or there is one of that name."""
        try:
            fd = os.open(folder, _CREATE_UNNAMED, 0o600)
            try:
                _write_all(fd, data, target)
                # Told of a descriptor, which an absolute path has no use for, Python follows the link to the file.
                os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd)
            finally:
                os.close(fd)
        except FileExistsError:
            return False
        except OSError:  # a full disk, too, is told by the other way
            self._may_be_unnamed = False
            return False
        return True

    def _write_beside(self, folder: str, target: str, data: bytes) -> None:
        temporary = f"{folder}/.{target[len(folder) + 1 :]}.tmp"
        try:
            fd = os.open(temporary, _CREATE, 0o600)
            try:
                _write_all(fd, data, temporary)
                if self._durable:
                    _sync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if self._durable:
            _sync_directory(folder)

    def _make(self, folder: str) -> None:
        with self._making:
            if folder in self._known:
                return
            _make_folders(folder)
            if self._durable:
                # Also what an earlier process made: it may have been killed before its own fsync.
                for directory in _up_to(folder, self.root):
                    _sync_directory(directory.rpartition("/")[0] or "/")
            self._known.add(folder)

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """The bytes under `path`, or a range of them; raises OutputMissing where there is no file."""
        try:
            fd = os.open(f"{self.root}/{path}", _READ)
            try:
                if size is not None:
                    return os.pread(fd, size, offset)
                data = os.read(fd, SMALL_BYTES)
                return data if len(data) < SMALL_BYTES else _read_all(fd)
            finally:
                os.close(fd)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            raise OutputMissing(f"no file at {self.root}/{path}") from None
        except OSError as error:
            raise _unreadable(f"{self.root}/{path}", error) from error

    def size(self, path: str) -> int | None:
        """The size in bytes; None where nothing is stored."""
        try:
            return _size(f"{self.root}/{path}")
        except OSError as error:
            raise _unreadable(f"{self.root}/{path}", error) from error

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """As `size`, of many; faster, since the way to this base is walked once for all of them."""
        try:
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return [None] * len(paths)
        except OSError as error:
            raise _unreadable(self.root, error) from error
        try:
            return [_size(path, root) for path in paths]
        except OSError as error:
            raise _unreadable(f"{self.root}/{error.filename}", error) from error
        finally:
            os.close(root)

    def found(self) -> Iterator[Found]:
        """Every file below this base, also those that a killed process has left half-written."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    facts = os.lstat(f"{folder}/{name}")
                    path = f"{folder}/{name}"[len(self.root) + 1 :]
                    yield Found(path, facts.st_size)

    def is_used(self) -> bool:
        """True where there is anything below."""
        try:
            with os.scandir(self.root) as entries:
                return any(True for _ in entries)
        except OSError:
            return False

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files, and the folders that they leave empty."""
        for path in paths:
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self.root}/{path}")
            except OSError as error:
                raise StorageFailed(
                    f"{self.root}/{path}: {error.strerror}; make it deletable, then try again"
                ) from error
        for folder in {path.rpartition("/")[0] for path in paths}:
            self._remove_empty(folder)

    def _remove_empty(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # not empty
            while folder:
                os.rmdir(f"{self.root}/{folder}")
                self._known.discard(f"{self.root}/{folder}")
                folder = folder.rpartition("/")[0]

    def unfinished(self, path: str = "") -> list[tuple[str, str]]:
        """None: what a killed process has half-written is a file, and found as one."""
        return []

    def abort(self, path: str, upload: str) -> None:
        """Nothing is sent in parts here."""

    def close(self) -> None:
        """Nothing waits here."""

    def remove(self) -> None:
        """Delete everything below this base."""
        try:
            shutil.rmtree(self.root)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageFailed(
                f"{self.root}: {error.strerror}; make it deletable, then try again"
            ) from error

    def describe(self, path: str) -> str:
        """The address as a person would type it."""
        return f"{self.root}/{path}"


def _make_folders(folder: str) -> None:
    """Make a folder, and those of its parents that there are not."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_folders(folder.rpartition("/")[0])
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def _size(path: str, folder: int | None = None) -> int | None:
    try:
        return os.stat(path, dir_fd=folder).st_size
    except (FileNotFoundError, NotADirectoryError, ValueError):  # NUL, as a damaged log may have it
        return None


def _unreadable(address: str, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"{address}: {error.strerror}; make it readable or mend the disk, then try again"
    )


def _up_to(folder: str, root: str) -> Iterator[str]:
    """A folder and its parents, up to the folder that `root` lies in."""
    last = root.rpartition("/")[0]
    while folder and len(folder) >= len(last):
        yield folder
        folder = folder.rpartition("/")[0]


def _write_all(fd: int, data: bytes, path: str) -> None:
    if failpoints.is_armed():
        half = len(data) // 2
        os.write(fd, data[:half])
        failpoints.reached("output.partial", path)
        data = data[half:]
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    data = os.pread(fd, size + 1, 0)
    while len(data) < size and (more := os.pread(fd, size - len(data), len(data))):
        data += more
    return data


def _sync(fd: int) -> None:
    full = getattr(os, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(fd)
        return
    import fcntl

    fcntl.fcntl(fd, full)  # macOS: fsync alone does not reach the disk


def _sync_directory(directory: str) -> None:
    # A rename is not durable until its directory is.
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(fd)
    finally:
        os.close(fd)
