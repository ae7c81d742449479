"""A run killed at any point resumes to the result of an uninterrupted one, and repeats nothing that had finished.

Each point is a real SIGKILL of a real process, and each test asserts that the kill happened. Commits group events by
time, which would make the number of points depend on the machine; so the matrix runs under both extremes: every event
in a commit of its own ("each"), and only the commits that must be, with kills between the events of one ("grouped").
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database as SqliteUtils

from execution import DynamicOut, DynamicOutput, OpContext, RunResult, execute, job, op, resume
from runstore import RunStore
from runstore.log import recorder
from runstore.log.database import Database
from runstore.log.events import Event, ExpansionSealed, RunSucceeded, StepSucceeded
from runstore.testing import Ending, Failpoint, Point, armed, in_fork, kill, record_points
from tests.acceptance.three_stages import (
    ALL_STEPS,
    EXPECTED,
    RUN,
    Scene,
    event_rows,
    file_digests,
    finished_steps,
    values,
)

COMMITS = {"each": 0.0, "grouped": 1e9}
SAMPLE = 30
"""Pairs of kills per level in the default tier; all of them run in the slow one."""
SHARDS = 8


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs; copying it is cheaper than making its tables anew for each of a thousand kills."""
    directory = tmp_path_factory.mktemp("empty")
    Database(directory / "runs.db", writable=True).close()
    return directory


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Where a test that stands for itself runs."""
    return Scene(tmp_path)


@pytest.mark.parametrize("commits", COMMITS)
@pytest.mark.parametrize("level", ["fast", "durable"])
def test_kill_at_every_point(
    level: str,
    commits: str,
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at each point that an uninterrupted run passes, a run resumes to the same result and repeats nothing."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS[commits])
    scene = Scene(tmp_path, level)
    points = record_points(scene.execute)
    assert {point.name for point in points} == POINT_NAMES
    for failpoint in failpoints_for(points):
        reset(scene, empty_store)
        kill_run(scene.execute, failpoint)
        resume_and_check(scene, f"{failpoint}")


POINT_NAMES = {
    "event.before",
    "event.after",
    "commit.before",
    "commit.after",
    "output.before",
    "output.partial",
    "output.after",
}


@pytest.mark.parametrize("level", ["fast", "durable"])
def test_second_kill_during_the_resume(
    level: str, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 pairs per level, drawn with a fixed seed: killed, resumed, killed again, resumed: still the same (rule R8)."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    draw = random.Random(f"two kills at level {level}")
    scene = Scene(tmp_path, level)
    firsts = failpoints_for(record_points(scene.execute))
    draw.shuffle(firsts)
    checked = 0
    while checked < SAMPLE:
        first = firsts.pop()
        reset(scene, empty_store)
        kill_run(scene.execute, first)
        crashed = Snapshot(scene)
        points = points_of_resume(scene)
        if points:  # the first kill did not come after the end
            crashed.restore()
            kill_and_check(scene, first, draw.choice(failpoints_for(points)))
            checked += 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("level", ["fast", "durable"])
def test_every_pair_of_kills(
    level: str, shard: int, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every point of a run, then every point of its resume; first kills that leave the same behind count once."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    scene = Scene(tmp_path, level)
    left_behind: dict[object, Failpoint] = {}
    for first in failpoints_for(record_points(scene.execute)):
        reset(scene, empty_store)
        kill_run(scene.execute, first)
        left_behind.setdefault(what_is_on_disk(scene), first)
    for first in list(left_behind.values())[shard::SHARDS]:
        reset(scene, empty_store)
        kill_run(scene.execute, first)
        crashed = Snapshot(scene)
        for second in failpoints_for(points_of_resume(scene)):
            crashed.restore()
            kill_and_check(scene, first, second)


def test_cut_between_seal_and_success(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the seal on disk and the success not, the generator runs again and no clone has begun (rule X2)."""
    cut_between_seal_and_success(scene.execute, scene.store, monkeypatch)
    assert scene.take_calls() == ["fan_out"]
    plans = {plan.node: plan for plan in scene.plan().nodes}
    assert plans["fan_out"].run == {"interrupted": 1}
    assert plans["shout"].waiting
    assert plans["wrap"].waiting
    result = scene.resume()
    assert values(result) == EXPECTED
    assert Counter(scene.take_calls()) == Counter(ALL_STEPS)


