"""A run has one writer: of two that want it one is refused, and one that wakes up too late can change nothing."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, OpContext, RunResult, execute, job, op, resume
from runstore import RunAlive, RunConflict, RunStore, StorageFailed, StoreBusy, TakenOver
from runstore.log import database
from runstore.log.events import RunStarted
from runstore.testing import Failpoint, armed, in_fork
from tests.acceptance.three_stages import (
    ALL_STEPS,
    EXPECTED,
    RUN,
    Scene,
    event_rows,
    file_digests,
    values,
)

ROUNDS = 20
ROUNDS_TO_BEGIN = 8
LIMIT_S = 30.0

_fork = multiprocessing.get_context("fork")


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Six pieces."""
    for number in range(6):
        yield DynamicOutput(number, mapping_key=number)


@op
def wait_at_two(context: OpContext, number: int) -> int:
    """Times ten; the clone of 2 says that it is there, and waits for a word to go on."""
    folder = Path(context.op_config["folder"])
    if number == 2:
        (folder / f"arrived-{context.epoch}").write_text(str(os.getpid()))
        wait_for(folder / "go")
    return number * 10


@op
def total(found: list[int]) -> int:
    """The sum."""
    return sum(found)


@job
def waiting_job() -> None:
    """Fan out, map with a clone that waits, collect."""
    total(numbers().map(wait_at_two).collect())


def test_two_processes_resume_the_same_run_at_once(tmp_path: Path) -> None:
    """In each of 20 rounds one of two processes goes on and the other says who has the run (rule R1)."""
    refusals = [resume_in_two_processes(tmp_path / str(number)) for number in range(ROUNDS)]
    assert len(refusals) == ROUNDS
    assert set(refusals) <= {"RunAlive", "TakenOver"}


def resume_in_two_processes(folder: Path) -> str:
    """Crash a run, let two processes race for it, check both; the name of the loser's error."""
    folder.mkdir()
    crash(folder)
    with racing(lambda: resume_until_refused(folder)) as (one, two):
        told = [receive(one), receive(two)]
    won = [answer for answer in told if answer["error"] is None]
    lost = [answer for answer in told if answer["error"] is not None]
    assert len(won) == len(lost) == 1, told
    assert won[0]["total"] == 150
    message = lost[0]["message"]
    assert (
        f"process {won[0]['pid']} on " in message or "`runstore runs` shows who has it" in message
    )
    assert_epochs_in_order(folder)
    assert epochs(folder)[-1] == 2
    return str(lost[0]["error"])


def resume_until_refused(folder: Path) -> dict[str, Any]:
    """Resume; the refused one lets the other, which waits inside an op, go on."""
    try:
        result = resume_waiting(folder)
    except RunConflict:
        (folder / "go").touch()
        raise
    return {"total": result.output_for_node("total")}


def test_two_processes_begin_the_same_run_at_once(tmp_path: Path) -> None:
    """Of two that begin a run of the same id in a new store, one goes on, and the other says who has it."""
    for number in range(ROUNDS_TO_BEGIN):
        folder = tmp_path / str(number)
        folder.mkdir()
        with racing(lambda: execute_until_refused(folder)) as (one, two):  # noqa: B023 - forked at once
            told = [receive(one), receive(two)]
        (won,) = [answer for answer in told if answer["error"] is None]
        (lost,) = [answer for answer in told if answer["error"] is not None]
        assert won["total"] == 150
        assert lost["error"] == "RunAlive"
        assert f"run {RUN!r} is being executed by process {won['pid']} on " in lost["message"]
        assert set(epochs(folder)) == {1}


def test_a_run_that_was_begun_meanwhile(tmp_path: Path) -> None:
    """Whoever has looked for a run before another process began it is refused, also when that has ended."""
    started = RunStarted(
        job="",
        graph=waiting_job.graph,
        config={},
        tags={},
        level="fast",
        base="outputs/r",
        host="",
        pid=0,
        version="",
    )
    with RunStore.open(tmp_path) as first, RunStore.open(tmp_path) as second:
        recorder = first.start(RUN, started)
        with pytest.raises(RunAlive, match=f"is being executed by process {os.getpid()} on "):
            second.start(RUN, started)
        recorder.close()
        with pytest.raises(RunConflict, match=f"begun by another process.*runstore resume {RUN}"):
            second.start(RUN, started)
        assert len(list(second.rows(RUN))) == 1


