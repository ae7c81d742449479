"""The arguments of a step: which stored outputs they are. Asked of the state, in the executor's process.

Their values are the worker's part (`loading`).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec

from execution.planning.collects import SKIP, Members, members, readiness
from runstore.errors import OutputLost
from runstore.log.events import CollectResolved
from runstore.log.expanded import StepId
from runstore.log.graph import Constant, FanIn, FromCollect, Graph, Level, Node, Wire
from runstore.log.recorder import Recorder
from runstore.outputs.reference import OutputReference

HELD = 10_000
"""References of one collect that may stay in memory: some 3 MB."""
HASHED_TOGETHER = 256


class Stored(msgspec.Struct, frozen=True):
    """A value in storage, and the type that its producer declares."""

    seq: int
    reference: OutputReference
    declared: Any
    output: tuple[str, str] = ("", "")
    """The node and the name of the output, by which another process finds what is declared."""


class Branch(msgspec.Struct, frozen=True):
    """The keys of one level of a collect that have a value, and at an outer level what is below each of them."""

    form: str
    keys: Sequence[str]
    parts: Sequence["Branch"] = ()


class Collected(msgspec.Struct, frozen=True):
    """The values of a collect, in the order of their keys; references are read from the log when they are needed."""

    tree: Branch
    seqs: Sequence[int]
    references: Callable[[], Iterator[OutputReference]]
    declared: Any
    output: tuple[str, str] = ("", "")


REFERENCES_AT_ONCE = 1_000
"""In one piece of those that travel."""


def references_to_travel(collected: Collected) -> Iterator[bytes]:
    """The references of a collect, read from the log, in pieces for another thread or process, which has no log."""
    references = collected.references()
    while some := list(islice(references, REFERENCES_AT_ONCE)):
        yield msgspec.msgpack.encode(some)


_decode_references = msgspec.msgpack.Decoder(list[OutputReference]).decode


def with_references(collected: Collected, pieces: Sequence[bytes]) -> Collected:
    """A collect whose references have travelled."""

    def references() -> Iterator[OutputReference]:
        return chain.from_iterable(map(_decode_references, pieces))

    return msgspec.structs.replace(collected, references=references)


class Given(msgspec.Struct, frozen=True):
    """A plain value of the graph."""

    value: Any


class Built(msgspec.Struct, frozen=True):
    """Data of the run config, of which each attempt builds a value of its own."""

    build: Callable[[Any], Any]
    data: Any


Argument = Stored | Collected | Given | Built


class InputLost(Exception):
    """An input's bytes are gone; `seqs` are those of the events that stored them."""

    def __init__(self, seqs: list[int], error: OutputLost) -> None:
        super().__init__(str(error))
        self.seqs = seqs
        self.error = error


class _Source(NamedTuple):
    """A wire, with what is the same for every step that reads it."""

    wire: Wire
    output: tuple[str, str]
    """Node and output of what is loaded."""
    declared: Any
    level: Level | None
    """Of the pieces that it reads; None where it reads no pieces."""


_Item = _Source | Given


