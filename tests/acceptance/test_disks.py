"""A disk that is full or read-only stops a run with one clear error; with the disk mended the run resumes.

Real disks: small ones in memory, mounted for the test. A permission bit would not do, since it does not stop root.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    execute,
    job,
    op,
    plan_resume,
    resume,
)
from runstore import RunStore, StorageFailed
from runstore.outputs import output_store
from runstore.testing import Failpoint, armed, in_fork
from tests.acceptance.three_stages import finished_steps, note

RUN = "the-run"
PIECES = 24
PIECE_BYTES = 20_000
LARGE_KB = 16_384
"""The job needs about 1.3 MB: 24 pieces and 24 results of 20 kB, and the log."""


@op(out=DynamicOut(bytes))
def pieces(context: OpContext) -> Iterator[DynamicOutput[bytes]]:
    """Some bytes under each key."""
    note(context)
    for number in range(PIECES):
        yield DynamicOutput(bytes([number]) * PIECE_BYTES, mapping_key=number)


@op
def turned(context: OpContext, piece: bytes) -> bytes:
    """Each byte replaced by another."""
    note(context)
    return bytes(255 - byte for byte in piece)


@op
def firsts(context: OpContext, found: list[bytes]) -> list[int]:
    """The first byte of each."""
    note(context)
    return [piece[0] for piece in found]


@job
def filling() -> None:
    """Fan out, map, collect, over large values."""
    firsts(pieces().map(turned).collect())


class Disk:
    """A small disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._run("mount", "-t", "tmpfs", "-o", f"size={LARGE_KB}k", "tmpfs", str(folder))

    def resize(self, size_kb: int) -> None:
        """Make it smaller or larger."""
        self._remount(f"size={size_kb}k")

    def set_read_only(self, read_only: bool) -> None:
        """Refuse writing, or allow it again."""
        self._remount("ro" if read_only else "rw")

    def unmount(self) -> None:
        """Give it back."""
        self._run("umount", "-l", str(self.folder))

    def _remount(self, option: str) -> None:
        self._run("mount", "-o", f"remount,{option}", str(self.folder))

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that can be made small, large, and read-only."""
    if sys.platform != "linux":
        pytest.skip("small disks in memory are mounted with Linux's tmpfs; this system has none")
    try:
        disk = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or error
        pytest.skip(f"mounting a small disk needs root, which this process has not: {reason}")
    yield disk
    disk.unmount()


class Place:
    """Where the log, the outputs and the file of calls are; one or both on the disk."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        what_is_small: str,
        level: str = "durable",
        small_outputs: str = "file",
    ) -> None:
        self.store = (disk.folder if what_is_small != "outputs" else folder) / "store"
        self.outputs = (disk.folder if what_is_small != "log" else folder) / "outputs"
        self.level, self.small_outputs = level, small_outputs
        self._calls = folder / "calls.txt"

    def open(self) -> RunStore:
        """The store."""
        forms: Any = {"level": self.level, "small_outputs": self.small_outputs}
        return RunStore.open(self.store, outputs=str(self.outputs), **forms)

    def run(self) -> None:
        """Start the run or go on with it, whichever it is (rule T1)."""
        nodes = ("pieces", "turned", "firsts")
        config = {"ops": {node: {"config": {"calls": str(self._calls)}} for node in nodes}}
        with self.open() as store:
            result = execute(filling, store, run_config=config, run_id=RUN)
            assert result.success
            assert result.output_for_node("firsts") == [255 - number for number in range(PIECES)]

    def finished(self) -> set[str]:
        """Step keys that have finished, as far as anything is on disk."""
        with self.open() as store:
            return finished_steps(store.state(RUN)) if store.has_run(RUN) else set()

    def take_calls(self) -> Counter[str]:
        """Step keys that were called since the last question."""
        calls = Counter(self._calls.read_text().splitlines()) if self._calls.exists() else Counter()
        self._calls.unlink(missing_ok=True)
        return calls


ALL_STEPS = {"pieces", "firsts", *(f"turned[{number}]" for number in range(PIECES))}


@pytest.mark.parametrize("level", ["fast", "durable"])
@pytest.mark.parametrize("what_is_small", ["log", "outputs", "log and outputs"])
def test_full_disk(what_is_small: str, level: str, tmp_path: Path, disk: Disk) -> None:
    """At a dozen sizes: StorageFailed names a path on the disk; with more space, nothing that finished runs again."""
    stopped = 0
    small, step = {"log": (8, 12), "outputs": (40, 90), "log and outputs": (48, 120)}[what_is_small]
    for size_kb in range(small, small + 12 * step, step):
        folder = tmp_path / str(size_kb)
        folder.mkdir()
        place = Place(folder, disk, what_is_small, level)
        disk.resize(size_kb)
        stopped += fill_and_mend(place, disk)
        clear(disk)
    assert stopped >= 8


