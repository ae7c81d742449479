"""The rolling digest of a run's log, to be kept where whoever can write to the store cannot.

`SEQ:SHA256`: so many rows, and the digest over them as FORMAT.md gives it for `log_digest`.
"""

import re

import msgspec

from runstore.audit.rows import raw_rows
from runstore.errors import ConfigError, LogDamaged
from runstore.log.codec import LogDigest
from runstore.store import RunStore

_TEXT = re.compile(r"(?:(\d{1,10}):)?([0-9a-f]{64})")


class Anchor(msgspec.Struct, frozen=True):
    """Where a log stood at a time."""

    run_id: str
    seq: int
    """How many rows the digest covers; 0 where it is not said."""
    digest: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.digest}"


def anchor(store: RunStore, run: str = "last") -> Anchor:
    """The digest over all rows that the run has now. Raises RunNotFound, LogDamaged where there are none."""
    run_id = store.resolve(run)
    digest, last = LogDigest(), 0
    for seq, body in raw_rows(store, run_id):
        digest.update(seq, body)
        last = seq
    if not last:
        raise LogDamaged(f"run {run_id!r}: the log has no rows; restore it from a copy", "V1")
    return Anchor(run_id, last, digest.hexdigest())


def parse_anchor(run_id: str, text: str) -> Anchor:
    """An anchor as it was printed, or its digest alone; raises ConfigError."""
    found = _TEXT.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigError(
            f"{text!r} is no anchor; give what `runstore anchor {run_id}` has printed, SEQ:SHA256"
        )
    return Anchor(run_id, int(found[1] or 0), found[2])
