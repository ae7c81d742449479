"""Taking the samples of the benchmark: processes, folders, and what to read off both."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHILD = ROOT / "scripts" / "bench_child.py"
FLOOR_OF = {"fast": "kill", "durable": "power"}

Sample = dict[str, float]


class SampleFailed(Exception):
    """A process of the benchmark did not do what it was for."""


@dataclass
class Bench:
    """Takes samples, and keeps them so that rows can share them."""

    disk: Path
    quick: bool
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (1_000,) if self.quick else (1_000, 10_000)

    def rounds(self, n: int) -> int:
        if self.quick:
            return 3
        return {1_000: 7, 10_000: 5}.get(n, 2)

    def pair(self, level: str, n: int) -> tuple[list[Sample], list[Sample]]:
        """Floor and W at one level and size, taken in turn."""
        floor, ours = self._kept("floor", FLOOR_OF[level], n), self._kept("run", level, n)
        for _ in range(self.rounds(n)):
            if len(floor) < self.rounds(n):
                floor.append(self._in_fresh_folder("floor", FLOOR_OF[level], n))
            if len(ours) < self.rounds(n):
                ours.append(self._in_fresh_folder("run", level, n))
        return floor, ours

    def run(self, level: str, n: int) -> list[Sample]:
        """W alone."""
        return self._series("run", level, n)

    def nested(self, level: str, n: int) -> tuple[list[Sample], list[Sample]]:
        """Flat and nested W at one level and size, taken in turn."""
        flat, ours = self._kept("flat", level, n), self._kept("nested", level, n)
        while len(ours) < self.rounds(n):
            flat.append(self._in_fresh_folder("run", level, n))
            ours.append(self._in_fresh_folder("nested", level, n))
        return flat, ours

    def floor(self, level: str, n: int) -> list[Sample]:
        return self._series("floor", level, n)

    def _series(self, verb: str, level: str, n: int) -> list[Sample]:
        kept = self._kept(verb, level, n)
        while len(kept) < self.rounds(n):
            kept.append(self._in_fresh_folder(verb, level, n))
        return kept

    def resume(self, level: str, n: int) -> list[Sample]:
        """Runs that were killed with 10 % left, each resumed once in a new process."""
        kept = self._kept("resume", level, n)
        while len(kept) < 5:
            folder = fresh_folder(self.disk)
            run_child("kill", level, n, folder, dies_by=signal.SIGKILL)
            os.sync()  # the resume is not to wait for what the killed run left to be written
            kept.append(run_child("resume", level, n, folder))
        return kept

    def _kept(self, verb: str, level: str, n: int) -> list[Sample]:
        return self.samples.setdefault(f"{verb} {level} {n}", [])

    def _in_fresh_folder(self, verb: str, level: str, n: int) -> Sample:
        folder = fresh_folder(self.disk)
        return run_child(verb, level, n, folder) | log_size(folder / "runs.db")


@contextmanager
def session(parent: Path) -> Iterator[Path]:
    """A folder for everything that this benchmark writes."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="session-", dir=parent))
    spread_over_disk(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def spread_over_disk(folder: Path) -> None:
    """Ask ext4 to put each folder made in this one somewhere else; other file systems have no need of it."""
    with suppress(FileNotFoundError):
        subprocess.run(["chattr", "+T", str(folder)], stderr=subprocess.DEVNULL, check=False)


def fresh_folder(disk: Path) -> Path:
    """An empty folder, on a disk that has nothing left to write."""
    os.sync()
    return Path(tempfile.mkdtemp(prefix="sample-", dir=disk))


def new_file_us(disk: Path) -> float:
    """Microseconds for an empty file: says whether the file system is at its usual speed."""
    folder, files = fresh_folder(disk), 500
    begin = time.perf_counter()
    for i in range(files):
        os.close(os.open(folder / str(i), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    return (time.perf_counter() - begin) / files * 1e6


def run_child(
    verb: str, level: str, n: int, folder: Path, *, dies_by: signal.Signals | None = None
) -> Sample:
    """One process of bench_child.py; returns what it measured."""
    command = [sys.executable, str(CHILD), verb, level, str(n), str(folder)]
    if dies_by is None:
        sample: Sample = json.loads(checked(command).splitlines()[-1])
        return sample
    done = spawn(command)
    if done.returncode != -dies_by:
        raise SampleFailed(
            f"{verb} {level} {n} was to die by {dies_by.name}; {last_line(done.stderr)}"
        )
    return {}


def checked(command: list[str]) -> str:
    done = spawn(command)
    if done.returncode != 0:
        raise SampleFailed(f"exit {done.returncode}: {last_line(done.stderr)}")
    return done.stdout


def spawn(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )


def environment() -> dict[str, str]:
    """This checkout's packages, and no configuration of the user's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RUNSTORE_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def cpu_s(command: list[str]) -> float:
    """User and system time of a process and of those that it waited for."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise SampleFailed(f"exit {process.returncode}: {last_line(errors.read())}")
    return usage.ru_utime + usage.ru_stime


def log_size(path: Path) -> Sample:
    """The size of a log once everything in its WAL has moved to the file, and of the bodies in it."""
    db = sqlite3.connect(path)
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        events, body_bytes = db.execute("SELECT count(*), avg(length(body)) FROM events").fetchone()
    finally:
        db.close()
    return {"log_bytes": path.stat().st_size, "events": events, "body_bytes": body_bytes}


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
