"""Steps that are tried again, killed at any point and during a wait: the same end, and no retry before its time.

The generator and one clone fail in the first attempt of each budget. Retries are due at once in the matrix, so that the
points do not depend on the machine; those about waiting have delays. Each kill is a real SIGKILL, which is asserted.
"""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    RetryPolicy,
    RetryRequested,
    RunResult,
    execute,
    job,
    op,
    plan_resume,
    resume,
)
from runstore import RunStore
from runstore.log import recorder
from runstore.log.database import Database
from runstore.log.events import AnyEvent, RunSucceeded, StepRetried, StepStarted
from runstore.log.state import RunState
from runstore.testing import Failpoint, Point, record_points
from tests.acceptance.test_crash_matrix import COMMITS, failpoints_for, kill_run
from tests.acceptance.three_stages import RUN, finished_steps, note
from tests.property.logs import facts

NODES = ("fan_out", "echo", "gather")
CLONES = {"echo[a]", "echo[b]"}
FLAKY = {"fan_out", "echo[b]"}
EXPECTED = {
    "fan_out": {"a": "a2", "b": "b2"},
    "echo": {"a": "A2", "b": "B2"},
    "gather": "A2 B2",
}


@op(out=DynamicOut(str), retry_policy=RetryPolicy(max_retries=1))
def fan_out(context: OpContext) -> Iterator[DynamicOutput[str]]:
    """Two pieces; the first attempt of a budget yields others, and fails then."""
    note(context)
    for key in "ca" if not context.retry_number else "ab":
        yield DynamicOutput(f"{key}{1 + context.retry_number}", mapping_key=key)
    if not context.retry_number:
        raise RetryRequested(1, context.op_config["delay"])


@op(retry_policy=RetryPolicy(max_retries=0))
def echo(context: OpContext, piece: str) -> str:
    """Capitals; the clone b asks for a retry in the first attempt of a budget."""
    note(context)
    if context.mapping_key == "b" and not context.retry_number:
        raise RetryRequested(1, context.op_config["delay"]) from ValueError("not now")
    return piece.upper()


@op
def gather(context: OpContext, pieces: list[str]) -> str:
    """The collect."""
    note(context)
    return " ".join(pieces)


@job
def tries_again() -> None:
    """Fan out, map, collect."""
    gather(fan_out().map(echo).collect())


