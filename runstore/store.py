"""RunStore: the facade. A folder with the log of many runs, and the place where their outputs go."""

import datetime as dt
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from runstore.config import Settings, find_settings, store_to_create, store_to_read
from runstore.credentials import Options
from runstore.errors import (
    ConfigError,
    LogDamaged,
    OutputMissing,
    RunAlive,
    RunConflict,
    RunInUse,
    RunNotFound,
    StoreNotFound,
)
from runstore.keys import check_run_id
from runstore.log.claims import Claim, Claims
from runstore.log.codec import LogDigest, decode
from runstore.log.database import LOG_NAME, Cursor, Database
from runstore.log.digest_index import DigestIndex
from runstore.log.event_log import EventLog, Row, row_id
from runstore.log.events import (
    DELETION_REASONS,
    HOUSEKEEPING,
    UNSTAMPED,
    AnyEvent,
    Durability,
    OutputDeleted,
    RunCancelled,
    RunResumed,
    RunStarted,
    SmallOutputs,
)
from runstore.log.lines import from_lines
from runstore.log.medium import make_private_directory
from runstore.log.messages import Message, Messages
from runstore.log.recorder import Recorder, refuse_living, this_host
from runstore.log.remaining import Remaining
from runstore.log.replay import Look, replay
from runstore.log.state import RunState
from runstore.outputs.addresses import file_name
from runstore.outputs.base import Base
from runstore.outputs.output_store import OutputStore, Whereabouts, open_base
from runstore.outputs.urls import below, public_url, scheme_of
from runstore.version import __version__

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


