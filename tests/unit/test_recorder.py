"""The recorder: append and apply are one step; what is committed when; who may write."""

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runstore.errors import LogDamaged, RunAlive, StorageFailed, TakenOver
from runstore.log import recorder as recorder_room
from runstore.log.claims import Claims
from runstore.log.codec import LogDigest, decode
from runstore.log.database import Database
from runstore.log.event_log import EventLog
from runstore.log.events import AnyEvent, ExpansionSealed, RunResumed, RunSucceeded, StepStarted
from runstore.log.recorder import GROUP_EVENTS, GROUP_S, Recorder
from runstore.log.replay import SEALED_KINDS, replay
from tests.unit.logs import fan_out, pieces, plain, reference, run_resumed, run_started, start


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A log on disk."""
    database = Database(tmp_path / "runs.db", writable=True)
    yield database
    database.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The recorder's clock: set its first element."""
    now = [1000.0]
    monkeypatch.setattr(recorder_room.time, "monotonic", lambda: now[0])
    return now


def begin(database: Database, level: str = "fast") -> Recorder:
    """A new run."""
    return Recorder.start(database, "r", run_started(level=level))


def append(recorder: Recorder, *events: AnyEvent | list[AnyEvent]) -> None:
    """Append events, or lists of them."""
    for given in events:
        for event in given if isinstance(given, list) else [given]:
            recorder.append(event)


def rows(database: Database) -> list[tuple[int, str]]:
    """What stands on disk."""
    with_reader = Database(database.path, writable=False)
    found = list(EventLog(with_reader).read(1))
    with_reader.close()
    return found


def kinds(database: Database) -> list[str]:
    """The kinds of the rows on disk."""
    return [type(decode(body, "r", seq)).__name__ for seq, body in rows(database)]


class Statements:
    """A connection that remembers what it was told about durability and commits."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.full = False
        self.commits: list[bool] = []
        """For each COMMIT whether it was made with synchronous=FULL."""

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Look at a statement and pass it on."""
        if sql.startswith("PRAGMA synchronous="):
            self.full = sql.endswith("FULL")
        if sql == "COMMIT":
            self.commits.append(self.full)
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.fixture
def statements(database: Database) -> Statements:
    """What the write connection is told from now on."""
    spy = Statements(database._connection)
    database._full = None
    database._connection = spy  # type: ignore[assignment]
    return spy


def test_a_run_begins_on_disk(database: Database, statements: Statements) -> None:
    """At every level the run's number, its first event and its claim stand durably before anything else happens."""
    recorder = begin(database)
    assert statements.commits == [True]
    assert kinds(database) == ["RunStarted"]
    claim = Claims(database).find(1)
    assert claim is not None
    assert claim.epoch == 1
    assert recorder.state.epoch == 1


def test_append_applies_at_once_and_commit_writes(database: Database) -> None:
    """The state is the fold of all rows on disk followed by the pending ones, before and after a commit."""
    recorder = begin(database)
    append(recorder, fan_out("ab"), start("echo[a]"))
    assert recorder.state.seq == 7
    assert kinds(database) == ["RunStarted"]
    assert [type(recorder.event(seq)).__name__ for seq in (6, 7)] == [
        "StepSucceeded",
        "StepStarted",
    ]
    recorder.commit()
    assert len(rows(database)) == 7
    state, _ = replay(rows(database), "r")
    assert state.seq == recorder.state.seq
    assert state.running == recorder.state.running
    assert isinstance(recorder.event(7), StepStarted)


