"""A log that was changed behind the triggers' back is refused, by run and seq, before anything is written.

What is promised: an edit, a removal or a swap is found where it breaks what a log must be, and at the latest by the
next event that carries `log_digest`, the digest of all rows before it (RunResumed, ExpansionSealed, CollectResolved,
the run's end). A well-formed edit of a row after the last of them cannot be told from what was appended: see below.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution import execute, plan_resume, resume
from runstore import FormatTooNew, LogDamaged, RunStore, StoreNotFound
from runstore.log.replay import replay
from runstore.testing import Failpoint, armed, in_fork
from tests.acceptance.three_stages import (
    EXPECTED,
    RUN,
    Scene,
    event_rows,
    three_stages,
    values,
)

LAST_STEP = "wrap[e]"
"""The run is killed as this step starts: nine clones done, the digest of the seal long before."""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A run that was killed."""
    scene = Scene(tmp_path)

    def run() -> None:
        with armed(Failpoint(point="event.before", kind="StepSucceeded", step=LAST_STEP)):
            scene.execute()

    assert in_fork(run).killed
    fold_wal(scene)
    return scene


# Editing behind the triggers' back


def fold_wal(scene: Scene) -> None:
    """Bring all rows into `runs.db` itself."""
    connection = sqlite3.connect(scene.store / "runs.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def tamper(scene: Scene, edit: Callable[[sqlite3.Connection], Any]) -> None:
    """Change rows with the triggers out of the way, and put the triggers back as they were."""
    connection = sqlite3.connect(scene.store / "runs.db", isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
    found = triggers.fetchall()
    assert len(found) >= 4
    for name, _ in found:
        connection.execute(f"DROP TRIGGER {name}")
    edit(connection)
    for _, sql in found:
        connection.execute(sql)
    connection.close()
    fold_wal(scene)


def set_body(connection: sqlite3.Connection, seq: int, body: str) -> None:
    """Replace the body of a row."""
    connection.execute("UPDATE events SET body = ? WHERE seq = ?", (body, seq))
    assert connection.execute("SELECT changes()").fetchone() == (1,)


def edit_event(scene: Scene, seq: int, **fields: Any) -> None:
    """Change fields of one event, leaving it well formed."""
    event = json.loads(event_rows(scene.store)[seq - 1][2]) | fields
    tamper(
        scene,
        lambda connection: set_body(connection, seq, json.dumps(event, separators=(",", ":"))),
    )


def find(scene: Scene, kind: str, step: str = "") -> int:
    """The seq of the first event of a kind, of a step."""
    for _, seq, body in event_rows(scene.store):
        event = json.loads(body)
        if event["kind"] == kind and step in ("", event.get("step")):
            return seq
    raise AssertionError(f"no {kind} of {step!r}")


def assert_refused(scene: Scene, seq: int, error: type[Exception] = LogDamaged) -> None:
    """Every way into the run raises the error that names run and seq, and changes no byte."""
    before = (scene.store / "runs.db").read_bytes(), event_rows(scene.store)
    scene.take_calls()
    ways: list[Callable[[RunStore], Any]] = [
        lambda store: store.state(RUN),
        lambda store: plan_resume(RUN, store, job=three_stages),
        lambda store: resume(RUN, store, job=three_stages),
        lambda store: resume(RUN, store, job=three_stages, take_over=True),
        lambda store: execute(three_stages, store, run_id=RUN),
    ]
    for way in ways:
        with scene.open() as store, pytest.raises(error) as caught:
            way(store)
        message = str(caught.value)
        assert f"run {RUN!r}, seq {seq}:" in message
        assert "nothing was written" in message
    assert ((scene.store / "runs.db").read_bytes(), event_rows(scene.store)) == before
    assert scene.take_calls() == []


# What is found


@pytest.mark.parametrize("kind", ["DynamicOutputStored", "StepStarted", "StepSucceeded"])
def test_a_row_deleted_in_the_middle(kind: str, scene: Scene) -> None:
    """The gap is found."""
    seq = find(scene, kind)
    tamper(scene, lambda c: c.execute("DELETE FROM events WHERE seq = ?", (seq,)))
    assert_refused(scene, seq + 1)


def test_a_row_deleted_and_the_rest_moved_up(scene: Scene) -> None:
    """Also without a gap a missing row is found."""
    seq = find(scene, "DynamicOutputStored")

    def close_the_gap(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM events WHERE seq = ?", (seq,))
        for later in range(seq + 1, len(event_rows(scene.store)) + 1):
            connection.execute("UPDATE events SET row_id = row_id - 1 WHERE seq = ?", (later,))

    tamper(scene, close_the_gap)
    assert_refused(scene, find(scene, "ExpansionSealed"))


def test_the_first_row_deleted(scene: Scene) -> None:
    """A log begins with RunStarted at seq 1."""
    tamper(scene, lambda c: c.execute("DELETE FROM events WHERE seq = 1"))
    assert_refused(scene, 2)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_body_cut_on_the_disk(share: float, scene: Scene) -> None:
    """Bytes of a row that turned into spaces, as after a bad sector, are found; SQLite itself does not see them."""
    seq = find(scene, "StepSucceeded", "shout[b]")
    body = event_rows(scene.store)[seq - 1][2].encode()
    path = scene.store / "runs.db"
    data = path.read_bytes()
    assert data.count(body) == 1
    kept = int(len(body) * share)
    path.write_bytes(data.replace(body, body[:kept].ljust(len(body))))
    assert_refused(scene, seq)


def test_a_body_cut_to_valid_json(scene: Scene) -> None:
    """A row that lacks fields of its kind is no event."""
    seq = find(scene, "StepSucceeded", "shout[b]")
    event = json.loads(event_rows(scene.store)[seq - 1][2])
    cut = json.dumps({name: event[name] for name in ("kind", "epoch", "time", "step")})
    tamper(scene, lambda c: set_body(c, seq, cut))
    assert_refused(scene, seq)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("StepStarted", "shout[b]"), ("StepSucceeded", "shout[b]")),
        (("OutputStored", "shout[a]"), ("OutputStored", "shout[b]")),
    ],
)
def test_two_rows_swapped(one: tuple[str, str], other: tuple[str, str], scene: Scene) -> None:
    """Rows that changed places do not follow from one another any more."""
    first, second = find(scene, *one), find(scene, *other)
    rows = {seq: body for _, seq, body in event_rows(scene.store)}

    def swap(connection: sqlite3.Connection) -> None:
        set_body(connection, first, rows[second])
        set_body(connection, second, rows[first])

    tamper(scene, swap)
    assert_refused(scene, first)


