"""RunStore, the facade: runs by name, their status, their outputs, and what is given back."""

import os
import signal
import time
from pathlib import Path

import pytest

from execution import execute, resume
from runstore.errors import (
    ConfigError,
    LogDamaged,
    RunAlive,
    RunNotFound,
    StorageFailed,
    StoreNotFound,
)
from runstore.log.events import RunCancelled, RunSucceeded, StepFailed
from runstore.store import RunStore, as_store
from tests.unit.jobs import chained, fails_at
from tests.unit.logs import fan_out, plain, run_started


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A store that does not exist yet."""
    return RunStore.open(tmp_path / "store", level="fast")


def test_opening_creates_nothing(store: RunStore, tmp_path: Path) -> None:
    """Opening is lazy: no file before the first run, and the first question says that there is nothing."""
    assert list(tmp_path.iterdir()) == []
    assert not store.has_run("r")
    with pytest.raises(StoreNotFound):
        store.runs()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreNotFound):
        RunStore.open(tmp_path / "store", must_exist=True)


def test_the_files_of_a_store(store: RunStore, tmp_path: Path) -> None:
    """A run makes `runs.db`, its lock, and `outputs/<run id>`; the folder is the owner's alone."""
    execute(chained("ab"), store, run_id="Mine.1")
    store.close()
    assert {path.name for path in (tmp_path / "store").iterdir()} == {
        "runs.db",
        "runs.lock",
        "outputs",
    }
    assert [path.name for path in (tmp_path / "store/outputs").iterdir()] == ["Mine.1@1"]
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_runs_are_named_by_id_prefix_or_last(store: RunStore) -> None:
    """A run answers to its id, to a unique beginning of it, and the newest to `last`; other names say what there is."""
    for run_id in ("apple", "apricot", "app"):
        execute(chained("a"), store, run_id=run_id)
    assert store.resolve("last") == "app"
    assert store.resolve("app") == "app"
    assert store.resolve("appl") == "apple"
    assert store.resolve("apr") == "apricot"
    for name, fact in (
        ("ap", r"beginning of 3 runs \(apple, apricot, app\); type more"),
        ("x", "`runstore runs` lists the 3"),
        ("", "no run ''"),
        ("%", "no run '%'"),
    ):
        with pytest.raises(RunNotFound, match=fact):
            store.resolve(name)
    with pytest.raises(RunNotFound, match="no run 'ap'"):
        store.state("ap")
    assert [run.run_id for run in store.runs()] == ["apple", "apricot", "app"]


def test_status_of_runs(store: RunStore) -> None:
    """A run is running while its process lives, crashed when it does not, else as its last event says."""
    execute(chained("ab"), store, run_id="good")
    execute(fails_at("ab", "b"), store, run_id="bad")
    recorder = store.start("open", run_started())
    assert {run.run_id: run.status for run in store.runs()} == {
        "good": "succeeded",
        "bad": "failed",
        "open": "running",
    }
    recorder.append(RunCancelled({}, "asked"))
    recorder.commit()
    recorder.close()
    assert store.run("open").status == "cancelled"
    store.start("dropped", run_started()).close()
    assert store.run("dropped").status == "crashed"
    summary = store.run("good")
    assert (summary.name, summary.epoch, summary.job) == ("chained", 1, "")
    assert summary.started <= summary.updated


def test_a_killed_run_shows_as_crashed_at_once(tmp_path: Path) -> None:
    """The claim of a process that was killed does not make its run look alive for a moment."""
    child = os.fork()
    if child == 0:
        RunStore.open(tmp_path / "store", level="fast").start("r", run_started())
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(1)
    os.waitpid(child, os.WUNTRACED)
    with RunStore.open(tmp_path / "store") as store:
        assert store.run("r").status == "running"
        with pytest.raises(RunAlive, match=f"process {child} on"):
            store.refuse_living("r")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert store.run("r").status == "crashed"
        store.refuse_living("r")


def test_events_are_read_by_run_seq_and_step(store: RunStore) -> None:
    """All events of a run, those after a seq, one by its seq, or those of one step."""
    execute(chained(["a", "c[0]"]), store, run_id="r")
    events = list(store.events("r"))
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert list(store.events("r", after=5)) == events[5:]
    assert store.event("r", 3) == events[2][1]
    found = store.step_events("r", "echo[c%5B0%5D]")
    assert found == [
        (seq, event) for seq, event in events if getattr(event, "step", "") == "echo[c%5B0%5D]"
    ]
    assert len(found) == 3
    with pytest.raises(LogDamaged, match="seq 999"):
        store.event("r", 999)
    assert isinstance(events[-1][1], RunSucceeded)


def test_a_run_is_removed_with_all_that_it_has(store: RunStore, tmp_path: Path) -> None:
    """Outputs, log and claim of a run go; its neighbours stay, and its id may be used again."""
    for run_id in ("one", "two"):
        execute(chained("ab"), store, run_id=run_id)
    store.remove("one")
    assert [run.run_id for run in store.runs()] == ["two"]
    assert [path.name for path in (tmp_path / "store/outputs").iterdir()] == ["two"]
    assert execute(chained("a"), store, run_id="one").success
    assert [run.run_id for run in store.runs()] == ["two", "one"]


