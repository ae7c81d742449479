"""What runs steps: the contract between the engine and its workers.

For authors of other executors. The engine decides which attempt begins and is the one writer of the log; an executor
has places for attempts, brings each ticket to a worker, and brings back what the worker tells. It never sees the log.

- `open` comes first, `close` last; between them all methods are called by one thread, that of the engine (`at_work`
  alone by any). An executor that is not open holds nothing but what it was made with: it may be copied, opened again
  after `close`, and pickled.
- A ticket is submitted only where there is room, after its start is on disk. A worker runs it by `messages_of`, which
  gives what is to be told as it becomes true: each piece of a dynamic output alone, the end with all that is left.
  Each `Told` goes to the engine at once and in the order of its attempt; attempts overtake each other as they like.
- The last `Told` of an attempt frees its place, and no attempt has two. Where its worker is lost, the executor tells
  the end in its stead (`told_of_loss`); what a worker said before that counts, what arrives later does not.
- `op.timeout_s`: an executor that can stop an attempt does so when its time is up, and tells `told_of_timeout`; where
  it cannot, `messages_of` says at the end that it took too long.
- References of a collect are read from the log when they are asked for, so by the engine's thread: `detached` arguments
  can be loaded elsewhere.
- A `Wait` is no news: nothing is to be done for this attempt before some bytes have arrived. `waited` waits for them; a
  worker that goes on with another attempt meanwhile calls `outputs.flush()` before it waits with nothing to do.
- What `messages_of` raises (StorageFailed, ResourceFailed) meets every step: `next_message` raises it, the run stops.
- A `Worker` has a name, unless it is the process that drives the run: the event that ends an attempt says who ran it,
  so that nobody has to know it before. Where the end is told in its stead, the executor gives the name.
- Values never come back, only events: what a worker stores is where its reference says.
- Resources (`Brief.resources`) are opened once for all workers of a process, an event loop for each worker.
- A worker in another process loads the job by itself, makes a `Brief` of what it was sent, and opens its own outputs
  (`reopen_outputs`). Credentials never travel: it finds them where the executor's process has found them.

`tests/unit/executor_contract.py` holds each executor to this.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from typing import Any, Protocol

from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket, run_hook
from execution.running.step_runner import run_step
from execution.running.told import Ticket, Told, Wait
from execution.running.worker import Worker
from runstore.errors import ConfigError
from runstore.outputs.output_store import OutputStore


class Executor(Protocol):
    """Runs attempts and tells what becomes of them."""

    @property
    def is_inline(self) -> bool:
        """True where steps run in the thread of the engine, inside `next_message`: then Ctrl-C is theirs. Where they do
        not, it is a request to stop, after which `close` comes when they have ended, or have had their time.
        """

    @property
    def has_room(self) -> bool:
        """True when another attempt may be submitted."""

    @property
    def at_work(self) -> Mapping[str, str]:
        """Step key -> name of the worker that runs it, as far as known, for whoever watches; any thread may ask, at any
        time, and keep what it gets.
        """

    def open(self, outputs: OutputStore, brief: Brief) -> None:
        """Get ready to run steps that write to these outputs. Nothing of the resources is opened yet."""

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """Run an attempt, or call a hook, which takes a place as an attempt does."""

    def next_message(self, timeout_s: float | None = None) -> Told | None:
        """Wait for what any running attempt tells next; None where none has after `timeout_s`, if that is given, or
        where there is room again for an attempt.

        An executor that runs steps in this very call may overstay the time. Raises StorageFailed where outputs cannot
        be written, and ResourceFailed.
        """

    def close(self) -> None:
        """Stop what runs, if it can be stopped; nothing is told any more. May be called again.

        Raises ResourceFailed where a resource could not be closed.
        """


def messages_of(
    ticket: Ticket | HookTicket, outputs: OutputStore, worker: Worker
) -> Iterator[Told | Wait]:
    """Run an attempt, or call a hook, in a worker."""
    if isinstance(ticket, HookTicket):
        return run_hook(ticket, outputs, worker)
    return run_step(ticket, outputs, worker)


def waited(messages: Iterator[Told | Wait], outputs: OutputStore) -> Iterator[Told]:
    """What an attempt tells, for a worker that does nothing else meanwhile."""
    for told in messages:
        if isinstance(told, Wait):
            outputs.flush()
            wait(told.futures)
        else:
            yield told


def checked_workers(max_workers: Any, executor: str) -> int:
    """How many workers an executor may have; raises ConfigError for anything but a whole number from 1 on."""
    if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
        raise ConfigError(
            f"{executor} cannot have {max_workers!r} workers; write a whole number from 1 on"
        )
    return max_workers
