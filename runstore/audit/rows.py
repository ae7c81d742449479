"""What stands in the log, row by row, also where this version does not understand it.

Read in batches, none of which keeps the database's snapshot open: whoever pages through a log, or follows it for hours,
holds up no writer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import msgspec

from runstore.errors import FormatTooNew, LogDamaged
from runstore.log.codec import decode
from runstore.log.event_log import Row
from runstore.log.events import AnyEvent
from runstore.store import RunStore

_BATCH = 1_000


class LogRow(msgspec.Struct, frozen=True):
    """A row: its seq, its body as it stands on disk, and its event."""

    seq: int
    body: str
    event: AnyEvent | None
    """None where this version cannot read the body: show it raw, never refuse it."""


def rows(store: RunStore, run: str = "last", after: int = 0) -> Iterator[LogRow]:
    """Every row of a run after seq `after`, in order."""
    run_id = store.resolve(run)
    for seq, body in raw_rows(store, run_id, after):
        yield LogRow(seq, body, _event(body, run_id, seq))


def raw_rows(store: RunStore, run_id: str, after: int = 0) -> Iterator[Row]:
    """(seq, body) of every row of a run after seq `after`, in order."""
    while batch := list(islice(store.rows(run_id, after), _BATCH)):
        yield from batch
        after = batch[-1][0]


@contextmanager
def taken_as_valid(store: RunStore, run_id: str) -> Iterator[None]:
    """For a reading that takes the log to be valid, without folding it: where it stumbles, the fold says why.

    Raises LogDamaged or FormatTooNew, naming the row and its rule, in place of what a damaged log has led to.
    """
    try:
        yield
    except (msgspec.DecodeError, UnicodeError, RecursionError, LookupError, AttributeError):
        store.state(run_id)
        raise


def _event(body: str, run_id: str, seq: int) -> AnyEvent | None:
    try:
        return decode(body, run_id, seq)
    except (FormatTooNew, LogDamaged):
        return None
