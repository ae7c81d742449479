"""Is the log of a run valid, and is every output there? Every rule of FORMAT.md's section Validity, and what follows.

Rows are read once. A row that breaks a rule does not end the reading: numbers, bodies and digests (V1, V2, V15) are
checked to the end of the log, the other rules up to the first event that cannot follow the ones before it.
"""

from collections.abc import Callable, Iterator

import msgspec

from runstore.audit.anchor import Anchor, parse_anchor
from runstore.audit.consistency import CHECKED, Consistency, Fault
from runstore.audit.finding import Finding
from runstore.audit.presence import Presence
from runstore.audit.reuse import TAKEN_KINDS, Reuse
from runstore.audit.rows import raw_rows
from runstore.audit.stored import counted
from runstore.errors import FormatTooNew, InvalidKey, LogDamaged
from runstore.log.codec import LogDigest, decode
from runstore.log.events import STORES, AnyEvent, OutputDeleted
from runstore.log.replay import SEALED_KINDS
from runstore.log.state import RunState
from runstore.store import RunStore

Progress = Callable[[int], None]
"""Told now and then how many rows were read."""

_TELL = 10_000


class Verification(msgspec.Struct, frozen=True):
    """What was checked, what was found, and what that proves."""

    run_id: str
    status: str
    events: int
    checked_to: int
    """The last event up to which all rules were checked; less than `events` where one cannot follow."""
    outputs: int
    """How many outputs that count were looked for."""
    deleted: int
    """How many more counted and were deleted by `runstore prune`."""
    deep: bool
    """Their bytes were hashed too."""
    anchor: str
    """Of the log as it is now: keep it."""
    findings: tuple[Finding, ...]
    proves: tuple[str, ...]
    cannot_prove: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing is off."""
        return not self.findings


def verify(
    store: RunStore,
    run: str = "last",
    *,
    deep: bool = False,
    anchor: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a run. `deep`: hash the bytes of every output; `anchor`: what `anchor` has given once.

    Raises RunNotFound; ConfigError for what is no anchor. Whatever is off is a finding, not an error.
    """
    run_id = store.resolve(run)
    given = parse_anchor(run_id, anchor) if anchor is not None else None
    reading = _Reading(store, run_id, deep=deep, anchor=given)
    for row in raw_rows(store, run_id):
        reading.row(*row)
        if progress is not None and row[0] % _TELL == 0:
            progress(row[0])
    findings = tuple(sorted(reading.close(), key=lambda one: one.seq))
    return Verification(
        run_id=run_id,
        status=_status(store, run_id),
        events=reading.last,
        checked_to=reading.state.seq,
        outputs=reading.presence.counted,
        deleted=reading.presence.deleted,
        deep=deep,
        anchor=str(Anchor(run_id, reading.last, reading.digest.hexdigest())),
        findings=findings,
        proves=tuple(_proves(reading, given)),
        cannot_prove=tuple(_cannot_prove(reading, given)),
    )


def _status(store: RunStore, run_id: str) -> str:
    try:
        return store.run(run_id).status
    except LogDamaged:
        return "unreadable"


