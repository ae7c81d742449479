"""The views of `runs.db` say what the fold of the log says, on random runs that crashed, lost outputs and went on."""

import contextlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.keys import format_step_key, parse_step_key
from runstore.log.events import (
    STORES,
    AnyEvent,
    CollectResolved,
    DynamicOutputStored,
    OutputStored,
    StepReused,
    StepStarted,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Graph, Level
from runstore.log.state import RunState
from runstore.log.transitions import STATUS_NAMES, SUCCEEDED
from runstore.store import RunStore
from tests.property.crashed import Crash, crashed_run, crashes, some_shapes
from tests.property.logs import RUN
from tests.property.test_runs import COMMON
from tests.shapes import Shape

TRIED = settings(COMMON, max_examples=25)
ANY = (f"run_id = '{RUN}'", "run_id LIKE 'r'")
"""With the constant that lets the planner read one run, and without it: the answers must be the same."""


def ask(store: RunStore, sql: str) -> list[Any]:
    """Rows, as any program that opens the file gets them: by Python's SQLite, and the same by a newer one."""
    path = f"{store.directory}/runs.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as older:
        rows = older.execute(sql).fetchall()
    with contextlib.closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as newer:
        assert sorted(newer.execute(sql).fetchall(), key=repr) == sorted(rows, key=repr)
    return rows


def sealed(state: RunState) -> dict[str, str]:
    """Step -> status of every clone that the last seals hold, in their order."""
    return {
        str(step): STATUS_NAMES[state.status(step)]
        for node in state.graph.nodes
        if node.scope
        for step in state.sealed_steps(node)
    }


def counted(state: RunState) -> set[int]:
    """The seqs of all outputs that count."""
    seqs: set[int] = set()
    for node in state.graph.nodes:
        for step in state.steps_of(node):
            if state.status(step) != SUCCEEDED:
                continue
            for output in node.outputs:
                expansion = state.expansion(Level(node.name, output.name), step.key_path)
                if not output.dynamic:
                    seqs.add(state.output_seq(step, output.name))
                elif expansion is not None:
                    seqs.update(expansion.seqs[slot] for slot in expansion.order)
    return seqs - {0}


@TRIED
@given(some_shapes, crashes, st.sampled_from(ANY))
def test_views_say_what_the_fold_says(shape: Shape, history: list[Crash], where: str) -> None:
    """Keys in order, the status of every step, its attempts, and which outputs count are those of the state."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        state = store.state(RUN)
        keys = ask(
            store, f"SELECT step, status, key_path FROM keys WHERE {where} ORDER BY op, number"
        )
        assert {step: status for step, status, _ in keys} == sealed(state)
        for node in state.graph.nodes:
            shown = [path for step, _, path in keys if step.partition("[")[0] == node.name]
            of_state = [str(step)[len(node.name) :] for step in state.sealed_steps(node)]
            assert shown == (of_state if node.scope else [])
        steps = dict(ask(store, f"SELECT step, status FROM steps WHERE {where}"))
        for node in state.graph.nodes:
            for step in state.steps_of(node):
                assert steps.get(str(step), "pending") == STATUS_NAMES[state.status(step)]
        starts = Counter(
            event.step for _, event in store.events(RUN) if isinstance(event, StepStarted)
        )
        attempts = dict(ask(store, f"SELECT step, attempts FROM steps WHERE {where}"))
        assert {step: count for step, count in attempts.items() if count} == starts
        stored = dict(ask(store, f"SELECT seq, accepted FROM outputs WHERE {where}"))
        assert set(stored) == {seq for seq, event in store.events(RUN) if isinstance(event, STORES)}
        assert {seq for seq, accepted in stored.items() if accepted} == counted(state)


@TRIED
@given(some_shapes, crashes, st.sampled_from(ANY))
def test_lineage_is_what_attempts_read(shape: Shape, history: list[Crash], where: str) -> None:
    """Each stored output has a row for every event that the last start before it names, and no other."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        rows = ask(store, f"SELECT * FROM lineage WHERE {where}")
        assert sorted(rows, key=repr) == sorted(readings(store), key=repr)


def readings(store: RunStore) -> Iterator[tuple[Any, ...]]:
    """The rows of `lineage`, from the events alone, read one after the other."""
    events = dict(store.events(RUN))
    accepted = counted(store.state(RUN))
    begun: dict[str, StepStarted | StepReused] = {}
    for seq, event in events.items():
        if isinstance(event, StepStarted | StepReused):
            begun[event.step] = event
        elif isinstance(event, STORES):
            for name, source in inputs(begun[event.step]):
                read = events[source]
                yield (RUN, seq, event.step, event.output, key_of(event), event.reference.path,
                       int(seq in accepted), name, source, *source_of(read))  # fmt: skip


def inputs(begun: StepStarted | StepReused) -> Iterator[tuple[str, int]]:
    """What an attempt read: input, or element of a list of handles, and the seq of the event."""
    for name, read in begun.inputs.items() if isinstance(begun, StepStarted) else ():
        if isinstance(read, int):
            yield name, read
        else:
            yield from ((f"{name}[{place}]", seq) for place, seq in enumerate(read))


def source_of(read: AnyEvent) -> tuple[str | None, ...]:
    """Step, output, key and path of what was read; of a collect only what it collects."""
    if isinstance(read, OutputStored | DynamicOutputStored):
        return read.step, read.output, key_of(read), read.reference.path
    assert isinstance(read, CollectResolved)
    return None, read.source, None, None


def key_of(event: OutputStored | DynamicOutputStored) -> str | None:
    """The key of a piece."""
    return event.mapping_key if isinstance(event, DynamicOutputStored) else None


@TRIED
@given(some_shapes, crashes, st.sampled_from(ANY))
def test_collects_are_the_sealed_keys(shape: Shape, history: list[Crash], where: str) -> None:
    """The members of each last collect are the sealed keys below its consumer, in their order."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        state = store.state(RUN)
        found: dict[int, list[str]] = {}
        rows = ask(
            store,
            "SELECT seq, key_path, source_step, source_output, source_key FROM collects "
            f"WHERE {where} ORDER BY seq, number",
        )
        for seq, path, step, output, key in rows:
            found.setdefault(seq, []).append(path)
            node = step.partition("[")[0]
            assert step + format_step_key("", () if key is None else (key,)) == node + path
            assert pieces(state.graph, node, output) == (key is not None)
        last = {
            (event.step, event.input, event.place): (seq, event)
            for seq, event in store.events(RUN)
            if isinstance(event, CollectResolved)
        }
        expected = {seq: members(state, event) for seq, event in last.values()}
        assert found == {seq: paths for seq, paths in expected.items() if paths}


def members(state: RunState, event: CollectResolved) -> list[str]:
    """The key paths below a consumer, the slow way: all that there are, held against the consumer's own keys."""
    source, output = event.source.rsplit(".", 1)
    node = state.graph.by_name[source]
    whole = (
        (*node.scope, Level(source, output)) if pieces(state.graph, source, output) else node.scope
    )
    consumer = StepId(*parse_step_key(event.step))
    own = dict(zip(state.graph.by_name[consumer.node].scope, consumer.key_path, strict=True))
    free = whole[len(whole) - len(event.levels) :]
    return [
        format_step_key("", path)
        for path in paths(state, whole)
        if all(level in free or own[level] == key for level, key in zip(whole, path, strict=True))
    ]


def paths(state: RunState, levels: tuple[Level, ...], path: tuple[str, ...] = ()) -> Any:
    """Every key path of some levels."""
    if len(path) == len(levels):
        yield path
        return
    level = levels[len(path)]
    maker = tuple(path[levels.index(one)] for one in state.graph.by_name[level.node].scope)
    expansion = state.expansion(level, maker)
    for key in expansion.ordered_keys() if expansion else ():
        yield from paths(state, levels, (*path, key))


def pieces(graph: Graph, node: str, output: str) -> bool:
    """True for a dynamic output."""
    found = graph.by_name[node].output(output)
    return found is not None and found.dynamic
