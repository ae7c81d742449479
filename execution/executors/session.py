"""One run in a process that serves many: what a worker of a cluster holds of it, and how it runs a batch of tickets.

Threads of the process run batches side by side; the outputs and the resources are theirs together. A ticket is begun
once, here or nowhere: what a batch has not begun when it has taken long is given back, for others to run.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Protocol

from execution.executors.base import messages_of, waited
from execution.executors.opening import opened
from execution.executors.packing import pack_stop, pack_told, unpack
from execution.executors.reports import Line, Report, encode, no_session
from execution.running.resources import Resources
from execution.running.worker import Worker
from runstore.outputs.output_store import OutputStore

FLUSH_S = 0.005
"""What is told within this time of each other travels together."""
GIVE_BACK_S = 0.3
"""A batch that has not ended by then gives back what it has not begun."""


class Post(Protocol):
    """The way from a worker to the engine. Its methods may be called by any thread."""

    def send(self, message: bytes) -> None:
        """Send a report; they arrive in the order in which they are sent, as long as this process lives."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something, in a thread that must not be kept waiting."""

    def is_heard(self) -> bool:
        """False once the engine has given up this batch, or is gone."""


class Session:
    """A run's outputs, brief and resources in this process."""

    def __init__(self, opening: bytes, threads: int, worker: str = "") -> None:
        self._worker = worker
        """The name of this process, for the log."""
        self.token = uuid.uuid4().hex
        self.outputs, self.brief = opened(opening)
        self._resources = self.brief.resources(several_loops=threads > 1)
        self._free: list[Worker] = []
        self._lock = threading.Lock()
        self._begun: set[int] = set()
        self._running = 0
        self._is_closed = False

    def close_late(self) -> None:
        """Close what is open, in a thread: the engine is gone, and did not say that it goes."""
        threading.Thread(target=self._close_quietly, daemon=True).start()

    def run(self, batch: int, tickets: Sequence[Sequence[bytes]], post: Post) -> None:
        """Run the tickets of a batch, each the messages of `pack`, one after the other; unless it was run before."""
        with self._lock:
            if batch in self._begun:
                return  # who runs it says what becomes of it
            if self._is_closed:
                post.send(encode(no_session(batch)))
                return
            self._begun.add(batch)
            self._running += 1
            worker = self._free.pop() if self._free else Worker(self._resources, self._worker)
        try:
            Batch(self, batch, tickets, post).run(worker)
        finally:
            with self._lock:
                self._running -= 1
                self._free.append(worker)
            if self.is_closed:
                self._close_if_idle()

    def give_back(self, batch: int, post: Post) -> None:
        """Give a batch back, and do not run it when its turn comes; unless it has begun."""
        with self._lock:
            if batch in self._begun:
                return
            self._begun.add(batch)
        post.send(encode(Report(batch, 0, [], back_from=0, is_end=True)))

    @property
    def is_closed(self) -> bool:
        """True once nothing is to run any more."""
        return self._is_closed

    def close(self) -> None:
        """Close what is open, once the last batch has ended; raises ResourceFailed where that cannot be done."""
        self._is_closed = True
        self._close_if_idle()

    def _close_quietly(self) -> None:
        try:
            self.close()
        except Exception:
            logging.getLogger("runstore.session").exception("a resource of a run was not closed")

    def _close_if_idle(self) -> None:
        with self._lock:
            if self._running:
                return
            workers, self._free = self._free, []
        _close(workers, self._resources, self.outputs)


def _close(workers: list[Worker], resources: Resources, outputs: OutputStore) -> None:
    try:
        resources.close()  # before the loops, on which some may have been opened
    finally:
        for worker in workers:
            worker.loop.close()
        outputs.close()


class Batch:
    """The tickets of one batch, and how far they are."""

    def __init__(
        self, session: Session, number: int, tickets: Sequence[Sequence[bytes]], post: Post
    ) -> None:
        self._session = session
        self._tickets = tickets
        self._outbox = _Outbox(number, post)
        self._post = post
        self._next, self._end = 0, len(tickets)
        self._lock = threading.Lock()

    def run(self, worker: Worker) -> None:
        """Run what is not given back."""
        if self._end > 1:
            self._post.later(GIVE_BACK_S, self._give_back)
        else:
            self._outbox.add(Line(0))  # that it begins is news only where it may take long
        try:
            while (place := self._begin()) is not None and self._run_one(place, worker):
                pass
        finally:
            self._outbox.end()

    def _begin(self) -> int | None:
        with self._lock:
            if self._next >= self._end or not self._is_wanted():
                return None
            self._next += 1
            return self._next - 1

    def _is_wanted(self) -> bool:
        return not self._session.is_closed and self._post.is_heard()

    def _give_back(self) -> None:
        with self._lock:
            if self._next < self._end:
                self._end = self._next
                self._outbox.give_back(self._end)

    def _run_one(self, place: int, worker: Worker) -> bool:
        """True where there is nothing against another."""
        begun, session = perf_counter(), self._session
        try:
            first, *rest = self._tickets[place]
            ticket = unpack(first, iter(rest).__next__, session.brief)
            for told in waited(messages_of(ticket, session.outputs, worker), session.outputs):
                took_s = round(perf_counter() - begun, 6) if told.is_last else 0.0
                self._outbox.add(Line(place, pack_told(told), took_s))
                if not told.is_last and not self._is_wanted():
                    return False
        except BaseException as error:  # stops the run
            self._outbox.add(Line(place, pack_stop(error)))
            return False
        return True


class _Outbox:
    """What a batch has to report, sent in short intervals."""

    def __init__(self, batch: int, post: Post) -> None:
        self._batch = batch
        self._post = post
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._number = 0
        self._is_due = False

    def add(self, line: Line) -> None:
        with self._lock:
            self._lines.append(line)
            is_due, self._is_due = self._is_due, True
        if not is_due:
            self._post.later(FLUSH_S, self._flush)

    def give_back(self, place: int) -> None:
        self._send(back_from=place)

    def end(self) -> None:
        self._send(is_end=True)

    def _flush(self) -> None:
        with self._lock:
            self._is_due = False
        self._send()

    def _send(self, **more: Any) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            if lines or more:
                self._post.send(encode(Report(self._batch, self._number, lines, **more)))
                self._number += 1