class _Reading:
    """One reading of a log."""

    def __init__(self, store: RunStore, run_id: str, *, deep: bool, anchor: Anchor | None) -> None:
        self.state, self.digest, self.last = RunState(run_id), LogDigest(), 0
        self.sealed_at = 0
        """The last event whose `log_digest` is that of all rows before it."""
        self.anchored = False
        self._findings: list[Finding] = []
        self._run_id, self._anchor = run_id, anchor
        self._follows = self._digests_hold = True
        self._consistency, self.reuse = Consistency(), Reuse(store)
        self.presence = Presence(store, run_id, deep=deep)

    def row(self, seq: int, body: str) -> None:
        """Take in the next row."""
        if seq != self.last + 1:
            missing = (
                f"{self.last + 1}" if seq == self.last + 2 else f"{self.last + 1} to {seq - 1}"
            )
            self._find("V1", seq, f"follows seq {self.last}; the rows {missing} are missing")
            self._follows = False
        event = self._decoded(seq, body)
        kind = type(event)
        if event is not None:
            if kind in SEALED_KINDS:
                self._check_digest(seq, event)
            if self._follows:
                self._apply(seq, event)
            if isinstance(event, OutputDeleted):
                self.presence.deleted_by(event)
            elif isinstance(event, STORES):
                self.presence.expect(seq, event)
        self.digest.update(seq, body)
        self.last = seq
        if self._anchor is not None and not self.anchored and self._anchor.seq in (0, seq):
            self.anchored = self.digest.hexdigest() == self._anchor.digest

    def close(self) -> list[Finding]:
        """All that was found."""
        if not self.last:
            self._find("V1", 0, "the log has no rows")
        counts = {one[3] for one in counted(self.state)} if self._follows else None
        self._findings += self.presence.close(counts)
        if self._anchor is not None and not self.anchored:
            self._find("anchor", self._anchor.seq, self._broken_anchor())
        return self._findings

    def _broken_anchor(self) -> str:
        assert self._anchor is not None
        if self._anchor.seq > self.last:
            return f"the log ends at seq {self.last}; rows up to {self._anchor.seq} are gone"
        return "no row is where the log had this digest: something before it was edited, removed or reordered"

    def _find(self, rule: str, seq: int, fact: str, step: str = "") -> None:
        self._findings.append(Finding(rule, seq, fact, step))

    def _decoded(self, seq: int, body: str) -> AnyEvent | None:
        try:
            return decode(body, self._run_id, seq)
        except (LogDamaged, FormatTooNew) as error:
            self._find("V2", seq, _fact(error))
            self._follows = False
            return None

    def _check_digest(self, seq: int, event: AnyEvent) -> None:
        if getattr(event, "log_digest", "") == self.digest.hexdigest():
            self.sealed_at = seq
        elif self._digests_hold:
            after = f" after seq {self.sealed_at}" if self.sealed_at else ""
            self._find(
                "V15",
                seq,
                f"the rows before it{after} are not those that were there when it was appended",
            )
            self._digests_hold = False  # each later digest covers the same rows again

    def _apply(self, seq: int, event: AnyEvent) -> None:
        try:
            faults: list[Fault] = []
            if type(event) in CHECKED:
                faults += self._consistency.faults(self.state, seq, event)
            self.state.apply(seq, event)
            if type(event) in TAKEN_KINDS:
                faults += self.reuse.faults(event)
        except LogDamaged as error:
            self._find(error.rule, seq, _fact(error), getattr(event, "step", ""))
            self._follows = False
        except InvalidKey as error:
            self._find("V7", seq, str(error), getattr(event, "step", ""))
            self._follows = False
        else:
            for rule, fact in faults:
                self._find(rule, seq, fact, getattr(event, "step", ""))


def _fact(error: Exception) -> str:
    text = str(error).partition(": ")[2] or str(error)
    return text.partition("; nothing was written")[0].partition("; the log is damaged")[0]


def _proves(reading: _Reading, anchor: Anchor | None) -> Iterator[str]:
    if reading.anchored and anchor is not None:
        upto = anchor.seq or "the row of the anchor"
        yield f"nothing up to seq {upto} was edited, removed or reordered since the anchor was taken"
    if reading.sealed_at > 1:
        yield (
            f"rows 1 to {reading.sealed_at - 1:,} are those that were there when seq {reading.sealed_at:,} was "
            "appended, unless whoever changed them has computed every later digest anew"
        )
    reuse = reading.reuse
    if reuse.asked is not None and reuse.steps and not reuse.has_faults:
        yield (
            f"each of the {reuse.steps:,} steps taken from run {reuse.asked.run!r} had succeeded there, with the same "
            "outputs"
        )


def _cannot_prove(reading: _Reading, anchor: Anchor | None) -> Iterator[str]:
    if reading.last > reading.sealed_at:
        first = max(reading.sealed_at, 1)
        rows = f"rows {first:,} to {reading.last:,}"
        yield f"{rows} are covered by no digest yet: a well-formed edit of them does not show"
    if reading.reuse.unproven:
        yield f"{reading.reuse.unproven}; whether what was taken from it is what it held cannot be told"
    if not reading.anchored:
        yield (
            "a log that lost its tail is a valid, shorter log, and who can rewrite the file can compute all digests "
            "anew: keep what `runstore anchor` prints elsewhere"
        )
    elif anchor is not None and anchor.seq and anchor.seq < reading.last:
        yield f"the anchor says nothing of the rows after seq {anchor.seq:,}"
