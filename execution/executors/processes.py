"""Steps run in processes of their own: for ops that compute, and for ops that may take their process down.

Each worker process has a socket of its own to the executor, on which messages go both ways, so that one that dies, at
whatever moment, takes nothing with it but the step that it was running. No process is forked: each begins as a new
interpreter, and loads the job once.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections import deque
from math import inf
from time import monotonic, perf_counter, sleep

from execution.errors import ResourceFailed, WorkerLost
from execution.executors.base import checked_workers
from execution.executors.frames import Frames, send
from execution.executors.packing import pack, unpack_told
from execution.executors.worker_process import CLOSE, CLOSED, READY, opening
from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.step_runner import Ticket, Told
from execution.running.worker_loss import told_of_loss, told_of_timeout
from runstore.errors import ConfigError
from runstore.outputs.output_store import OutputStore

LEAVING_S = 10.0
"""How long `close` waits for resources to close."""
EXIT_S = 2.0
"""How long a process may take to end after it was told to, and has closed its resources."""
ENDING_S = 0.1
"""The same where it has closed its socket by itself: it has died, and has an exit code to tell."""

# The path of modules comes through the socket: command lines are for everyone to see, and of limited length.
_BEGIN = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
with os.fdopen(int(sys.argv[1]), "rb", 0, closefd=False) as connection:
    sys.path[:] = json.loads(connection.readline())
from execution.executors.worker_process import main
main(int(sys.argv[1]))
"""


class ProcessesExecutor:
    """`processes(max_workers)`: so many steps at a time, each in a process that runs nothing else."""

    is_inline = False

    def __init__(self, max_workers: int) -> None:
        self.max_workers = max_workers
        self._pool: _Pool | None = None

    def open(self, outputs: OutputStore, brief: Brief) -> None:
        """Get ready; a process is begun when there is nothing else to do for it. Raises ConfigError."""
        if outputs.whereabouts is None:
            raise ConfigError(
                "other processes cannot open these outputs: they are in memory, or their URL has credentials that only "
                "this process was given. Use a store on disk, and leave credentials to the environment or to "
                "[tool.runstore.storage]; or run the job in threads"
            )
        self._pool = _Pool(opening(outputs.whereabouts, brief), brief)

    @property
    def has_room(self) -> bool:
        """True while fewer attempts run than there may be processes."""
        return self._pool is not None and self._pool.running < self.max_workers

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """Send an attempt, or the call of a hook, to a process that is free, or to a new one."""
        assert self._pool is not None
        self._pool.submit(ticket)

    def next_message(self, timeout_s: float | None = None) -> Told | None:
        """What a process tells next, or what has become of it."""
        assert self._pool is not None
        return self._pool.next_message(timeout_s)

    def close(self) -> None:
        """Kill what runs, and let the other processes close their resources."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


class _Process:
    """A worker process, and the ticket that it has."""

    def __init__(self, first: bytes) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            # Warnings go as they do here; all else a child gets from the environment.
            options = [f"-W{option}" for option in sys.warnoptions]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *options, "-c", _BEGIN, str(number)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[number],
                    process_group=0,  # with all that its ops start: out of reach of Ctrl-C, and ended together
                )
            except OSError as error:
                self.connection.close()
                raise WorkerLost(
                    f"no worker process can be started: {error}; lower the number of workers, then `runstore resume`"
                ) from error
        self._frames = Frames()
        self.ticket: Ticket | HookTicket | None = None
        self._begun = 0.0
        self._is_ready = False
        self._say(f"{json.dumps(sys.path)}\n".encode(), framed=False)
        self._say(first)

    @property
    def step_key(self) -> str:
        """Of the ticket."""
        assert self.ticket is not None
        return (
            self.ticket.context.step_key
            if isinstance(self.ticket, HookTicket)
            else self.ticket.step_key
        )

    def take(self, ticket: Ticket | HookTicket, brief: Brief) -> None:
        """Send it a ticket."""
        self.ticket, self._begun = ticket, perf_counter()
        for message in pack(ticket, brief):
            self._say(message)

    def ready(self) -> None:
        """It has loaded the job, and begins with its first ticket: the time until now is not the step's."""
        self._is_ready, self._begun = True, perf_counter()

    def left_s(self) -> float:
        """Seconds until its attempt has taken too long."""
        ticket = self.ticket
        if not self._is_ready or not isinstance(ticket, Ticket) or ticket.op.timeout_s is None:
            return inf
        return self._begun + ticket.op.timeout_s - perf_counter()

    def stopped(self) -> Told:
        """The end of its attempt, which has taken too long: kill it."""
        assert isinstance(self.ticket, Ticket)
        self.kill()
        return told_of_timeout(self.ticket, round(perf_counter() - self._begun, 6))

    def leave(self) -> None:
        """Ask it to end."""
        self._say(CLOSE)

    def _say(self, message: bytes, *, framed: bool = True) -> None:
        with contextlib.suppress(OSError):  # it is gone, which is noticed where it is listened to
            if framed:
                send(self.connection, message)
            else:
                self.connection.sendall(message)

    def heard(self) -> list[bytes] | None:
        """What it says; None where it is gone."""
        return self._frames.receive(self.connection)

    def is_gone(self) -> bool:
        """True where it has ended, though something it has started may hold its end of the socket."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        # Still to be waited for, so that its group exists.
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, ended) is not None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def lost(self) -> Told:
        """The end of its attempt, in its stead."""
        assert self.ticket is not None
        fact = f"its worker process {self.pid} {_how(self.end(ENDING_S))}"
        return told_of_loss(self.ticket, fact, round(perf_counter() - self._begun, 6))

    def end(self, within_s: float) -> int:
        """Let it end by itself, then end it; its exit code."""
        until = monotonic() + within_s
        while not self.is_gone() and monotonic() < until:
            sleep(0.001)
        return self.kill()

    def kill(self) -> int:
        """End it now, and what it has started; its exit code."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.connection.close()
        return self._process.wait()


