"""Random jobs, crashes, losses, reruns: prune deletes nothing that a run or a rerun reads, and leaves nothing else."""

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution import RunResult, execute, rerun, resume
from execution.errors import InvalidSelection, SelectionIncomplete
from runstore.errors import StepNotFound
from runstore.housekeeping import prune
from runstore.log.events import STORES, OutputDeleted, StepInvalidated
from runstore.log.graph import Level
from runstore.log.state import RunState
from runstore.store import RunStore
from tests.property.logs import RUN, behind_the_triggers, cut
from tests.property.test_reruns import CHILD, selections
from tests.property.test_runs import check_values, many, some
from tests.shapes import Shape, evaluate, job_of, shapes


def prune_deletes_what_nobody_needs(shape: Shape, data: st.DataObject, root: Path) -> None:
    """Every value that could be read can be read afterwards, and each object that is left is one of them."""
    job = job_of(shape)
    with RunStore.open(root / "whole", level="fast", small_outputs=data.draw(packing)) as store:
        execute(job, store, run_id=RUN)
        length = store.run(RUN).events
    with cut(
        root / "whole", root / "cut", data.draw(st.integers(1, length)), all_files=True
    ) as store:
        if data.draw(st.booleans()):
            resume(RUN, store, job=job)
            lost = lose_some(store, data)
            resume(RUN, store, job=job)
            restore(lost)
        with_child = data.draw(st.booleans()) and begin_child(store, job, data)
    with RunStore.open(root / "cut", level="fast") as store:
        if with_child and data.draw(st.booleans()):
            an_old_run_keeps_what_its_rerun_took(store, job)
            return
        runs = [RUN, CHILD] if with_child else [RUN]
        before = {run: values(store, run) for run in runs}
        told = list(prune(store))
        assert [one.left_alone for one in told] == [""] * len(runs)
        assert {run: values(store, run) for run in runs} == before
        check_objects(store, root / "cut" / "outputs", runs)
        assert all(not one.deleted.objects for one in prune(store))
        check_values(resume(RUN, store, job=job), shape, evaluate(shape))
        if with_child:
            resume(CHILD, store, job=job)
            values(store, CHILD)
        list(prune(store))
        check_values(RunResult.load(RUN, store), shape, evaluate(shape))
        check_objects(store, root / "cut" / "outputs", runs)


def an_old_run_keeps_what_its_rerun_took(store: RunStore, job: Any) -> None:
    """All that is left of an old run is what the rerun has taken or may still take, and the rerun loses nothing."""
    before, wanted = values(store, CHILD), held(store.state(CHILD))
    list(prune(store, CHILD))
    list(prune(store, RUN, older_than=dt.timedelta(0)))
    assert values(store, CHILD) == before
    assert store.directory is not None
    check_objects(store, store.directory / "outputs", [CHILD])
    resume(CHILD, store, job=job)
    values(store, CHILD)
    assert wanted <= held(store.state(CHILD))
    assert not any(isinstance(event, StepInvalidated) for _, event in store.events(CHILD))


packing = st.sampled_from(["file", "pack"])


def lose_some(store: RunStore, data: st.DataObject) -> dict[Path, bytes]:
    """Delete some of the files of a run; a resume makes those again that it reads."""
    folder = Path(f"{store.directory}/outputs/{RUN}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    some = data.draw(st.lists(st.sampled_from(files), max_size=3, unique=True)) if files else []
    lost = {file: file.read_bytes() for file in some}
    for file in some:
        file.unlink()
    return lost


def restore(lost: dict[Path, bytes]) -> None:
    """Bring back what nobody read, and so nobody made again."""
    for file, content in lost.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def begin_child(store: RunStore, job: Any, data: st.DataObject) -> bool:
    """A rerun, cut at a random row: perhaps while it takes from its parent; False where none can be made."""
    try:
        rerun(RUN, store, select=data.draw(selections(store.state(RUN))), job=job, new_run_id=CHILD)
    except (InvalidSelection, SelectionIncomplete):
        return False
    rows = data.draw(st.integers(1, store.run(CHILD).events))
    assert store.directory is not None
    store.close()
    with behind_the_triggers(store.directory / "runs.db") as connection:
        connection.execute("DELETE FROM events WHERE run = 2 AND seq > ?", (rows,))
    return True


def values(store: RunStore, run: str) -> dict[tuple[str, str], Any]:
    """Every value of a run that can be read."""
    result = RunResult.load(run, store)
    found = {}
    for node in store.state(run).graph.nodes:
        for output in node.outputs:
            try:
                found[node.name, output.name] = result.output_for_node(node.name, output.name)
            except StepNotFound:
                continue
    return found


def held(state: RunState) -> set[int]:
    """The seqs by which a run's state finds values, asked for one by one."""
    seqs = set()
    for node in state.graph.nodes:
        for step in state.sealed_steps(node):
            for output in node.outputs:
                level = Level(node.name, output.name)
                expansion = state.expansion(level, step.key_path) if output.dynamic else None
                keys = expansion.ordered_keys() if expansion else ()
                seqs.update(state.piece_seq(level, step.key_path, key) for key in keys)
                if not output.dynamic:
                    seqs.add(state.kept_seq(step, output.name))
    return seqs - {0}


def check_objects(store: RunStore, folder: Path, runs: list[str]) -> None:
    """Each file that is left is one that a state holds, or that a rerun names or may still take."""
    allowed = set()
    for run in runs:
        state = store.state(run)
        wanted = held(state)
        for seq, event in store.events(run):
            if isinstance(event, STORES) and (seq in wanted or run == CHILD):
                allowed.add(f"{state.bases[event.reference.base]}/{event.reference.path}")
        parent = state.started.parent if state.started else None
        if state.is_taking and parent is not None:
            for _, event in zip(range(parent.seq), store.events(parent.run), strict=False):
                if isinstance(event[1], STORES):
                    allowed.add(f"outputs/{RUN}/{event[1].reference.path}")
    left = {
        path.relative_to(folder.parent).as_posix() for path in folder.rglob("*") if path.is_file()
    }
    assert left <= allowed
    for run in runs:
        gone = {
            seq
            for _, event in store.events(run)
            if isinstance(event, OutputDeleted)
            for seq in event.seqs
        }
        assert not gone & held(store.state(run))


@some(40)
@given(shapes(most=6), st.data())
def test_prune_deletes_what_nobody_needs(shape: Shape, data: st.DataObject) -> None:
    """A random run, crashed, resumed after losses, rerun in part: prune takes what no value needs, all of it."""
    with tempfile.TemporaryDirectory() as root:
        prune_deletes_what_nobody_needs(shape, data, Path(root))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@many
@given(shapes(most=9), st.data())
def test_much_is_pruned(shape: Shape, data: st.DataObject) -> None:
    """The same with many and larger jobs."""
    with tempfile.TemporaryDirectory() as root:
        prune_deletes_what_nobody_needs(shape, data, Path(root))
