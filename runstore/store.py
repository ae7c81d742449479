"""RunStore: the facade. A folder with the log of many runs, and the place where their outputs go."""

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from runstore.bases import Bases
from runstore.config import Settings, find_settings, store_to_create, store_to_read
from runstore.credentials import Options
from runstore.errors import ConfigError, RunAlive, RunConflict
from runstore.keys import check_run_id
from runstore.log.claims import Claim, Claims
from runstore.log.codec import LogDigest
from runstore.log.database import LOG_NAME, Database
from runstore.log.digest_index import DigestIndex
from runstore.log.event_log import EventLog, row_id
from runstore.log.events import (
    HOUSEKEEPING,
    Durability,
    RunCancelled,
    RunResumed,
    RunStarted,
    SmallOutputs,
)
from runstore.log.lines import from_lines
from runstore.log.medium import make_private_directory
from runstore.log.recorder import Recorder, number_of_new, this_host
from runstore.log.remaining import Remaining
from runstore.log.replay import Look, replay
from runstore.log.state import RunState
from runstore.outputs.base import Base
from runstore.outputs.output_store import OutputStore, Whereabouts
from runstore.stored_runs import RunSummary, StoredRuns
from runstore.version import __version__

__all__ = ["RunStore", "RunSummary", "as_store", "reopen_outputs"]


class RunStore(StoredRuns):
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
        super().__init__(directory)
        self.level = level
        self.small_outputs = small_outputs
        self.allow_pickle = allow_pickle
        self._bases = Bases(directory, outputs, options, allow_pickle=allow_pickle)

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

    # Outputs

    def outputs(self, state: RunState) -> OutputStore:
        """The stored outputs of a run, over all bases that its log declares."""
        durable, pack = state.level == "durable", state.small_outputs == "pack"
        return self._bases.outputs(tuple(state.bases), durable=durable, pack=pack)

    def base(self, base: str, *, durable: bool = False) -> Base:
        """The place behind a base as a log declares it; raises ConfigError where there cannot be one."""
        return self._bases.open(base, durable=durable)

    def place(self, base: str) -> str:
        """A declared base in a form that is the same for the same place, without credentials."""
        return self._bases.place(base)

    def base_for(self, run_id: str) -> str:
        """The base that the outputs of a run get here, as the log declares it: without credentials."""
        return self._bases.for_run(run_id)

    # Writing

    def start(self, run_id: str, event: RunStarted) -> Recorder:
        """Begin a run and claim it for this process; creates the store where there is none.

        Raises ConfigError where its outputs cannot be opened, or where those of another run of that id lie already;
        RunConflict where another process has begun it since it was looked for.
        """
        if self.base(event.base).is_used() and not self.has_run(run_id):
            raise ConfigError(
                f"there are outputs at {self._bases.address(event.base)}, though no run {run_id!r} is in "
                f"{self._place()}: they are those of a run in another store, or what is left of one. Choose another "
                "--run-id or --outputs, or remove them"
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
                "import into another store",
                header.run,
            )
        database = self._writing(create=True)
        with database.transaction(full=True) as connection:
            run = number_of_new(database, connection, header.run)
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
                f"`runstore cancel {run_id}`",
                run_id,
            )

    def remove(self, run_id: str, *, force: bool = False) -> None:
        """Delete a run for ever: its outputs first, then its log.

        Raises RunAlive while it is executed, RunInUse while other runs use its outputs, unless it is to be forced.
        """
        claim = self.claim(run_id)
        if claim is not None and claim.is_alive():
            raise RunAlive(
                f"run {run_id!r} is being executed by {claim}; `runstore cancel {run_id}` first",
                run_id,
            )
        if not force:
            self.refuse_use(run_id)
        # Its log may be damaged or too new to fold.
        OutputStore([self.base(base) for base in self.own_bases(run_id)]).remove_all()
        run, database = self._number(run_id), self._writing()
        with database.transaction(full=True) as connection:
            for table in ("runs", "messages", "claims"):
                connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
            rows = "DELETE FROM events WHERE row_id > ? AND row_id < ?"
            connection.execute(rows, (row_id(run), row_id(run + 1)))
            DigestIndex(database).forget(connection, run)

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


def as_store(
    store: "RunStore | str | os.PathLike[str] | None", *, must_exist: bool = False
) -> RunStore:
    """A store from what an API takes for one: a store, a path, or None for the configured default."""
    return store if isinstance(store, RunStore) else RunStore.open(store, must_exist=must_exist)


@contextlib.contextmanager
def opened_for(
    store: "RunStore | str | os.PathLike[str] | None",
    *,
    must_exist: bool = False,
    outputs: str | None = None,
) -> Iterator[RunStore]:
    """As `as_store`, for the time of one call; `outputs`: where new ones go instead.

    What was opened for it is closed behind it, and opens again for whoever asks it then: no file stays open that its
    owner does not know of.
    """
    given = as_store(store, must_exist=must_exist)
    opened = given if outputs is None else given.with_outputs(outputs)
    try:
        yield opened
    finally:
        if opened is not store:
            opened.close()
        if given is not store:
            given.close()


def reopen_outputs(where: Whereabouts) -> OutputStore:
    """The outputs that another process of this machine has open. Credentials come from where that process got them."""
    return Bases.reopened(where).outputs(where.bases, durable=where.durable, pack=where.pack)
