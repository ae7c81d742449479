#!/usr/bin/env python
"""Kill workers and executors at random, resume, and see what is left: chaos.py [--kills 200] [--seed N] [--dask]

Runs `chaos_job.py` in processes, or on a cluster of Dask, again and again. While one runs, a process is picked now and
then, the executor or a worker, and killed with SIGKILL; what has stopped is resumed. Each run must end with the right
result, with each clone having succeeded just once and none having been started after its success; and no worker of an
executor may be left behind. The cluster is that of this script, and outlives all runs: its nannies begin new workers.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from chaos_job import CLONES, EXPECTED  # noqa: E402
from execution import RunResult  # noqa: E402
from runstore import RunStore  # noqa: E402
from runstore.log.events import (  # noqa: E402
    ExpansionSealed,
    RunResumed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)

EXECUTOR_SHARE = 0.25
"""Of the kills; the others meet workers."""
MEAN_PAUSE_S = 0.4
RUNSTORE = [sys.executable, "-m", "execution.cli.main"]


def children_of(pid: int) -> list[int]:
    """The living children of a process, whichever of its threads has begun them."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, thread.read_text().split())
    return found


def is_there(pid: int) -> bool:
    """True while a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Where(NamedTuple):
    """Where steps run."""

    executor: str
    workers_of_cluster: Callable[[], list[int]] | None = None
    """The processes of a cluster that outlives the executors; None: workers are children of the executor."""


class Chaos:
    """The kills of one call of this script."""

    def __init__(self, folder: Path, seed: int, where: "Where", level: str) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._where = where
        self._level = level
        self.kills: Counter[str] = Counter()
        self.epochs = self.losses = self.left_behind = 0
        self._seen: set[int] = set()

    def run(self, name: str, most: int) -> None:
        """One run, from its start to its success, killed on the way at most so many times."""
        store = str(self._folder / "store")
        job = f"{ROOT}/scripts/chaos_job.py:chaos"
        begin = ["run", job, "--run-id", name, "--level", self._level]
        words = begin
        while (
            self._drive([*words, "--store", store, "--executor", self._where.executor], most) != 0
        ):
            is_begun = (self._folder / "store" / "runs.db").exists() and self._has_run(name)
            words = ["resume", name] if is_begun else begin
            self.epochs += 1
        self._check(name)

    def _has_run(self, name: str) -> bool:
        with RunStore.open(self._folder / "store") as store:
            return store.has_run(name)

    def _drive(self, words: list[str], most: int) -> int:
        with subprocess.Popen(
            [*RUNSTORE, *words, "--quiet"], cwd=ROOT, stderr=subprocess.PIPE
        ) as driver:
            while driver.poll() is None:
                pause_s = self._random.expovariate(1 / MEAN_PAUSE_S)
                try:
                    driver.wait(pause_s)
                except subprocess.TimeoutExpired:
                    if self._where.workers_of_cluster is None:
                        self._seen.update(children_of(driver.pid))
                    if self.kills.total() < most:
                        self._kill(driver.pid)
        self._wait_for_workers()
        return driver.returncode

    def _kill(self, driver: int) -> None:
        of_cluster = self._where.workers_of_cluster
        workers = children_of(driver) if of_cluster is None else of_cluster()
        is_executor = self._random.random() < EXECUTOR_SHARE
        victim = driver if is_executor else self._random.choice(workers or [0])
        if victim and is_there(victim):
            os.kill(victim, signal.SIGKILL)
            self.kills["executor" if is_executor else "worker"] += 1

    def _wait_for_workers(self) -> None:
        until = time.monotonic() + 10
        while (left := [pid for pid in self._seen if is_there(pid)]) and time.monotonic() < until:
            time.sleep(0.01)
        self.left_behind += len(left)
        self._seen.clear()

    def _check(self, name: str) -> None:
        with RunStore.open(self._folder / "store") as store:
            events = [event for _, event in store.events(name)]
            result = RunResult.load(name, store)
            assert result.output_for_node("total") == EXPECTED, f"{name}: a wrong result"
            assert result.output_for_node("squared") == {str(n): n * n for n in range(CLONES)}
        succeeded: Counter[str] = Counter()
        epoch = 0
        for event in events:
            assert event.epoch >= epoch, f"{name}: an event of epoch {event.epoch} after {epoch}"
            epoch = event.epoch
            if isinstance(event, StepSucceeded):
                succeeded[event.step] += 1
            elif isinstance(event, StepStarted):
                assert not succeeded[event.step], f"{name}: {event.step} ran again"
        assert set(succeeded.values()) == {1}, f"{name}: succeeded twice"
        assert len(succeeded) == CLONES + 2, f"{name}: {len(succeeded)} steps of {CLONES + 2}"
        sealed = [event for event in events if isinstance(event, ExpansionSealed)]
        assert sealed[-1].count == CLONES
        assert epoch == 1 + sum(isinstance(event, RunResumed) for event in events)
        self.losses += sum(isinstance(e, StepRetried) and e.worker_lost for e in events)


@contextmanager
def place_of(workers: int, *, of_dask: bool) -> Iterator[Where]:
    """Where steps are to run; with the cluster, if it is one."""
    if not of_dask:
        yield Where(f"processes:{workers}")
        return
    from distributed import LocalCluster

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=workers, silence_logs=100, **options) as cluster:

        def pids() -> list[int]:
            # A nanny gives up where its worker is killed at the wrong moment: then there is to be another nanny.
            nannies = list(cluster.workers.values())
            given_up = [one for one in nannies if one.status.name in ("closed", "failed")]
            cluster.scale(workers + len(given_up))
            processes = [one.process for one in nannies if one.process]
            return [one.pid for one in processes if one.pid and one.status.name == "running"]

        yield Where(f"dask:{cluster.scheduler_address}", pids)


def main() -> None:
    """Kill until it is enough; say what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--level", default="fast")
    parser.add_argument("--dask", action="store_true", help="on a cluster of Dask")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    begun, runs = time.monotonic(), 0
    with (
        tempfile.TemporaryDirectory() as folder,
        place_of(given.workers, of_dask=given.dask) as where,
    ):
        chaos = Chaos(Path(folder), given.seed, where, given.level)
        while chaos.kills.total() < given.kills:
            runs += 1
            chaos.run(f"chaos-{runs}", given.kills)
    assert not chaos.left_behind, f"{chaos.left_behind} workers outlived their executor"
    print(
        f"seed {given.seed}, {'on Dask' if given.dask else 'in processes'}: "
        f"{chaos.kills.total()} kills ({dict(chaos.kills)}) in {runs} runs of {CLONES} clones and "
        f"{chaos.epochs} resumes; {chaos.losses} steps tried again for a lost worker; each result right, no clone "
        f"lost, no succeeded step run again, no worker left behind; {time.monotonic() - begun:.0f} s"
    )


if __name__ == "__main__":
    main()