def test_two_pieces_swapped(scene: Scene) -> None:
    """Two pieces that changed places are found by the seal, which covers their order."""
    first, second = (find_piece(scene, key) for key in "bc")
    rows = {seq: body for _, seq, body in event_rows(scene.store)}
    times = {seq: json.loads(rows[seq])["time"] for seq in (first, second)}

    def swap(connection: sqlite3.Connection) -> None:
        for seq, source in ((first, second), (second, first)):  # with the times left in order
            set_body(connection, seq, rows[source].replace(times[source], times[seq]))

    tamper(scene, swap)
    assert_refused(scene, find(scene, "ExpansionSealed"))


def find_piece(scene: Scene, key: str) -> int:
    """The seq of the event that stored one piece."""
    bodies = [json.loads(body) for _, _, body in event_rows(scene.store)]
    return next(seq for seq, event in enumerate(bodies, 1) if event.get("mapping_key") == key)


@pytest.mark.parametrize("ending", ["seal", "collect", "resumed", "end"])
def test_an_edited_sha256_is_proved_by_each_digest(ending: str, scene: Scene) -> None:
    """Another sha256 in a well-formed row is found by the next seal, collect, resume or end of the run."""
    if ending == "seal":
        seq, found_at = find_piece(scene, "a"), find(scene, "ExpansionSealed")
    elif ending == "resumed":
        seq = find(scene, "OutputStored", "wrap[d]")
        crash_once_more(scene)
        found_at = find(scene, "RunResumed")
    elif ending == "collect":
        crash_once_more(scene, kind="StepSucceeded", step="gather")
        seq, found_at = find(scene, "OutputStored", "wrap[f]"), find(scene, "CollectResolved")
    else:
        scene.resume().success  # noqa: B018
        fold_wal(scene)
        seq, found_at = find(scene, "OutputStored", "gather"), find(scene, "RunSucceeded")
    reference = json.loads(event_rows(scene.store)[seq - 1][2])["reference"]
    edit_event(scene, seq, reference=reference | {"sha256": "0" * 64})
    assert_refused(scene, found_at)


