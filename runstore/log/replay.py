"""Rows to RunState: the log read once, in order, every row checked.

Pure but for the iterator it is given. The recorder replays before it appends, readers replay to answer.
"""

from collections.abc import Callable, Iterable

from runstore.errors import LogDamaged
from runstore.log.codec import HASHED_TOGETHER, LogDigest, decode
from runstore.log.event_log import Row
from runstore.log.events import (
    HOUSEKEEPING,
    AnyEvent,
    CollectResolved,
    ExpansionSealed,
    ReuseSealed,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunSucceeded,
)
from runstore.log.state import RunState

SEALED_KINDS = frozenset(
    {
        RunResumed,
        ReuseSealed,
        ExpansionSealed,
        CollectResolved,
        RunSucceeded,
        RunFailed,
        RunCancelled,
        *HOUSEKEEPING,
    }
)
"""Events that carry `log_digest`, the digest of all rows before them."""


Look = Callable[[int, AnyEvent], None]
"""Sees (seq, event) of every row, for a question that one reading of the log is to answer."""


def replay(
    rows: Iterable[Row], run_id: str, look: Look | None = None
) -> tuple[RunState, LogDigest]:
    """The state and the rolling digest of a run; raises LogDamaged or FormatTooNew naming run and seq."""
    state, digest = RunState(run_id), LogDigest()
    apply = state.apply
    unhashed: list[Row] = []
    for row in rows:
        seq, body = row
        event = decode(body, run_id, seq)
        if type(event) in SEALED_KINDS or len(unhashed) == HASHED_TOGETHER:
            digest.update_all(unhashed)
            unhashed.clear()
            _check_digest(run_id, seq, event, digest)
        apply(seq, event)
        unhashed.append(row)
        if look is not None:
            look(seq, event)
    digest.update_all(unhashed)
    if not state.seq:
        raise LogDamaged(
            f"run {run_id!r}: the log has no rows; nothing was written. Restore it from a copy",
            "V1",
        )
    return state, digest


def _check_digest(run_id: str, seq: int, event: AnyEvent, digest: LogDigest) -> None:
    if type(event) in SEALED_KINDS and event.log_digest != digest.hexdigest():  # type: ignore[union-attr]
        raise LogDamaged(
            f"run {run_id!r}, seq {seq}: the rows before it are not those that were there when it was appended; "
            "nothing was written. Restore the log from a copy",
            "V15",
        )
