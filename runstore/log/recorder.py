"""An open run: append, apply, commit. The only writer of its events.

Append and apply are one step, so that live running and replay cannot differ; what was appended stands on disk with the
next commit. A commit after which work begins on the strength of it comes first, always (law 3 of ARCHITECTURE.md).
"""

import datetime as dt
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from msgspec.structs import replace

from runstore import failpoints
from runstore.errors import RunAlive, RunConflict, StorageFailed
from runstore.log.claims import BEAT_S, Claims
from runstore.log.codec import LogDigest, decode, decode_reference, encode, find_reference
from runstore.log.database import CommitUncertain, Connection, Database
from runstore.log.digest_index import DigestIndex
from runstore.log.event_log import EventLog
from runstore.log.events import EPOCH_KINDS, STORES, AnyEvent, RunStarted
from runstore.log.expanded import StepId
from runstore.log.messages import Message, Messages
from runstore.log.replay import SEALED_KINDS, Look, replay
from runstore.log.state import RunState
from runstore.outputs.reference import OutputReference

GROUP_S = 0.010
"""A commit follows an appended event within this time, as soon as the executor is heard from again."""
GROUP_EVENTS = 256
GROUP_MESSAGES = 1_000
LOOK_S = 0.1
NEAR = 16_384
"""References that are kept in memory: some 6 MB."""
AHEAD = 1024
"""So many are read from the log together, where they are asked for in order."""
_utc_now = partial(dt.datetime.now, dt.UTC)
_BATCH = 500  # rows read back at a time; below SQLite's limit of parameters on old builds


