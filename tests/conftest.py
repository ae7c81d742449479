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


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`, one more than there are cores: much of what tests do is to wait, for disks and for processes."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return 1 + (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1)