def execute_until_refused(folder: Path) -> dict[str, Any]:
    """Begin the run; the refused one lets the other, which waits inside an op, go on."""
    try:
        result = execute_waiting(folder)
    except RunConflict:
        (folder / "go").touch()
        raise
    return {"total": result.output_for_node("total")}


def test_two_processes_take_over_at_once(tmp_path: Path) -> None:
    """Where both insist, the one that came last finishes, and no event of an older epoch follows a newer one."""
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        crash(folder)
        (folder / "go").touch()
        with racing(lambda: take_over(folder)) as (one, two):  # noqa: B023 - forked at once
            told = [receive(one), receive(two)]
        assert [answer["total"] for answer in told if answer["error"] is None] in ([150], [150] * 2)
        assert {answer["error"] for answer in told} <= {None, "TakenOver"}
        assert_epochs_in_order(folder)
        assert RunResult.load(RUN, folder).output_for_node("total") == 150


def take_over(folder: Path) -> dict[str, Any]:
    """Resume whoever has it."""
    return {"total": resume_waiting(folder, take_over=True).output_for_node("total")}


def test_a_process_that_was_stopped_is_refused_when_it_wakes(tmp_path: Path) -> None:
    """Stopped inside an op, overtaken, continued: its next append is refused and not a byte of the run has changed."""
    process, heard = start(lambda: execute_waiting(tmp_path))
    wait_for(tmp_path / "arrived-1")
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(RunAlive, match=f"process {process.pid} on "):
        resume_waiting(tmp_path)
    (tmp_path / "go").touch()  # only for the one that takes over; the other is stopped
    result = resume_waiting(tmp_path, take_over=True)
    assert result.output_for_node("total") == 150

    rows, files = event_rows(tmp_path), file_digests(tmp_path / "outputs")
    os.kill(process.pid, signal.SIGCONT)
    answer = receive(heard)
    process.join(LIMIT_S)
    assert answer["error"] == "TakenOver"
    assert "another executor has appended to this run" in answer["message"]
    assert event_rows(tmp_path) == rows
    after = file_digests(tmp_path / "outputs")
    assert {path: after[path] for path in files} == files
    assert (
        len(set(after) - set(files)) == 1
    )  # what the late attempt wrote has an address of its own
    assert RunResult.load(RUN, tmp_path).output_for_node("wait_at_two") == {
        str(number): number * 10 for number in range(6)
    }


def test_a_process_stopped_while_it_holds_the_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process stopped inside a commit keeps the store's lock; who waits for it is told its pid, and may try again."""
    scene = Scene(tmp_path)
    stop = Failpoint(nth=5, point="commit.before", action=stop_self)

    def run() -> None:
        with armed(stop):
            scene.execute()

    process, heard = start(run)
    os.waitpid(process.pid, os.WUNTRACED)
    monkeypatch.setattr(database, "LOCK_LIMIT_S", 0.3)
    with pytest.raises(StoreBusy, match=rf"runs\.lock has been locked .* by process {process.pid}"):
        scene.resume(take_over=True)
    os.kill(process.pid, signal.SIGCONT)
    assert receive(heard)["error"] is None
    process.join(LIMIT_S)
    with scene.open() as store:
        assert values(scene.resume(store)) == EXPECTED
    assert sorted(scene.take_calls()) == sorted(ALL_STEPS)


