"""Clusters of Dask for tests: on 127.0.0.1, with ports that the system chooses."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60
_ROOT = Path(__file__).resolve().parents[1]


def wait_until(is_so: Callable[[], Any]) -> None:
    """Look until it is."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, "never"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def processes_of_dask() -> Iterator[Any]:
    """Two workers, each a process with one thread, and a nanny; for all tests of this process."""
    from distributed import LocalCluster

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=2, silence_logs=100, **options) as made:
        yield made


@pytest.fixture
def cluster(processes_of_dask: Any) -> Any:
    """That one, with both workers, whatever the test before has done to them."""
    wait_until(lambda: len(processes_of_dask.scheduler.workers) == 2)
    return processes_of_dask


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

    def _begin(self, kind: str, *words: str) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.dask_{kind}"
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._begun.append(process)
        return process

    def close(self) -> None:
        """Leave no process behind."""
        for process in self._begun:
            process.kill()
            process.wait()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """None yet."""
    made = Programs(tmp_path)
    yield made
    made.close()


async def remove_worker(dask_scheduler: Any, address: str) -> None:
    """Have a scheduler give up a worker; for `Client.run_on_scheduler`."""
    await dask_scheduler.remove_worker(address, stimulus_id="not heard of")
