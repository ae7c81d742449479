"""Steps on a Dask cluster: the contract of executors, and what is its own."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from execution import DynamicOut, DynamicOutput, RetryPolicy, dask, execute, job, op, resource
from execution.cli.main import cli
from execution.definition.loading import load_job
from execution.errors import WorkerLost
from execution.executors import dask_worker
from execution.executors.base import Executor
from execution.executors.cluster_pool import ClusterPool
from runstore import ConfigError, RunStore
from runstore.errors import ExtraMissing
from runstore.log.claims import process_started
from runstore.log.events import StepFailed, StepRetried, StepStarted
from runstore.outputs.reach import NotReached
from tests.dask_clusters import wait_until
from tests.unit.executor_contract import ExecutorContract
from tests.unit.jobs import chained
from tests.unit.process_jobs import COUNT, dying, hanging, wide

PATIENCE_S = 30


class TestDask(ExecutorContract):
    """Two worker processes of one cluster, which outlives each executor."""

    places = 2

    @pytest.fixture
    def executor(self, cluster: Any) -> Executor:
        """On the cluster of all tests."""
        return dask(cluster)


def cluster_of_threads(**options: Any) -> Any:
    """A cluster whose workers are threads of this process."""
    from distributed import LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, **options}
    return LocalCluster(
        processes=False, dashboard_address="127.0.0.1:0", silence_logs=100, **options
    )


@pytest.fixture(scope="module")
def inside() -> Iterator[Any]:
    """One with two workers."""
    with cluster_of_threads() as made:
        yield made


def events_of(folder: Path, run: str) -> list[Any]:
    """All of a run."""
    with RunStore.open(folder) as store:
        return [event for _, event in store.events(run)]


# Loss


def test_a_lost_worker_costs_its_step_alone(tmp_path: Path, cluster: Any) -> None:
    """A step whose worker was killed is tried again without using up its retries; no step that succeeded runs again."""
    config = {"folder": str(tmp_path), "how": "killed", "times": 2}
    run_config = {"ops": {"deadly": {"config": config}}}
    result = execute(dying, tmp_path / "s", run_config=run_config, executor=dask(cluster))
    assert result.output_for_node("total") == sum(range(COUNT))
    events = events_of(tmp_path / "s", result.run_id)
    lost = [event for event in events if isinstance(event, StepRetried)]
    assert all(event.worker_lost for event in lost)
    assert [event.attempt for event in lost if event.step == "deadly[3]"] == [1, 2]
    assert all("its Dask worker" in event.error.message for event in lost)
    assert {(tmp_path / f"died-{n}").read_text().split()[1] for n in (1, 2)} == {"0"}
    started = sum(isinstance(event, StepStarted) for event in events)
    assert started == 1 + COUNT + 1 + len(lost)


def test_an_attempt_that_takes_too_long_costs_its_worker(tmp_path: Path, cluster: Any) -> None:
    """The worker's nanny begins it anew; the step has failed as timed out, and others go on."""
    config = {"ops": {"timed": {"config": {"folder": str(tmp_path), "times": 1}}}}
    result = execute(hanging, tmp_path / "s", run_config=config, executor=dask(cluster))
    (failure,) = result.failures
    assert failure.step_key == "timed[1]"
    assert failure.error.message == (
        "step 'timed[1]' took longer than its timeout of 1 s; its worker was restarted"
    )
    assert len(result.output_for_node("timed")) == COUNT - 1
    pid, program = map(int, (tmp_path / "hung-1").read_text().split())
    wait_until(lambda: not process_started(pid))
    os.kill(program, signal.SIGKILL)  # what the op has started is beyond the reach of Dask


def test_where_no_nanny_is_a_timeout_is_noticed_at_the_end(tmp_path: Path, inside: Any) -> None:
    """Nothing can stop the step; it has failed when it ends, and its retry policy applies."""

    @op(timeout=0.2, retry_policy=RetryPolicy(max_retries=1))
    def slow(context: Any) -> int:
        if context.attempt == 1:
            threading.Event().wait(0.3)
        return context.attempt

    @job
    def slowly() -> None:
        slow()

    result = execute(slowly, tmp_path, executor=dask(inside))
    assert result.output_for_node("slow") == 2


# Where steps run


def test_a_slow_clone_holds_up_no_other(tmp_path: Path, inside: Any) -> None:
    """Where steps are known to be short they go in batches; one that is not lets those behind it go elsewhere."""
    others, slow = threading.Semaphore(0), "40"

    @op(out=DynamicOut(int))
    def many(context: Any) -> Iterator[DynamicOutput[int]]:
        for number in range(200):
            yield DynamicOutput(number, number)

    @op
    def quick(number: int) -> int:
        if str(number) == slow:
            for _ in range(199):
                assert others.acquire(timeout=PATIENCE_S), "the others wait for this one"
        else:
            others.release()
        return number

    @op
    def total(values: list[int]) -> int:
        return sum(values)

    @job
    def uneven() -> None:
        total(many().map(quick).collect())

    Shared.put(uneven)
    result = execute(Shared.job(), RunStore.open(tmp_path, level="fast"), executor=dask(inside))
    assert result.output_for_node("total") == sum(range(200))