class Recorder:
    """The writer of one run, in one epoch.

    Invariant: `state` is the fold of all rows on disk followed by the pending ones.
    """

    def __init__(
        self, database: Database, run: int, run_id: str, state: RunState, digest: LogDigest
    ) -> None:
        self.run_id = run_id
        self.state = state
        self._database = database
        self._log = EventLog(database)
        self._claims = Claims(database)
        self._digests = DigestIndex(database)
        self._run = run
        self._digest = digest
        self._pending: list[str] = []
        self._pending_since = 0.0
        self._messages: list[Message] = []
        self._near = _NearReferences()
        self._synced_at = self._beat_at = time.monotonic()
        self._unsynced = 0
        self._look_at = 0.0

    # Opening

    @classmethod
    def start(cls, database: Database, run_id: str, event: RunStarted) -> "Recorder":
        """Begin a new run: its number, its first event and its claim in one durable transaction.

        Raises RunConflict where another process has begun it meanwhile.
        """
        with database.transaction(full=True) as connection:
            run = number_of_new(database, connection, run_id)
            recorder = cls(database, run, run_id, RunState(run_id), LogDigest())
            recorder.append(event)
            recorder._open_epoch(connection)
        return recorder

    @classmethod
    def reopen(
        cls, database: Database, run: int, run_id: str, look: Look | None = None
    ) -> "Recorder":
        """Replay a run in order to write to it; `look` sees each event. Nothing is written before `open_epoch`."""
        return cls(database, run, run_id, *replay(EventLog(database).read(run), run_id, look))

    def open_epoch(self, *, take_over: bool = False) -> None:
        """Write what was appended since `reopen`, beginning with the event of a new epoch, and the claim in one durable
        transaction.

        Raises RunAlive while the run's executor lives, unless `take_over`; TakenOver if another has resumed it since
        `reopen`.
        """
        with self._database.transaction(full=True) as connection:
            refuse_living(self._claims, self._run, self.run_id, take_over=take_over)
            self._open_epoch(connection)

    def _open_epoch(self, connection: Connection) -> None:
        self._log.append(connection, self._run, self._first_pending, self._pending)
        self._claims.take(connection, self._run, self.state.epoch)
        self._forget_pending()

    # Appending

    def append(self, event: AnyEvent) -> StepId | None:
        """Stamp, apply and queue one event; returns the step that it settled, if it did."""
        failpoints.reached("event.before", event)
        state, kind = self.state, type(event)
        seq, epoch = state.seq + 1, state.epoch + (kind in EPOCH_KINDS)
        now = _utc_now()
        if now < state.time:  # the clock may be set back; time never decreases in a run
            now = state.time
        if kind in SEALED_KINDS:
            event = replace(event, log_digest=self._digest.hexdigest())
        event = replace(event, epoch=epoch, time=now)
        body = encode(event)
        settled = state.apply(seq, event)
        self._digest.update(seq, body)
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending.append(body)
        if kind in STORES:
            self._near.keep(seq, event.reference)  # type: ignore[union-attr]
        failpoints.reached("event.after", event)
        return settled

    def note(self, messages: Sequence[Message]) -> None:
        """Queue what a step has logged; it stands on disk with the events that are appended next, or not at all."""
        self._messages.extend(messages)

    @property
    def has_pending(self) -> bool:
        """True while something that was appended is not on disk."""
        return bool(self._pending)

    def is_due(self) -> bool:
        """True when the pending events have waited long enough, or are many."""
        waiting = self._pending
        return bool(waiting) and (
            len(waiting) >= GROUP_EVENTS
            or time.monotonic() - self._pending_since >= GROUP_S
            or len(self._messages) >= GROUP_MESSAGES
        )

    def commit(self, *, durable: bool = False) -> None:
        """Put the pending events on disk.

        They then survive the death of this process. They survive a power cut if `durable`, or if at level `durable`
        10 ms or 256 events have passed since the last such commit, which covers all earlier ones.
        """
        now = time.monotonic()
        self._unsynced += len(self._pending)
        full = durable or (
            self.state.level == "durable"
            and (now - self._synced_at >= GROUP_S or self._unsynced >= GROUP_EVENTS)
        )
        beat = now - self._beat_at >= BEAT_S
        if not self._pending and not beat and not (durable and self._unsynced):
            return
        self._write(full, beat)
        self._forget_pending()
        if full:
            self._synced_at, self._unsynced = now, 0
        if beat:
            self._beat_at = now

    def _write(self, full: bool, beat: bool) -> None:
        try:
            with self._database.transaction(full=full) as connection:
                self._log.append(connection, self._run, self._first_pending, self._pending)
                self._digests.appended(connection, self._run, len(self._pending))
                if self._messages:
                    Messages(self._database).add(
                        connection, self._run, self.state.epoch, self._messages
                    )
                if beat or not self._pending:
                    self._claims.beat(connection, self._run, self.state.epoch)
        except CommitUncertain as error:
            stored = [body for _, body in self._log.read(self._run, after=self._first_pending - 1)]
            if stored != self._pending:
                raise StorageFailed(str(error)) from error

    @property
    def _first_pending(self) -> int:
        return self.state.seq - len(self._pending) + 1

    def _forget_pending(self) -> None:
        self._pending = []
        if self._messages:
            self._messages = []

    # Reading back

    def reference(self, seq: int) -> OutputReference:
        """The reference that one event holds; cheap for what was just stored, and for seqs asked for in order."""
        found = self._near.find(seq)
        if found is not None:
            return found
        pending = seq - self._first_pending
        if pending >= 0:
            return decode_reference(self._pending[pending], self.run_id, seq)
        return self._near.read_ahead(seq, self._stored(seq))

    def _stored(self, seq: int) -> Iterator[tuple[int, OutputReference]]:
        """(seq, reference) of the events on disk from `seq` on that store an output."""
        for other, body in self._log.read(self._run, after=seq - 1):
            reference = find_reference(body)
            if reference is not None:
                yield other, reference
            elif other == seq:
                yield seq, decode_reference(body, self.run_id, seq)  # says what is wrong

    def references(self, seqs: Iterable[int]) -> Iterator[OutputReference]:
        """The references that the events with these seqs hold, in the order given."""
        for batch in _batches(seqs):
            found = [self._near.find(seq) for seq in batch]
            if all(found):
                yield from found  # type: ignore[misc]
                continue
            pending = self._first_pending
            bodies = self._log.read_some(self._run, [seq for seq in batch if seq < pending])
            for seq in batch:
                body = bodies[seq] if seq < pending else self._pending[seq - pending]
                yield decode_reference(body, self.run_id, seq)

    def event(self, seq: int) -> AnyEvent:
        """One event of this run, pending or on disk."""
        pending = self._first_pending
        body = (
            self._pending[seq - pending] if seq >= pending else self._log.read_one(self._run, seq)
        )
        return decode(body, self.run_id, seq)

    def cancel_requested(self) -> bool:
        """True when `runstore cancel` has asked this run to stop; looked up every 0.1 s at most."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_S
        claim = self._claims.find(self._run)
        return claim is not None and bool(claim.cancel_requested)

    # Closing

    def close(self) -> None:
        """Give the run back; pending events that were not committed are dropped."""
        self._forget_pending()
        try:
            with self._database.transaction(full=False) as connection:
                self._claims.release(connection, self._run, self.state.epoch)
        except StorageFailed:
            self._claims.drop(self._run, self.state.epoch)
            raise
        # What is not filled in is found all the same, so a disk that is full now fails nobody.
        with suppress(StorageFailed), self._database.transaction(full=False) as connection:
            self._digests.fill(connection, self._run)


class _NearReferences:
    """A few references in memory: those stored last, and those that stand next to the one last asked for.

    A step mostly reads what was stored just before, and the clones of an expansion read its pieces in order.
    """

    def __init__(self) -> None:
        self._kept: dict[int, OutputReference] = {}
        self._asked = -1

    def keep(self, seq: int, reference: OutputReference) -> None:
        """Remember one that was just stored."""
        kept = self._kept
        if len(kept) >= NEAR:
            for older in list(islice(kept, NEAR // 2)):
                del kept[older]
        kept[seq] = reference

    def find(self, seq: int) -> OutputReference | None:
        """One that is remembered."""
        return self._kept.get(seq)

    def read_ahead(
        self, seq: int, stored: Iterator[tuple[int, OutputReference]]
    ) -> OutputReference:
        """Take the one of `seq` from a reading that begins there; its neighbours too if asked for in order."""
        in_order, self._asked = 0 < seq - self._asked <= 4 * AHEAD, seq
        found = next(stored)[1]
        self.keep(seq, found)
        for other, reference in islice(stored, AHEAD if in_order else 0):
            self.keep(other, reference)
        return found


def _batches(seqs: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(seqs)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def reference_of(event: AnyEvent) -> OutputReference:
    """The reference that an event which stores an output holds."""
    assert isinstance(event, STORES), event
    return event.reference


def refuse_living(claims: Claims, run: int, run_id: str, *, take_over: bool) -> None:
    """Raise RunAlive while another process executes the run, unless it is to be taken over."""
    claim = claims.find(run)
    if claim is None or take_over or not claim.is_alive():
        return
    raise RunAlive(
        f"run {run_id!r} is being executed by {claim}; wait for it, `runstore cancel {run_id}`, "
        f"or `runstore resume {run_id} --take-over`",
        run_id,
    )


def number_of_new(database: Database, connection: Connection, run_id: str) -> int:
    """The number of a run that begins; of two processes that begin the same one the second is refused.

    Raises RunAlive while the first executes it, else RunConflict.
    """
    begun = "INSERT INTO runs (id) VALUES (?) ON CONFLICT DO NOTHING RETURNING run"
    row = connection.execute(begun, (run_id,)).fetchone()
    if row is not None:
        return int(row[0])
    (run,) = connection.execute("SELECT run FROM runs WHERE id = ?", (run_id,)).fetchone()
    refuse_living(Claims(database), run, run_id, take_over=False)
    raise RunConflict(
        f"run {run_id!r} was begun by another process in the same moment, and is no longer executed; nothing was "
        f"written. `runstore show {run_id}` says what came of it, `runstore resume {run_id}` goes on with it",
        run_id,
    )


def this_host() -> tuple[str, int]:
    """(host, pid) of this process, for the events that begin an epoch."""
    return socket.gethostname(), os.getpid()
