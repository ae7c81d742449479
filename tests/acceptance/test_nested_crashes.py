"""Killed at any point, a nested run ends as it would have: 2 outer keys, 3 inner ones each, a collect at each level.

What was sealed under one outer key and what was not, which clones of a level had begun and which collects had been
proven: all of it is found again from the log alone.
"""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, execute, graph, job, op, plan_resume, resume
from runstore import RunStore
from runstore.log import recorder
from runstore.log.database import Database
from runstore.log.events import RunSucceeded, StepStarted
from runstore.log.state import RunState
from runstore.log.transitions import SUCCEEDED
from runstore.testing import Failpoint, record_points
from tests.acceptance.test_crash_matrix import failpoints_for, kill_run

RUN = "the-run"
COMMITS = {"each": 0.0, "grouped": 1e9}
SECOND_KILLS = 25


@op(out=DynamicOut(str))
def shelves() -> Iterator[DynamicOutput[str]]:
    """The outer level."""
    for shelf in "ab":
        yield DynamicOutput(shelf, shelf)


@op(out=DynamicOut(str))
def books(shelf: str) -> Iterator[DynamicOutput[str]]:
    """The inner level."""
    for number in range(3):
        yield DynamicOutput(f"{shelf}{number}", number)


@op
def read(book: str) -> str:
    """The clone of both levels."""
    return book.upper()


@op
def shelf_list(titles: list[str]) -> str:
    """The collect of the inner level."""
    return "+".join(titles)


@op
def catalogue(lists: dict[str, str], titles: list[list[str]]) -> dict[str, Any]:
    """The collect of the outer level, of both kinds."""
    return {"lists": lists, "titles": titles}


@graph
def shelf_of(shelf: Any) -> Any:
    """What is done with a shelf."""
    titles = books(shelf).map(read)
    return shelf_list(titles.collect()), titles


@job
def library() -> None:
    """Two levels, collected one by one and at once."""
    lists, titles = shelves().map(shelf_of)
    catalogue(lists.collect(as_dict=True), titles.collect().collect())


EXPECTED = {
    "lists": {"a": "A0+A1+A2", "b": "B0+B1+B2"},
    "titles": [["A0", "A1", "A2"], ["B0", "B1", "B2"]],
}
STATES = {
    "shelves": {"succeeded": 1},
    "shelf_of.books": {"succeeded": 2},
    "shelf_of.read": {"succeeded": 6},
    "shelf_of.shelf_list": {"succeeded": 2},
    "catalogue": {"succeeded": 1},
}


@pytest.fixture
def empty_store(tmp_path: Path) -> Path:
    """A store without runs, to be copied."""
    directory = tmp_path / "empty"
    directory.mkdir()
    Database(directory / "runs.db", writable=True).close()
    return directory


def go(store: Path, level: str) -> Any:
    """Start the run, or go on with it."""
    with RunStore.open(store, level=level) as opened:  # type: ignore[arg-type]
        if opened.has_run(RUN):
            return resume(RUN, opened, job=library)
        return execute(library, opened, run_id=RUN)


def fresh(store: Path, empty: Path) -> None:
    """Begin anew."""
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(empty, store)


@pytest.mark.parametrize(
    ("level", "commits"), [("fast", "each"), ("fast", "grouped"), ("durable", "each")]
)
def test_kill_at_every_point(
    level: str, commits: str, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D7, D8, R2: killed at each point, the run resumes to the same result and repeats only what was in flight.

    At level `durable`, which passes the same points with fsyncs between them, at every fourth.
    """
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS[commits])
    store = tmp_path / "store"
    points = failpoints_for(record_points(lambda: go(store, level)))
    check(store, "uninterrupted", deaths=0)
    assert len(points) > 150
    for failpoint in points[:: 4 if level == "durable" else 1]:
        fresh(store, empty_store)
        kill_run(lambda: go(store, level), failpoint)
        resume_and_check(store, level, f"{failpoint}", deaths=1)


def test_second_kill_during_the_resume(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R8: 25 pairs of kills, drawn with a fixed seed: killed, resumed, killed again, resumed: still the same."""
    monkeypatch.setattr(recorder, "GROUP_S", COMMITS["each"])
    draw, store = random.Random("two kills of a nested run"), tmp_path / "store"
    firsts = failpoints_for(record_points(lambda: go(store, "fast")))
    draw.shuffle(firsts)
    pairs: list[tuple[Failpoint, Failpoint]] = []
    while len(pairs) < SECOND_KILLS:
        first = firsts.pop()
        fresh(store, empty_store)
        kill_run(lambda: go(store, "fast"), first)
        shutil.copytree(store, tmp_path / "crashed", dirs_exist_ok=False)
        points = record_points(lambda: go(store, "fast"))
        shutil.rmtree(store)
        (tmp_path / "crashed").rename(store)
        if points:  # the first kill did not come after the end
            second = draw.choice(failpoints_for(points))
            kill_run(lambda: go(store, "fast"), second)
            resume_and_check(store, "fast", f"{first}, then {second}", deaths=2)
            pairs.append((first, second))


def resume_and_check(store: Path, level: str, where: str, *, deaths: int) -> None:
    """The plan of a resume is what the resume does; what had finished does not run again."""
    with RunStore.open(store) as opened:
        before = opened.state(RUN) if opened.has_run(RUN) else None
        done = finished(before) if before else set()
        over = before is not None and isinstance(before.ended, RunSucceeded)
        plan = plan_resume(RUN, opened, job=library) if before and not over else None
        rows = before.seq if before else 0
    go(store, level)
    with RunStore.open(store) as opened:
        started = [e.step for _, e in opened.events(RUN, rows) if isinstance(e, StepStarted)]
    assert not done & set(started), where
    by_node = Counter(step.partition("[")[0] for step in started)
    for node in plan.nodes if plan else ():
        if not node.waiting:
            assert sum(node.run.values()) == by_node[node.node], where
    check(store, where, deaths=deaths)


def finished(state: RunState) -> set[str]:
    """The step keys that have succeeded."""
    nodes = state.graph.nodes
    steps = (step for node in nodes for step in state.sealed_steps(node))
    return {str(step) for step in steps if state.status(step) == SUCCEEDED}


def check(directory: Path, where: str, *, deaths: int) -> None:
    """Hold what is on disk against what must be there."""
    with RunStore.open(directory) as store:
        result = resume(RUN, store, job=library)
        state = store.state(RUN)
        starts = Counter(e.step for _, e in store.events(RUN) if isinstance(e, StepStarted))
    assert isinstance(state.ended, RunSucceeded), where
    assert state.ended.counts == STATES, where
    assert result.output_for_node("catalogue") == EXPECTED, where
    assert list(result.output_for_node("shelf_of.read")) == [(s, n) for s in "ab" for n in "012"]
    assert len(starts) == sum(states["succeeded"] for states in STATES.values()), where
    assert starts.total() - len(starts) <= deaths, where
