"""Prune killed at any point, and run again, comes to the same end; never is there a hole of which the log is silent."""

import datetime as dt
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from execution import RunResult, rerun
from runstore import RunAlive, RunStore, TakenOver
from runstore.audit import doctor
from runstore.housekeeping import epoch, prune
from runstore.log import recorder
from runstore.log.events import STORES, OutputDeleted
from runstore.testing import Failpoint, record_points
from tests.acceptance.test_crash_matrix import failpoints_for, kill_run
from tests.acceptance.test_two_writers import (
    execute_waiting,
    receive,
    resume_waiting,
    start,
    wait_for,
)
from tests.acceptance.three_stages import EXPECTED, RUN, Scene, file_digests, three_stages, values

AGAIN = "again"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A run that was killed while its generator yielded, resumed, lost a file and went on; and a rerun of it."""
    monkeypatch.setattr(recorder, "GROUP_S", 0.0)
    monkeypatch.setattr(epoch, "DELETED_AT_ONCE", 1)
    monkeypatch.setattr(sys.modules["runstore.housekeeping.prune"], "DELETED_TOGETHER", 2)
    scene = Scene(tmp_path, "fast")
    kill_run(scene.execute, Failpoint(point="event.before", kind="StepSucceeded", step="fan_out"))
    kill_run(scene.resume, Failpoint(point="event.before", kind="StepStarted", step="gather"))
    (scene.store / "outputs" / RUN / "wrap" / "result" / "b.e2a1.txt").unlink()
    assert scene.resume().success
    with scene.open() as store:
        selected = rerun(RUN, store, select=["wrap[a]*"], job=three_stages, new_run_id=AGAIN)
        assert selected.success
    return scene


def pruned(scene: Scene, **more: object) -> None:
    """Prune the run in a process of its own."""
    with scene.open() as store:
        list(prune(store, RUN, **more))  # type: ignore[arg-type]


def check(scene: Scene, where: str) -> None:
    """Each file that an event of the run names is there, or the log says that it was deleted, or it was lost before."""
    with scene.open() as store:
        gone = deleted(store)
        folder = scene.store / "outputs" / RUN
        missing = {
            seq
            for seq, event in store.events(RUN)
            if isinstance(event, STORES) and not (folder / event.reference.path).exists()
        }
        lost = {
            seq
            for seq, event in store.events(RUN)
            if isinstance(event, STORES) and event.reference.path == "wrap/result/b.e2a1.txt"
        }
        assert missing <= gone | lost, where
        assert values(RunResult.load(AGAIN, store, job=three_stages)) == EXPECTED, where


def deleted(store: RunStore) -> set[int]:
    """The seqs that the log says are deleted."""
    events = (event for _, event in store.events(RUN))
    return {seq for event in events if isinstance(event, OutputDeleted) for seq in event.seqs}


@pytest.mark.parametrize("ago", ["orphans", "old"])
def test_kill_at_every_point_of_a_prune(ago: str, scene: Scene, tmp_path: Path) -> None:
    """Killed at each point that a whole prune passes, then run again: the same files, and the same deletions logged."""
    more = {"older_than": dt.timedelta(0)} if ago == "old" else {}
    copy = tmp_path / "copy"
    shutil.copytree(scene.store, copy)
    points = record_points(lambda: pruned(scene, **more))
    check(scene, "whole")
    files = file_digests(scene.store / "outputs")
    with scene.open() as store:
        names = deleted(store)
        status = store.run(RUN).status
    assert names
    for failpoint in failpoints_for(points):
        shutil.rmtree(scene.store)
        shutil.copytree(copy, scene.store)
        kill_run(lambda: pruned(scene, **more), failpoint)
        check(scene, f"{failpoint}")
        pruned(scene, **more)
        check(scene, f"{failpoint}")
        assert file_digests(scene.store / "outputs") == files, f"{failpoint}"
        with scene.open() as store:
            assert deleted(store) == names, f"{failpoint}"
            assert store.run(RUN).status == status
            assert not any(one.epoch for one in prune(store, RUN, **more))  # type: ignore[arg-type]
    if ago == "orphans":
        with scene.open() as store:
            assert values(RunResult.load(RUN, store, job=three_stages)) == EXPECTED


def test_a_crashed_run_is_pruned_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each point, pruned, resumed: the values are right, and just what had not finished ran."""
    monkeypatch.setattr(recorder, "GROUP_S", 0.0)
    whole = Scene(tmp_path / "whole", "fast")
    whole.folder.mkdir()
    points = record_points(whole.execute)
    for number, failpoint in enumerate(failpoints_for(points)[::3]):
        scene = Scene(tmp_path / str(number), "fast")
        scene.folder.mkdir()
        kill_run(scene.execute, failpoint)
        with scene.open() as store:
            if not store.has_run(RUN):
                continue
            before, status = store.state(RUN), store.run(RUN).status
            list(prune(store, RUN))
            after = store.state(RUN)
            assert (after.running, after.deaths) == (before.running, before.deaths)
            assert store.run(RUN).status == status
            resumed = scene.resume(store)
            assert values(resumed) == EXPECTED, f"{failpoint}"


def test_a_prune_that_was_cut_off_is_no_crash_of_its_run(scene: Scene) -> None:
    """The list, the doctor and a resume take the run for what it was."""
    kill_run(lambda: pruned(scene), Failpoint(point="delete.before"))
    with scene.open() as store:
        assert store.run(RUN).status == "succeeded"
        claims = [one for one in doctor(scene.store) if one.name == "claim"]
        assert [one.verdict for one in claims] == ["note"]
        assert "a prune or move of run the-run was cut off" in claims[0].fact
        assert scene.resume(store).success
        assert store.run(RUN).epoch == 4


def test_a_living_run_is_left_alone(tmp_path: Path) -> None:
    """While a run is executed a prune of it is refused, a prune of all skips it, and a cancel still reaches it."""
    process, heard = start(lambda: execute_waiting(tmp_path))
    wait_for(tmp_path / "arrived-1")
    with RunStore.open(tmp_path) as store:
        with pytest.raises(RunAlive, match=f"process {process.pid} on "):
            list(prune(store, RUN))
        (one,) = prune(store)
        assert f"process {process.pid} on " in one.left_alone
        assert one.epoch == 0
    (tmp_path / "go").touch()
    assert receive(heard)["error"] is None
    process.join(30)


def test_an_executor_that_wakes_after_a_prune_is_refused(tmp_path: Path) -> None:
    """Where nobody could know that it lives, its next append is refused, and it has changed nothing."""
    process, heard = start(lambda: execute_waiting(tmp_path))
    wait_for(tmp_path / "arrived-1")
    orphan = tmp_path / "outputs" / RUN / "numbers" / "result" / ".0.json.tmp"
    orphan.write_bytes(b"half")
    forget_claim(tmp_path)
    with RunStore.open(tmp_path) as store:
        (one,) = prune(store, RUN)
        assert (one.epoch, one.deleted.objects) == (2, 1)
        events = store.run(RUN).events
    (tmp_path / "go").touch()
    answer = receive(heard)
    process.join(30)
    assert answer["error"] == TakenOver.__name__
    with RunStore.open(tmp_path) as store:
        assert store.run(RUN).events == events
    assert resume_waiting(tmp_path).output_for_node("total") == 150


def forget_claim(folder: Path) -> None:
    """As if the executor were on another machine and had not been heard of for long."""
    connection = sqlite3.connect(folder / "runs.db")
    with connection:
        connection.execute("DELETE FROM claims")
    connection.close()
