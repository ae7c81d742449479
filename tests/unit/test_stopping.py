"""A stop while steps run elsewhere: they have a while to end, then they are left, and no process remains."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, execute, job, op, resume, threads
from execution.running import engine
from execution.running.control import NoControl
from runstore import RunStore
from runstore.log.events import RunCancelled, StepStarted, StepSucceeded

PATIENCE_S = 30
ROOT = Path(__file__).resolve().parents[2]


class Stopper(NoControl):
    """Asks for a stop when it is told to, and hears how long is left."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.heard: list[tuple[int, float]] = []

    def stop_requested(self) -> str:
        """When asked for."""
        return "enough" if self.asked.is_set() else ""

    def stopping(self, running: int, left_s: float) -> None:
        """Keep it."""
        self.heard.append((running, left_s))


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Four of them."""
    for number in range(4):
        yield DynamicOutput(number, number)


def test_steps_that_end_in_time_count(tmp_path: Path) -> None:
    """After a request to stop nothing new is started, and what ends within the grace has succeeded."""
    stopper = Stopper()

    @op
    def ends(number: int) -> int:
        stopper.asked.set()
        until = time.monotonic() + PATIENCE_S
        while not stopper.heard and time.monotonic() < until:
            time.sleep(0.001)
        return number

    @job
    def ending() -> None:
        numbers().map(ends)

    result = execute(ending, tmp_path, executor=threads(2), control=stopper)
    assert result.status == "cancelled"
    with RunStore.open(tmp_path) as store:
        events = [event for _, event in store.events(result.run_id)]
    started = [e.step for e in events if isinstance(e, StepStarted)]
    done = [e.step for e in events if isinstance(e, StepSucceeded)]
    assert sorted(started) == sorted(done)
    assert 2 <= len(done) <= 3
    assert resume(result.run_id, tmp_path, job=ending).success


def test_steps_that_do_not_end_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the grace the run is cancelled although steps run; a resume runs them again."""
    monkeypatch.setattr(engine, "GRACE_S", 0.1)
    stopper, may_end = Stopper(), threading.Event()

    @op
    def lasts(number: int) -> int:
        stopper.asked.set()
        may_end.wait(PATIENCE_S)
        return number

    @job
    def lasting() -> None:
        numbers().map(lasts)

    result = execute(lasting, tmp_path, executor=threads(2), control=stopper)
    assert result.status == "cancelled"
    assert {running for running, _ in stopper.heard} <= {1, 2}
    assert stopper.heard[-1][1] == 0
    may_end.set()
    resumed = resume(result.run_id, tmp_path, job=lasting, executor=threads(2))
    assert resumed.output_for_node("lasts") == {str(n): n for n in range(4)}


def processes_of(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def wait_until(is_so: Callable[[], Any]) -> None:
    """Look until it is."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, "never"
        time.sleep(0.01)


SCRIPT = """
import sys
from execution import execute, processes
from execution.running import engine
from tests.unit import process_jobs
engine.GRACE_S = 0.3
folder, job = sys.argv[1:]
op = job.replace("ing", "s")
execute(
    getattr(process_jobs, job), folder + "/s", run_id="r", executor=processes(2),
    run_config={"ops": {op: {"config": {"folder": folder}}}},
)
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")


@needs_proc
@pytest.mark.parametrize("name", ["waiting", "starting"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_remains(tmp_path: Path, name: str, number: signal.Signals) -> None:
    """On Ctrl-C workers that do not end in time are killed with all they have started; without executor they end."""
    driver = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), name],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    files = [tmp_path / "pid-0", tmp_path / "pid-1"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    assert len(processes_of(driver.pid)) >= 3
    os.killpg(driver.pid, number)
    _, err = driver.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not processes_of(driver.pid))
    with RunStore.open(tmp_path / "s") as store:
        ended = store.state("r").ended
    if number == signal.SIGINT:
        assert err.splitlines()[-1].startswith("KeyboardInterrupt")
        assert isinstance(ended, RunCancelled)
        assert ended.reason == "interrupted"
    else:
        assert ended is None


@needs_proc
def test_the_command_stops_with_a_countdown(tmp_path: Path) -> None:
    """The first Ctrl-C says how long running steps have; the second leaves at once, and no process remains."""
    words = ["run", "tests.unit.process_jobs:waiting", "--store", str(tmp_path / "s")]
    words += ["--executor", "processes:2", "--set", f"ops.waits.config.folder={tmp_path}"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "execution.cli.main", *words],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    files = [tmp_path / "pid-0", tmp_path / "pid-1"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.stderr is not None
    lines = []
    while not lines or "may end within" not in lines[-1]:
        lines.append(driver.stderr.readline())
        assert lines[-1]
    assert lines[-1] == "stopping: 2 steps may end within 10 s; once more leaves at once\n"
    os.killpg(driver.pid, signal.SIGINT)
    _, err = driver.communicate(timeout=PATIENCE_S)
    assert "may end within" not in err
    assert driver.returncode == 130
    wait_until(lambda: not processes_of(driver.pid))
    listed = subprocess.run(
        [sys.executable, "-m", "execution.cli.main", "runs", "--json", "--store", tmp_path / "s"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [run["status"] for run in json.loads(listed.stdout)] == ["crashed"]


@needs_proc
def test_a_terminal_shows_who_runs_what_and_counts_down(tmp_path: Path) -> None:
    """The picture names the process and the age of each running step, and counts down after Ctrl-C."""
    words = ["run", "tests.unit.process_jobs:waiting", "--store", str(tmp_path / "s")]
    words += ["--executor", "processes:2", "--set", f"ops.waits.config.folder={tmp_path}"]
    terminal, end = os.openpty()
    driver = subprocess.Popen(
        [sys.executable, "-m", "execution.cli.main", *words],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        start_new_session=True,
        stderr=end,
    )
    os.close(end)
    shown = ""

    def read_until(pattern: str) -> str:
        nonlocal shown
        while (found := re.search(pattern, shown)) is None:
            shown += os.read(terminal, 65_536).decode(errors="replace")
        return found[1]

    pid = int(read_until(r"[0-9.]+ s  process ([0-9]+) +waits\[[01]\]"))
    assert pid in {int((tmp_path / f"pid-{n}").read_text()) for n in (0, 1)}
    os.killpg(driver.pid, signal.SIGINT)
    seconds = [int(read_until(rf"2 steps may end within ({n}) s")) for n in ("10", "9", "8")]
    assert seconds == [10, 9, 8]
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(PATIENCE_S) == 130
    os.close(terminal)
    wait_until(lambda: not processes_of(driver.pid))