def stop_self() -> None:
    """As ^Z does, but not to be caught."""
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_living_run_is_not_resumed(tmp_path: Path) -> None:
    """While a run is executed, resume and a second start under its id name the host, the pid and the age (rule R1)."""
    process, heard = start(lambda: execute_waiting(tmp_path))
    wait_for(tmp_path / "arrived-1")
    who = (
        rf"run 'the-run' is being executed by process {process.pid} on \S+, last heard of \d+ s ago"
    )
    for again in (resume_waiting, execute_waiting):
        with pytest.raises(RunAlive, match=who):
            again(tmp_path)
    (tmp_path / "go").touch()
    assert receive(heard)["error"] is None
    process.join(LIMIT_S)
    assert epochs(tmp_path)[-1] == 1


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda store: store.runs(), id="runs"),
        pytest.param(lambda store: store.state(RUN), id="state"),
        pytest.param(lambda store: list(store.rows(RUN)), id="rows"),
        pytest.param(lambda store: resume(RUN, store, job=waiting_job), id="resume"),
        pytest.param(
            lambda store: execute(waiting_job, store, run_config=config(Path())), id="execute"
        ),
    ],
)
@pytest.mark.parametrize("opened_for", ["reading", "writing"])
def test_a_store_is_refused_in_a_fork(
    opened_for: str, use: Callable[[RunStore], Any], tmp_path: Path
) -> None:
    """A store opened before a fork is refused in the child, with both pids, and still serves the parent."""
    (tmp_path / "go").touch()
    with RunStore.open(tmp_path) as store:
        run_id = execute(waiting_job, store, run_config=config(tmp_path), run_id=RUN).run_id
        if opened_for == "reading":
            store.close()
            assert store.has_run(run_id)
        rows = event_rows(tmp_path)

        def in_child() -> None:
            with pytest.raises(StorageFailed, match="belongs to process") as caught:
                use(store)
            assert str(os.getppid()) in str(caught.value)
            assert str(os.getpid()) in str(caught.value)
            assert "a store of its own" in str(caught.value)
            store.close()  # harmless there

        assert in_fork(in_child).code == 0
        assert event_rows(tmp_path) == rows
        assert store.run(run_id).status == "succeeded"
        assert execute(waiting_job, store, run_config=config(tmp_path)).success


# Processes


def config(folder: Path) -> dict[str, Any]:
    """Tells the waiting op where to look for its word."""
    return {"ops": {"wait_at_two": {"config": {"folder": str(folder)}}}}


def execute_waiting(folder: Path) -> RunResult:
    """Start the run of the job that waits."""
    with RunStore.open(folder, level="fast") as store:
        return execute(waiting_job, store, run_config=config(folder), run_id=RUN)


def resume_waiting(folder: Path, **more: Any) -> RunResult:
    """Go on with the run of the job that waits."""
    return resume(RUN, folder, job=waiting_job, **more)


def crash(folder: Path) -> None:
    """Leave a run that was killed as its second clone began."""

    def run() -> None:
        with armed(Failpoint(point="commit.after", nth=4)):
            execute_waiting(folder)

    assert in_fork(run).killed


def wait_for(path: Path) -> None:
    """Until the file is there."""
    deadline = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.002)


def start(function: Callable[[], Any]) -> tuple[Any, Connection]:
    """Call a function in a forked process; what comes of it is sent through the connection."""
    here, there = _fork.Pipe(duplex=False)
    process = _fork.Process(target=report, args=(function, there), daemon=True)
    process.start()
    there.close()
    return process, here


def report(function: Callable[[], Any], there: Connection) -> None:
    """Call, and send what came of it."""
    answer: dict[str, Any] = {"pid": os.getpid(), "error": None, "message": ""}
    try:
        found = function()
        answer |= found if isinstance(found, dict) else {}
    except Exception as error:
        answer |= {"error": type(error).__name__, "message": str(error)}
    there.send_bytes(json.dumps(answer).encode())


def receive(heard: Connection) -> dict[str, Any]:
    """The answer of a process."""
    assert heard.poll(LIMIT_S), "the process says nothing"
    return json.loads(heard.recv_bytes())  # type: ignore[no-any-return]


@contextmanager
def racing(function: Callable[[], Any]) -> Iterator[tuple[Connection, Connection]]:
    """Two processes that call a function at the same moment."""
    barrier = _fork.Barrier(3)

    def at_once() -> Any:
        barrier.wait(LIMIT_S)
        return function()

    (one, heard_one), (two, heard_two) = start(at_once), start(at_once)
    barrier.wait(LIMIT_S)
    yield heard_one, heard_two
    one.join(LIMIT_S)
    two.join(LIMIT_S)


def epochs(folder: Path) -> list[int]:
    """The epoch of every event, in order."""
    return [json.loads(body)["epoch"] for _, _, body in event_rows(folder)]


def assert_epochs_in_order(folder: Path) -> None:
    """No event of an older epoch stands after one of a newer."""
    found = epochs(folder)
    assert found == sorted(found)


def test_errors_are_of_one_family() -> None:
    """Who loses a run to another can catch one error."""
    assert issubclass(RunAlive, RunConflict)
    assert issubclass(TakenOver, RunConflict)
