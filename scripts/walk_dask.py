#!/usr/bin/env python3
"""Carry out the walk of docs/dask.md, and keep what was typed and printed: scripts/walk_dask.py

A scheduler and two workers, a run; a worker is killed, then, in another run, the scheduler; a resume on a new cluster.
All of it happens, in a folder of its own; the transcript goes to `fixtures/walks/dask.txt`, without paths, ports, times
of this machine. `scripts/make_docs.py` puts it into the page.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from runstore import RunStore  # noqa: E402
from runstore.log.events import StepStarted  # noqa: E402
from tests.acceptance.pages import DASK_WALK, job_of_readme  # noqa: E402

PATIENCE_S = 60
MIDST_S = 0.2
"""After its start a step of half a second is in its midst."""
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RUNSTORE_")},
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "100",
}


class Walk:
    """What has been typed in two terminals, and what they have shown."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks: list[tuple[int, list[str]]] = []
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, str] = {}
        self._schedulers = 0

    def note(self, terminal: int, line: str) -> None:
        """A line of a terminal; a new block where the other had the last."""
        if not self._blocks or self._blocks[-1][0] != terminal:
            self._blocks.append((terminal, []))
        self._blocks[-1][1].append(line)

    def scheduler(self) -> str:
        """Begin one; its address."""
        self._schedulers += 1
        shown = str(8785 + self._schedulers)
        file = self._folder / f"scheduler-{shown}.json"
        self.note(1, f"$ dask scheduler --host 127.0.0.1 --port {shown} &")
        words = f"--host 127.0.0.1 --port 0 --no-dashboard --scheduler-file {file}"
        self._begin("scheduler", f"scheduler {words}")
        until(lambda: file.exists() and file.read_text().endswith("}"))
        address: str = json.loads(file.read_text())["address"]
        self._ports[address.rpartition(":")[2]] = shown
        return address

    def worker(self, address: str, name: str) -> None:
        """Begin one."""
        words = f"worker {address} --nthreads 1 --no-nanny --name {name}"
        self.note(1, f"$ dask {words} &")
        self._begin(name, f"{words} --no-dashboard")

    def _begin(self, name: str, words: str) -> None:
        kind, *rest = shlex.split(words)
        self._programs[name] = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *rest],
            cwd=self._folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self, name: str, shown: str) -> None:
        """Kill a program."""
        self.note(1, f"$ kill -9 {shown}")
        self._programs[name].kill()

    def runstore(self, words: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Type a command in the other terminal; `meanwhile`: what is done while it runs."""
        self.note(2, f"$ runstore {words}")
        with subprocess.Popen(
            [sys.executable, "-m", "execution.cli.main", *shlex.split(words)],
            cwd=self._folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            if meanwhile is not None:
                self.note(2, process.stdout.readline().rstrip())
                meanwhile()
            for line in process.stdout:
                self.note(2, line.rstrip())
        if process.returncode:
            self.note(2, f"$ echo $?\n{process.returncode}")

    def midst_of(self, run: str, steps: int) -> None:
        """Wait until so many steps of a run have started, the last of them a moment ago."""
        until(lambda: self._started(run) >= steps)
        time.sleep(MIDST_S)

    def _started(self, run: str) -> int:
        with RunStore.open(self._folder / ".runstore") as store:
            if not store.has_run(run):
                return 0
            return sum(isinstance(event, StepStarted) for _, event in store.events(run))

    def text(self) -> str:
        """The transcript, without what is of this machine."""
        blocks = [
            "\n".join([f"=== terminal {terminal}", *lines]) for terminal, lines in self._blocks
        ]
        text = "\n".join(blocks) + "\n"
        for port, shown in self._ports.items():
            text = text.replace(f":{port}", f":{shown}")
        text = re.sub(r"(?<=127\.0\.0\.1:)(?!878\d\b)\d+", "40001", text)
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "2026-11-25 21:00", text)
        text = re.sub(r"\d+\.\d s", "3.0 s", text)
        return text.replace(str(self._folder), ".")

    def close(self) -> None:
        """Leave no program behind."""
        for process in self._programs.values():
            process.kill()
            process.wait()


def until(is_so: Callable[[], object]) -> None:
    """Look until it is."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "never"
        time.sleep(0.02)


def carry_out(walk: Walk) -> None:
    """The walk."""
    address = walk.scheduler()
    walk.worker(address, "one")
    walk.worker(address, "two")
    time.sleep(
        3
    )  # both are there; else the second joins while the run is on its way, which is as well

    def kill_worker() -> None:
        walk.midst_of("trees", 4)
        walk.kill("one", "%2")

    walk.runstore(f"run letters.py:letters --run-id trees --executor dask:{address}", kill_worker)
    walk.runstore("errors trees")
    walk.runstore("keys trees count")

    def kill_scheduler() -> None:
        walk.midst_of("oaks", 4)
        walk.kill("scheduler", "%1")

    walk.runstore(f"run letters.py:letters --run-id oaks --executor dask:{address}", kill_scheduler)
    walk.runstore("resume oaks --dry-run")
    again = walk.scheduler()
    walk.worker(again, "three")
    walk.runstore(f"resume oaks --executor dask:{again}")
    walk.runstore("cat oaks total")


def main() -> None:
    """Carry it out, and keep the transcript."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "letters.py").write_text(job_of_readme(), encoding="utf-8")
        walk = Walk(folder)
        try:
            carry_out(walk)
        finally:
            walk.close()
        DASK_WALK.parent.mkdir(exist_ok=True)
        DASK_WALK.write_text(walk.text(), encoding="utf-8")


if __name__ == "__main__":
    main()
