"""The runs of a store, and what their logs say: questions, put to the log as it stands on disk. Nothing here writes."""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from runstore.errors import LogDamaged, OutputMissing, RunInUse, RunNotFound, StoreNotFound
from runstore.log.claims import Claim, Claims
from runstore.log.codec import decode
from runstore.log.database import LOG_NAME, Cursor, Database
from runstore.log.event_log import EventLog, Row, row_id
from runstore.log.events import DELETION_REASONS, UNSTAMPED, AnyEvent, OutputDeleted
from runstore.log.messages import Message, Messages
from runstore.log.recorder import refuse_living
from runstore.log.replay import Look, replay
from runstore.log.state import RunState
from runstore.outputs.addresses import file_name

# The runs that were begun with outputs below one of some bases that are not their own. Not a join: the planner would
# read all events into a filter before it looks at the first of each run.
_USERS = """
SELECT id FROM runs WHERE EXISTS (
    SELECT 1 FROM events, json_each(iif(json_valid(body), body, '{}'), '$.parent.bases') AS base
    WHERE row_id = (runs.run << 32) + 1 AND base.value IN (SELECT value FROM json_each(?)))
ORDER BY run"""
# Where the outputs of a run went, also where a row of its log is damaged.
_BASES = """
SELECT DISTINCT CASE WHEN json_valid(body) THEN body ->> '$.base' END
FROM events WHERE row_id > ? AND row_id < ?"""

_BATCH = 500  # rows read at a time; below SQLite's limit of parameters on old builds

RunStatus = Literal["running", "crashed", "succeeded", "failed", "cancelled"]


class RunSummary(msgspec.Struct, frozen=True):
    """A run as a list of runs shows it."""

    run_id: str
    name: str
    """Of the job."""
    job: str
    """Where the job is defined; empty for one that can only be passed in."""
    status: RunStatus
    started: dt.datetime
    updated: dt.datetime
    epoch: int
    events: int


