"""What prune tells, what it leaves alone, and how the other commands speak of what it has deleted."""

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from execution import RunResult, execute, resume
from execution.cli.main import cli
from runstore import RunStore
from runstore.errors import OutputMissing, RunAlive
from runstore.housekeeping import prune
from runstore.log.claims import Claims
from runstore.log.events import OutputDeleted
from tests.unit.jobs import chained, fails_at

NOW = dt.timedelta(0)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run `good` that has succeeded, and `bad` with a clone that has failed; a file nobody knows beside each."""
    opened = RunStore.open(tmp_path / "store", level="fast")
    execute(chained("abc"), opened, run_id="good")
    execute(fails_at("abc", "b"), opened, run_id="bad")
    for run in ("good", "bad"):
        (tmp_path / "store" / "outputs" / run / "echo" / ".left.json.tmp").write_bytes(b"12345")
    return opened


def call(store: RunStore, *words: str, code: int = 0) -> Result:
    """Call `runstore` on the store."""
    store.close()
    result = CliRunner().invoke(cli, [*words, "--store", str(store.directory)])
    assert result.exit_code == code, result.output
    return result


def test_the_command_says_what_it_deletes(store: RunStore) -> None:
    """Per run how much and why, first as a dry run that changes nothing, then for good, then nothing more."""
    said = call(store, "prune", "--dry-run").stdout
    assert said.splitlines() == [
        "good: would delete 1 object, 5 B",
        "    1 object, 5 B: objects that no event names",
        "bad: would delete 1 object, 5 B",
        "    1 object, 5 B: objects that no event names",
        "2 runs looked at: would delete 2 objects, 10 B",
    ]
    assert store.run("good").epoch == 1
    assert call(store, "prune").stdout == said.replace("would delete", "deleted")
    assert call(store, "prune").stdout == "2 runs looked at: nothing to delete\n"
    assert call(store, "prune", "bad").stdout == "bad: nothing to delete\n"
    assert [store.run(run).epoch for run in ("good", "bad")] == [2, 2]
    (one,) = json.loads(call(store, "prune", "bad", "--json").stdout)
    assert one["deleted"] == {"objects": 0, "size_bytes": 0}


def test_old_runs_lose_their_outputs(store: RunStore) -> None:
    """With an age everything goes of runs that are older, failed ones too unless they are kept; the log stays."""
    assert not [one for one in prune(store, older_than=dt.timedelta(days=1)) if one.outputs]
    good, bad = prune(store, older_than=NOW, keep_failed=True)
    assert (good.outputs, good.why["old"].objects) == (7, 7)
    assert bad.left_alone == "it is failed, and what did not succeed is kept"
    assert [event for _, event in store.events("good") if isinstance(event, OutputDeleted)]
    with pytest.raises(OutputMissing, match=r"deleted by `runstore prune` at .* as the run is old"):
        RunResult.load("good", store).output_for_node("total")
    said = call(store, "cat", "good", "total", code=3).stderr
    assert "deleted by `runstore prune` at" in said
    assert "damaged" not in said
    assert "result deleted by `runstore prune`, as the run is old" in (
        call(store, "explain", "good", "total").stdout
    )
    assert "7 outputs by `runstore prune`" in call(store, "show", "good").stdout


def test_the_age_is_that_of_the_work(store: RunStore) -> None:
    """An earlier prune does not make a run younger."""
    list(prune(store))
    worked = max(event.time for _, event in store.events("good") if event.epoch == 1)
    age = dt.datetime.now(dt.UTC) - worked
    assert next(prune(store, "good", older_than=age)).why["old"].objects == 7


def test_a_failed_run_stays_failed_and_goes_on(store: RunStore) -> None:
    """Neither list, nor show, nor a resume see a difference; what a resume reads and does not find is made again."""
    list(prune(store, "bad", older_than=NOW))
    assert store.run("bad").status == "failed"
    shown = call(store, "show", "bad").stdout
    assert "status   failed" in shown
    assert "no b" in shown
    assert "failed" in call(store, "runs").stdout
    assert len(RunResult.load("bad", store).failures) == 1
    assert call(store, "log", "bad", "--follow").exit_code == 0
    resumed = resume("bad", store, job=chained("abc"))
    assert resumed.output_for_node("total") == "ABC"
    assert store.run("bad").epoch == 3


def test_who_may_live_elsewhere_is_not_disturbed(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executor of another machine that was heard of within the hour may be in a long step."""
    database = store._writing()
    with database.transaction(full=False) as connection:
        Claims(database).take(connection, 1, 1)
        connection.execute("UPDATE claims SET boot = 'another', heartbeat = heartbeat - 3000")
    with pytest.raises(RunAlive):
        list(prune(store, "good"))
    with database.transaction(full=False) as connection:
        connection.execute("UPDATE claims SET heartbeat = heartbeat - 601")
    assert next(prune(store, "good")).epoch == 2


def test_a_cancel_does_not_pass_for_one_during_housekeeping(store: RunStore) -> None:
    """While prune or move has a run, there is no step to stop."""
    (store.directory / "outputs" / "bad" / "x").write_bytes(b"")  # type: ignore[operator]
    list(prune(store, "bad"))
    database = store._writing()
    with database.transaction(full=False) as connection:
        Claims(database).take(connection, 2, 2)
    with pytest.raises(RunAlive, match="storage of run 'bad' is being seen to"):
        store.cancel("bad")


@pytest.mark.parametrize("text", ["30", "d", "3 d", "-1d", "1y"])
def test_durations_have_units(text: str, store: RunStore) -> None:
    """What is no number with m, h, d or w is a usage error that shows how to write it."""
    assert (
        "write 30d, 12h, 90m or 2w" in call(store, "prune", f"--older-than={text}", code=2).stderr
    )
