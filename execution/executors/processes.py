"""Steps run in processes of their own: for ops that compute, and for ops that may take their process down.

Each worker process has a socket of its own to the executor, on which messages go both ways, so that one that dies, at
whatever moment, takes nothing with it but the step that it was running. No process is forked: each begins as a new
interpreter, and loads the job once.
"""

import os
import selectors
from collections import deque
from math import inf
from time import monotonic

from execution.errors import ResourceFailed
from execution.executors.base import checked_workers
from execution.executors.child_process import ENDING_S, ChildProcess
from execution.executors.opening import opening
from execution.executors.packing import unpack_told
from execution.executors.pooled import Pool, PooledExecutor
from execution.executors.worker_process import CLOSED, READY
from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket, Told
from runstore.errors import ConfigError
from runstore.outputs.output_store import OutputStore

LEAVING_S = 10.0
"""How long `close` waits for resources to close."""
EXIT_S = 2.0
"""How long a process may take to end after it was told to, and has closed its resources."""


class ProcessesExecutor(PooledExecutor):
    """`processes(max_workers)`: so many steps at a time, each in a process that runs nothing else."""

    def __init__(self, max_workers: int) -> None:
        super().__init__()
        self.max_workers = max_workers

    def pool(self, outputs: OutputStore, brief: Brief) -> Pool:
        """Processes, each with outputs and resources of its own. Raises ConfigError where it could not have them."""
        if outputs.whereabouts is None:
            raise ConfigError(
                "other processes cannot open these outputs: they are in memory, or their URL has credentials that only "
                "this process was given. Use a store on disk, and leave credentials to the environment or to "
                "[tool.runstore.storage]; or run the job in threads"
            )
        return _Processes(opening(outputs.whereabouts, brief), brief, self.max_workers)


class _Processes:
    """The worker processes of one epoch."""

    def __init__(self, first: bytes, brief: Brief, max_workers: int) -> None:
        self._first = first
        self._brief = brief
        self._max_workers = max_workers
        self._has_timeouts = any(op.timeout_s is not None for op in brief.job.ops.values())
        self._selector = selectors.DefaultSelector()
        self._processes: set[ChildProcess] = set()
        self._free: list[ChildProcess] = []
        self._told: deque[Told] = deque()
        self._running = 0
        self.at_work: dict[str, str] = {}

    @property
    def has_room(self) -> bool:
        return self._running < self._max_workers

    def submit(self, ticket: Ticket | HookTicket) -> None:
        process = self._free.pop() if self._free else self._new()
        self._running += 1
        process.take(ticket, self._brief)
        if isinstance(ticket, Ticket):
            self.at_work[ticket.step_key] = process.name
        if not self._free and len(self._processes) < self._max_workers:
            # The next one loads the job while this one works: clones mostly come many at a time.
            self._free.append(self._new())

    def _new(self) -> ChildProcess:
        process = ChildProcess(self._first)
        self._processes.add(process)
        self._selector.register(process.connection, selectors.EVENT_READ, process)
        return process

    def next_message(self, timeout_s: float | None) -> Told | None:
        if not self._told and self._running:
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
                self._ended(process.stopped())

    def _hear(self, process: ChildProcess, *, is_gone: bool = False) -> None:
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
                self._free.append(process)
                self._ended(told)
            else:
                self._told.append(told)

    def _ended(self, told: Told) -> None:
        self._running -= 1
        self.at_work.pop(told.step_key, None)
        self._told.append(told)

    def _lost(self, process: ChildProcess) -> None:
        self._forget(process)
        if process.ticket is None:  # nothing is lost with it
            self._free.remove(process)
            process.end(ENDING_S)
        else:
            self._ended(process.lost())

    def _forget(self, process: ChildProcess) -> None:
        self._selector.unregister(process.connection)
        self._processes.discard(process)

    def close(self) -> None:
        leaving = [one for one in self._processes if one.ticket is None and one.is_ready]
        for process in leaving:
            process.leave()
        failed: BaseException | None = None
        until = monotonic() + LEAVING_S
        try:
            for process in leaving:
                failed = _farewell(process, until) or failed
        finally:
            for process in self._processes:
                process.end(EXIT_S) if process in leaving else process.kill()
            self._processes.clear()
            self._selector.close()
        if failed is not None:
            raise failed


def _farewell(process: ChildProcess, until: float) -> BaseException | None:
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


def processes(max_workers: int | None = None) -> ProcessesExecutor:
    """Run steps in processes, `max_workers` at a time (default: as many as there are cores): for ops that compute."""
    if max_workers is None:
        has_affinity = hasattr(os, "sched_getaffinity")
        max_workers = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return ProcessesExecutor(checked_workers(max_workers, "processes"))