@dataclass(frozen=True)
class Scene:
    """A folder with a store for one run of the job, and the file of calls beside it."""

    folder: Path
    delay_s: float = 0.0

    def open(self) -> RunStore:
        """The store, not yet opened on disk."""
        return RunStore.open(self.folder / "store", level="fast")

    def go(self) -> RunResult:
        """Start the run, or go on with it."""
        config = {"calls": str(self.folder / "calls.txt"), "delay": self.delay_s}
        store = self.open()
        if store.has_run(RUN):
            return resume(RUN, store, job=tries_again)
        run_config = {"ops": {node: {"config": config} for node in NODES}}
        return execute(tries_again, store, run_config=run_config, run_id=RUN)

    def events(self) -> list[AnyEvent]:
        """What is on disk."""
        with self.open() as store:
            return [event for _, event in store.events(RUN)] if store.has_run(RUN) else []

    def state(self) -> RunState | None:
        """The fold of it."""
        with self.open() as store:
            return store.state(RUN) if store.has_run(RUN) else None

    def take_calls(self) -> list[str]:
        """The step keys that were called since the last question."""
        file = self.folder / "calls.txt"
        calls = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return calls

    def reset(self, empty_store: Path) -> None:
        """Begin anew with a store that has no run."""
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        shutil.copytree(empty_store, self.folder / "store")
        self.take_calls()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs."""
    directory = tmp_path_factory.mktemp("empty")
    Database(directory / "runs.db", writable=True).close()
    return directory


def points_of(scene: Scene) -> list[Point]:
    """Every point of the run, or of its resume."""
    return record_points(scene.go)


@pytest.mark.parametrize("commits", COMMITS)
def test_kill_at_every_point(
    commits: str, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F3, F4: killed at each point of a run with retries, it resumes to the same end with its full budget again."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS[commits])
    scene = Scene(tmp_path)
    scene.reset(empty_store)
    points = points_of(scene)
    retried = [str(point) for point in points if isinstance(point.subject, StepRetried)]
    assert retried == [
        f"event.{when} {step}" for step in ("fan_out", "echo[b]") for when in ("before", "after")
    ]
    for failpoint in failpoints_for(points):
        scene.reset(empty_store)
        kill_run(scene.go, failpoint)
        resume_and_check(scene, str(failpoint))


def test_second_kill_during_the_resume(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R8: twenty pairs of kills, drawn with a fixed seed: retries over three epochs come to the same end."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    draw, scene = random.Random("two kills"), Scene(tmp_path)
    scene.reset(empty_store)
    firsts = failpoints_for(points_of(scene))
    for first in draw.sample(firsts, 20):
        scene.reset(empty_store)
        kill_run(scene.go, first)
        shutil.copytree(tmp_path / "store", tmp_path / "crashed")
        seconds = failpoints_for(points_of(scene))
        scene.reset(tmp_path / "crashed")
        shutil.rmtree(tmp_path / "crashed")
        if seconds:  # the first kill did not come after the end
            second = draw.choice(seconds)
            kill_run(scene.go, second)
            resume_and_check(scene, f"{first}, then {second}")


WAITS = {
    "the wait of the generator": Failpoint(point="wait"),
    "the wait of a clone": Failpoint(point="wait", nth=2),
    "before the retry is on disk": Failpoint(1, "event.after", "StepRetried", "echo[b]"),
    "before the next start is on disk": Failpoint(2, "event.after", "StepStarted", "echo[b]"),
}


@pytest.mark.parametrize("where", WAITS)
def test_kill_around_a_wait(
    where: str, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F3: the due time in the log holds over the crash, by the times of the events; the wait does not begin anew."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    scene = Scene(tmp_path, delay_s=0.5)
    scene.reset(empty_store)
    kill_run(scene.go, WAITS[where])
    crashed = scene.state()
    assert crashed is not None
    resume_and_check(scene, where)
    for step, due in crashed.waiting.items():
        started = [
            event.time
            for event in scene.events()
            if isinstance(event, StepStarted) and event.step == str(step) and event.epoch == 2
        ]
        assert due <= started[0]
    assert bool(crashed.waiting) == (where != "before the retry is on disk")


def resume_and_check(scene: Scene, where: str) -> None:
    """Resume a killed run and hold it against the log that the kill has left."""
    scene.take_calls()
    before = scene.state()
    finished = finished_steps(before) if before else set()
    with scene.open() as store:
        is_done = before is not None and isinstance(before.ended, RunSucceeded)
        plan = None if before is None or is_done else plan_resume(RUN, store, job=tries_again)
    result = scene.go()
    found = {node: result.output_for_node(node) for node in NODES}
    ran = Counter(scene.take_calls())

    assert result.success, where
    assert found == EXPECTED, where
    # Nothing that had finished ran again; the rest once, and twice what fails in the first attempt of a budget.
    left = {"fan_out", *CLONES, "gather"} - finished
    assert ran == Counter(dict.fromkeys(left, 1)) + Counter(FLAKY & left), where
    if plan is not None and before is not None:
        planned = {node.node: node for node in plan.nodes}
        waiting = sum(node.run.get("waiting for a retry", 0) for node in plan.nodes)
        assert waiting == len(before.waiting), where
        assert sum(planned["fan_out"].run.values()) == len({"fan_out"} & left), where
        assert planned["echo"].waiting or sum(planned["echo"].run.values()) == len(CLONES & left)
    check_log(scene.events(), where)
    after = scene.state()
    assert after is not None
    assert facts(after) == facts(result._state), where
    assert (after.waiting, after.retries) == ({}, {}), where


def check_log(events: list[AnyEvent], where: str) -> None:
    """Attempts count on without a gap; no start before it was due; in an epoch no more retries than the budget has."""
    attempts: Counter[str] = Counter()
    budget: Counter[tuple[int, str]] = Counter()
    due: dict[str, Any] = {}
    for event in events:
        if isinstance(event, StepStarted):
            attempts[event.step] += 1
            assert event.attempt == attempts[event.step], where
            assert event.time >= due.pop(event.step, event.time), where
        elif isinstance(event, StepRetried):
            assert event.error.message in ("the op asked to be tried again", "ValueError: not now")
            due[event.step] = event.due
            budget[event.epoch, event.step] += 1
    assert not budget or max(budget.values()) == 1, where
