"""The arguments of a step: which stored outputs they are (asked of the state), and their values (read from storage).

Resolving is the executor process's part, loading the worker's. What arrives at an op has always been through storage.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from execution.errors import ExpansionIncomplete
from execution.planning.scheduler import SKIP, collect_readiness
from runstore.errors import OutputLost
from runstore.log.events import CollectResolved
from runstore.log.graph import Constant, FanIn, FromCollect, Graph, Node, Wire, project
from runstore.log.recorder import Recorder
from runstore.log.state import RunState, StepId
from runstore.log.transitions import SKIPPED, SUCCEEDED
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reference import OutputReference
from runstore.outputs.serializers import deserialize

SETTLED = (SUCCEEDED, SKIPPED)


class Stored(msgspec.Struct, frozen=True):
    """A value in storage, and the type that its producer declares."""

    seq: int
    reference: OutputReference
    declared: Any


class Collected(msgspec.Struct, frozen=True):
    """The values of a collect, in the order of their keys; references are read from the log when they are needed."""

    keys: Sequence[str]
    seqs: Sequence[int]
    references: Callable[[], Iterator[OutputReference]]
    declared: Any
    form: str


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


Item = Wire | Given


# In the executor process: which outputs


class InputResolver:
    """Turns what a step reads into stored outputs."""

    def __init__(self, recorder: Recorder, declared: Callable[[str, str], Any]) -> None:
        self._recorder = recorder
        self._state = recorder.state
        self._graph = recorder.state.graph
        self._declared = {
            (wire.producer.name, wire.source.output): declared(
                wire.producer.name, wire.source.output
            )
            for wires in self._graph.wires.values()
            for wire in wires
        }
        self._items = {node.name: _items(node, self._graph) for node in self._graph.nodes}

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
            found = [
                self._find(node, step, name, place, item, record)
                for place, item in enumerate(items)
            ]
            present = [(argument, seq) for argument, seq in found if argument is not None]
            if is_list:
                arguments[name] = [argument for argument, _ in present]
                seqs[name] = [seq for _, seq in present if seq]
            else:
                arguments[name], seq = present[0]
                if seq:
                    seqs[name] = seq
        return arguments, seqs

    def _find(
        self,
        node: Node,
        step: StepId,
        name: str,
        place: int,
        item: Item,
        record: Callable[[CollectResolved], int],
    ) -> tuple[Argument | None, int]:
        if isinstance(item, Given):
            return item, 0
        if isinstance(item.source, FromCollect):
            if collect_readiness(self._state, node, step.key_path, item) == SKIP:
                return None, 0
            return self._collect(node, step, name, place, item, record)
        seq = source_seq(self._state, node, step, item)
        if not seq:
            return None, 0  # skipped: left out of a fan-in list
        reference = self._recorder.reference(seq)
        return Stored(seq, reference, self._declared[item.producer.name, item.source.output]), seq

    def _collect(
        self,
        node: Node,
        step: StepId,
        name: str,
        place: int,
        wire: Wire,
        record: Callable[[CollectResolved], int],
    ) -> tuple[Argument | None, int]:
        assert isinstance(wire.source, FromCollect)
        keys, seqs = members(self._state, node, step, wire)
        present = [(key, seq) for key, seq in zip(keys, seqs, strict=True) if seq]
        kept = [seq for _, seq in present]
        proof = CollectResolved(
            step=str(step),
            input=name,
            source=f"{wire.source.node}.{wire.source.output}",
            level=str(wire.source.level),
            sealed=len(seqs),
            succeeded=len(kept),
            skipped=len(seqs) - len(kept),
            digest=self._digest(keys, seqs, kept),
            place=place,
        )
        collected = Collected(
            [key for key, _ in present],
            kept,
            lambda: self._recorder.references(kept),
            self._declared[wire.producer.name, wire.source.output],
            wire.source.form,
        )
        return collected, record(proof)

    def _digest(self, keys: Sequence[str], seqs: Sequence[int], kept: Sequence[int]) -> str:
        """Over each key and the sha256 of its value (`-` where skipped), each followed by NUL."""
        digest = hashlib.sha256()
        references = self._recorder.references(kept)
        for key, seq in zip(keys, seqs, strict=True):
            content = next(references).sha256 if seq else "-"
            digest.update(f"{key}\0{content}\0".encode())
        return digest.hexdigest()


def _items(node: Node, graph: Graph) -> list[tuple[str, bool, list[Item]]]:
    """For each argument of a node: its name, whether it is a fan-in list, and what it is made of."""
    wires = iter(graph.wires[node.name])
    return [
        (
            argument.name,
            isinstance(argument.source, FanIn),
            [
                Given(one.value) if isinstance(one, Constant) else next(wires)
                for one in argument.singles
            ],
        )
        for argument in node.inputs
    ]


def source_seq(state: RunState, node: Node, step: StepId, wire: Wire) -> int:
    """The seq of the event that stored what a step reads from a plain source; 0 where that was skipped."""
    producer = wire.producer
    path = step.key_path if wire.aligned else project(step.key_path, node.scope, producer.scope)
    if wire.piece is None:
        return state.output_seq(StepId(producer.name, path), wire.source.output)
    return state.piece_seq(wire.piece, path, step.key_path[node.scope.index(wire.piece)])


def members(state: RunState, node: Node, step: StepId, wire: Wire) -> tuple[list[str], list[int]]:
    """Of a collect the sealed keys in order, and for each the seq that stored its value, 0 where it was skipped."""
    source = wire.source
    assert isinstance(source, FromCollect)
    maker = state.graph.by_name[source.level.node]
    expansion = state.expansion(source.level, project(step.key_path, node.scope, maker.scope))
    if expansion is None:
        raise ExpansionIncomplete(
            f"{step} collects over {source.level}, which is not sealed; the run stops"
        )
    keys = list(expansion.ordered_keys())
    if wire.pieces:
        return keys, [expansion.seqs[slot] for slot in expansion.order]
    prefix = project(step.key_path, node.scope, wire.producer.scope[:-1])
    columns = state.steps(wire.producer, prefix)
    status, column = columns.status, columns.outputs[source.output]
    missing = [
        key for key, slot in zip(keys, expansion.order, strict=True) if status[slot] not in SETTLED
    ]
    if missing:
        named = ", ".join(str(StepId(wire.producer.name, (*prefix, key))) for key in missing[:5])
        raise ExpansionIncomplete(
            f"{step} collects {len(keys):,} keys of {source.level}, of which {len(missing):,} have no result "
            f"({named}); the run stops"
        )
    return keys, [column[slot] if status[slot] == SUCCEEDED else 0 for slot in expansion.order]


# In the worker: their values


def load(arguments: dict[str, Argument | list[Argument]], outputs: OutputStore) -> dict[str, Any]:
    """The values of a step's arguments; raises InputLost if stored bytes are missing or altered."""
    return {
        name: [_load(one, outputs) for one in argument]
        if isinstance(argument, list)
        else _load(argument, outputs)
        for name, argument in arguments.items()
    }


def _load(argument: Argument, outputs: OutputStore) -> Any:
    match argument:
        case Given():
            return argument.value
        case Built():
            return argument.build(argument.data)
        case Stored():
            return _read(argument.seq, argument.reference, argument.declared, outputs)
        case Collected():
            values = _read_all(argument, outputs)
            return (
                dict(zip(argument.keys, values, strict=True)) if argument.form == "dict" else values
            )


def _read_all(collected: Collected, outputs: OutputStore) -> list[Any]:
    values = []
    stored = zip(collected.seqs, collected.references(), strict=True)
    for seq, reference in stored:
        try:
            values.append(_read(seq, reference, collected.declared, outputs))
        except InputLost as lost:  # find all that is lost at once, so that it is made again at once
            more = [seq for seq, rest in stored if not outputs.is_there(rest, deep=True)]
            raise InputLost([*lost.seqs, *more], lost.error) from None
    return values


def _read(seq: int, reference: OutputReference, declared: Any, outputs: OutputStore) -> Any:
    try:
        data = outputs.get(reference)
    except OutputLost as error:
        raise InputLost([seq], error) from None
    return deserialize(data, reference.serializer, declared)