class Shared:
    """A job of this module's, by reference: what travels by value would have another semaphore."""

    @staticmethod
    def put(made: Any) -> None:
        """Make it findable."""
        globals()["shared_job"] = made
        made._module = __name__

    @staticmethod
    def job() -> Any:
        """The last one."""
        return globals()["shared_job"]


def test_resources_are_asked_for_by_tag(tmp_path: Path) -> None:
    """Steps whose op needs resources run where these are, and never more of them than there are."""
    inside, most, lock = 0, 0, threading.Lock()

    @op(out=DynamicOut(int))
    def eight() -> Iterator[DynamicOutput[int]]:
        for number in range(8):
            yield DynamicOutput(number, number)

    @op(tags={"dask/resources": {"GPU": 1}})
    def on_gpu(number: int) -> str:
        nonlocal inside, most
        from distributed import get_worker

        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.02)
        with lock:
            inside -= 1
        return str(get_worker().name)

    @job
    def gpus() -> None:
        eight().map(on_gpu)

    Shared.put(gpus)
    with cluster_of_threads(n_workers=1, threads_per_worker=4, resources={"GPU": 2}) as cluster:
        result = execute(gpus, tmp_path, executor=dask(cluster))
    assert len(result.output_for_node("on_gpu")) == 8
    assert most == 2


def test_what_no_tag_of_resources_is(tmp_path: Path, inside: Any) -> None:
    """It is refused before a step runs."""

    @op(tags={"dask/resources": "GPU"})
    def one() -> int:
        return 1

    @job
    def wrong() -> None:
        one()

    with pytest.raises(ConfigError, match=r"'dask/resources' is 'GPU'; write amounts by name"):
        execute(wrong, tmp_path, executor=dask(inside))


def test_jobs_that_no_module_has(tmp_path: Path, cluster: Any) -> None:
    """A job made inside a function travels as its code."""
    result = execute(chained(["a", "b", "c"]), tmp_path, executor=dask(cluster))
    assert result.output_for_node("total") == "ABC"


def test_a_file_that_was_edited_is_loaded_again(tmp_path: Path, cluster: Any) -> None:
    """Workers outlive runs, and run the job as it is now."""
    for number in (10, 200):
        file = tmp_path / "edited.py"
        file.write_text(
            f"from execution import job, op\nNUMBER = {number}\n@op\ndef one():\n    return NUMBER\n"
            "@job\ndef edited():\n    one()\n"
        )
        from execution.definition.loading import load_afresh

        edited = load_afresh(f"{file}:edited")
        result = execute(edited, tmp_path / "s", executor=dask(cluster))
        assert result.output_for_node("one") == number
    assert load_job(f"{file}:edited") is edited


def test_modules_beside_an_edited_file_are_loaded_again(tmp_path: Path, cluster: Any) -> None:
    """Also those that an op imports when it runs, where the file itself has stayed as it was."""
    file = tmp_path / "besides.py"
    file.write_text(
        "from execution import job, op\nimport beside_one\n@op\ndef one():\n    import beside_two\n"
        "    return [beside_one.NUMBER, beside_two.NUMBER]\n@job\ndef besides():\n    one()\n"
    )
    for number in (10, 200):
        for name in ("beside_one", "beside_two"):
            (tmp_path / f"{name}.py").write_text(f"NUMBER = {number}\n")
        made = load_job(f"{file}:besides")
        result = execute(made, tmp_path / "s", executor=dask(cluster))
        assert result.output_for_node("one") == [number, number]


@op
def forgets(n: int) -> int:
    """The process that runs it forgets what it holds of every run, as one does that is begun anew."""
    dask_worker._sessions.clear()
    return n


@op(out=DynamicOut(int))
def four() -> Iterator[DynamicOutput[int]]:
    """Its keys."""
    for n in range(4):
        yield DynamicOutput(n, mapping_key=str(n))


@job
def forgetful() -> None:
    """Each clone leaves a worker that knows nothing of the run."""
    four().map(forgets)


def test_a_worker_that_holds_nothing_of_the_run_is_introduced_anew(
    tmp_path: Path, cluster: Any
) -> None:
    """What it was sent has not begun, so it goes out again, and no try is used up."""
    result = execute(forgetful, tmp_path / "s", executor=dask(cluster))
    assert result.success
    with RunStore.open(tmp_path / "s") as store:
        kinds = [type(event) for _, event in store.events(result.run_id)]
    assert StepRetried not in kinds


def foreign(file: str) -> bool:
    """Keep a worker busy; true where the file came to be meanwhile."""
    until = time.monotonic() + PATIENCE_S
    while not Path(file).exists() and time.monotonic() < until:
        time.sleep(0.01)
    return Path(file).exists()


@op
def alone() -> int:
    """One."""
    return 1


@job
def single() -> None:
    """One step."""
    alone()


