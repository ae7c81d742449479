"""The contract of executors, for each that there is; and whole jobs on each."""

import pytest

from execution.executors.base import Executor
from execution.executors.in_process import InProcessExecutor
from execution.executors.processes import processes
from execution.executors.threads import threads
from tests.unit.executor_contract import ExecutorContract


class TestInProcess(ExecutorContract):
    """One at a time, in the thread of the engine."""

    places = 1

    @pytest.fixture
    def executor(self) -> Executor:
        """The default."""
        return InProcessExecutor()


class TestThreads(ExecutorContract):
    """Several threads."""

    places = 4

    @pytest.fixture
    def executor(self) -> Executor:
        """Four of them."""
        return threads(4)


class TestProcesses(ExecutorContract):
    """Several processes."""

    places = 2

    @pytest.fixture
    def executor(self) -> Executor:
        """Two of them."""
        return processes(2)
