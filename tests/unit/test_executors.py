"""The contract of executors, for each that there is; and whole jobs on each."""

import pytest

from execution.errors import ResourceFailed
from execution.executors import processes as processes_module
from execution.executors.base import Executor
from execution.executors.in_process import InProcessExecutor
from execution.executors.processes import processes
from execution.executors.threads import threads
from tests.unit.executor_contract import Bench, ExecutorContract


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

    def test_a_worker_may_clean_up_at_its_exit(self, bench: Bench) -> None:
        """What an op has registered with `atexit` runs when the executor is closed."""
        bench.told(bench.ticket("fails", how=f"atexit {bench.folder / 'left'}"))
        bench.executor.close()
        assert (bench.folder / "left").read_text() == "bye"

    def test_a_resource_that_takes_for_ever_to_close(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its process is killed in the end, and that is said."""
        monkeypatch.setattr(processes_module, "LEAVING_S", 0.1)
        (bench.folder / "slow-pen").touch()
        bench.told(bench.ticket("writes", number=1))
        with pytest.raises(
            ResourceFailed, match=r"worker process \d+ were not closed within 0.1 s"
        ):
            bench.executor.close()