class InputResolver:
    """Turns what a step reads into stored outputs."""

    def __init__(self, recorder: Recorder, declared: Callable[[str, str], Any]) -> None:
        self._recorder = recorder
        self._state = recorder.state
        graph = recorder.state.graph
        self._items = {node.name: _items(node, graph, declared) for node in graph.nodes}

    def resolve(
        self, node: Node, step: StepId, record: Callable[[CollectResolved], int]
    ) -> tuple[dict[str, Argument | list[Argument]], dict[str, int | list[int]]]:
        """(argument -> what to load, argument -> seqs for `StepStarted`) of a step.

        `record` appends the proof of each collect and returns its seq. Raises ExpansionIncomplete where a collect
        would run on less than the sealed keys (rule R3).
        """
        arguments: dict[str, Argument | list[Argument]] = {}
        seqs: dict[str, int | list[int]] = {}
        for name, is_list, items in self._items[node.name]:
            if not is_list:
                argument, seq = self._find(step, name, 0, items[0], record)
                assert argument is not None, "a step without an input is skipped"
                arguments[name] = argument
                if seq:
                    seqs[name] = seq
                continue
            found = [
                self._find(step, name, place, item, record) for place, item in enumerate(items)
            ]
            arguments[name] = [argument for argument, _ in found if argument is not None]
            seqs[name] = [seq for _, seq in found if seq]
        return arguments, seqs

    def _find(
        self,
        step: StepId,
        name: str,
        place: int,
        item: _Item,
        record: Callable[[CollectResolved], int],
    ) -> tuple[Argument | None, int]:
        if not isinstance(item, _Source):
            return item, 0
        wire, output, declared, level = item
        path = wire.path(step.key_path)
        if wire.collects:
            if readiness(self._state, wire, path) == SKIP:
                return None, 0
            return self._collect(step, name, place, item, record)
        if level is not None:
            seq = self._state.piece_seq(level, path[:-1], path[-1])
        else:
            seq = self._state.output_seq(StepId(output[0], path), output[1])
        if not seq:
            return None, 0  # skipped: left out of a fan-in list
        return Stored(seq, self._recorder.reference(seq), declared, output), seq

    def _collect(
        self,
        step: StepId,
        name: str,
        place: int,
        source: _Source,
        record: Callable[[CollectResolved], int],
    ) -> tuple[Argument | None, int]:
        wire, output, declared, _ = source
        assert isinstance(wire.source, FromCollect)
        found = members(self._state, wire, wire.path(step.key_path))
        leaves = list(found.leaves())
        kept = [seq for seq in leaves if seq]
        stored = self._references(kept)
        proof = CollectResolved(
            step=str(step),
            input=name,
            source=f"{wire.source.node}.{wire.source.output}",
            levels=tuple([str(one.level) for one in wire.source.over]),
            sealed=len(leaves),
            succeeded=len(kept),
            skipped=len(leaves) - len(kept),
            digest=self._digest(found, stored()),
            place=place,
        )
        forms = [one.form for one in wire.source.over]
        collected = Collected(_branch(found, forms), kept, stored, declared, output)
        return collected, record(proof)

    def _references(self, seqs: Sequence[int]) -> Callable[[], Iterator[OutputReference]]:
        """Those of a collect: a few are held from the proof until they are loaded, many are read twice."""
        if len(seqs) > HELD:
            return partial(self._recorder.references, seqs)
        held = list(self._recorder.references(seqs))
        return lambda: iter(held)

    def _digest(self, found: Members, references: Iterator[OutputReference]) -> str:
        digest, texts = hashlib.sha256(), _proven(found, references)
        while batch := "".join(islice(texts, HASHED_TOGETHER)):
            digest.update(batch.encode())
        return digest.hexdigest()


def _proven(found: Members, references: Iterator[OutputReference]) -> Iterator[str]:
    """What the digest of a collect covers: each key and the sha256 of its value (`-` where skipped), each followed by
    NUL; at an outer level in place of the value what is below the key, in parentheses.
    """
    for key, seq in zip(found.keys, found.seqs, strict=False):
        yield f"{key}\0{next(references).sha256 if seq else '-'}\0"
    for key, part in zip(found.keys, found.parts, strict=False):
        yield f"{key}\0{'-' if part is None else '('}"
        if part is not None:
            yield from _proven(part, references)
            yield ")"
        yield "\0"


def _branch(found: Members, forms: Sequence[str]) -> Branch:
    form, *inner = forms
    if not inner:
        present = [key for key, seq in zip(found.keys, found.seqs, strict=True) if seq]
        return Branch(form, present)
    pairs = [pair for pair in zip(found.keys, found.parts, strict=True) if pair[1] is not None]
    parts = [_branch(part, inner) for _, part in pairs if part is not None]
    return Branch(form, [key for key, _ in pairs], parts)


def _items(
    node: Node, graph: Graph, declared: Callable[[str, str], Any]
) -> list[tuple[str, bool, list[_Item]]]:
    """For each argument of a node: its name, whether it is a fan-in list, and what it is made of."""
    wires = iter(graph.wires[node.name])
    return [
        (
            argument.name,
            isinstance(argument.source, FanIn),
            [
                Given(one.value) if isinstance(one, Constant) else _source(next(wires), declared)
                for one in argument.singles
            ],
        )
        for argument in node.inputs
    ]


def _source(wire: Wire, declared: Callable[[str, str], Any]) -> _Source:
    output = (wire.producer.name, wire.source.output)
    level = Level(wire.source.node, wire.source.output) if wire.pieces else None
    return _Source(wire, output, declared(*output), level)


def detached(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that can be loaded by another thread than that of the log."""
    return {name: changed(argument, _detached) for name, argument in arguments.items()}


def _detached(argument: Argument) -> Argument:
    if not isinstance(argument, Collected):
        return argument
    return with_references(argument, list(references_to_travel(argument)))


def changed(argument: Any, change: Callable[[Argument], Argument]) -> Any:
    """An argument, or each element of a fan-in list, changed."""
    return [change(one) for one in argument] if isinstance(argument, list) else change(argument)
