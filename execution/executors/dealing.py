"""Which ticket goes to which free place of a cluster, and which go together; pure.

Tickets go in the order in which they came. Those of steps that are known to be short go together, as many as are done
in a moment, since bringing a batch to a worker costs more than such a step; dealt out in turn, so that they begin in
their order. A step of unknown or long duration goes alone, and holds up nothing.
"""

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from math import inf
from typing import Annotated, NamedTuple

import msgspec

from execution.running.brief import Brief
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket
from runstore.errors import ConfigError

SHORT_S = 0.025
"""A step that takes longer has no company."""
BATCH_S = 0.1
"""How long a batch is to take."""
MOST = 200
"""Tickets in a batch."""

Kind = tuple[str, str]
"""What is taken to last about as long: steps of a node, calls of a hook."""


def kind_of(ticket: Ticket | HookTicket) -> Kind:
    """The kind of a ticket."""
    if isinstance(ticket, HookTicket):
        return ("hook", ticket.hook.name)
    return ("node", ticket.context.node)


class Durations:
    """How long tickets of each kind last, learned from those that have ended: fast from a long one, slowly back."""

    def __init__(self) -> None:
        self._known: dict[Kind, float] = {}

    def learn(self, kind: Kind, took_s: float) -> None:
        """One has taken so long."""
        known = self._known.get(kind)
        self._known[kind] = took_s if known is None else known + (took_s - known) / 5

    def of(self, kind: Kind) -> float:
        """How long the next will probably take; infinite where none has ended."""
        return self._known.get(kind, inf)


class Waiting(NamedTuple):
    """A ticket that has no place yet."""

    ticket: Ticket | HookTicket
    needs: Mapping[str, float]
    """Resources that its worker must have to spare."""


class Lane:
    """A free place: a thread of a worker."""

    def __init__(self, address: str, spare: dict[str, float]) -> None:
        self.address = address
        self.spare = spare
        """Resources that its worker has to spare; one mapping for all lanes of a worker."""
        self.batch: list[Waiting] = []
        self.load_s = 0.0


def deal(waiting: deque[Waiting], lanes: Sequence[Lane], durations: Durations) -> list[Lane]:
    """Move tickets from `waiting` to lanes; the lanes that have got some. What fits nowhere keeps its turn."""
    by_load = [(0.0, number) for number in range(len(lanes))]
    left: list[Waiting] = []
    while waiting and by_load and by_load[0][0] < BATCH_S:
        entry = waiting.popleft()
        cost_s = cost_of(entry, durations)
        if entry.needs:
            place = _fitting(entry, by_load, lanes)
        else:
            load_s, number = by_load[0]
            place = 0 if load_s == 0 or load_s + cost_s <= BATCH_S else None
        if place is None:
            left.append(entry)
            continue
        _, number = by_load[place]
        lane = lanes[number]
        lane.batch.append(entry)
        for name, amount in entry.needs.items():
            lane.spare[name] -= amount
        lane.load_s = BATCH_S if len(lane.batch) == MOST else lane.load_s + max(cost_s, 1e-6)
        if place:
            by_load[place] = (lane.load_s, number)
            heapq.heapify(by_load)
        else:
            heapq.heapreplace(by_load, (lane.load_s, number))
    waiting.extendleft(reversed(left))
    return [lane for lane in lanes if lane.batch]


def cost_of(entry: Waiting, durations: Durations) -> float:
    """How long it will take, infinite where it has to go alone: also what was on a worker that was lost, which may be
    the reason for that.
    """
    ticket = entry.ticket
    if entry.needs:
        return inf
    if isinstance(ticket, Ticket) and (
        ticket.losses or ticket.op.timeout_s or ticket.op.rate_per_s or ticket.op.concurrency
    ):
        return inf  # of a limited op several at a time would begin together
    took_s = durations.of(kind_of(ticket))
    return took_s if took_s <= SHORT_S else inf


def _fitting(
    entry: Waiting, by_load: Sequence[tuple[float, int]], lanes: Sequence[Lane]
) -> int | None:
    for place, (load_s, number) in enumerate(by_load):
        if load_s == 0 and fits(entry.needs, lanes[number].spare):
            return place
    return None


def fits(needs: Mapping[str, float], spare: Mapping[str, float]) -> bool:
    """True where a worker has all that is needed."""
    return all(spare.get(name, 0) >= amount for name, amount in needs.items())


def together(durations: Durations, ticket: Ticket | HookTicket) -> int:
    """How many like this one go to a place at a time."""
    cost_s = cost_of(Waiting(ticket, {}), durations)
    return 1 if cost_s == inf else max(1, min(MOST, int(BATCH_S / max(cost_s, 1e-6))))


RESOURCES_TAG = "dask/resources"


def needs_of(node: str, brief: Brief) -> dict[str, float]:
    """What the tag `dask/resources` of a node asks of its worker; raises ConfigError where it is no such thing."""
    text = brief.tags_of(node).get(RESOURCES_TAG)
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Annotated[float, msgspec.Meta(gt=0)]])
    except (msgspec.DecodeError, UnicodeError):
        raise ConfigError(
            f"op {node!r}: the tag {RESOURCES_TAG!r} is {text!r}; write amounts by name, {{'GPU': 1}}"
        ) from None
