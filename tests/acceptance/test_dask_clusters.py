"""A run on a Dask cluster that loses its scheduler, or a worker that comes back when nobody waits for it any more."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from execution import RunResult, dask, execute, resume, threads
from execution.definition.loading import load_job
from runstore import RunStore
from runstore.audit import verify
from runstore.log.claims import process_started
from runstore.log.events import StepRetried
from tests.acceptance import dask_jobs
from tests.dask_clusters import Programs, remove_worker, wait_until

FILE = Path(dask_jobs.__file__)
ROOT = FILE.parents[2]
RUNSTORE = [sys.executable, "-m", "execution.cli.main"]


def config_of(folder: Path) -> dict[str, Any]:
    """Where the job finds what it waits for."""
    config = {"config": {"folder": str(folder)}}
    return {"ops": {"held": config, "joined": config}}


def calls(folder: Path) -> Counter[str]:
    """How often each step was called."""
    file = folder / "calls"
    return Counter(file.read_text().split()) if file.exists() else Counter()


def test_the_scheduler_is_killed(tmp_path: Path, programs: Programs) -> None:
    """The run stops, resumable, with the command to type next; on a new cluster, or another executor, it goes on."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(config_of(tmp_path)))
    (tmp_path / "late").touch()
    scheduler, address = programs.scheduler()
    programs.worker(address, "one")
    words = ["run", f"{FILE}:holding", "--run-id", "r", "--config", str(config), "--store", "s"]
    words += ["--executor", f"dask:{address}"]
    with subprocess.Popen(
        [*RUNSTORE, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as driver:
        wait_until(lambda: calls(tmp_path)["joined"])
        scheduler.kill()
        _, error = driver.communicate(timeout=60)
    assert driver.returncode == 3, error
    assert "the connection to the Dask scheduler is lost" in error
    assert f"next:  runstore resume r --executor dask:{address} --store s" in error
    (tmp_path / "last").touch()
    _, another = programs.scheduler()
    programs.worker(another, "two")
    result = resume("r", tmp_path / "s", executor=dask(another))
    assert result.output_for_node("held") == dict.fromkeys("0123", "attempt 1")
    assert calls(tmp_path) == {**dict.fromkeys([f"held[{n}]" for n in range(4)], 1), "joined": 2}
    assert resume("r", tmp_path / "s", executor=threads(2)).success


def test_another_executor_goes_on(tmp_path: Path, cluster: Any) -> None:
    """What failed on a cluster is resumed in threads, and the other way round."""
    job = load_job(f"{FILE}:holding")
    (tmp_path / "late").touch()
    (tmp_path / "last").mkdir()  # is there, too
    broken = config_of(tmp_path / "missing")
    executors: list[Any] = [dask(cluster), threads(2), dask(cluster)]
    failed = execute(job, tmp_path / "s", run_id="r", run_config=broken, executor=executors[0])
    assert failed.status == "failed"
    failed = resume("r", tmp_path / "s", job=job, executor=executors[1])
    assert failed.status == "failed"
    result = resume(
        "r", tmp_path / "s", job=job, run_config=config_of(tmp_path), executor=executors[2]
    )
    assert result.output_for_node("held") == dict.fromkeys("0123", "attempt 3")


def test_a_worker_that_comes_back_late(tmp_path: Path, programs: Programs) -> None:
    """Its step was done elsewhere; what it writes lies at an address of its own, and what it says is not heard."""
    from distributed import Client

    _, address = programs.scheduler()
    workers = [programs.worker(address, name) for name in ("one", "two")]
    job = load_job(f"{FILE}:holding")
    assert all(
        op.code for op in job.ops.values()
    )  # read from the sources here: not in two threads at a time
    what: dict[str, Any] = {"run_id": "r", "run_config": config_of(tmp_path)}
    driver = threading.Thread(
        target=lambda: execute(job, tmp_path / "s", executor=dask(address), **what)
    )
    driver.start()
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    assert pid in [worker.pid for worker in workers]
    with Client(address, set_as_default=False) as client:
        stopped = next(at for at, found in client.run(os.getpid).items() if found == pid)
        os.kill(pid, signal.SIGSTOP)
        client.run_on_scheduler(
            remove_worker, address=stopped
        )  # as it does when a worker is not heard of
    wait_until(lambda: calls(tmp_path)["joined"])
    assert calls(tmp_path)["held[0]"] == 2
    (tmp_path / "late").touch()
    os.kill(pid, signal.SIGCONT)
    late = tmp_path / "s" / "outputs" / "r" / "held" / "result" / "0.txt"
    wait_until(lambda: late.exists() and late.read_text() == "attempt 1")
    (tmp_path / "last").touch()
    driver.join()
    with RunStore.open(tmp_path / "s") as store:
        found = RunResult.load("r", store).output_for_node("held")
        assert found == {"0": "attempt 2", **dict.fromkeys("123", "attempt 1")}
        assert not list(verify(store, "r", deep=True).findings)
        (lost,) = [event for _, event in store.events("r") if isinstance(event, StepRetried)]
    assert lost.worker_lost


def test_ctrl_c_is_not_for_the_workers(tmp_path: Path) -> None:
    """In a terminal it reaches all processes; the step that a worker runs ends and counts, and no process is left."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(config_of(tmp_path)))
    words = ["run", f"{FILE}:holding", "--run-id", "r", "--config", str(config), "--store", "s"]
    with subprocess.Popen(
        [*RUNSTORE, *words, "--executor", "dask:2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as driver:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        os.killpg(driver.pid, signal.SIGINT)
        assert driver.stderr is not None
        assert any("SIGINT" in line for line in driver.stderr)
        (tmp_path / "late").touch()
        _, error = driver.communicate(timeout=60)
    assert driver.returncode == 130, error
    assert not process_started(int((tmp_path / "pid").read_text()))
    with RunStore.open(tmp_path / "s") as store:
        found = RunResult.load("r", store)
    assert found.status == "cancelled"
    assert calls(tmp_path)["held[0]"] == 1
    assert found.output_for_node("held")["0"] == "attempt 1"
