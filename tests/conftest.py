"""Servers that tests of any room may ask for, and processes that start as quickly as a user's do."""

import os
import sys

from tests.dask_clusters import cluster, processes_of_dask, programs
from tests.object_stores.fixtures import any_store, ministack, moto, proxy, rclone, service

__all__ = [
    "any_store",
    "cluster",
    "ministack",
    "moto",
    "processes_of_dask",
    "programs",
    "proxy",
    "rclone",
    "service",
]

# Tests begin some hundred interpreters. Where whoever runs them has forbidden Python to keep bytecode, as images of
# containers do, each of these would compile both packages anew: half of what it costs to start one.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
