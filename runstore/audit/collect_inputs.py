"""What fed a collect: its sealed keys in order, each with the digest of its value, and whether the log's proof holds.

The run is folded up to the `CollectResolved`, so that the answer is what was collected then, whatever was sealed or
made again since. Counts and digest are computed here from the keys and the references, and held against the event.
"""

import hashlib
from collections.abc import Iterator
from typing import Protocol

import msgspec

from runstore.audit.lineage import wire_of
from runstore.audit.lookup import Lookup
from runstore.errors import StepNotFound
from runstore.keys import KeyPath, format_step_key
from runstore.log.columns import Expansion
from runstore.log.events import CollectResolved
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Wire
from runstore.log.recorder import reference_of
from runstore.log.state import RunState
from runstore.log.transitions import SUCCEEDED
from runstore.outputs.reference import OutputReference
from runstore.store import RunStore


class Member(msgspec.Struct, frozen=True):
    """One sealed key of a collect."""

    step: str
    """The step key of the clone, or `op[key]` of a piece."""
    keys: KeyPath
    """Of the levels that are collected over."""
    seq: int
    """Of the event that stored the value; 0 where there is none: the clone was skipped, or left the output out."""
    sha256: str
    reference: OutputReference | None


class Seal(msgspec.Struct, frozen=True):
    """One expansion that a collect goes over."""

    step: str
    """The step that yielded the keys."""
    output: str
    count: int
    keys_digest: str


class CollectInputs(msgspec.Struct, frozen=True):
    """One collect of a step, with the proof."""

    run_id: str
    step: str
    input: str
    place: int
    source: str
    seq: int
    """Of the `CollectResolved`."""
    sealed: int
    succeeded: int
    skipped: int
    digest: str
    """As the log has it."""
    computed_digest: str
    """Over the members below."""
    holds: bool
    """Counts and digest of the log are those of the members."""
    seals: tuple[Seal, ...]
    members: tuple[Member, ...]


def collect_inputs(store: RunStore, run: str, step: str) -> tuple[CollectInputs, ...]:
    """The collects that the last attempt of a step has read.

    Raises RunNotFound; StepNotFound where it has read none.
    """
    look = Lookup(store, store.resolve(run))
    known = look.find(step)
    last = look.history(known).last
    seqs = [
        seq
        for given in (last.inputs.values() if last else ())
        for seq in (given if isinstance(given, list) else [given])
        if seq
    ]
    found = [(seq, look.event(seq)) for seq in seqs]
    proofs = [(seq, event) for seq, event in found if isinstance(event, CollectResolved)]
    if not proofs:
        raise StepNotFound(
            f"step '{known}' of run {look.run_id!r} has collected nothing; `runstore show {look.run_id} '{known}'` "
            "says what it has read"
        )
    return tuple(_collect(store, look, known, seq, event) for seq, event in proofs)


def _collect(
    store: RunStore, look: Lookup, step: StepId, seq: int, event: CollectResolved
) -> CollectInputs:
    state = store.state(look.run_id, upto=seq - 1)
    wire = wire_of(state.graph, step, event)
    tree = Tree(state, wire, step) if wire else None
    places = list(tree.leaves()) if tree else []
    kept = [one for _, _, one in places if one]
    references = dict(zip(kept, map(reference_of, store.events_at(look.run_id, kept)), strict=True))
    computed = tree.digest({one: each.sha256 for one, each in references.items()}) if tree else ""
    counts = (len(places), len(kept), len(places) - len(kept))
    return CollectInputs(
        run_id=look.run_id,
        step=str(step),
        input=event.input,
        place=event.place,
        source=event.source,
        seq=seq,
        sealed=event.sealed,
        succeeded=event.succeeded,
        skipped=event.skipped,
        digest=event.digest,
        computed_digest=computed,
        holds=computed == event.digest and counts == (event.sealed, event.succeeded, event.skipped),
        seals=tuple(tree.seals()) if tree else (),
        members=tuple(
            Member(
                format_step_key(producer, path),
                keys,
                one,
                references[one].sha256 if one else "",
                references.get(one),
            )
            for (producer, path), keys, one in places
        ),
    )


