"""Which executor runs the steps: that of the call, else that of the job, else one step at a time in this process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from execution import execute, job, op, processes, rerun, resume, threads
from execution.cli.main import cli
from execution.errors import DefinitionError
from execution.executors.by_name import executor_named
from execution.executors.in_process import InProcessExecutor
from execution.executors.processes import ProcessesExecutor
from execution.executors.threads import ThreadsExecutor
from runstore import ConfigError, RunStore

FILE = """
import os, threading
from execution import job, op, threads

@op
def where() -> list[str]:
    return [str(os.getpid()), threading.current_thread().name]

@job
def plain():
    where()

@job(executor=threads(2))
def threaded():
    where()

@op
def fails() -> int:
    raise ValueError("no")

@job
def failing():
    fails()
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with jobs, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.py").write_text(FILE)
    return tmp_path / "jobs.py"


def call(*words: str, code: int = 0) -> str:
    """What the command prints."""
    result = CliRunner().invoke(cli, words, prog_name="runstore")
    assert result.exit_code == code, result.output
    return result.output


def place(run: str = "last") -> Any:
    """(in this process, name of the thread) of where the step ran."""
    pid, name = eval(call("cat", run, "where"))
    return pid == str(os.getpid()), name


def test_the_command_chooses(file: Path) -> None:
    """`run`, `resume` and `rerun` take `--executor`; without it the job's own counts, else this process."""
    for words, expected in (
        ((), (True, "MainThread")),
        (("--executor", "in_process"), (True, "MainThread")),
        (("--executor", "threads:2"), (True, "runstore-worker")),
        (("--executor", "processes:1"), (False, "MainThread")),
    ):
        call("run", f"{file}:plain", "--level", "fast", *words)
        assert place() == expected
        call("rerun", "last", *words)
        assert place() == expected
    call("run", f"{file}:threaded", "--level", "fast")
    assert place() == (True, "runstore-worker")
    call("run", f"{file}:threaded", "--level", "fast", "--executor", "in_process")
    assert place() == (True, "MainThread")


def test_what_to_type_next_names_the_executor(file: Path) -> None:
    """After a failure the command that goes on is the one that was meant."""
    output = call("run", f"{file}:failing", "--run-id", "f", "--executor", "threads:2", code=1)
    assert "next:  runstore resume f --executor threads:2" in output
    output = call("resume", "f", "--executor", "threads:2", "--dry-run")
    assert "next:  runstore resume f --executor threads:2" in output
    output = call("rerun", "f", "--executor", "threads:2", "--dry-run")
    assert "next:  runstore rerun f --executor threads:2" in output


@pytest.mark.parametrize("name", ["thread:2", "threads:", "threads:-1", "threads:x", "threads:0"])
def test_names_that_are_none(file: Path, name: str) -> None:
    """A name that is none is a usage error that says what there is."""
    output = call("run", f"{file}:plain", "--executor", name, code=2)
    assert "write" in output
    with pytest.raises(ConfigError):
        executor_named(name)


def test_names() -> None:
    """Each kind has a name, and a default number."""
    assert isinstance(executor_named("in_process"), InProcessExecutor)
    found = executor_named("threads:7")
    assert isinstance(found, ThreadsExecutor)
    assert found.max_workers == 7
    found = executor_named("processes:3")
    assert isinstance(found, ProcessesExecutor)
    assert found.max_workers == 3
    assert executor_named("processes").max_workers >= 1  # type: ignore[attr-defined]
    assert executor_named("threads").max_workers > 1  # type: ignore[attr-defined]


@op
def here() -> list[str]:
    """Where it runs."""
    import threading

    return [str(os.getpid()), threading.current_thread().name]


@job(executor=threads(2))
def with_executor() -> None:
    """A job with an executor of its own."""
    here()


def test_the_call_comes_before_the_job(tmp_path: Path) -> None:
    """`execute` and `rerun` choose; a job's own executor serves many runs."""
    for _ in range(2):
        result = execute(with_executor, tmp_path)
        assert result.output_for_node("here") == [str(os.getpid()), "runstore-worker"]
    result = rerun(result.run_id, tmp_path, executor=processes(1))
    assert result.output_for_node("here")[0] != str(os.getpid())
    assert resume(result.run_id, tmp_path).success
    assert with_executor.execute_in_process().success


def test_what_is_no_executor() -> None:
    """A definition error says what to write."""
    with pytest.raises(DefinitionError, match=r"the executor is a str; write threads"):

        @job(executor="threads:2")
        def wrong() -> None:
            here()


@pytest.mark.parametrize("given", ["threads:2", threads])
def test_what_is_no_executor_is_refused_before_a_run_begins(tmp_path: Path, given: Any) -> None:
    """The name of one, or its maker uncalled, costs an error and leaves no run behind."""
    assert execute(with_executor, tmp_path, run_id="r", executor=threads(1)).success
    calls: list[Callable[[], Any]] = [
        lambda: execute(with_executor, tmp_path, run_id="new", executor=given),
        lambda: resume("r", tmp_path, executor=given),
        lambda: rerun("r", tmp_path, executor=given, new_run_id="new"),
    ]
    for call in calls:
        with pytest.raises(DefinitionError, match=r"the executor is a .*; write threads"):
            call()
    with RunStore.open(tmp_path) as store:
        assert [one.run_id for one in store.runs()] == ["r"]


def test_what_is_no_job_is_refused(tmp_path: Path) -> None:
    """An op, or a function without @job, is no job; the error says what to write, and no store is made."""
    for given in (here, lambda: None):
        with pytest.raises(DefinitionError, match="is no job; write @job"):
            execute(given, tmp_path / "store")  # type: ignore[arg-type]
    assert not (tmp_path / "store").exists()