class StoredRuns:
    """The runs in the log of one folder; opened at the first question. None for `directory`: in memory."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self._database: Database | None = None

    # Which runs there are

    def runs(self) -> list[RunSummary]:
        """All runs, oldest first."""
        return self._summaries("ORDER BY run", ())

    def _summaries(self, which: str, parameters: tuple[int, ...]) -> list[RunSummary]:
        claims = Claims(self._reading())
        columns = "run, id, name, job, status, started, updated, epoch, events"
        rows = self._reading().query(f"SELECT {columns} FROM run_list {which}", parameters)
        return [
            RunSummary(
                run_id=run_id,
                name=name or "",
                job=job or "",
                status=_status(status, claims.find(run)),
                started=_instant(started),
                updated=_instant(updated),
                epoch=epoch,
                events=events,
            )
            for run, run_id, name, job, status, started, updated, epoch, events in rows.fetchall()
        ]

    def run(self, name: str = "last") -> RunSummary:
        """The run of that id, of that unique prefix, or the `last`.

        Raises RunNotFound; LogDamaged where its first row is missing.
        """
        run_id = self.resolve(name)
        found = self._summaries("WHERE run = ?", (self._number(run_id),))
        if not found:
            raise LogDamaged(
                f"run {run_id!r}, seq 1: the row is missing; `runstore verify {run_id}` says what else is. Restore it "
                "from a copy",
                "V1",
            )
        return found[0]

    def resolve(self, name: str) -> str:
        """The id of the run that is meant by an id, a unique prefix or `last`; raises RunNotFound."""
        ids = [row[0] for row in self._reading().query("SELECT id FROM runs ORDER BY run")]
        if name == "last" and ids:
            return str(ids[-1])
        if name in ids:
            return name
        matching = [run_id for run_id in ids if name and run_id.startswith(name)]
        if len(matching) == 1:
            return str(matching[0])
        if matching:
            raise RunNotFound(
                f"{name!r} is the beginning of {len(matching)} runs ({', '.join(matching[:5])}); type more of it"
            )
        raise RunNotFound(
            f"no run {name!r} in {self._place()}; `runstore runs` lists the {len(ids)} there are"
        )

    def has_run(self, run_id: str) -> bool:
        """True when a run of exactly this id exists."""
        try:
            found = self._reading().query("SELECT 1 FROM runs WHERE id = ?", (run_id,))
        except (
            StoreNotFound
        ):  # no log yet, or one whose tables a killed process did not get to make
            return False
        return found.fetchone() is not None

    # What the log of one says

    def rows(self, run_id: str, after: int = 0) -> Iterator[Row]:
        """(seq, body) of the run's events after `after`, as they stand on disk."""
        return EventLog(self._reading()).read(self._number(run_id), after)

    def events(self, run_id: str, after: int = 0) -> Iterator[tuple[int, AnyEvent]]:
        """(seq, event) of the run after `after`; raises FormatTooNew or LogDamaged at what it cannot read."""
        return ((seq, decode(body, run_id, seq)) for seq, body in self.rows(run_id, after))

    def event(self, run_id: str, seq: int) -> AnyEvent:
        """One event."""
        return decode(EventLog(self._reading()).read_one(self._number(run_id), seq), run_id, seq)

    def step_events(self, run_id: str, step_key: str) -> list[tuple[int, AnyEvent]]:
        """(seq, event) of one step, by the index on steps."""
        rows = self._reading().query(
            "SELECT seq, body FROM events WHERE run = ? AND step = ? ORDER BY row_id",
            (self._number(run_id), step_key),
        )
        return [(seq, decode(body, run_id, seq)) for seq, body in rows.fetchall()]

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Cursor:
        """The rows of a reading statement on the log, for questions that its indexes or its views answer."""
        return self._reading().query(sql, parameters)

    def messages(self, run_id: str, after: int = 0, limit: int = -1) -> Iterator[Message]:
        """What the ops of a run have logged, behind number `after`; not truth, and perhaps pruned."""
        return Messages(self._reading()).read(self._number(run_id), after, limit)

    def events_at(self, run_id: str, seqs: Iterable[int]) -> Iterator[AnyEvent]:
        """The events with these seqs, in the order given; read in batches."""
        run, rest = self._number(run_id), iter(seqs)
        while batch := list(islice(rest, _BATCH)):
            bodies = EventLog(self._reading()).read_some(run, batch)
            yield from [decode(bodies[seq], run_id, seq) for seq in batch]

    def state(self, run_id: str, look: Look | None = None, *, upto: int | None = None) -> RunState:
        """The fold of the run's log; every row is checked. `look` sees each event, in the same reading.

        `upto`: the last seq that is read.
        """
        return replay(islice(self.rows(run_id), upto), run_id, look)[0]

    def why_missing(self, run_id: str, seq: int, error: OutputMissing) -> OutputMissing:
        """What to raise for an output, stored by event `seq`, whose bytes are not there: it may be so on purpose."""
        for at, event in self.events(run_id, seq):
            if isinstance(event, OutputDeleted) and seq in event.seqs:
                time = event.time.strftime("%Y-%m-%d %H:%M:%S UTC")
                error = OutputMissing(
                    f"deleted by `runstore prune` at {time} (seq {at}), as {DELETION_REASONS[event.reason]}: {error}; "
                    f"`runstore rerun {run_id}` makes it again"
                )
        return error

    def claim(self, run_id: str) -> Claim | None:
        """Who executes the run, or did when it crashed."""
        return Claims(self._reading()).find(self._number(run_id))

    def refuse_living(self, run_id: str) -> None:
        """Raise RunAlive while another process executes the run."""
        refuse_living(Claims(self._reading()), self._number(run_id), run_id, take_over=False)

    # Where its outputs are, and who uses them

    def own_bases(self, run_id: str) -> list[str]:
        """Where outputs of the run went, or were moved to, as its log declares it; never where a parent's lie."""
        run = self._number(run_id)
        rows = self._reading().query(_BASES, (row_id(run), row_id(run + 1))).fetchall()
        folder = f"/{file_name(run_id)}"  # what is not the run's own folder is never deleted
        return [base for (base,) in rows if base and base.endswith(folder)]

    def users_of(self, run_id: str) -> list[str]:
        """The runs that have taken outputs of this one, directly or not: reruns of it, and theirs."""
        bases = msgspec.json.encode(self.own_bases(run_id)).decode()
        return [str(row[0]) for row in self._reading().query(_USERS, (bases,)) if row[0] != run_id]

    def refuse_use(self, run_id: str) -> None:
        """Raise RunInUse while other runs have taken outputs of this one."""
        users = self.users_of(run_id)
        if users:
            shown = ", ".join(users[:5]) + (
                f" and {len(users) - 5:,} more" if len(users) > 5 else ""
            )
            raise RunInUse(
                f"outputs of run {run_id!r} are used by {shown}, which took them in a rerun; delete these runs first, "
                f"or `runstore rm {run_id} --force`, after which they can be resumed only where steps can be made again"
            )

    # The log, opened and given back

    def close(self) -> None:
        """Give the files back."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _reading(self) -> Database:
        if self._database is None:
            assert self.directory is not None
            self._database = Database(self.directory / LOG_NAME, writable=False)
        return self._database

    def _number(self, run_id: str) -> int:
        row = self._reading().query("SELECT run FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise RunNotFound(
                f"no run {run_id!r} in {self._place()}; `runstore runs` lists those there are"
            )
        return int(row[0])

    def _place(self) -> str:
        return str(self.directory) if self.directory else "memory"


def _status(status: str, claim: Claim | None) -> Any:
    if status != "unfinished":
        return status
    return "running" if claim is not None and claim.is_alive() else "crashed"


def _instant(text: Any) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):  # of a damaged row: it must not hide the other runs
        return UNSTAMPED