def test_a_worker_that_has_other_work_keeps_no_step(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits behind the work of others goes to a worker that is free, and runs once."""
    from distributed import Client

    welcome, ended = ClusterPool.welcome, tmp_path / "ended"
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        busy = []

        def welcome_then_busy(pool: ClusterPool, within_s: float) -> None:
            welcome(pool, within_s)
            first = next(iter(pool._roster.members))
            busy.append(client.submit(foreign, str(ended), workers=[first], pure=False))
            wait_until(lambda: any(client.processing().values()))

        monkeypatch.setattr(ClusterPool, "welcome", welcome_then_busy)
        result = execute(single, tmp_path / "s", executor=dask(cluster))
        ended.touch()
        assert busy[0].result(PATIENCE_S)
    assert result.success
    started = [
        one for one in events_of(tmp_path / "s", result.run_id) if isinstance(one, StepStarted)
    ]
    assert len(started) == 1


@resource
def closing(context: Any) -> Iterator[str]:
    """Leaves a file when it is closed."""
    yield "open"
    Path(context.resource_config["file"]).write_text("closed")


@op(required_resource_keys={"closing"})
def uses() -> int:
    """One."""
    return 1


@job(resource_defs={"closing": closing})
def equipped() -> None:
    """One step with a resource."""
    uses()


def test_resources_close_on_workers_that_are_busy_for_others(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a run does not wait behind their work."""
    from distributed import Client

    close, ended, file = ClusterPool.close, tmp_path / "ended", tmp_path / "closed"
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        busy = []

        def busy_then_close(pool: ClusterPool) -> None:
            for address in pool._roster.members:
                task = client.submit(foreign, str(ended), workers=[address], pure=False)
                busy.append(task)
            wait_until(lambda: sum(map(len, client.processing().values())) >= 2)
            close(pool)
            assert file.read_text() == "closed"

        monkeypatch.setattr(ClusterPool, "close", busy_then_close)
        config = {"resources": {"closing": {"config": {"file": str(file)}}}}
        result = execute(equipped, tmp_path / "s", run_config=config, executor=dask(cluster))
        ended.touch()
        assert all(client.gather(busy))
    assert result.success


# What is refused


def test_outputs_that_a_worker_does_not_reach(
    tmp_path: Path, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the worker and what it did not find, before a step runs; nothing of the probe is left."""

    def look_elsewhere(*_: Any) -> None:
        raise NotReached("nothing at /elsewhere")

    monkeypatch.setattr(dask_worker, "look_for", look_elsewhere)
    with pytest.raises(ConfigError, match=r"worker 0|1 at .* do not share .*nothing at /elsewhere"):
        execute(wide, tmp_path, executor=dask(inside))
    assert not [file for file in (tmp_path / "outputs").rglob("*") if file.is_file()]


def test_outputs_that_this_process_does_not_reach(
    tmp_path: Path, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker writes must be found here too."""
    monkeypatch.setattr(dask_worker, "leave", lambda *_: None)
    with pytest.raises(ConfigError, match="this process does not find what the worker has written"):
        execute(wide, tmp_path, executor=dask(inside))


def test_outputs_in_memory_are_refused(inside: Any) -> None:
    """No worker could open them."""
    refused = pytest.raises(ConfigError, match="workers of a cluster cannot open these outputs")
    with RunStore.in_memory() as opened, refused:
        execute(wide, opened, executor=dask(inside))


def test_no_probe_is_left(tmp_path: Path, inside: Any) -> None:
    """After a run only its outputs are there."""
    result = execute(wide, RunStore.open(tmp_path, level="fast"), executor=dask(inside))
    assert not list((tmp_path / "outputs" / result.run_id).glob("=probe*"))


def test_without_a_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops, resumable, and the error says what to start."""
    from execution.executors import dask_cluster

    monkeypatch.setattr(dask_cluster, "ANSWER_S", 0.5)
    with pytest.raises(WorkerLost, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        execute(wide, tmp_path, run_id="r", executor=dask("tcp://127.0.0.1:1"))


def test_without_certificates(tmp_path: Path) -> None:
    """A scheduler that wants them is not one that is not there."""
    with pytest.raises(
        ConfigError, match=r"tls://127\.0\.0\.1:1 wants TLS, .*distributed\.comm\.tls"
    ):
        execute(wide, tmp_path, executor=dask("tls://127.0.0.1:1"))


def test_without_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error names what to install, also on the command line."""
    import sys

    monkeypatch.setattr(sys.modules["execution.executors.dask"], "find_spec", lambda _: None)
    with pytest.raises(ExtraMissing, match=r"pip install 'runstore\[dask\]'"):
        dask(2)
    words = ["run", "any.py:job", "--executor", "dask:2"]
    result = CliRunner().invoke(cli, words, prog_name="runstore")
    assert result.exit_code == 2
    assert "pip install 'runstore[dask]'" in result.output


def test_failures_stay_what_they_are(tmp_path: Path, inside: Any) -> None:
    """An op that raises fails once: Dask tries nothing again."""

    @op
    def fails() -> int:
        raise ValueError("no")

    @job
    def failing() -> None:
        fails()

    result = execute(failing, tmp_path, executor=dask(inside))
    failed = [one for one in events_of(tmp_path, result.run_id) if isinstance(one, StepFailed)]
    assert [one.error.type for one in failed] == ["ValueError"]
