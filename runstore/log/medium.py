"""What the log lies on: private files, on a disk of this machine.

WAL needs shared memory and working locks, which network file systems do not give.
"""

import contextlib
import os
from pathlib import Path

from runstore.errors import StorageFailed

_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "fuse.sshfs",
    "fuse.s3fs",
)
_MOUNTS = Path("/proc/self/mountinfo")


def make_private_directory(directory: Path) -> None:
    """Create a directory that only its owner may enter (0700), with its parents; an existing one is left as it is."""
    try:
        if not directory.is_dir():
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"{directory}: {error.strerror}; nothing was begun. Make it writable, or name another place with --store"
        ) from error


def make_private_file(path: Path) -> None:
    """Create a file that only its owner may read (0600) before SQLite does; its -wal and -shm take the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def refuse_network_disk(directory: Path) -> None:
    """Raise StorageFailed where `directory` lies on a network file system."""
    kind = file_system(directory)
    if kind.startswith(_NETWORK):
        raise StorageFailed(
            f"{directory} lies on a network file system ({kind}), where SQLite's write-ahead log does not work; "
            "put the store on a local disk (--store), outputs may lie anywhere (--outputs)"
        )


def file_system(directory: Path) -> str:
    """The type of the file system under `directory`, such as `ext4`; empty where the system does not tell."""
    if not _MOUNTS.exists():
        return ""
    found, kind = "", ""
    path = str(directory.resolve())
    for line in _MOUNTS.read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape", "replace")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found):
            found, kind = point, right.split()[0]
    return kind


def lock_holder(fd: int) -> str:
    """Who holds the flock on an open file, for a message; the kernel of Linux tells."""
    inode = os.fstat(fd).st_ino
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return f"process {fields[4]}"
    return "another process"
