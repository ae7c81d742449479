"""An executor whose workers live from `open` to `close`, several at a time: what all such have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket, Told
from runstore.outputs.output_store import OutputStore


class Pool(Protocol):
    """The workers of one epoch."""

    at_work: dict[str, str]
    """Step key -> worker; changed by one operation at a time, so that another thread may take a copy."""

    @property
    def has_room(self) -> bool:
        """As of an executor."""

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """As of an executor."""

    def next_message(self, timeout_s: float | None) -> Told | None:
        """As of an executor."""

    def close(self) -> None:
        """As of an executor; once."""


class PooledExecutor(ABC):
    """Several steps at a time; a subclass says by which pool."""

    is_inline = False

    def __init__(self) -> None:
        self._pool: Pool | None = None

    @abstractmethod
    def pool(self, outputs: OutputStore, brief: Brief) -> Pool:
        """A new one, which runs nothing yet."""

    def open(self, outputs: OutputStore, brief: Brief) -> None:
        """Get ready; raises what `pool` does."""
        self._pool = self.pool(outputs, brief)

    @property
    def has_room(self) -> bool:
        """True while its workers can take another attempt."""
        return self._pool is not None and self._pool.has_room

    @property
    def at_work(self) -> Mapping[str, str]:
        """Step key -> the worker that runs it."""
        pool = self._pool
        return dict(pool.at_work) if pool else {}

    def submit(self, ticket: Ticket | HookTicket) -> None:
        """Give an attempt, or the call of a hook, to a worker that is free."""
        assert self._pool is not None
        self._pool.submit(ticket)

    def next_message(self, timeout_s: float | None = None) -> Told | None:
        """What a worker tells next, or what has become of it."""
        assert self._pool is not None
        return self._pool.next_message(timeout_s)

    def close(self) -> None:
        """Stop what runs, as far as it can be stopped, and close the resources."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
