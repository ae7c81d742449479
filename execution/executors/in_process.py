"""Steps run one at a time, in the process and thread of the engine.

While the outputs of some are on their way to storage, the next one runs: an attempt that waits for nothing but storage
is set aside, and taken up again when its bytes have landed. Beside an op that takes far longer than storage this would
gain nothing and could cost finished work, so such a one has no company.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from math import inf
from queue import Empty, SimpleQueue
from time import perf_counter

import msgspec

from execution.executors.base import messages_of
from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket, Told, Wait
from execution.running.worker import Worker
from runstore.outputs.output_store import OutputStore

FAR_LONGER = 10


class _Attempt(msgspec.Struct, eq=False):
    """An attempt that was submitted, as far as it is."""

    messages: Iterator[Told | Wait]
    op: str
    op_has_run: bool = False
    is_long: bool = False


class InProcessExecutor:
    """The default executor."""

    is_inline = True

    def __init__(self) -> None:
        self.exceptions: dict[str, BaseException] = {}
        """Step key -> what it raised, for a caller in the same process."""
        self._outputs: OutputStore | None = None
        self._worker = Worker()
        self._window = 1
        self._submitted: _Attempt | None = None
        self._at_work: _Attempt | None = None
        """One that has told something and goes on."""
        self._in_flight = 0
        """Attempts that were set aside, also those that are back and have not had their turn."""
        self._aside = self._long_loads = self._long_stores = 0
        """Those that are not back: all, and of ops that take far longer than storage."""
        self._back: SimpleQueue[_Attempt] = SimpleQueue()
        """Those that need not wait any longer; filled by the threads of the storage."""
        self._stored: deque[_Attempt] = deque()
        self._loaded: deque[_Attempt] = deque()
        self._op_s: dict[str, float] = {}
        """Op -> how long it took when it last ran."""
        self._storage_s = 0.0
        """How long outputs were last on their way."""

    def open(self, outputs: OutputStore, brief: Brief) -> None:
        """Get ready to run steps that write to these outputs; nothing of the resources is opened yet."""
        self._outputs, self._worker = outputs, Worker(brief.resources())
        self._window = outputs.window

    @property
    def has_room(self) -> bool:
        """True when nothing but storage is being waited for, and not for too much."""
        if self._submitted is not None or self._at_work is not None:
            return False
        if not self._in_flight:
            return True
        return self._in_flight < self._window and not (self._long_loads or self._long_stores)

    @property
    def at_work(self) -> Mapping[str, str]:
        """Nothing that the log does not say: there is one worker, the engine's process."""
        return {}

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """Queue an attempt or the call of a hook; the code runs inside `next_message`."""
        assert self._outputs is not None
        name = ticket.hook.name if isinstance(ticket, HookTicket) else ticket.op.name
        self._submitted = _Attempt(messages_of(ticket, self._outputs, self._worker), name)

    def next_message(self, timeout_s: float | None = None) -> Told | None:
        """Run on until an attempt has something to tell, however long that takes; None as soon as there is room for
        another one, or where nothing has come back after `timeout_s`.
        """
        while (attempt := self._next(timeout_s)) is not None:
            begun = perf_counter()
            told = next(attempt.messages)
            if isinstance(told, Wait):
                if told.op_has_run:
                    self._op_s[attempt.op] = perf_counter() - begun
                self._set_aside(attempt, told)
                if self.has_room:
                    return None
                continue
            self._at_work = None if told.is_last else attempt
            if told.exception is not None:
                self.exceptions[told.step_key] = told.exception
            return told
        return None

    def _next(self, timeout_s: float | None) -> _Attempt | None:
        """The attempt to go on with: one op at a time, and what has run before what has not."""
        attempt, self._at_work = self._at_work, None
        if attempt is not None:
            return attempt
        if self._aside:
            self._take_back(0.0)
            while self._long_stores and not self._stored:
                self._take_back(None)
        if not self._stored and not self._loaded:
            attempt, self._submitted = self._submitted, None
            if attempt is not None or not self._aside:
                return attempt
            self._take_back(timeout_s)
        waiting = self._stored or self._loaded
        if not waiting:
            return None
        self._in_flight -= 1
        return waiting.popleft()

    def _take_back(self, timeout_s: float | None) -> None:
        """Sort those that came back; wait for one where a time is given."""
        if timeout_s != 0.0:
            assert self._outputs is not None
            self._outputs.flush()
        try:
            attempt = self._back.get(timeout_s != 0.0, timeout_s)
            while True:
                self._aside -= 1
                if attempt.op_has_run:
                    self._long_stores -= attempt.is_long
                    self._stored.append(attempt)
                else:
                    self._long_loads -= attempt.is_long
                    self._loaded.append(attempt)
                attempt = self._back.get_nowait()
        except Empty:
            pass

    def _set_aside(self, attempt: _Attempt, wait: Wait) -> None:
        self._in_flight += 1
        self._aside += 1
        # Long, too, is an op that has not run yet.
        attempt.is_long = self._op_s.get(attempt.op, inf) > FAR_LONGER * self._storage_s
        attempt.op_has_run = wait.op_has_run
        if wait.op_has_run:
            self._long_stores += attempt.is_long
        else:
            self._long_loads += attempt.is_long
        begun, futures, back = perf_counter(), iter(wait.futures), self._back

        def when_done(_: "Future[object] | None" = None) -> None:
            for future in futures:
                if not future.done():
                    future.add_done_callback(when_done)
                    return
            if wait.op_has_run:
                self._storage_s = perf_counter() - begun
            back.put(attempt)

        when_done()

    def close(self) -> None:
        """Drop what is running."""
        self._submitted = self._at_work = None
        self._in_flight = self._aside = self._long_loads = self._long_stores = 0
        self._back = SimpleQueue()
        self._stored, self._loaded = deque(), deque()
        self._worker.close()