def test_a_living_run_is_not_removed(store: RunStore) -> None:
    """What a living process writes to is not deleted under it."""
    recorder = store.start("r", run_started())
    with pytest.raises(RunAlive, match="`runstore cancel r` first"):
        store.remove("r")
    recorder.close()
    store.remove("r")
    assert store.runs() == []


def test_cancelling(store: RunStore) -> None:
    """A living run is asked to stop, a crashed one is closed for resuming later, one that is over is left as it is."""
    recorder = store.start("r", run_started())
    assert store.cancel("r") == "asked"
    time.sleep(0.11)
    assert recorder.cancel_requested()
    for event in [*fan_out("ab"), *plain("echo[a]")]:
        recorder.append(event)
    recorder.commit()
    recorder.close()
    assert store.cancel("r") == "cancelled"
    last = store.state("r").ended
    assert isinstance(last, RunCancelled)
    assert last.counts["echo"] == {"succeeded": 1, "pending": 1}
    assert store.run("r").status == "cancelled"
    assert store.cancel("r") == "over"


def test_a_store_in_memory_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in memory works like any other and makes no file; two of them do not meet."""
    monkeypatch.chdir(tmp_path)
    one, other = RunStore.in_memory(), RunStore.in_memory()
    execute(chained("ab"), one, run_id="r")
    assert other.runs() == []
    assert execute(chained("xyz"), other, run_id="r").output_for_node("echo") == {
        "x": "X",
        "y": "Y",
        "z": "Z",
    }
    assert one.runs()[0].events == len(list(one.events("r")))
    assert list(tmp_path.iterdir()) == []
    one.close()
    other.close()


def test_a_store_is_taken_in_any_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a store is expected, a store, a path, a text or nothing will do."""
    monkeypatch.chdir(tmp_path)
    for name in ("RUNSTORE_STORE", "RUNSTORE_OUTPUTS", "RUNSTORE_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    store = RunStore.open(tmp_path / "store")
    assert as_store(store) is store
    assert (
        as_store(tmp_path / "store").directory == as_store("store").directory == tmp_path / "store"
    )
    assert as_store(None).directory == tmp_path / ".runstore"
    with pytest.raises(StoreNotFound):
        as_store("store", must_exist=True)


def test_a_closed_store_opens_itself_again(store: RunStore) -> None:
    """A store that was closed, as by leaving a `with`, can be asked again."""
    with store:
        execute(chained("a"), store, run_id="r")
    assert store.run("r").status == "succeeded"


def test_a_store_may_move_with_its_outputs(store: RunStore, tmp_path: Path) -> None:
    """Outputs inside the store are named relative to it, so that the folder can be moved."""
    execute(fails_at("abc", "b"), store, run_id="r")
    store.close()
    (tmp_path / "store").rename(tmp_path / "moved")
    with RunStore.open(tmp_path / "moved") as moved:
        result = resume("r", moved, job=chained("abc"))
        assert result.output_for_node("echo") == {"a": "A", "b": "B", "c": "C"}
        failed = [
            event for _, event in moved.step_events("r", "echo[b]") if isinstance(event, StepFailed)
        ]
        assert len(failed) == 1


def test_outputs_may_go_elsewhere(tmp_path: Path) -> None:
    """Outputs go where they are told; the log names the place, and a resume may name another."""
    elsewhere, third = tmp_path / "elsewhere", tmp_path / "third"
    with RunStore.open(tmp_path / "store", outputs=str(elsewhere), level="fast") as store:
        execute(fails_at("abc", "b"), store, run_id="r")
    assert (elsewhere / "r/echo/result/a.json").exists()
    with RunStore.open(tmp_path / "store") as store:
        result = resume("r", store, job=chained("abc"), outputs=str(third))
        assert result.output_for_node("echo") == {"a": "A", "b": "B", "c": "C"}
        assert store.state("r").bases == [f"{elsewhere}/r", f"{third}/r"]
    assert [path.name for path in (third / "r/echo/result").iterdir()] == ["b.e2a2.json"]


def test_a_store_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """A file where the store's folder should be is refused with its address."""
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(StorageFailed, match="store"):
        execute(chained("a"), tmp_path / "store")


def test_outputs_of_another_store_are_not_written_over(tmp_path: Path) -> None:
    """Two stores may share a place for outputs; a run with the id of one of the other is refused, and not begun."""
    place = str(tmp_path / "shared")
    with RunStore.open(tmp_path / "one", place) as one:
        assert execute(chained("ab"), one, run_id="nightly").success
    before = {path: path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}
    with RunStore.open(tmp_path / "other", place) as other:
        with pytest.raises(ConfigError, match=r"outputs at .*nightly.*--run-id"):
            execute(chained("ab"), other, run_id="nightly")
        assert not other.has_run("nightly")
        assert execute(chained("ab"), other, run_id="weekly").success
    assert (
        before.items()
        <= {path: path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}.items()
    )