@pytest.mark.parametrize("level", ["fast", "durable"])
def test_full_disk_with_packed_outputs(
    level: str, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that has no room is no output: none of the steps in it counts, and each of them runs again."""
    monkeypatch.setattr(output_store, "SMALL_BYTES", 10 * PIECE_BYTES)
    stopped = 0
    for size_kb in range(40, 40 + 12 * 90, 90):
        folder = tmp_path / str(size_kb)
        folder.mkdir()
        disk.resize(size_kb)
        stopped += fill_and_mend(Place(folder, disk, "outputs", level, "pack"), disk)
        clear(disk)
    assert stopped >= 8


def fill_and_mend(place: Place, disk: Disk) -> bool:
    """Run on a full disk, then on a larger one; False where the job has found room."""
    try:
        place.run()
    except StorageFailed as error:
        message = str(error)
    else:
        return False
    assert str(disk.folder) in message
    assert "No space left" in message or "full" in message
    assert "\n" not in message
    place.take_calls()
    finished = mended_finished(place, disk)
    place.run()
    assert place.take_calls() == Counter(ALL_STEPS - finished)
    return True


def mended_finished(place: Place, disk: Disk) -> set[str]:
    """More space, then what has finished."""
    disk.resize(LARGE_KB)
    return place.finished()


def clear(disk: Disk) -> None:
    """Remove everything from the disk."""
    subprocess.run(["find", str(disk.folder), "-mindepth", "1", "-delete"], check=True)


def test_full_disk_on_resume(tmp_path: Path, disk: Disk) -> None:
    """A resume on a disk that is still full fails in the same way, as often as it is tried, and loses nothing."""
    place = Place(tmp_path, disk, "log and outputs")
    disk.resize(800)
    finished: set[str] = set()
    for _ in range(4):
        with pytest.raises(StorageFailed, match=str(disk.folder)):
            place.run()
        assert finished <= place.finished()
        finished = place.finished()
    assert finished
    place.take_calls()
    disk.resize(LARGE_KB)
    place.run()
    assert place.take_calls() == Counter(ALL_STEPS - finished)


def test_new_store_on_a_read_only_disk(tmp_path: Path, disk: Disk) -> None:
    """A run whose store cannot be made names the place; made writable, the same command works."""
    place = Place(tmp_path, disk, "log")
    disk.set_read_only(True)
    with pytest.raises(StorageFailed, match=rf"{disk.folder}.*[Rr]ead-only") as caught:
        place.run()
    assert "\n" not in str(caught.value)
    assert not place.take_calls()
    disk.set_read_only(False)
    place.run()


def test_outputs_on_a_disk_that_becomes_read_only(tmp_path: Path, disk: Disk) -> None:
    """An output that cannot be written stops the run, names the file, and is not a failure of the step."""
    place = Place(tmp_path, disk, "outputs")
    turn = Failpoint(
        kind="StepStarted",
        step="turned[5]",
        point="event.after",
        action=lambda: disk.set_read_only(True),
    )
    with armed(turn), pytest.raises(StorageFailed, match=rf"{disk.folder}/outputs.*Read-only"):
        place.run()
    assert turn.reached
    with place.open() as store:
        assert store.run(RUN).status == "crashed"
    finished = place.finished()
    assert "turned[4]" in finished
    place.take_calls()
    with pytest.raises(StorageFailed, match=rf"{disk.folder}/outputs.*Read-only"):
        place.run()
    assert place.take_calls() == Counter({"turned[5]": 1})
    disk.set_read_only(False)
    place.run()
    assert place.take_calls() == Counter(ALL_STEPS - finished)


def test_a_run_on_a_read_only_disk_is_not_deleted(tmp_path: Path, disk: Disk) -> None:
    """Outputs that cannot be deleted are named, and the log that says what they are stays."""
    place = Place(tmp_path, disk, "outputs")
    place.run()
    disk.set_read_only(True)
    with place.open() as store:
        with pytest.raises(StorageFailed, match=rf"{disk.folder}/outputs.*Read-only.*deletable"):
            store.remove(RUN)
        assert store.run(RUN).status == "succeeded"
        disk.set_read_only(False)
        store.remove(RUN)
        assert not store.has_run(RUN)


@pytest.mark.parametrize("ending", ["closed", "killed"])
def test_log_on_a_read_only_disk(ending: str, tmp_path: Path, disk: Disk) -> None:
    """A resume is refused there and changes nothing; after a clean end the log can still be read."""
    place = Place(tmp_path, disk, "log and outputs")
    stop_after(place, "turned[5]", killed=ending == "killed")
    finished = place.finished()
    assert finished
    place.take_calls()
    disk.set_read_only(True)
    with pytest.raises(StorageFailed, match=rf"{disk.folder}.*") as caught:
        resume(RUN, place.open(), job=filling)
    assert "\n" not in str(caught.value)
    assert not place.take_calls()
    if ending == "closed":
        with place.open() as store:
            assert plan_resume(RUN, store, job=filling).to_reuse == len(finished)
            assert store.run(RUN).status == "crashed"
            assert finished_steps(store.state(RUN)) == finished
    disk.set_read_only(False)
    place.run()
    assert place.take_calls() == Counter(ALL_STEPS - finished)


def stop_after(place: Place, step: str, *, killed: bool) -> None:
    """Leave an unfinished run behind, by a kill or by an error of the executor that closes the store."""

    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    here = Failpoint(point="event.after", kind="StepSucceeded", step=step)
    if not killed:
        here.action = stop

    def run() -> None:
        with armed(here):
            place.run()

    if killed:
        assert in_fork(run).killed
    else:
        with pytest.raises(Stopped):
            run()
