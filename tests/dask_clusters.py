"""Clusters of Dask for tests: on 127.0.0.1, with ports that the system chooses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PATIENCE_S = 60
_ROOT = Path(__file__).resolve().parents[1]


def wait_until(is_so: Callable[[], Any]) -> None:
    """Look until it is."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, "never"
        time.sleep(0.01)


class Programs:
    """A scheduler and workers without nannies, begun and killed one by one, as a person would in terminals."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun: list[subprocess.Popen[bytes]] = []
        self._schedulers = 0

    def scheduler(self) -> tuple[subprocess.Popen[bytes], str]:
        """A new one, and its address."""
        self._schedulers += 1
        file = self._folder / f"scheduler-{self._schedulers}.json"
        words = (
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(file),
        )
        process = self._begin("scheduler", *words)
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        return process, json.loads(file.read_text())["address"]

    def worker(self, address: str, name: str) -> subprocess.Popen[bytes]:
        """A new one of this scheduler."""
        words = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--name", name)
        return self._begin("worker", address, *words)

    def workers_with_nannies(self, address: str, number: int) -> subprocess.Popen[bytes]:
        """So many workers of this scheduler, in one process group with their nannies."""
        words = ("--nworkers", str(number), "--nthreads", "1", "--no-dashboard")
        return self._begin("worker", address, "--host", "127.0.0.1", *words)

    def _begin(self, kind: str, *words: str) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.dask_{kind}"
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._begun.append(process)
        return process

    def close(self) -> None:
        """Leave no process behind."""
        for process in self._begun:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Cluster(NamedTuple):
    """As much of a cluster as an executor needs."""

    scheduler_address: str


@pytest.fixture(scope="session")
def processes_of_dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers with a thread and a nanny each; for all tests of this process.

    None of them lives in this process: others of its tests fork it, and a lock that a thread of Dask holds meanwhile
    would be held in the child for ever.
    """
    made = Programs(tmp_path_factory.mktemp("dask"))
    try:
        address = made.scheduler()[1]
        made.workers_with_nannies(address, 2)
        yield Cluster(address)
    finally:
        made.close()


@pytest.fixture
def cluster(processes_of_dask: Cluster) -> Cluster:
    """That one, with both workers, whatever the test before has done to them."""
    from distributed import Client

    with Client(processes_of_dask.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
    return processes_of_dask


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """None yet."""
    made = Programs(tmp_path)
    yield made
    made.close()


async def remove_worker(dask_scheduler: Any, address: str) -> None:
    """Have a scheduler give up a worker; for `Client.run_on_scheduler`."""
    await dask_scheduler.remove_worker(address, stimulus_id="not heard of")
