"""What the workers of a cluster have in hand: which tickets of which batch have not ended, and what takes too long.

A ledger: it knows what was sent and heard of, and decides nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from time import perf_counter

from execution.executors.dealing import Waiting
from execution.executors.roster import Member
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket

SILENT_S = 5.0
"""So long after its end a batch may be silent; then it is lost."""
STUCK_S = 1.0
"""A batch that has not begun by then is asked back where another worker could begin it."""


@dataclass(slots=True)
class Batch:
    """Tickets that a worker has."""

    member: Member
    entries: list[Waiting]
    left: dict[int, float]
    """Place of each ticket that has not ended -> when it was heard of last."""
    since: float
    heard: int = 0
    """How many reports have come."""
    is_asked_back: bool = False

    def ticket(self, place: int) -> Ticket | HookTicket:
        """The ticket at a place."""
        return self.entries[place].ticket


class Batches:
    """Those that have not ended, by number."""

    def __init__(self) -> None:
        self._open: dict[int, Batch] = {}
        self._number = 0
        self._silent: dict[int, float] = {}
        """Batch that has ended without saying so -> when it is not waited for any more."""
        self._timed: dict[int, float] = {}
        """Batch -> when its one ticket has taken too long."""

    def __iter__(self) -> Iterator[int]:
        return iter(self._open)

    def find(self, number: int) -> Batch | None:
        """The batch of that number; None where it is not waited for any more."""
        return self._open.get(number)

    def sent(self, member: Member, entries: list[Waiting]) -> int:
        """A batch is on its way to a worker; its number."""
        self._number += 1
        now = perf_counter()
        self._open[self._number] = Batch(
            member, entries, dict.fromkeys(range(len(entries)), now), now
        )
        member.batches.add(self._number)
        member.free -= 1
        return self._number

    def forget(self, number: int) -> Batch:
        """A batch is not waited for any more: its worker has room again."""
        batch = self._open.pop(number)
        self._timed.pop(number, None)
        self._silent.pop(number, None)
        member = batch.member
        member.batches.discard(number)
        member.free += 1
        for name, amount in batch.entries[0].needs.items():
            member.spare[name] += amount
        return batch

    def begun(self, number: int, place: int) -> None:
        """A ticket was begun; where it may take so long only, and could be stopped, its time runs."""
        batch = self._open[number]
        now = batch.left[place] = perf_counter()
        ticket = batch.ticket(place)
        if isinstance(ticket, Ticket) and ticket.op.timeout_s and batch.member.hello.has_nanny:
            self._timed[number] = now + ticket.op.timeout_s

    def ended(self, number: int, place: int) -> None:
        """A ticket has ended."""
        del self._open[number].left[place]
        self._timed.pop(number, None)

    def told_done(self, number: int) -> None:
        """The cluster says that a batch has ended, of which the worker may not have told all yet."""
        if number in self._open:
            self._silent.setdefault(number, perf_counter() + SILENT_S)

    def time_left_s(self) -> float:
        """Until the first ticket will have taken too long."""
        return min(self._timed.values(), default=inf) - perf_counter()

    def silent(self) -> list[int]:
        """The batches that have ended long ago and do not say so."""
        now = perf_counter()
        return [number for number, at in self._silent.items() if at <= now]

    def overdue(self) -> list[int]:
        """The batches whose one ticket has taken too long."""
        now = perf_counter()
        return [number for number, at in self._timed.items() if at <= now]

    def stuck(self) -> list[tuple[int, Batch]]:
        """Those that have not begun for a while, and were not asked back."""
        before = perf_counter() - STUCK_S
        return [
            (number, batch)
            for number, batch in self._open.items()
            if not batch.heard and batch.since <= before and not batch.is_asked_back
        ]
