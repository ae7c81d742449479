"""Servers that tests of any room may ask for."""

from tests.dask_clusters import cluster, processes_of_dask, programs
from tests.object_stores.fixtures import any_store, ministack, moto, proxy, rclone

__all__ = [
    "any_store",
    "cluster",
    "ministack",
    "moto",
    "processes_of_dask",
    "programs",
    "proxy",
    "rclone",
]
