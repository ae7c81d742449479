"""Steps run by the workers of a Dask cluster, on this machine or on others."""

import os
from importlib.util import find_spec
from typing import Any

from execution.executors.base import checked_workers
from execution.executors.cluster_pool import ClusterPool
from execution.executors.dask_cluster import ANSWER_S, DaskCluster
from execution.executors.opening import opening
from execution.executors.pooled import Pool, PooledExecutor
from execution.running.brief import Brief
from runstore.errors import ConfigError, ExtraMissing
from runstore.outputs.output_store import OutputStore


class DaskExecutor(PooledExecutor):
    """`dask(…)`: as many steps at a time as the workers have threads.

    What runs on workers that are not ours when it closes ends when its op does; nobody hears of it.
    """

    def __init__(self, place: Any) -> None:
        super().__init__()
        self._place = place
        """An address, a number of workers, or a cluster object of Dask."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A cluster object stays where it is; who gets the copy finds the same scheduler.
        return DaskExecutor, (getattr(self._place, "scheduler_address", self._place),)

    def __copy__(self) -> "DaskExecutor":
        return DaskExecutor(self._place)

    def pool(self, outputs: OutputStore, brief: Brief) -> Pool:
        """Connect, and have each worker load the job and show that it reaches the outputs.

        Raises ConfigError where they do not, and WorkerLost where there is no scheduler or no worker.
        """
        if outputs.whereabouts is None:
            raise ConfigError(
                "the workers of a cluster cannot open these outputs: they are in memory, or their URL has credentials "
                "that only this process was given. Put outputs where all workers reach them, and leave credentials to "
                "the environment or to [tool.runstore.storage]"
            )
        cluster = DaskCluster(self._place, opening(outputs.whereabouts, brief), outputs)
        try:
            cluster.connect()
            pool = ClusterPool(cluster, outputs, brief)
            pool.welcome(ANSWER_S)
        except BaseException:
            cluster.close()
            raise
        return pool


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
