"""A worker process, as its executor sees it: begun, spoken to, listened to, ended.

It is a new interpreter, never a fork, at the other end of a socket; it leads a process group, so that it is ended with
all that its ops have started.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from math import inf
from time import monotonic, perf_counter, sleep

from execution.errors import WorkerLost
from execution.executors.frames import Frames, send
from execution.executors.packing import pack
from execution.executors.worker_process import CLOSE, worker_name
from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket, Told
from execution.running.worker_loss import told_of_loss, told_of_timeout

ENDING_S = 0.1
"""How long a process may take to end after it has closed its socket by itself: it has an exit code to tell."""

# The path of modules comes through the socket: command lines are for everyone to see, and of limited length.
_BEGIN = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
with os.fdopen(int(sys.argv[1]), "rb", 0, closefd=False) as connection:
    sys.path[:] = json.loads(connection.readline())
from execution.executors.worker_process import main
main(int(sys.argv[1]))
"""


class ChildProcess:
    """One, and the ticket that it has."""

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
        self.is_ready = False
        """It has loaded the job."""
        self._say(f"{json.dumps(sys.path)}\n".encode(), framed=False)
        self._say(first)

    @property
    def step_key(self) -> str:
        """Of the ticket; empty where it has none."""
        if isinstance(self.ticket, HookTicket):
            return self.ticket.context.step_key
        return self.ticket.step_key if self.ticket else ""

    def take(self, ticket: Ticket | HookTicket, brief: Brief) -> None:
        """Send it a ticket."""
        self.ticket, self._begun = ticket, perf_counter()
        for message in pack(ticket, brief):
            self._say(message)

    def ready(self) -> None:
        """It has loaded the job, and begins with its first ticket: the time until now is not the step's."""
        self.is_ready, self._begun = True, perf_counter()

    def left_s(self) -> float:
        """Seconds until its attempt has taken too long."""
        ticket = self.ticket
        if not self.is_ready or not isinstance(ticket, Ticket) or ticket.op.timeout_s is None:
            return inf
        return self._begun + ticket.op.timeout_s - perf_counter()

    def stopped(self) -> Told:
        """The end of its attempt, which has taken too long: kill it."""
        assert isinstance(self.ticket, Ticket)
        self.kill()
        return told_of_timeout(self.ticket, round(perf_counter() - self._begun, 6), self.name)

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

    @property
    def name(self) -> str:
        """As a worker."""
        return worker_name(self.pid)

    def lost(self) -> Told:
        """The end of its attempt, in its stead."""
        assert self.ticket is not None
        fact = f"its worker process {self.pid} {_how(self.end(ENDING_S))}"
        return told_of_loss(self.ticket, fact, round(perf_counter() - self._begun, 6), self.name)

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


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