class _Pool:
    """The worker processes of one epoch."""

    def __init__(self, first: bytes, brief: Brief) -> None:
        self._first = first
        self._brief = brief
        self._has_timeouts = any(op.timeout_s is not None for op in brief.job.ops.values())
        self._selector = selectors.DefaultSelector()
        self._processes: set[_Process] = set()
        self._free: list[_Process] = []
        self._told: deque[Told] = deque()
        self.running = 0

    def submit(self, ticket: Ticket | HookTicket) -> None:
        process = self._free.pop() if self._free else self._new()
        self.running += 1
        process.take(ticket, self._brief)

    def _new(self) -> _Process:
        process = _Process(self._first)
        self._processes.add(process)
        self._selector.register(process.connection, selectors.EVENT_READ, process)
        return process

    def next_message(self, timeout_s: float | None) -> Told | None:
        if not self._told and self.running:
            self._listen(timeout_s)
        return self._told.popleft() if self._told else None

    def _listen(self, timeout_s: float | None) -> None:
        if self._has_timeouts:
            left_s = max(0.0, min((one.left_s() for one in self._processes), default=inf))
            timeout_s = min(inf if timeout_s is None else timeout_s, left_s)
        heard = self._selector.select(None if timeout_s == inf else timeout_s)
        for key, _ in heard:
            self._hear(key.data)
        if not heard:
            for process in [one for one in self._processes if one.is_gone()]:
                self._hear(process, is_gone=True)
        if self._has_timeouts:
            for process in [one for one in self._processes if one.left_s() <= 0]:
                self._forget(process)
                self.running -= 1
                self._told.append(process.stopped())

    def _hear(self, process: _Process, *, is_gone: bool = False) -> None:
        messages = None if is_gone else process.heard()
        if messages is None:
            self._lost(process)
            return
        for message in messages:
            if message == READY:
                process.ready()
                continue
            told = unpack_told(message, process.step_key)
            if told.is_last:
                process.ticket = None
                self.running -= 1
                self._free.append(process)
            self._told.append(told)

    def _lost(self, process: _Process) -> None:
        self._forget(process)
        if process.ticket is None:  # nothing is lost with it
            self._free.remove(process)
            process.end(ENDING_S)
        else:
            self.running -= 1
            self._told.append(process.lost())

    def _forget(self, process: _Process) -> None:
        self._selector.unregister(process.connection)
        self._processes.discard(process)

    def close(self) -> None:
        leaving = [process for process in self._processes if process.ticket is None]
        for process in leaving:
            process.leave()
        failed: BaseException | None = None
        until = monotonic() + LEAVING_S
        try:
            for process in leaving:
                failed = _farewell(process, until) or failed
        finally:
            for process in self._processes:
                process.kill() if process.ticket else process.end(EXIT_S)
            self._processes.clear()
            self._selector.close()
        if failed is not None:
            raise failed


def _farewell(process: _Process, until: float) -> BaseException | None:
    """Wait for the last message of a process; what it could not close."""
    failed: BaseException | None = None
    process.connection.settimeout(max(0.01, until - monotonic()))
    try:
        while (messages := process.heard()) is not None:
            for message in messages:
                if message == CLOSED:
                    return failed
                try:
                    unpack_told(message, "")
                except BaseException as error:
                    failed = failed or error
    except TimeoutError:
        failed = failed or ResourceFailed(
            f"the resources of worker process {process.pid} were not closed within {LEAVING_S:g} s, and it was killed; "
            "the run stops. Correct the cause, then `runstore resume`"
        )
    return failed


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def processes(max_workers: int | None = None) -> ProcessesExecutor:
    """Run steps in processes, `max_workers` at a time (default: as many as there are cores): for ops that compute."""
    if max_workers is None:
        has_affinity = hasattr(os, "sched_getaffinity")
        max_workers = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return ProcessesExecutor(checked_workers(max_workers, "processes"))
