"""Steps run in threads of the executor's process: for ops that wait for something, a service or another program.

Python code of one process runs on one core at a time, however many threads there are. Each thread has an event loop of
its own, on which the async ops run that it is given; resources are opened once and shared by all. A thread cannot be
stopped from outside: `close` waits for ops that still run, and leaves behind what takes longer than a while.
"""

from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from msgspec import structs

from execution.executors.base import checked_workers, messages_of, waited
from execution.executors.pooled import Pool, PooledExecutor
from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.inputs import Collected, detached
from execution.running.resources import Resources
from execution.running.told import Ticket, Told
from execution.running.worker import Worker
from runstore.outputs.output_store import OutputStore

LEAVING_S = 1.0
"""How long `close` waits for ops that run."""


class ThreadsExecutor(PooledExecutor):
    """`threads(max_workers)`: so many steps at a time."""

    def __init__(self, max_workers: int) -> None:
        super().__init__()
        self.max_workers = max_workers

    def pool(self, outputs: OutputStore, brief: Brief) -> Pool:
        """Threads, and the resources that they share."""
        resources = brief.resources(several_loops=self.max_workers > 1)
        return _Threads(outputs, resources, self.max_workers)


class _Threads:
    """The threads of one epoch, and two queues: tickets to them, and what they tell."""

    def __init__(self, outputs: OutputStore, resources: Resources, max_workers: int) -> None:
        self._outputs = outputs
        self._resources = resources
        self._max_workers = max_workers
        self._threads: list[Thread] = []
        self._tickets: SimpleQueue[Ticket | HookTicket | None] = SimpleQueue()
        self._told: SimpleQueue[Told | BaseException] = SimpleQueue()
        self._running = 0
        self.at_work: dict[str, str] = {}

    @property
    def has_room(self) -> bool:
        return self._running < self._max_workers

    def submit(self, ticket: Ticket | HookTicket) -> None:
        ticket = _detached(ticket)
        self._running += 1
        if self._running > len(self._threads):
            # A daemon: what cannot be stopped shall not keep the process from its end.
            number = len(self._threads) + 1
            thread = Thread(target=self._work, args=(number,), name="runstore-worker", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._tickets.put(ticket)

    def next_message(self, timeout_s: float | None) -> Told | None:
        try:
            told = self._told.get(timeout=timeout_s)
        except Empty:
            return None
        if isinstance(told, BaseException):
            raise told
        if told.is_last:
            self._running -= 1
        return told

    def _work(self, number: int) -> None:
        worker = Worker(self._resources, f"thread {number}")
        while (ticket := self._tickets.get()) is not None:
            if isinstance(ticket, Ticket):
                self.at_work[ticket.step_key] = worker.name
            try:
                for told in waited(messages_of(ticket, self._outputs, worker), self._outputs):
                    if told.is_last:
                        self.at_work.pop(told.step_key, None)
                    self._told.put(told)
            except BaseException as error:  # stops the run, as it would in the thread of the engine
                self._told.put(error)
        worker.loop.close()

    def close(self) -> None:
        with suppress(Empty):
            while True:  # what nobody has begun is not begun any more
                self._tickets.get_nowait()
        for _ in self._threads:
            self._tickets.put(None)
        until = monotonic() + LEAVING_S
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
        self._resources.close()


def _detached(ticket: Ticket | HookTicket) -> Ticket | HookTicket:
    """The log is read by the thread of the engine alone."""
    if isinstance(ticket, HookTicket):
        outputs = detached(ticket.context.outputs)
        return structs.replace(ticket, context=structs.replace(ticket.context, outputs=outputs))
    if not any(isinstance(one, list | Collected) for one in ticket.arguments.values()):
        return ticket
    return structs.replace(ticket, arguments=detached(ticket.arguments))


def threads(max_workers: int = 32) -> ThreadsExecutor:
    """Run steps in threads, `max_workers` at a time: for ops that wait for something."""
    return ThreadsExecutor(checked_workers(max_workers, "threads"))
