"""Who executes which run, as far as can be told.

A claim is courtesy: it answers "is it alive?" so that a resume does not disturb a living run. Safety does not
rest on it, but on (run, seq) and epoch in the log.
"""

import os
import socket
import subprocess
import time
from functools import lru_cache
from pathlib import Path

import msgspec

from runstore.log.database import Connection, Database

_PROC = Path("/proc/self")

BEAT_S = 10.0
TIME_TO_LIVE_S = 30.0

_dropped: set[tuple[Path | None, int, int]] = set()
"""(log, run, epoch) of claims that this process gave back and could not delete."""


class Claim(msgspec.Struct, frozen=True):
    """The executor that last took a run and has not given it back."""

    run: int
    epoch: int
    host: str
    boot: str
    pid: int
    pid_started: str
    heartbeat: float
    cancel_requested: int = 0

    @property
    def age_s(self) -> float:
        """Seconds since the last sign of life."""
        return max(0.0, time.time() - self.heartbeat)

    def is_alive(self) -> bool:
        """Known at once for a process of this boot and pid namespace; else by the age of its heartbeat."""
        if self.pid_started and self.boot == boot_id():
            return process_started(self.pid) == self.pid_started
        return self.age_s < TIME_TO_LIVE_S

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, last heard of {self.age_s:.0f} s ago"


class Claims:
    """The table `claims`; writes happen inside a transaction of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, run: int) -> Claim | None:
        """The claim on a run, of a living or a dead executor."""
        columns = "run, epoch, host, boot, pid, pid_started, heartbeat, cancel_requested"
        row = self._database.query(f"SELECT {columns} FROM claims WHERE run = ?", (run,)).fetchone()
        claim = Claim(*row) if row else None
        if (
            claim
            and claim.pid == os.getpid()
            and (self._database.path, run, claim.epoch) in _dropped
        ):
            return None
        return claim

    def take(self, connection: Connection, run: int, epoch: int) -> None:
        """Claim a run for this process, in place of whoever had it."""
        me = (
            run,
            epoch,
            socket.gethostname(),
            boot_id(),
            os.getpid(),
            process_started(os.getpid()),
            time.time(),
        )
        connection.execute("DELETE FROM claims WHERE run = ?", (run,))
        connection.execute(
            "INSERT INTO claims (run, epoch, host, boot, pid, pid_started, heartbeat) VALUES (?, ?, ?, ?, ?, ?, ?)",
            me,
        )

    def beat(self, connection: Connection, run: int, epoch: int) -> None:
        """Give a sign of life."""
        connection.execute(
            "UPDATE claims SET heartbeat = ? WHERE run = ? AND epoch = ?", (time.time(), run, epoch)
        )

    def release(self, connection: Connection, run: int, epoch: int) -> None:
        """Give a run back, unless a newer epoch has it."""
        connection.execute("DELETE FROM claims WHERE run = ? AND epoch = ?", (run, epoch))

    def drop(self, run: int, epoch: int) -> None:
        """Give a run back on a disk that refuses to be told: this process at least does not hold it for alive."""
        _dropped.add((self._database.path, run, epoch))

    def request_cancel(self, connection: Connection, run: int) -> None:
        """Ask the executor of a run to stop after its running steps."""
        connection.execute("UPDATE claims SET cancel_requested = 1 WHERE run = ?", (run,))


def process_started(pid: int) -> str:
    """When the process with this pid began, in a form that only ever equals itself; empty where there is none."""
    if _PROC.is_dir():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return ""
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    found = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


@lru_cache(maxsize=1)
def boot_id() -> str:
    """This boot of this machine, and this pid namespace in it: where a pid means what it says."""
    if _PROC.is_dir():
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    found = subprocess.run(
        ["sysctl", "-n", "kern.boottime"], capture_output=True, text=True, check=False
    )
    return f"{socket.gethostname()}/{found.stdout.strip()}"