def test_envelopes_are_stamped(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch and time are the recorder's; time never goes back, even where the clock does."""
    recorder = begin(database)
    late = recorder.state.time + recorder_room.dt.timedelta(days=1)
    recorder.state.time = late
    append(recorder, start("fan_out"))
    event = recorder.event(2)
    assert (event.epoch, event.time) == (1, late)


def test_sealed_kinds_carry_the_digest_of_all_rows_before(database: Database) -> None:
    """RunResumed, seals, resolved collects and the end carry the rolling digest over the rows as they stand on disk."""
    recorder = begin(database)
    append(recorder, fan_out("ab"))
    recorder.commit()
    recorder.close()
    again = Recorder.reopen(database, 1, "r")
    append(again, run_resumed())
    again.open_epoch()
    append(again, RunSucceeded({}))
    again.commit(durable=True)
    digest, seen = LogDigest(), []
    for seq, body in rows(database):
        event = decode(body, "r", seq)
        if type(event) in SEALED_KINDS:
            seen.append(type(event))
            assert event.log_digest == digest.hexdigest()  # type: ignore[union-attr]
        digest.update(seq, body)
    assert seen == [ExpansionSealed, RunResumed, RunSucceeded]


def test_what_cannot_follow_is_not_queued(database: Database) -> None:
    """An event that the state refuses never reaches the disk."""
    recorder = begin(database)
    with pytest.raises(LogDamaged):
        recorder.append(start("nobody"))
    recorder.commit()
    assert kinds(database) == ["RunStarted"]


def test_pending_events_are_due_by_age_and_by_number(
    database: Database, clock: list[float]
) -> None:
    """A commit is due 10 ms after the first pending event, or when 256 are pending; never without any."""
    recorder = begin(database)
    clock[0] += 10
    assert not recorder.is_due()
    append(recorder, start("fan_out"))
    assert not recorder.is_due()
    clock[0] += GROUP_S * 0.9
    append(recorder, pieces("a")[0])
    assert not recorder.is_due()
    clock[0] += GROUP_S * 0.2
    assert recorder.is_due()
    recorder.commit()
    assert not recorder.is_due()
    append(recorder, pieces([str(number) for number in range(GROUP_EVENTS)])[:-2])
    assert not recorder.is_due()
    append(recorder, pieces("z")[0])
    assert recorder.is_due()


@pytest.mark.parametrize(
    ("level", "late", "expected"),
    [
        ("durable", True, [False, True, False, True]),
        ("durable", False, [False, False, False, True]),
        ("fast", True, [False, False, False, True]),
    ],
)
def test_which_commits_are_durable(
    database: Database,
    statements: Statements,
    clock: list[float],
    level: str,
    late: bool,
    expected: list[bool],
) -> None:
    """Level durable: a FULL commit when 10 ms have passed since the last; level fast: only where it is asked for."""
    recorder = begin(database, level)
    statements.commits.clear()
    append(recorder, start("fan_out"))
    recorder.commit()
    clock[0] += GROUP_S * 1.1 if late else 0
    append(recorder, pieces("ab")[0])
    recorder.commit()
    append(recorder, pieces("b")[0])
    recorder.commit()
    recorder.commit(durable=True)
    assert statements.commits == expected


def test_many_events_make_a_commit_durable(
    database: Database, statements: Statements, clock: list[float]
) -> None:
    """Level durable: no more than 256 events are ever without a FULL commit, however quick they come."""
    recorder = begin(database, "durable")
    statements.commits.clear()
    append(recorder, start("fan_out"))
    for number in range(3 * GROUP_EVENTS):
        append(recorder, pieces([str(number)])[0])
        recorder.commit()
    at = [place for place, full in enumerate(statements.commits) if full]
    assert len(at) == 3
    assert at[0] < GROUP_EVENTS
    assert all(later - sooner == GROUP_EVENTS for sooner, later in itertools.pairwise(at))


def test_a_durable_commit_covers_what_was_committed_before(
    database: Database, statements: Statements, clock: list[float]
) -> None:
    """Without pending events a durable commit still makes the earlier ones durable, once."""
    recorder = begin(database)
    append(recorder, start("fan_out"))
    recorder.commit()
    statements.commits.clear()
    recorder.commit()
    recorder.commit(durable=True)
    recorder.commit(durable=True)
    assert statements.commits == [True]


def test_a_heartbeat_goes_with_commits(database: Database, clock: list[float]) -> None:
    """A commit gives a sign of life now and then, also where nothing is pending."""
    recorder = begin(database)
    with database.transaction(full=False) as connection:
        connection.execute("UPDATE claims SET heartbeat = 5")
    recorder.commit()
    assert Claims(database).find(1).heartbeat == 5  # type: ignore[union-attr]
    clock[0] += 11
    recorder.commit()
    assert Claims(database).find(1).heartbeat > 5  # type: ignore[union-attr]


class FailingOnce:
    """A connection whose next COMMIT fails, before or after it stands."""

    def __init__(self, connection: Any, stands: bool) -> None:
        self._connection, self._stands = connection, stands

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Fail at COMMIT."""
        if sql == "COMMIT":
            if self._stands:
                self._connection.execute(sql)
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_failed_commit_that_stands_is_a_commit(database: Database) -> None:
    """Where the rows turn out to be there, the run goes on as if COMMIT had said so."""
    recorder = begin(database)
    append(recorder, start("fan_out"))
    database._connection = FailingOnce(database._connection, stands=True)  # type: ignore[assignment]
    recorder.commit()
    append(recorder, pieces("a"))
    recorder.commit()
    assert len(rows(database)) == 4


def test_a_failed_commit_that_does_not_stand_stops_the_run(database: Database) -> None:
    """Where the rows are not there, it is StorageFailed, and what was committed before is kept."""
    recorder = begin(database)
    append(recorder, start("fan_out"))
    database._connection = FailingOnce(database._connection, stands=False)  # type: ignore[assignment]
    with pytest.raises(StorageFailed, match="disk I/O error"):
        recorder.commit()
    assert kinds(database) == ["RunStarted"]


def test_a_living_run_is_not_resumed(database: Database) -> None:
    """R1: while its executor lives a run is refused by host, pid and age, and nothing is written."""
    begin(database)
    again = Recorder.reopen(database, 1, "r")
    append(again, run_resumed())
    with pytest.raises(
        RunAlive,
        match=r"process \d+ on .* s ago; wait for it, `runstore cancel r`, or .*--take-over",
    ):
        again.open_epoch()
    assert kinds(database) == ["RunStarted"]


def test_who_was_taken_over_is_refused(database: Database) -> None:
    """R1: after a take-over the older executor's next append is refused, and nothing of it is written."""
    older = begin(database)
    append(older, start("fan_out"))
    older.commit()
    newer = Recorder.reopen(database, 1, "r")
    append(newer, run_resumed(take_over=True))
    newer.open_epoch(take_over=True)
    append(older, pieces("a"))
    with pytest.raises(TakenOver):
        older.commit()
    older.close()
    assert kinds(database) == ["RunStarted", "StepStarted", "RunResumed"]
    assert Claims(database).find(1).epoch == 2  # type: ignore[union-attr]


def test_of_two_that_resume_one_goes_on(database: Database) -> None:
    """Who replayed before another opened an epoch is refused, whatever the claim says."""
    begin(database).close()
    one, other = Recorder.reopen(database, 1, "r"), Recorder.reopen(database, 1, "r")
    append(one, run_resumed())
    append(other, run_resumed())
    one.open_epoch()
    with pytest.raises(TakenOver):
        other.open_epoch(take_over=True)
    assert kinds(database) == ["RunStarted", "RunResumed"]


def test_closing_drops_what_was_not_committed(database: Database) -> None:
    """Closing gives the run back; pending events are not written by it."""
    recorder = begin(database)
    append(recorder, start("fan_out"))
    recorder.close()
    assert kinds(database) == ["RunStarted"]
    assert Claims(database).find(1) is None


def test_references_are_read_back(database: Database) -> None:
    """References come from disk or from what is pending, in the order asked for, any number of them."""
    recorder = begin(database)
    append(recorder, start("fan_out"))
    count = 1200
    for number in range(count):
        piece = pieces([str(number)])[0]
        append(recorder, msgspec.structs.replace(piece, reference=reference(f"{number}.json")))  # type: ignore[arg-type]
        if number == count // 2:
            recorder.commit()
    wanted = [number * 7 % count for number in range(count)]
    found = [one.path for one in recorder.references(number + 3 for number in wanted)]
    assert found == [f"{number}.json" for number in wanted]


def test_a_cancel_is_looked_up_now_and_then(database: Database, clock: list[float]) -> None:
    """A request to cancel is seen within 0.1 s, without a look at the disk at every step."""
    recorder = begin(database)
    looks: list[int] = []
    find: Callable[[Claims, int], Any] = Claims.find
    recorder._claims.find = lambda run: looks.append(run) or find(recorder._claims, run)  # type: ignore[method-assign,func-returns-value]
    assert not recorder.cancel_requested()
    with database.transaction(full=False) as connection:
        Claims(database).request_cancel(connection, 1)
    for _ in range(50):
        assert not recorder.cancel_requested()
    clock[0] += 0.11
    assert recorder.cancel_requested()
    assert len(looks) == 2


@pytest.mark.parametrize("change", ["remove", "swap", "edit", "no rows"])
def test_replay_finds_what_was_altered(database: Database, change: str) -> None:
    """A row removed, swapped or edited before an event that carries a log digest is damage."""
    recorder = begin(database)
    append(recorder, fan_out("abc"), plain("echo[a]"), RunSucceeded({}))
    recorder.commit()
    found = rows(database)
    match change:
        case "remove":
            found = [(seq, body) for seq, (_, body) in enumerate(found[:3] + found[4:], 1)]
        case "swap":
            found[2], found[3] = (3, found[3][1]), (4, found[2][1])
        case "edit":
            found[9] = (10, found[9][1].replace('"duration_s":0.1', '"duration_s":0.2'))
        case _:
            found = []
    assert found != rows(database)
    with pytest.raises(LogDamaged, match=r"run 'r'.*nothing was written"):
        replay(found, "r")