@op(out=DynamicOut(int))
def fickle(context: OpContext) -> Iterator[DynamicOutput[int]]:
    """Other keys in each epoch."""
    for key in "xyz" if context.epoch == 1 else "zxq":
        yield DynamicOutput(context.epoch, mapping_key=key)


@op
def keep(epoch: int) -> int:
    """The value."""
    return epoch


@op
def listed(found: dict[str, int]) -> dict[str, int]:
    """The values by key."""
    return found


@job
def fickle_job() -> None:
    """A generator whose keys change, mapped and collected."""
    listed(fickle().map(keep).collect(as_dict=True))


def test_a_seal_without_success_binds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a cut between seal and success the generator may yield other keys; these alone are collected (rule F4)."""

    def run() -> None:
        with RunStore.open(tmp_path) as store:
            execute(fickle_job, store, run_id=RUN)

    cut_between_seal_and_success(run, tmp_path, monkeypatch)
    with RunStore.open(tmp_path) as store:
        result = resume(RUN, store, job=fickle_job)
        assert result.output_for_node("listed") == {"z": 2, "x": 2, "q": 2}
        assert list(result.output_for_node("fickle")) == ["z", "x", "q"]


def cut_between_seal_and_success(
    run: Callable[[], Any], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the run right there, and assert from the rows on disk that it was there."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    kill_run(run, Failpoint(point="event.before", kind="StepSucceeded"))
    with RunStore.open(store) as opened:
        events = [event for _, event in opened.events(RUN)]
    assert isinstance(events[-1], ExpansionSealed)
    assert not any(isinstance(event, StepSucceeded) for event in events)


def test_killed_while_the_tables_are_made(tmp_path: Path) -> None:
    """A store that was killed at any statement that makes its tables is finished by the next run."""
    for nth in range(1, 100):
        scene = Scene(tmp_path / str(nth))
        ending = in_fork(lambda: run_killed_at_statement(nth, scene))  # noqa: B023 - called at once
        if not ending.killed:
            break
        assert values(scene.execute()) == EXPECTED
        assert Counter(scene.take_calls()) == Counter(ALL_STEPS)
    assert ending.code == 0
    assert nth > 15


def run_killed_at_statement(nth: int, scene: Scene) -> None:
    """Run, and kill this process at the nth statement of the migrations."""
    statements = 0
    run_statement = SqliteUtils.execute

    def execute_or_die(self: Any, *arguments: Any) -> Any:
        nonlocal statements
        statements += 1
        if statements == nth:
            kill()
        return run_statement(self, *arguments)

    SqliteUtils.execute = execute_or_die  # type: ignore[method-assign]
    scene.execute()


# What a kill is, and what must hold after it


def failpoints_for(points: list[Point]) -> list[Failpoint]:
    """One failpoint for each point, named by what it is about and how often that was passed before.

    Not by its number: a generator's outputs are written by several threads, so the order of points may differ.
    """
    seen: Counter[tuple[str | None, ...]] = Counter()
    found = []
    for name, subject in points:
        kind = type(subject).__name__ if isinstance(subject, Event) else None
        what = (name, kind, getattr(subject, "step", None))
        seen[what] += 1
        found.append(Failpoint(seen[what], *what))
    return found


def kill_run(run: Callable[[], Any], failpoint: Failpoint) -> None:
    """Run in a process of its own until the failpoint kills it, which is asserted."""
    ending = end_of(run, failpoint)
    assert ending.killed, f"{failpoint} did not kill: {ending}"


def end_of(run: Callable[[], Any], failpoint: Failpoint) -> Ending:
    """How a run in a process of its own has ended, with a failpoint that would kill it."""

    def armed_run() -> None:
        with armed(failpoint):
            run()

    return in_fork(armed_run)


def go_on(scene: Scene, store: RunStore | None = None) -> RunResult:
    """Resume the run, or start it where the kill came before it was on disk."""
    store = store or scene.open()
    return scene.resume(store) if store.has_run(RUN) else scene.execute(store)


def points_of_resume(scene: Scene) -> list[Point]:
    """Every point that a resume passes."""
    with scene.open() as store:
        return record_points(lambda: go_on(scene, store))


def kill_and_check(scene: Scene, first: Failpoint, second: Failpoint) -> None:
    """Kill the resume of a crashed run, resume that, and check both."""
    before = finished_on_disk(scene)
    scene.take_calls()
    kill_run(lambda: go_on(scene), second)
    resume_and_check(scene, f"{first}, then {second}", must_not_have_run=before)


def finished_on_disk(scene: Scene) -> set[str]:
    """Step keys that the log on disk says have finished."""
    with scene.open() as store:
        return finished_steps(store.state(RUN)) if store.has_run(RUN) else set()


def resume_and_check(
    scene: Scene,
    where: str,
    must_not_have_run: set[str] | frozenset[str] = frozenset(),
    window: int = 1,
) -> None:
    """Resume a killed run: it does what its plan says (R4), and is held against the log that the kill has left.

    `window`: how many steps may have been in flight, with bytes still on their way.
    """
    called = scene.take_calls()
    assert not must_not_have_run & set(called), where
    with scene.open() as store:
        state = store.state(RUN) if store.has_run(RUN) else None
        is_done = state is not None and isinstance(state.ended, RunSucceeded)
        planned = None if state is None or is_done else scene.plan(store)
        result = go_on(scene, store)
        found, succeeded = values(result), result.success
    finished = finished_steps(state) if state else set()
    in_flight = {str(step) for step in state.running} if state else set()
    ran = scene.take_calls()

    assert succeeded, where
    assert found == EXPECTED, where
    # Each step without a success ran, and ran once; none that had finished did.
    assert Counter(ran) == Counter(ALL_STEPS - finished), where
    assert len(in_flight) <= window, where
    assert set(called) & set(ran) <= in_flight, where
    if planned is not None:
        runs_by_node = Counter(step.partition("[")[0] for step in ran)
        for plan in planned.nodes:
            assert plan.waiting == (plan.sealed is None)
            assert plan.waiting == ("fan_out" not in finished and plan.node in ("shout", "wrap"))
            assert plan.waiting or sum(plan.run.values()) == runs_by_node[plan.node], where


class Snapshot:
    """A store as a kill has left it, to come back to."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._copy = scene.folder / "snapshot"
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(scene.store, self._copy)

    def restore(self) -> None:
        """Put everything back in place."""
        shutil.rmtree(self._scene.store)
        shutil.copytree(self._copy, self._scene.store)


def reset(scene: Scene, empty_store: Path) -> None:
    """Begin anew with a store that has no run."""
    shutil.rmtree(scene.store, ignore_errors=True)
    shutil.copytree(empty_store, scene.store)
    scene.take_calls()


def what_is_on_disk(scene: Scene) -> object:
    """Everything that a resume can find, without what differs between two equal runs (times)."""
    with scene.open() as store:
        events = [event for _, event in store.events(RUN)] if store.has_run(RUN) else []
    facts = [(type(event), *(getattr(event, name, "") for name in _FACTS)) for event in events]
    assert len(facts) == len(event_rows(scene.store))
    return tuple(facts), tuple(sorted(file_digests(scene.store / "outputs").items()))


_FACTS = ("epoch", "step", "attempt", "output", "mapping_key")