def crash_once_more(scene: Scene, **where: str) -> None:
    """Resume in a process that is killed at its first step, or where it is said."""
    point = where or {"kind": "StepStarted"}

    def run() -> None:
        with armed(Failpoint(point="event.before", **point)):  # type: ignore[arg-type]
            scene.resume()

    assert in_fork(run).killed
    fold_wal(scene)


def test_an_edited_digest(scene: Scene) -> None:
    """The digest itself cannot be edited either."""
    crash_once_more(scene)
    seq = find(scene, "RunResumed")
    edit_event(scene, seq, log_digest="0" * 64)
    assert_refused(scene, seq)


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": 7},
        {"epoch": 0},
        {"time": "2001-01-01T00:00:00Z"},
        {"step": "shout[nobody]"},
        {"step": "nobody"},
        {"step": "shout["},
        {"attempt": 2},
        {"surprise": 1},
        {"duration_s": "long"},
    ],
    ids=str,
)
def test_an_edit_that_cannot_follow(fields: dict[str, Any], scene: Scene) -> None:
    """Where an edited row cannot follow from the rows before it, it is found at once."""
    seq = find(scene, "StepSucceeded", "shout[b]")
    edit_event(scene, seq, **fields)
    assert_refused(scene, seq)


def test_an_edit_after_the_last_digest_is_not_found(scene: Scene) -> None:
    """The limit: no digest covers it yet, so a well-formed edit passes and becomes part of the log."""
    seq = find(scene, "StepSucceeded", "wrap[d]")
    edit_event(scene, seq, duration_s=12345.0)
    assert values(scene.resume()) == EXPECTED
    with scene.open() as store:
        assert store.event(RUN, seq).duration_s == 12345.0  # type: ignore[union-attr]


def test_an_edited_sha256_after_the_last_digest_costs_a_step(scene: Scene) -> None:
    """Even there a sha256 cannot pass for other bytes: the output counts as lost, and its step runs again."""
    seq = find(scene, "OutputStored", "wrap[d]")
    reference = json.loads(event_rows(scene.store)[seq - 1][2])["reference"]
    edit_event(scene, seq, reference=reference | {"sha256": "0" * 64})
    scene.take_calls()
    assert values(scene.resume()) == EXPECTED
    assert sorted(scene.take_calls()) == ["gather", "shout[f]", "wrap[d]", "wrap[e]", "wrap[f]"]


def test_no_edit_of_any_field_surprises(scene: Scene) -> None:
    """Whatever one field of one row is changed to, replay either raises LogDamaged or FormatTooNew, or goes on."""
    crash_once_more(scene, kind="StepSucceeded", step="gather")
    rows = [(seq, body) for _, seq, body in event_rows(scene.store)]
    last_digest = find(scene, "CollectResolved")
    messages = []
    for place, (seq, body) in enumerate(rows):
        for edited in edits_of(json.loads(body)):
            try:
                replay([*rows[:place], (seq, json.dumps(edited)), *rows[place + 1 :]], RUN)
                assert seq >= last_digest
            except (LogDamaged, FormatTooNew) as error:
                messages.append(str(error))
    assert len(messages) > 1000
    assert all(message.startswith(f"run {RUN!r}, seq ") for message in messages)


