"""The arguments of a step: which stored outputs they are (asked of the state), and their values (read from storage).

Resolving is the executor process's part, loading the worker's. What arrives at an op has always been through storage.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from execution.errors import ExpansionIncomplete
from runstore.errors import OutputLost
from runstore.log.events import CollectResolved
from runstore.log.graph import Constant, FanIn, FromCollect, FromOutput, Input, Node
from runstore.log.recorder import Recorder
from runstore.log.state import SKIPPED, SUCCEEDED, RunState, StepId, project
from runstore.outputs.output_store import OutputStore
from runstore.outputs.reference import OutputReference
from runstore.outputs.serializers import deserialize


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


Argument = Stored | Collected | Given


class InputLost(Exception):
    """An input's bytes are gone; `seqs` are those of the events that stored them."""

    def __init__(self, seqs: list[int], error: OutputLost) -> None:
        super().__init__(str(error))
        self.seqs = seqs
        self.error = error


# In the executor process: which outputs


class InputResolver:
    """Turns the sources of a step into stored outputs."""

    def __init__(self, recorder: Recorder, declared: Callable[[str, str], Any]) -> None:
        self._recorder = recorder
        self._declared = declared

    @property
    def _state(self) -> RunState:
        return self._recorder.state

    def collects(self, node: Node, step: StepId) -> Iterator[CollectResolved]:
        """The proof for each collect of a step that it runs over the whole sealed set (rule R3)."""
        for argument in node.inputs:
            for place, source in enumerate(argument.singles):
                if isinstance(source, FromCollect):
                    yield self._prove(node, step, argument, place, source)

    def _prove(
        self, node: Node, step: StepId, argument: Input, place: int, source: FromCollect
    ) -> CollectResolved:
        keys, seqs = self._members(node, step, source)
        digest = hashlib.sha256()
        present = [seq for seq in seqs if seq]
        references = self._recorder.references(present)
        for key, seq in zip(keys, seqs, strict=True):
            content = next(references).sha256 if seq else "-"
            digest.update(f"{key}\0{content}\0".encode())
        return CollectResolved(
            step=str(step),
            input=argument.name,
            source=f"{source.node}.{source.output}",
            level=str(source.level),
            sealed=len(seqs),
            succeeded=len(present),
            skipped=len(seqs) - len(present),
            digest=digest.hexdigest(),
            place=place,
        )

    def _members(
        self, node: Node, step: StepId, source: FromCollect
    ) -> tuple[list[str], list[int]]:
        """The sealed keys in order, and for each the seq that stored its value, 0 where it was skipped."""
        state, graph = self._state, self._state.graph
        producer = graph.by_name[source.level.node]
        expansion = state.expansion(
            source.level, project(step.key_path, node.scope, producer.scope)
        )
        if expansion is None:
            raise ExpansionIncomplete(
                f"{step} collects over {source.level}, which is not sealed; the run stops"
            )
        member = graph.by_name[source.node]
        output = member.output(source.output)
        if output is not None and output.dynamic:
            return list(expansion.ordered_keys()), [
                expansion.seqs[slot] for slot in expansion.order
            ]
        prefix = project(step.key_path, node.scope, member.scope[:-1])
        columns = state.steps(member, prefix)
        open_slots = [
            slot for slot in expansion.order if columns.status[slot] not in (SUCCEEDED, SKIPPED)
        ]
        if open_slots:
            keys = list(expansion.keys)
            missing = ", ".join(
                str(StepId(member.name, (*prefix, keys[slot]))) for slot in open_slots[:5]
            )
            raise ExpansionIncomplete(
                f"{step} collects {len(expansion):,} keys of {source.level}, of which {len(open_slots):,} have no "
                f"result ({missing}); the run stops"
            )
        column, status = columns.outputs[source.output], columns.status
        return list(expansion.ordered_keys()), [
            column[s] if status[s] == SUCCEEDED else 0 for s in expansion.order
        ]

    def arguments(
        self, node: Node, step: StepId
    ) -> tuple[dict[str, Argument | list[Argument]], dict[str, Any]]:
        """(argument -> what to load, argument -> seqs of non-collected inputs) of a step."""
        arguments: dict[str, Argument | list[Argument]] = {}
        seqs: dict[str, Any] = {}
        for argument in node.inputs:
            found = [self._argument(node, step, source) for source in argument.singles]
            present = [one for one in found if one is not None]
            if isinstance(argument.source, FanIn):
                arguments[argument.name] = present
                seqs[argument.name] = [
                    one.seq if isinstance(one, Stored) else 0
                    for one in present
                    if not isinstance(one, Given)
                ]
            else:
                arguments[argument.name] = present[0]
                if isinstance(present[0], Stored):
                    seqs[argument.name] = present[0].seq
        return arguments, seqs

    def _argument(
        self, node: Node, step: StepId, source: FromOutput | FromCollect | Constant
    ) -> Argument | None:
        if isinstance(source, Constant):
            return Given(source.value)
        declared = self._declared(source.node, source.output)
        if isinstance(source, FromCollect):
            keys, seqs = self._members(node, step, source)
            kept = [(key, seq) for key, seq in zip(keys, seqs, strict=True) if seq]
            wanted = [seq for _, seq in kept]
            return Collected(
                [key for key, _ in kept],
                wanted,
                lambda: self._recorder.references(wanted),
                declared,
                source.form,
            )
        seq = source_seq(self._state, node, step, source)
        if not seq:
            return None
        return Stored(seq, next(self._recorder.references([seq])), declared)


def source_seq(state: RunState, node: Node, step: StepId, source: FromOutput) -> int:
    """The seq of the event that stored what a step reads from a plain source; 0 where that was skipped."""
    producer = state.graph.by_name[source.node]
    output = producer.output(source.output)
    path = (
        step.key_path
        if node.scope == producer.scope
        else project(step.key_path, node.scope, producer.scope)
    )
    if output is None or not output.dynamic:
        return state.output_seq(StepId(source.node, path), source.output)
    level = next(
        level for level in node.scope if level.node == source.node and level.output == source.output
    )
    return state.piece_seq(level, path, step.key_path[node.scope.index(level)])


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
        case Stored():
            return _read(argument.seq, argument.reference, argument.declared, outputs)
        case Collected():
            values = [
                _read(seq, reference, argument.declared, outputs)
                for seq, reference in zip(argument.seqs, argument.references(), strict=True)
            ]
            return (
                dict(zip(argument.keys, values, strict=True)) if argument.form == "dict" else values
            )


def _read(seq: int, reference: OutputReference, declared: Any, outputs: OutputStore) -> Any:
    try:
        data = outputs.get(reference)
    except OutputLost as error:
        raise InputLost([seq], error) from None
    return deserialize(data, reference.serializer, declared)
