"""What runs steps: the contract between the engine and its workers."""

from typing import Protocol

from execution.running.hook_runner import HookTicket
from execution.running.resources import Resources
from execution.running.step_runner import Ticket, Told
from runstore.outputs.output_store import OutputStore


class Executor(Protocol):
    """Runs attempts and tells what becomes of them.

    The engine submits a ticket only after its start is committed, and only where there is room; each attempt's last
    message frees its place. Messages of one attempt come in order.
    """

    @property
    def has_room(self) -> bool:
        """True when another attempt may be submitted."""

    def open(self, outputs: OutputStore, resources: Resources) -> None:
        """Get ready to run steps that write to these outputs; each process that runs them opens its own resources."""

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """Run an attempt, or call a hook, which takes a place as an attempt does."""

    def next_message(self, timeout_s: float | None = None) -> Told | None:
        """Wait for what any running attempt tells next; None where none has after `timeout_s`, if that is given, or
        where there is room again for an attempt.

        The engine gives a time where it has room for a step that will be due. An executor without room may overstay it.
        Raises StorageFailed where outputs cannot be written, and ResourceFailed.
        """

    def close(self) -> None:
        """Stop; nothing is told any more. Raises ResourceFailed where a resource could not be closed."""
