"""The command in processes of its own: signals, kills, living runs, storage that refuses."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstore.log.database import Database

JOBS = Path(__file__).with_name("cli_jobs.py")


class Shell:
    """A folder with a store, and the command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RUNSTORE_")},
            "CLI_TEST_FOLDER": str(folder),
            "TERM": "xterm",
            "COLUMNS": "100",
        }

    def start(self, *words: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """`runstore …`, not waited for."""
        process = subprocess.Popen(
            [sys.executable, "-m", "execution.cli.main", *words],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self._started.append(process)
        return process

    def call(self, *words: str, code: int = 0) -> tuple[str, str]:
        """`runstore …`: what it printed, and its errors."""
        process = self.start(*words)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code, (out, err)
        assert "Traceback" not in err
        return out, err

    def start_slow(self, *more: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """A run that waits in its third clone, `look[-dash]`."""
        process = self.start("run", f"{JOBS}:slow", *more, stderr=stderr)
        wait_for(lambda: (self.folder / "reached-dash").exists())
        return process

    def let_go(self) -> None:
        """Let the waiting step end."""
        (self.folder / "go-dash").touch()

    def close(self) -> None:
        """Leave no process behind."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def wait_for(condition: object, limit_s: float = 15) -> None:
    """Until it holds."""
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def wait_for_line(process: subprocess.Popen[str], part: str) -> None:
    """Until the process has printed such a line on standard error."""
    assert process.stderr is not None
    assert any(part in line for line in process.stderr), f"{part!r} was not printed"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A folder with an empty store: to make its tables here is quicker than in each process that is first."""
    (tmp_path / ".runstore").mkdir(mode=0o700)
    Database(tmp_path / ".runstore" / "runs.db", writable=True).close()
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def status_of(shell: Shell) -> dict[str, str]:
    """The last run, as `runs` lists it."""
    listed: list[dict[str, str]] = json.loads(shell.call("runs", "--json")[0])
    return listed[-1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_lets_the_running_step_finish(
    shell: Shell, number: signal.Signals, code: int
) -> None:
    """The step in flight ends and counts, the run is cancelled, resumable, and the exit code names the signal."""
    process = shell.start_slow()
    process.send_signal(number)
    wait_for_line(process, f"{number.name}: stopping after the running step")
    shell.let_go()
    _, err = process.communicate(timeout=15)
    assert process.returncode == code
    assert err.splitlines()[-1].startswith("next:  runstore resume ")
    assert status_of(shell)["status"] == "cancelled"
    assert status_of(shell)["progress_text"] == "3/6 clones of look done"
    _, err = shell.call("resume")
    assert "4 steps reused, 4 to run (4 never started)" in err


def test_second_signal_leaves_at_once(shell: Shell) -> None:
    """^C twice ends the process though its step goes on for long; the run has crashed and is resumable."""
    process = shell.start_slow()
    process.send_signal(signal.SIGINT)
    wait_for_line(process, "once more leaves at once")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert err.splitlines()[-1] == f"next:  runstore resume {status_of(shell)['run_id']}"
    assert status_of(shell)["status"] == "crashed"
    shell.let_go()
    assert "1 interrupted, 4 never started" in shell.call("resume")[1]


def test_an_interrupt_of_the_ops_own_says_how_to_go_on(shell: Shell) -> None:
    """An op that raises KeyboardInterrupt ends the run as Ctrl-C does, with the command to type next."""
    (shell.folder / "own.py").write_text(
        "from execution import job, op\n@op\ndef stops():\n    raise KeyboardInterrupt\n"
        "@job\ndef own():\n    stops()\n"
    )
    _, err = shell.call("run", "own.py:own", "--run-id", "mine", code=130)
    assert err.splitlines()[-1] == "next:  runstore resume mine"
    assert status_of(shell)["status"] == "cancelled"


def test_killed_run_shows_as_crashed_and_resumes(shell: Shell) -> None:
    """After kill -9 every question has an answer, and a resume runs what is left."""
    process = shell.start_slow("--run-id", "victim")
    process.kill()
    process.wait()
    assert "crashed  2/6 clones of look done" in shell.call("runs")[0]
    assert "look[-dash]" in shell.call("keys", "victim", "look", "--status", "interrupted")[0]
    assert "when epoch 1 died" in shell.call("explain", "victim", "look[-dash]")[0]
    assert (
        "a resume will run it after 'look[é]'" not in shell.call("explain", "victim", "look[é]")[0]
    )
    assert "after 4 of 6 steps of look" in shell.call("explain", "victim", "total")[0]
    assert "has crashed" in shell.call("doctor")[0]
    assert "next:  runstore resume victim" in shell.call("log", "victim", "--follow")[1]
    shell.let_go()
    shell.call("resume", "victim", "--quiet")
    assert shell.call("cat", "victim", "total")[0] == "A,B/C,-DASH,X[0]%,É,Q'\"$"
    text = shell.call("explain", "victim", "look[-dash]")[0]
    assert "it ran again in epoch 2, since attempt 1" in text


def test_living_run_is_left_alone(shell: Shell) -> None:
    """A run that is being executed is neither resumed nor deleted: exit code 4, naming who has it."""
    process = shell.start_slow("--run-id", "alive")
    for words in (
        ("resume", "alive"),
        ("rm", "alive", "--yes"),
        ("run", f"{JOBS}:slow", "--run-id", "alive"),
    ):
        _, err = shell.call(*words, code=4)
        assert f"process {process.pid}" in err
        assert "next:  runstore log alive --follow" in err
    assert status_of(shell)["status"] == "running"
    shell.let_go()
    process.communicate(timeout=15)
    assert process.returncode == 0


def test_taken_over_executor_exits_4(shell: Shell) -> None:
    """After `resume --take-over` the older process stops at its next append and says so."""
    older = shell.start_slow("--run-id", "wanted")
    newer = shell.start("resume", "wanted", "--take-over")
    wait_for(lambda: '"RunResumed"' in shell.call("log", "wanted", "--json")[0])
    shell.let_go()
    assert newer.wait(timeout=15) == 0
    _, err = older.communicate(timeout=15)
    assert older.returncode == 4
    assert "another executor" in err
    assert "next:  runstore log wanted --follow" in err
    assert status_of(shell)["status"] == "succeeded"


def test_cancel_of_a_living_run(shell: Shell) -> None:
    """`cancel` asks the executor, waits for its step and reports; that executor exits 3, resumable."""
    process = shell.start_slow()
    cancel = shell.start("cancel", "last")
    assert cancel.stdout is not None
    assert f"asked process {process.pid}" in cancel.stdout.readline()
    shell.let_go()
    out, _ = cancel.communicate(timeout=15)
    assert cancel.returncode == 0
    assert "is cancelled" in out
    process.communicate(timeout=15)
    assert process.returncode == 3
    shell.call("resume")


def test_cancel_of_a_crashed_run(shell: Shell) -> None:
    """`cancel` closes a crashed run; a second time there is nothing to do."""
    process = shell.start_slow()
    process.kill()
    process.wait()
    assert "is now cancelled" in shell.call("cancel", "last")[0]
    assert status_of(shell)["status"] == "cancelled"
    assert "nothing to cancel" in shell.call("cancel", "last")[0]


def test_follow_ends_with_the_run(shell: Shell) -> None:
    """`log --follow` prints what comes, to the run's last event."""
    process = shell.start_slow()
    follower = shell.start("log", "last", "--follow", "--json")
    assert follower.stdout is not None
    assert '"RunStarted"' in follower.stdout.readline()
    shell.let_go()
    out, _ = follower.communicate(timeout=15)
    assert follower.returncode == 0
    assert '"RunSucceeded"' in out.splitlines()[-1]
    process.communicate(timeout=15)


def test_storage_that_refuses_stops_the_run_resumably(shell: Shell) -> None:
    """Where outputs cannot be written, one line says so, with exit code 3 and the command that goes on."""
    blocker = shell.folder / "blocker"
    blocker.write_text("a file where a folder should be")
    _, err = shell.call("run", f"{JOBS}:slow", "--outputs", str(blocker), "--quiet", code=3)
    assert "blocker" in err
    assert len(err.splitlines()) == 2
    assert err.splitlines()[-1].startswith("next:  runstore resume ")
    blocker.unlink()
    shell.let_go()
    shell.call("resume", "--quiet")


def test_log_shows_what_it_does_not_know(shell: Shell) -> None:
    """A row of a newer version is shown raw by `log` and refused by what would have to understand it."""
    shell.let_go()
    shell.call("run", f"{JOBS}:slow", "--quiet")
    with contextlib.closing(sqlite3.connect(shell.folder / ".runstore" / "runs.db")) as database:
        body = '{"kind":"StepTeleported","epoch":1,"step":"look[a]","time":"2999-01-01T00:00:00Z"}'
        database.execute(
            "INSERT INTO events (row_id, body) SELECT max(row_id) + 1, ? FROM events", (body,)
        )
        database.commit()
    assert body in shell.call("log")[0].splitlines()[-1]
    assert json.loads(shell.call("log", "--json")[0].splitlines()[-1])["kind"] == "StepTeleported"
    assert "not readable by this version" in shell.call("runs")[0]
    assert "StepTeleported" in shell.call("show", code=3)[1]


def test_piped_into_a_program_that_stops_reading(shell: Shell) -> None:
    """`runstore log | head -1` leaves no traceback."""
    shell.let_go()
    shell.call("run", f"{JOBS}:slow", "--quiet")
    command = f"{sys.executable} -m execution.cli.main log | head -1"
    result = subprocess.run(
        command, shell=True, cwd=shell.folder, capture_output=True, text=True, check=False
    )
    assert "RunStarted" in result.stdout
    assert result.stderr == ""


def test_terminal_shows_ops_and_the_running_step(shell: Shell) -> None:
    """On a terminal a picture shows per op what is done and left, and the age of what runs, also during a long step."""
    terminal, end = os.openpty()
    process = shell.start_slow(stderr=end)
    os.close(end)
    shown = ""
    while not re.search(r"1\.[0-9] s  look\[-dash\]", shown):
        shown += os.read(terminal, 4096).decode(errors="replace")
    assert all(text in shown for text in ("done", "left", "steps/", "━", "time left unknown: "))
    shell.let_go()
    with contextlib.suppress(OSError):  # what a terminal gives when the other end is closed
        while part := os.read(terminal, 4096).decode(errors="replace"):
            shown += part
    os.close(terminal)
    assert "8 steps succeeded" in shown
    assert process.wait(timeout=15) == 0


def test_display_that_nobody_reads_stops_no_run(shell: Shell) -> None:
    """A closed standard error costs the lines, not the run."""
    shell.let_go()
    process = shell.start("run", f"{JOBS}:slow")
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(timeout=15) == 0
    assert status_of(shell)["status"] == "succeeded"


# Retries


def start_waiting(shell: Shell) -> subprocess.Popen[str]:
    """A run in which nothing but a retry of `busy[b/c]` is to come, in an hour."""
    process = shell.start("run", f"{JOBS}:retrying", "--run-id", "r")
    database = shell.folder / ".runstore" / "runs.db"

    def is_waiting() -> bool:
        with contextlib.suppress(sqlite3.Error), sqlite3.connect(database) as connection:
            rows = connection.execute("SELECT body ->> '$.kind', step FROM events WHERE seq > 1")
            return ("StepSucceeded", "busy[q'\"$]") in rows.fetchall()
        return False

    wait_for(lambda: database.exists() and is_waiting())
    return process


def test_a_run_that_waits_can_be_looked_at_and_cancelled(shell: Shell) -> None:
    """F3: its step is shown as waiting with the time when it is due; `runstore cancel` ends the wait within moments."""
    process = start_waiting(shell)
    [line] = shell.call("keys", "r", "busy", "--status", "waiting")[0].splitlines()
    assert re.fullmatch(r"waiting +1 attempt  busy\[b/c\]  \(due 20[\d-]+ [\d:]+\)", line)
    told = shell.call("explain", "r", "busy[b/c]")[0]
    assert "attempt 1 failed (seq " in told
    assert "OSError: the service is busy; it will be tried again from 20" in told
    assert "1 waiting, due 20" in shell.call("show", "r")[0]
    assert "OSError: the service is busy; due 20" in shell.call("log", "r")[0]
    shell.call("cancel", "r")
    process.communicate(timeout=15)
    assert process.returncode == 3
    out, _ = shell.call("resume", "r", "--dry-run")
    assert "to run (1 failed, 1 never started)" in out
    assert "6 steps succeeded" not in out
    shell.call("resume", "r")
    assert "ran again in epoch 2, since attempt 1 had failed" in shell.call(
        "explain", "r", "busy[b/c]"
    )[0].replace("\n", " ")


def test_a_signal_ends_a_wait(shell: Shell) -> None:
    """The first SIGINT ends a run in which nothing runs, at once."""
    process = start_waiting(shell)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=15)
    assert process.returncode == 130
    shell.call("resume", "r")
    assert status_of(shell)["status"] == "succeeded"


def test_a_run_killed_while_it_waits_says_when_it_goes_on(shell: Shell) -> None:
    """After SIGKILL the step still waits: the dry run and `explain` say until when, and the resume waits too."""
    process = start_waiting(shell)
    process.kill()
    process.communicate()
    out, _ = shell.call("resume", "r", "--dry-run")
    assert "1 waiting for a retry, due 20" in out
    assert "2 to run (1 waiting for a retry, 1 never started)" in out
    assert "a resume will have it tried again from 20" in shell.call("explain", "r", "busy[b/c]")[0]
    assert "failed and waits to be tried again" in shell.call("cat", "r", "busy[b/c]", code=2)[1]
    again = shell.start("resume", "r")
    wait_for(lambda: status_of(shell)["status"] == "running")
    again.send_signal(signal.SIGTERM)
    _, err = again.communicate(timeout=15)
    assert again.returncode == 143
    assert "resuming run r, epoch 2: 6 steps reused, 2 to run (1 waiting for a retry" in err
    told = shell.call("explain", "r", "busy[b/c]")[0]
    assert "run resumed; it goes on waiting, with its full budget of retries" in told
    assert "attempt 1 had failed" in told