class Contents(Protocol):
    """Seq -> sha256 of the output that the event stored."""

    def __getitem__(self, seq: int, /) -> str: ...


Leaf = tuple[tuple[str, KeyPath], KeyPath, int]
"""((node, key path) of clone or piece, its keys of the collected levels, seq of its value or 0)."""


class Tree:
    """The sealed keys below a consumer, level by level, in a state."""

    def __init__(self, state: RunState, wire: Wire, reader: StepId) -> None:
        assert isinstance(wire.source, FromCollect)
        self._state, self._wire, self._source = state, wire, wire.source
        self._path = wire.path(reader.key_path)

    def leaves(self) -> Iterator[Leaf]:
        """Every place where a value may be, in order; none below a key under which there is nothing to give."""
        yield from self._leaves(self._path, 0)

    def _leaves(self, path: KeyPath, depth: int) -> Iterator[Leaf]:
        expansion = self._expansion(path, depth)
        for key in expansion.ordered_keys() if expansion else ():
            below = (*path, key)
            if depth < len(self._source.over) - 1:
                if self._gives(below, depth + 1):
                    yield from self._leaves(below, depth + 1)
            else:
                yield (self._wire.producer.name, below), below[len(self._path) :], self._seq(below)

    def seals(self) -> Iterator[Seal]:
        """Every expansion that it goes over."""
        yield from self._seals(self._path, 0)

    def _seals(self, path: KeyPath, depth: int) -> Iterator[Seal]:
        expansion, maker = self._expansion(path, depth), self._maker(path, depth)
        if expansion is None:
            return
        level = self._source.over[depth].level
        yield Seal(str(maker), level.output, len(expansion), expansion.digest)
        if depth < len(self._source.over) - 1:
            for key in expansion.ordered_keys():
                yield from self._seals((*path, key), depth + 1)

    def digest(self, contents: Contents) -> str:
        """FORMAT.md, Digests: over the ordered keys and the sha256 of each value; `contents`: seq -> sha256."""
        digest = hashlib.sha256()
        for text in self._proven(self._path, 0, contents):
            digest.update(text.encode())
        return digest.hexdigest()

    def _proven(self, path: KeyPath, depth: int, contents: Contents) -> Iterator[str]:
        expansion = self._expansion(path, depth)
        for key in expansion.ordered_keys() if expansion else ():
            below = (*path, key)
            if depth == len(self._source.over) - 1:
                seq = self._seq(below)
                yield f"{key}\0{contents[seq] if seq else '-'}\0"
            elif self._gives(below, depth + 1):
                yield f"{key}\0("
                yield from self._proven(below, depth + 1, contents)
                yield ")\0"
            else:
                yield f"{key}\0-\0"

    def _gives(self, path: KeyPath, depth: int) -> bool:
        """True where there is something to give below a key: a value, or an expansion that may be empty and is."""
        expansion = self._expansion(path, depth)
        if expansion is None or self._state.status(self._maker(path, depth)) != SUCCEEDED:
            return False
        if not len(expansion):
            level = self._source.over[depth].level
            output = self._state.graph.by_name[level.node].output(level.output)
            return output is None or output.required
        below = ((*path, key) for key in expansion.ordered_keys())
        if depth < len(self._source.over) - 1:
            return any(self._gives(one, depth + 1) for one in below)
        return any(self._seq(one) for one in below)

    def _seq(self, path: KeyPath) -> int:
        producer = self._wire.producer.name
        if self._wire.pieces:
            level = self._source.over[-1].level
            return self._state.piece_seq(level, path[:-1], path[-1])
        return self._state.output_seq(StepId(producer, path), self._source.output)

    def _maker(self, path: KeyPath, depth: int) -> StepId:
        node = self._source.over[depth].level.node
        return StepId(node, tuple([path[place] for place in self._wire.makers[depth]]))

    def _expansion(self, path: KeyPath, depth: int) -> Expansion | None:
        return self._state.expansion(
            self._source.over[depth].level, self._maker(path, depth).key_path
        )
