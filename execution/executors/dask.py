"""Steps run by the workers of a Dask cluster, on this machine or on others."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from execution.executors.base import checked_workers
from execution.executors.cluster_pool import ClusterPool
from execution.executors.dask_cluster import ANSWER_S, DaskCluster
from execution.executors.opening import opening
from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket, Told
from runstore.errors import ConfigError, ExtraMissing
from runstore.outputs.output_store import OutputStore

LEAVING_S = 10.0
"""How long `close` waits for resources to close."""


class DaskExecutor:
    """`dask(…)`: as many steps at a time as the workers have threads."""

    is_inline = False

    def __init__(self, place: Any) -> None:
        self._place = place
        """An address, a number of workers, or a cluster object of Dask."""
        self._cluster: DaskCluster | None = None
        self._pool: ClusterPool | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # A cluster object stays where it is; who gets the copy finds the same scheduler.
        return DaskExecutor, (getattr(self._place, "scheduler_address", self._place),)

    def __copy__(self) -> "DaskExecutor":
        return DaskExecutor(self._place)

    def open(self, outputs: OutputStore, brief: Brief) -> None:
        """Connect, and have each worker load the job and show that it reaches the outputs.

        Raises ConfigError where they do not, and WorkerLost where there is no scheduler or no worker.
        """
        if outputs.whereabouts is None:
            raise ConfigError(
                "the workers of a cluster cannot open these outputs: they are in memory, or their URL has credentials "
                "that only this process was given. Put outputs where all workers reach them, and leave credentials to "
                "the environment or to [tool.runstore.storage]"
            )
        message = opening(outputs.whereabouts, brief)
        self._cluster = cluster = DaskCluster(self._place, message, outputs)
        try:
            cluster.connect()
            self._pool = ClusterPool(cluster, outputs, brief)
            self._pool.welcome(ANSWER_S)
        except BaseException:
            self._pool = None
            self.close()
            raise

    @property
    def has_room(self) -> bool:
        """True while workers have threads that are free, or will be in a moment."""
        return self._pool is not None and self._pool.has_room

    @property
    def at_work(self) -> Mapping[str, str]:
        """Step key -> the worker that has said that it begins it."""
        pool = self._pool
        return dict(pool.at_work) if pool else {}

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """Take an attempt, or the call of a hook, for the next place that is free."""
        assert self._pool is not None
        self._pool.submit(ticket)

    def next_message(self, timeout_s: float | None = None) -> Told | None:
        """What a worker tells next, or what has become of it."""
        assert self._pool is not None
        return self._pool.next_message(timeout_s)

    def close(self) -> None:
        """Give the cluster back. What runs on workers that are not ours ends when its op does; nobody hears of it."""
        pool, self._pool = self._pool, None
        cluster, self._cluster = self._cluster, None
        if cluster is None:
            return
        try:
            if pool is not None:
                pool.close(LEAVING_S)
        finally:
            cluster.close()


def dask(place: Any = None) -> DaskExecutor:
    """Run steps on a Dask cluster: `dask("tcp://host:8786")`, or a cluster object of Dask; or `dask(4)`, one of so
    many worker processes on this machine, begun for the run (default: as many as there are cores). Outputs must be
    where all workers reach them.

    Raises ExtraMissing where distributed is not installed.
    """
    if find_spec("distributed") is None:
        raise ExtraMissing(
            "the executor dask needs distributed, which is not installed; `pip install 'runstore[dask]'`"
        )
    if place is None:
        place = os.cpu_count() or 1
    if isinstance(place, str) or hasattr(place, "scheduler_address"):
        return DaskExecutor(place)
    return DaskExecutor(checked_workers(place, "dask"))
