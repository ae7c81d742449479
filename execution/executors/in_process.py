"""Steps run one at a time, in the process and thread of the engine."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from execution.running.hook_runner import HookTicket, run_hook
from execution.running.resources import Resources
from execution.running.step_runner import Ticket, Told, run_step
from execution.running.worker import Worker
from runstore.outputs.output_store import OutputStore


class InProcessExecutor:
    """The default executor. Only the stores of a generator overlap, where the storage gains from it."""

    capacity = 1

    def __init__(self) -> None:
        self.exceptions: dict[str, BaseException] = {}
        """Step key -> what it raised, for a caller in the same process."""
        self._outputs: OutputStore | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._messages: Iterator[Told] = iter(())
        self._worker = Worker()

    def open(self, outputs: OutputStore, resources: Resources) -> None:
        """Get ready to run steps that write to these outputs; nothing of the resources is opened yet."""
        self._outputs, self._worker = outputs, Worker(resources)
        if outputs.parallel > 1:
            self._pool = ThreadPoolExecutor(outputs.parallel, thread_name_prefix="runstore-store")

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """Queue an attempt or the call of a hook; the code runs inside `next_message`."""
        assert self._outputs is not None
        if isinstance(ticket, HookTicket):
            self._messages = run_hook(ticket, self._outputs, self._worker)
            return
        pool = self._pool if ticket.op.is_dynamic or ticket.op.streamed_inputs else None
        self._messages = run_step(ticket, self._outputs, pool, self._worker)

    def next_message(self, timeout_s: float | None = None) -> Told:
        """Run on until the attempt has something to tell, however long that takes."""
        told = next(self._messages)
        if told.exception is not None:
            self.exceptions[told.step_key] = told.exception
        return told

    def close(self) -> None:
        """Drop what is running."""
        self._messages = iter(())
        try:
            self._worker.close()
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
