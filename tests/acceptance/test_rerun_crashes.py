"""A rerun killed at any point goes on to the same end, and runs nothing that was not selected.

The parent is an uninterrupted run of the three-stage job. Each point is a real SIGKILL of a real process, asserted; at
both extremes of when events are committed, and with what is taken from the parent in commits of two events or in one.
"""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from execution import RunResult, rerun, resume
from execution.running import adoption
from runstore import RunStore
from runstore.log import recorder
from runstore.testing import Failpoint, record_points
from tests.acceptance.test_crash_matrix import COMMITS, failpoints_for, kill_run
from tests.acceptance.three_stages import (
    EXPECTED,
    RUN,
    Scene,
    file_digests,
    finished_steps,
    three_stages,
    values,
)

AGAIN = "again"
SELECTED = {"shout[c]", "wrap[c]", "gather"}


class Rerun:
    """The rerun of `shout[c]*` in a scene whose store has its parent."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._copy = scene.folder / "copy"
        scene.execute()
        shutil.copytree(scene.store, self._copy)
        self.reset()
        self.parent_files = file_digests(scene.store / "outputs" / RUN)

    def reset(self) -> None:
        """The store as the parent has left it."""
        shutil.rmtree(self.scene.store)
        shutil.copytree(self._copy, self.scene.store)
        self.scene.take_calls()

    def start(self, store: RunStore | None = None, **more: Any) -> RunResult:
        """Start it, or go on with it."""
        opened = store or self.scene.open()
        select, job = ["shout[c]*"], three_stages
        return rerun(RUN, opened, select=select, job=job, new_run_id=AGAIN, **more)

    def check(self, where: str) -> None:
        """Go on after a kill, and hold that against what the kill has left."""
        called = self.scene.take_calls()
        with self.scene.open() as store:
            begun = store.has_run(AGAIN)
            state = store.state(AGAIN) if begun else None
            finished = finished_steps(state) if state else set()
            in_flight = {str(step) for step in state.running} if state else set()
            result = resume(AGAIN, store, job=three_stages) if begun else self.start(store)
            assert result.success, where
            assert values(result) == EXPECTED, where
            assert not store.state(AGAIN).is_taking, where
        ran = self.scene.take_calls()
        # Each selected step without a success ran, once; nothing that was not selected ran, before or after the kill.
        assert Counter(ran) == Counter(SELECTED - finished), where
        assert set(called) <= SELECTED, where
        assert set(called) & set(ran) <= in_flight, where
        assert file_digests(self.scene.store / "outputs" / RUN) == self.parent_files, where


@pytest.mark.parametrize(("commits", "taken_at_once"), [("each", 2), ("grouped", 10_000)])
def test_kill_at_every_point_of_a_rerun(
    commits: str, taken_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each point that an uninterrupted rerun passes, also while it takes from its parent (rule R8)."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS[commits])
    monkeypatch.setattr(adoption, "COMMIT_EVENTS", taken_at_once)
    scene = Scene(tmp_path, "fast")
    again = Rerun(scene)
    points = record_points(again.start)
    for failpoint in failpoints_for(points):
        again.reset()
        kill_run(again.start, failpoint)
        again.check(f"{failpoint}")


def test_a_second_kill_while_the_rest_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it takes from its parent, then at every point of the resume: still the same end."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    monkeypatch.setattr(adoption, "COMMIT_EVENTS", 2)
    scene = Scene(tmp_path, "fast")
    again = Rerun(scene)
    first = Failpoint(point="event.before", kind="StepReused", step="wrap[a]")
    kill_run(again.start, first)
    crashed = tmp_path / "crashed"
    shutil.copytree(scene.store, crashed)
    points = record_points(lambda: resume(AGAIN, scene.open(), job=three_stages))
    for second in failpoints_for(points)[::2]:
        shutil.rmtree(scene.store)
        shutil.copytree(crashed, scene.store)
        scene.take_calls()
        kill_run(lambda: resume(AGAIN, scene.open(), job=three_stages), second)
        again.check(f"{first}, then {second}")


def test_the_same_bytes_as_an_uninterrupted_run(tmp_path: Path) -> None:
    """What a rerun of everything makes has the paths and the bytes of its parent's outputs."""
    scene = Scene(tmp_path, "fast")
    scene.execute()
    assert rerun(RUN, scene.open(), job=three_stages, new_run_id=AGAIN).success
    outputs = scene.store / "outputs"
    assert file_digests(outputs / AGAIN) == file_digests(outputs / RUN)
