"""What a collect gives: is it settled, and which stored values are it? Pure; asked of the state (rules D8, D9, F1, R3).

A collect over several levels is a list of lists: each level is answered by the one below it, for each of its keys.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from execution.errors import ExpansionIncomplete
from runstore.keys import KeyPath
from runstore.log.columns import Expansion, Steps
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Wire
from runstore.log.state import RunState
from runstore.log.transitions import SKIPPED, SUCCEEDED

READY, SKIP, OPEN = 0, 1, 2

SETTLED = (SUCCEEDED, SKIPPED)

Progress = dict[tuple[int, KeyPath], int]
"""Per wire and key path: how many keys of an outer level were found settled. They stay so until an invalidation."""


class Members(NamedTuple):
    """The sealed keys of one level, in order, and what stands under each."""

    keys: list[str]
    seqs: list[int]
    """At the innermost level: the seq of the event that stored each value, 0 where it was skipped. Else empty."""
    parts: list["Members | None"]
    """At an outer level: the members of each key, None where there are none to give. Else empty."""

    def leaves(self) -> Iterator[int]:
        """All seqs, in order."""
        yield from self.seqs
        for part in self.parts:
            if part is not None:
                yield from part.leaves()


def readiness(
    state: RunState, wire: Wire, path: KeyPath, progress: Progress | None = None, depth: int = 0
) -> int:
    """READY once all values below `path` are settled, SKIP if there is none to give (rules F1, X3), else OPEN."""
    assert isinstance(wire.source, FromCollect)
    maker = _maker(wire, path, depth)
    status, expansion = state.status(maker), _expansion(state, wire, maker, depth)
    if status != SUCCEEDED or expansion is None:
        return SKIP if status == SKIPPED else OPEN
    if not len(expansion):
        return READY if _may_be_empty(state, wire, depth) else SKIP
    if depth < len(wire.source.over) - 1:
        return _of_parts(state, wire, path, progress, depth, expansion)
    if wire.pieces:
        return READY
    columns = state.steps(wire.producer, path)
    if columns.settled < len(expansion):
        return OPEN
    return READY if _has_value(columns, wire.source.output, expansion.order) else SKIP


def _of_parts(
    state: RunState,
    wire: Wire,
    path: KeyPath,
    progress: Progress | None,
    depth: int,
    expansion: Expansion,
) -> int:
    place, known = (id(wire), path), progress if progress is not None else {}
    for position in range(known.get(place, 0), len(expansion)):
        part = (*path, expansion.key_at(position))
        if readiness(state, wire, part, progress, depth + 1) == OPEN:
            known[place] = position
            return OPEN
    known[place] = len(expansion)
    parts = ((*path, key) for key in expansion.ordered_keys())
    some = any(readiness(state, wire, part, progress, depth + 1) == READY for part in parts)
    return READY if some else SKIP


def members(state: RunState, wire: Wire, path: KeyPath, depth: int = 0) -> Members:
    """The sealed keys below `path` and what is stored for them.

    Raises ExpansionIncomplete where a key has no result: a collect never runs on less than what was sealed (rule R3).
    """
    assert isinstance(wire.source, FromCollect)
    maker = _maker(wire, path, depth)
    expansion = _expansion(state, wire, maker, depth)
    if expansion is None or state.status(maker) != SUCCEEDED:
        raise ExpansionIncomplete(
            f"a collect over {wire.source.over[depth].level} needs the keys of '{maker}', which are not sealed; "
            "the run stops"
        )
    keys = list(expansion.ordered_keys())
    if depth == len(wire.source.over) - 1:
        return Members(keys, _seqs(state, wire, path, expansion, keys), [])
    return Members(
        keys,
        [],
        [
            members(state, wire, (*path, key), depth + 1)
            if readiness(state, wire, (*path, key), None, depth + 1) != SKIP
            else None
            for key in keys
        ],
    )


def _seqs(
    state: RunState, wire: Wire, path: KeyPath, expansion: Expansion, keys: list[str]
) -> list[int]:
    if wire.pieces:
        return [expansion.seqs[slot] for slot in expansion.order]
    columns = state.steps(wire.producer, path)
    status, column = columns.status, columns.outputs[wire.source.output]
    missing = [
        key for key, slot in zip(keys, expansion.order, strict=True) if status[slot] not in SETTLED
    ]
    if missing:
        named = ", ".join(str(StepId(wire.producer.name, (*path, key))) for key in missing[:5])
        raise ExpansionIncomplete(
            f"a collect over {len(keys):,} keys of '{wire.producer.name}' lacks the results of {len(missing):,} "
            f"({named}); the run stops"
        )
    return [column[slot] if status[slot] == SUCCEEDED else 0 for slot in expansion.order]


def _maker(wire: Wire, path: KeyPath, depth: int) -> StepId:
    assert isinstance(wire.source, FromCollect)
    node = wire.source.over[depth].level.node
    return StepId(node, tuple([path[place] for place in wire.makers[depth]]))


def _expansion(state: RunState, wire: Wire, maker: StepId, depth: int) -> Expansion | None:
    assert isinstance(wire.source, FromCollect)
    return state.expansion(wire.source.over[depth].level, maker.key_path)


def _may_be_empty(state: RunState, wire: Wire, depth: int) -> bool:
    assert isinstance(wire.source, FromCollect)
    level = wire.source.over[depth].level
    output = state.graph.by_name[level.node].output(level.output)
    return output is None or output.required


def _has_value(columns: Steps, output: str, order: Iterable[int]) -> bool:
    values, status = columns.outputs[output], columns.status
    return any(values[slot] and status[slot] == SUCCEEDED for slot in order)
