"""Lineage, up and down, is what a plain model says that reads no log: the shape of the job and what its ops yield."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given, settings

from runstore.audit import Lineage, lineage
from runstore.keys import format_step_key
from runstore.log.events import StepStarted
from tests.property.crashed import Crash, crashed_run, crashes, some_shapes
from tests.property.logs import RUN
from tests.property.test_runs import COMMON
from tests.shapes import Outcome, Shape, Source, at_levels, evaluate
from tests.shapes import Path as KeyPath

TRIED = settings(COMMON, max_examples=25)
Edge = tuple[str, str, str, str | None]
"""Reader, producer, output, key of a piece."""


def shown(number: int, path: KeyPath) -> str:
    """A step key."""
    return format_step_key(f"n{number}", path)


def edges_of(shape: Shape, expected: Outcome) -> Iterator[Edge]:
    """Every reading of every step that is neither skipped nor blocked."""
    for (number, path), state in expected.states.items():
        if state in ("succeeded", "failed"):
            node = shape[number]
            for argument in node.arguments:
                for source in argument if isinstance(argument, tuple) else (argument,):
                    if source.kind != "constant":
                        at = at_levels(node.scope, path, source.scope)
                        for whole in leaves(expected, source, at):
                            yield (shown(number, path), *read(shape, source, whole))


def leaves(expected: Outcome, source: Source, at: KeyPath) -> Iterator[KeyPath]:
    """The key paths of the values that a source gives."""
    whole = (*source.scope, *(level for level, _ in source.over))
    for path in expected.paths(whole, at) if len(at) < len(whole) else [at]:
        if (source.node, source.output, path) in expected.values:
            yield path


def read(shape: Shape, source: Source, path: KeyPath) -> tuple[str, str, str | None]:
    """Producer, output and key."""
    dynamic = next(out.dynamic for out in shape[source.node].outs if out.name == source.output)
    producer = path[:-1] if dynamic else path
    return shown(source.node, producer), source.output, path[-1] if dynamic else None


def closure(edges: set[Edge], start: str, *, up: bool) -> set[Edge]:
    """All that is reached, the slow way."""
    found: set[Edge] = set()
    reached = {start}
    while True:
        more = {edge for edge in edges if edge[0 if up else 1] in reached} - found
        if not more:
            return found
        found |= more
        reached |= {edge[1 if up else 0] for edge in more}


def edges_in(found: Lineage) -> set[Edge]:
    """The readings of an answer."""
    return {(one.reader, one.source, one.output, one.key) for one in found.readings}


@TRIED
@given(some_shapes, crashes)
def test_lineage_is_that_of_the_model(shape: Shape, history: list[Crash]) -> None:
    """From every step, up and down, exactly the readings that the model has among the steps that were started."""
    expected = evaluate(shape)
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        started = {event.step for _, event in store.events(RUN) if isinstance(event, StepStarted)}
        edges = {edge for edge in edges_of(shape, expected) if edge[0] in started}
        for step in started:
            for direction in ("up", "down"):
                found = lineage(store, RUN, step, direction, members=None)
                assert edges_in(found) == closure(edges, step, up=direction == "up")
                ends = {end for edge in edges_in(found) for end in edge[:2]}
                assert {one.step for one in found.steps} == ends | {step}


@TRIED
@given(some_shapes)
def test_what_was_made_of_one_piece(shape: Shape) -> None:
    """Down from a piece, only the readings of that piece come first."""
    with tempfile.TemporaryDirectory() as root, crashed_run(shape, [], Path(root)) as store:
        expected = evaluate(shape)
        edges = set(edges_of(shape, expected))
        for number, node in enumerate(shape):
            for (at, output, path), _ in list(expected.values.items()):
                dynamic = {out.name for out in node.outs if out.dynamic}
                if at != number or output not in dynamic or len(dynamic) > 1:
                    continue
                found = lineage(store, RUN, shown(number, path), "down", depth=1, members=None)
                piece = (shown(number, path[:-1]), output, path[-1])
                assert edges_in(found) == {edge for edge in edges if edge[1:] == piece}
