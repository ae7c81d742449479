"""Steps on a Dask cluster: the contract of executors, and what is its own."""

from typing import Any

import pytest

from execution.executors.base import Executor
from execution.executors.dask import dask
from tests.unit.executor_contract import ExecutorContract


class TestDask(ExecutorContract):
    """Two worker processes of one cluster, which outlives each executor."""

    places = 2

    @pytest.fixture
    def executor(self, cluster: Any) -> Executor:
        """On the cluster of all tests."""
        return dask(cluster)