def edits_of(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The event with one field, also of what is nested in it, gone or replaced."""
    for name, value in event.items():
        yield {other: kept for other, kept in event.items() if other != name}
        for wrong in (None, 0, -1, 2**70, "", "[", "a[%", "nobody", "gather", [], {}, [{}], value):
            yield event | {name: [value] if wrong is value else wrong}
        if isinstance(value, dict):
            yield from (event | {name: edited} for edited in edits_of(value))
        for place, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(item, dict):
                for edited in edits_of(item):
                    yield event | {name: [*value[:place], edited, *value[place + 1 :]]}


# What is too new


def test_an_unknown_kind(scene: Scene) -> None:
    """A kind of event that this version does not know is refused, not skipped."""
    seq = find(scene, "StepSucceeded", "shout[b]")
    edit_event(scene, seq, kind="StepApplauded")
    assert_refused(scene, seq, FormatTooNew)


def test_a_newer_format(scene: Scene) -> None:
    """A run that a newer version has begun is refused."""
    edit_event(scene, 1, format=2)
    assert_refused(scene, 1, FormatTooNew)


def test_a_newer_schema(scene: Scene) -> None:
    """A file of a newer version is refused before a run is looked for, and stays as it is."""
    path = scene.store / "runs.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    fold_wal(scene)
    before = path.read_bytes()
    for way in (scene.resume, scene.plan, scene.execute):
        with pytest.raises(
            FormatTooNew, match=r"runs\.db has schema version 99.*nothing was written"
        ):
            way()
    assert path.read_bytes() == before


def test_readers_still_show_an_unknown_kind(scene: Scene) -> None:
    """What cannot be understood can still be read raw."""
    seq = find(scene, "StepSucceeded", "shout[b]")
    edit_event(scene, seq, kind="StepApplauded")
    with scene.open() as store:
        assert json.loads(dict(store.rows(RUN))[seq])["kind"] == "StepApplauded"
        assert store.run(RUN).status == "crashed"


# What the database itself refuses

REFUSALS = "runstore: (not the next|events|runs)|malformed JSON|CHECK constraint"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO events (row_id, body) SELECT row_id, body FROM events WHERE seq = 3",
        "REPLACE INTO events (row_id, body) SELECT row_id, body FROM events",
        "INSERT OR IGNORE INTO events (row_id, body) SELECT row_id + 1000, body FROM events",
        "INSERT INTO events (row_id, body) SELECT run << 32, body FROM events WHERE seq = 2",
        "INSERT INTO events (row_id, body) SELECT run + 1 << 32 | 1, body FROM events WHERE seq = 1",
        "INSERT INTO events (row_id, body) SELECT row_id, body FROM events WHERE seq = 3 "
        "ON CONFLICT DO UPDATE SET body = '{}'",
        "INSERT INTO events (row_id, body) SELECT max(row_id) + 1, 'no json' FROM events",
        "INSERT INTO events (row_id, body) SELECT max(row_id) + 1, '{\"epoch\":0}' FROM events",
        "UPDATE events SET body = body WHERE seq = 3",
        "UPDATE OR REPLACE events SET row_id = row_id + 1 WHERE seq = 3",
        "UPDATE events SET row_id = row_id + 4294967296",
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
        "DELETE FROM events",
        "UPDATE runs SET id = 'another'",
    ],
)
def test_history_cannot_be_rewritten(statement: str, scene: Scene) -> None:
    """A plain connection of SQLite's own, without runstore, is refused by the file itself."""
    rows = event_rows(scene.store)
    connection = sqlite3.connect(scene.store / "runs.db")
    with pytest.raises((sqlite3.IntegrityError, sqlite3.OperationalError), match=REFUSALS):
        connection.execute(statement)
    connection.commit()
    connection.close()
    assert event_rows(scene.store) == rows


@pytest.mark.parametrize(
    "name", ["events_append", "events_no_update", "events_no_delete", "runs_no_update"]
)
@pytest.mark.parametrize("change", ["missing", "altered"])
def test_a_trigger_that_does_not_stand(change: str, name: str, scene: Scene) -> None:
    """A store whose log is not protected any more is refused when it is opened."""
    path = scene.store / "runs.db"
    connection = sqlite3.connect(path)
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
    connection.execute(f"DROP TRIGGER {name}")
    if change == "altered":
        connection.execute(re.sub(r"RAISE\(ABORT, '[^']*'\)", "1", sql))
    connection.commit()
    connection.close()
    fold_wal(scene)
    before = path.read_bytes()
    fact = "is missing" if change == "missing" else "was altered"
    for way in (scene.state, scene.plan, scene.resume, scene.execute):
        with pytest.raises(LogDamaged, match=rf"runs\.db: '{name}' {fact}.*nothing was written"):
            way()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database(scene: Scene) -> None:
    """A log whose head is gone is refused, and left for whoever can mend it."""
    path = scene.store / "runs.db"
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    before = path.read_bytes()
    for way in (scene.state, scene.plan, scene.resume, scene.execute):
        with pytest.raises(
            LogDamaged, match=r"runs\.db: file is not a database; nothing was written"
        ):
            way()
    assert path.read_bytes() == before


def test_a_database_of_something_else(tmp_path: Path) -> None:
    """A `runs.db` that is no log is neither used nor changed, also by a run that would create a store."""
    scene = Scene(tmp_path)
    scene.store.mkdir()
    path = scene.store / "runs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE marathons (place TEXT)")
    connection.close()
    before = path.read_bytes()
    for way in (scene.state, scene.plan, scene.resume, scene.execute):
        with pytest.raises(StoreNotFound, match=r"runs\.db is not a runstore log"):
            way()
    assert path.read_bytes() == before