class RunStore:
    """The runs of one folder: `runs.db` and, unless outputs go elsewhere, `outputs/`.

    Opening is lazy: the first run creates what is missing, the first question raises StoreNotFound if there is
    nothing. A store may be used as a context manager. Not to be shared between threads or with a fork.
    """

    def __init__(
        self,
        directory: Path | None,
        outputs: str | None,
        level: Durability,
        small_outputs: SmallOutputs = "file",
        options: Options | None = None,
        *,
        allow_pickle: bool = False,
    ) -> None:
        self.directory = directory
        self.level = level
        self.small_outputs = small_outputs
        self.allow_pickle = allow_pickle
        self._outputs = outputs
        self._options = options or Options()
        self._looked_from = None if directory is None else Path.cwd()
        self._database: Database | None = None

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str] | None = None,
        outputs: str | None = None,
        level: Durability | None = None,
        *,
        small_outputs: SmallOutputs | None = None,
        allow_pickle: bool | None = None,
        must_exist: bool = False,
    ) -> "RunStore":
        """A store on disk. What is not given comes from the environment, `[tool.runstore]` or the defaults.

        `outputs`: a path or fsspec URL for the outputs of new runs. `level`: "durable" (default; survives a power
        cut) or "fast" (survives a killed process). `small_outputs`: "file" (default; each output is a file of its own)
        or "pack" (those below 16 KiB share objects). `allow_pickle`: what no other format gives back is pickled
        (default: it is refused). Raises StoreNotFound if it `must_exist` and does not.
        """
        settings = find_settings(directory, outputs, level, small_outputs, allow_pickle)
        place = store_to_read(settings) if must_exist else store_to_create(settings)
        return cls._of(place.absolute(), settings)

    @classmethod
    def _of(cls, directory: Path, settings: Settings) -> "RunStore":
        return cls(
            directory,
            settings.outputs,
            settings.level,
            settings.small_outputs,
            settings.options,
            allow_pickle=settings.allow_pickle,
        )

    @classmethod
    def in_memory(cls, *, allow_pickle: bool = False) -> "RunStore":
        """A store that lives as long as this object; for tests and notebooks."""
        outputs = f"memory://runstore-{secrets.token_hex(8)}"
        store = cls(None, outputs, "fast", allow_pickle=allow_pickle)
        store._database = Database.in_memory()
        return store

    def with_outputs(self, outputs: str) -> "RunStore":
        """The same store, with another place for outputs."""
        assert self.directory is not None, "outputs of a store in memory stay in memory"
        settings = find_settings(
            self.directory, outputs, self.level, self.small_outputs, self.allow_pickle
        )
        return RunStore._of(self.directory, settings)

    # Runs

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

    # What a run is

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

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
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

    def outputs(self, state: RunState) -> OutputStore:
        """The stored outputs of a run, over all bases that its log declares."""
        durable, pack = state.level == "durable", state.small_outputs == "pack"
        return self._outputs_at(tuple(state.bases), durable=durable, pack=pack)

    def _outputs_at(self, bases: tuple[str, ...], *, durable: bool, pack: bool) -> OutputStore:
        return OutputStore(
            [self.base(base, durable=durable) for base in bases],
            pack=pack,
            allow_pickle=self.allow_pickle,
            whereabouts=self._whereabouts(bases, durable=durable, pack=pack),
        )

    def _whereabouts(
        self, bases: tuple[str, ...], *, durable: bool, pack: bool
    ) -> Whereabouts | None:
        if self._looked_from is None or any(scheme_of(base) == "memory" for base in bases):
            return None
        public = None if self._outputs is None else public_url(self._outputs)
        if public != self._outputs and _configured(public, self._looked_from) == public:
            return None  # its credentials were given to this process alone
        places = (str(self.directory), str(self._looked_from))
        return Whereabouts(*places, public, bases, durable, pack, self.allow_pickle)

    def base(self, base: str, *, durable: bool = False) -> Base:
        """The place behind a base as a log declares it; raises ConfigError where there cannot be one."""
        return open_base(self._address(base), durable=durable, options=self._options)

    def place(self, base: str) -> str:
        """A declared base in a form that is the same for the same place, without credentials."""
        return public_url(self._address(base)).removeprefix("file://").rstrip("/")

    def _outputs_of(self, run_id: str) -> OutputStore:
        """The outputs of a run whose log may be damaged or too new to fold."""
        return OutputStore([self.base(base) for base in self.own_bases(run_id)])

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

    def base_for(self, run_id: str) -> str:
        """The base that the outputs of a run get here, as the log declares it: without credentials."""
        root = "outputs" if self._outputs is None else public_url(self._outputs).rstrip("/")
        return f"{root}/{file_name(run_id)}"

    def _address(self, base: str) -> str:
        if self._outputs is not None and scheme_of(self._outputs) != "file":
            root = public_url(self._outputs).rstrip("/")
            if base.startswith(root + "/"):
                return below(self._outputs, base[len(root) + 1 :])
        if scheme_of(base) == "file" and not base.startswith(("/", "file://")):
            return f"{self.directory}/{base}"
        return base

    # Writing

    def start(self, run_id: str, event: RunStarted) -> Recorder:
        """Begin a run and claim it for this process; creates the store where there is none.

        Raises ConfigError where its outputs cannot be opened, or where those of another run of that id lie already.
        """
        if self.base(event.base).is_used() and not self.has_run(run_id):
            raise ConfigError(
                f"there are outputs at {self._address(event.base)}, though no run {run_id!r} is in {self._place()}: "
                "they are those of a run in another store, or what is left of one. Choose another --run-id or "
                "--outputs, or remove them"
            )
        return Recorder.start(self._writing(create=True), check_run_id(run_id), event)

    def take_in(self, lines: Iterable[str], name: str) -> str:
        """Begin a run with a log that was exported from another store, and return its id; creates the store.

        The log must be the one that was exported, and valid; its outputs are not brought along. `name`: of the file,
        for messages. Raises LogDamaged or FormatTooNew, and RunConflict where there is a run of that id.
        """
        header, rows = from_lines(lines, name)
        replay(rows, header.run)
        if self.has_run(header.run):
            raise RunConflict(
                f"there is a run {header.run!r} in {self._place()} already; `runstore rm {header.run}` first, or "
                "import into another store"
            )
        database = self._writing(create=True)
        with database.transaction(full=True) as connection:
            begun = "INSERT INTO runs (id) VALUES (?) RETURNING run"
            run = connection.execute(begun, (header.run,)).fetchone()[0]
            EventLog(database).append(connection, run, 1, [body for _, body in rows])
            DigestIndex(database).fill(connection, run)
        return header.run

    def sketch(self, run_id: str, event: RunStarted) -> Recorder:
        """A run that is begun to plan with; nothing can be committed to it."""
        recorder = Recorder(self._reading(), 0, run_id, RunState(run_id), LogDigest())
        recorder.append(event)
        return recorder

    def reopen(self, run_id: str, look: Look | None = None) -> Recorder:
        """Replay a run in order to write to it; `look` sees each event, in the same reading."""
        database = self._writing()
        return Recorder.reopen(database, self._number(run_id), run_id, look)

    def replayed(self, run_id: str, look: Look | None = None) -> Recorder:
        """A run replayed to plan with; nothing can be committed to it."""
        return Recorder.reopen(self._reading(), self._number(run_id), run_id, look)

    def refuse_living(self, run_id: str) -> None:
        """Raise RunAlive while another process executes the run."""
        refuse_living(Claims(self._reading()), self._number(run_id), run_id, take_over=False)

    def cancel(self, run_id: str) -> Literal["asked", "cancelled", "over"]:
        """Stop a run: ask its living executor to ("asked"), or close a crashed one ("cancelled").

        Raises RunAlive while `prune` or `move` has the run: no step runs that could be stopped.
        """
        run, claim = self._number(run_id), self.claim(run_id)
        if claim is not None and claim.is_alive():
            self._refuse_housekeeping(run_id, claim)
            database = self._writing()
            with database.transaction(full=False) as connection:
                Claims(database).request_cancel(connection, run)
            return "asked"
        recorder = self.reopen(run_id)
        if recorder.state.is_over():
            return "over"
        host, pid = this_host()
        recorder.append(RunResumed(host=host, pid=pid, version=__version__, log_digest=""))
        recorder.open_epoch()
        recorder.append(
            RunCancelled(Remaining(recorder.state).counts(), "cancelled by `runstore cancel`")
        )
        recorder.commit(durable=True)
        recorder.close()
        return "cancelled"

    def _refuse_housekeeping(self, run_id: str, claim: Claim) -> None:
        last = self.event(run_id, self.run(run_id).events)
        if isinstance(last, HOUSEKEEPING):
            raise RunAlive(
                f"the storage of run {run_id!r} is being seen to by {claim}, and no step runs; wait for it, then "
                f"`runstore cancel {run_id}`"
            )

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

    def remove(self, run_id: str, *, force: bool = False) -> None:
        """Delete a run for ever: its outputs first, then its log.

        Raises RunAlive while it is executed, RunInUse while other runs use its outputs, unless it is to be forced.
        """
        claim = self.claim(run_id)
        if claim is not None and claim.is_alive():
            raise RunAlive(
                f"run {run_id!r} is being executed by {claim}; `runstore cancel {run_id}` first"
            )
        if not force:
            self.refuse_use(run_id)
        self._outputs_of(run_id).remove_all()
        run, database = self._number(run_id), self._writing()
        with database.transaction(full=True) as connection:
            for table in ("runs", "messages", "claims"):
                connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
            rows = "DELETE FROM events WHERE row_id > ? AND row_id < ?"
            connection.execute(rows, (row_id(run), row_id(run + 1)))
            DigestIndex(database).forget(connection, run)

    # Opening and closing

    def close(self) -> None:
        """Give the files back."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def __enter__(self) -> "RunStore":
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

    def _writing(self, *, create: bool = False) -> Database:
        if self._database is not None:
            self._database.check_process()
            if self._database.writable:
                return self._database
        if not create:
            self._reading()  # says clearly what is missing
        self.close()
        assert self.directory is not None
        if create:
            make_private_directory(self.directory)
        self._database = Database(self.directory / LOG_NAME, writable=True)
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


def as_store(
    store: "RunStore | str | os.PathLike[str] | None", *, must_exist: bool = False
) -> RunStore:
    """A store from what an API takes for one: a store, a path, or None for the configured default."""
    return store if isinstance(store, RunStore) else RunStore.open(store, must_exist=must_exist)


def reopen_outputs(where: Whereabouts) -> OutputStore:
    """The outputs that another process of this machine has open. Credentials come from where that process got them."""
    looked_from = Path(where.looked_from)
    options = find_settings(where.store, directory=looked_from).options
    outputs = _configured(where.outputs, looked_from)
    store = RunStore(
        Path(where.store), outputs, "fast", options=options, allow_pickle=where.allow_pickle
    )
    return store._outputs_at(where.bases, durable=where.durable, pack=where.pack)


def _configured(outputs: str | None, looked_from: Path) -> str | None:
    """A URL without credentials as environment or `[tool.runstore]` have it, with those; as it is where they do not."""
    found = find_settings(directory=looked_from).outputs
    return found if found is not None and public_url(found) == outputs else outputs


def _status(status: str, claim: Claim | None) -> Any:
    if status != "unfinished":
        return status
    return "running" if claim is not None and claim.is_alive() else "crashed"


def _instant(text: Any) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):  # of a damaged row: it must not hide the other runs
        return UNSTAMPED
