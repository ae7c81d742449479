"""What a step stored: found by step key, verified against the log, shown without running anything (rule T3).

Bytes leave here only after their size and sha256 were those of the log. Nothing is unpickled and no type of the job is
needed: text is text, JSON and MessagePack become JSON, compressed or not; anything else stays bytes.
"""

import base64
import json
from itertools import islice
from typing import Any

import msgspec

from runstore.audit.keys import find_node, known_steps
from runstore.errors import OutputMissing, StepNotFound
from runstore.keys import format_step_key, parse_step_key
from runstore.log.expanded import StepId
from runstore.log.graph import Level, Node, Output
from runstore.log.recorder import reference_of
from runstore.log.state import RunState
from runstore.log.transitions import FAILED, PENDING, RUNNING, SKIPPED, SUCCEEDED, WAITING
from runstore.outputs.reference import OutputReference
from runstore.outputs.serializers import expanded
from runstore.store import RunStore

_NO_VALUE = {
    PENDING: "has not run",
    RUNNING: "has not ended",
    FAILED: "failed",
    SKIPPED: "was skipped",
    WAITING: "failed and waits to be tried again",
}


class Found(msgspec.Struct, frozen=True):
    """A stored output of a step that succeeded."""

    run_id: str
    step: str
    """The step key, or `op[key]` of one piece of a dynamic output."""
    output: str
    seq: int
    """Of the event that stored it."""
    reference: OutputReference
    address: str
    """Where the bytes lie, without credentials."""


class Content(msgspec.Struct, frozen=True):
    """A stored output and its verified bytes."""

    found: Found
    data: bytes


def cat(store: RunStore, run: str, step: str, output: str | None = None) -> Content:
    """The bytes of a step's output, verified; `output` may be left out where there is one.

    Raises RunNotFound, StepNotFound, and OutputLost where the bytes are not those that were stored.
    """
    run_id = store.resolve(run)
    state = store.state(run_id)
    found = find_output(store, state, step, output)
    try:
        return Content(found, store.outputs(state).get(found.reference))
    except OutputMissing as error:
        raise store.why_missing(run_id, found.seq, error) from None


def find_output(store: RunStore, state: RunState, step: str, output: str | None = None) -> Found:
    """Where a step's output is, without reading it.

    A dynamic output is found piece by piece: `zones[Europe/Paris]` is what `zones` yielded under that key.
    """
    node_name, key_path = parse_step_key(step)
    node = find_node(state, node_name)
    wanted = _output(node, output, dynamic=len(key_path) > len(node.scope))
    depth = len(node.scope) + wanted.dynamic
    if len(key_path) != depth:
        raise StepNotFound(_other_depth(state, node, wanted, len(key_path)))
    producer = StepId(node_name, key_path[: len(node.scope)])
    if wanted.dynamic:
        seq = state.piece_seq(Level(node_name, wanted.name), producer.key_path, key_path[-1])
        seq = seq if state.status(producer) == SUCCEEDED else 0
    else:
        seq = state.output_seq(producer, wanted.name)
    if not seq:
        raise StepNotFound(_no_value(state, node, producer, wanted, StepId(node_name, key_path)))
    reference = reference_of(store.event(state.run_id, seq))
    address = store.outputs(state).address(reference)
    shown = format_step_key(node_name, key_path)
    return Found(state.run_id, shown, wanted.name, seq, reference, address)


def printable(content: Content) -> str | None:
    """The output as text: text as it is, JSON and MessagePack as JSON; None for any other format.

    What is compressed is expanded first; raises NotReadable or ExtraMissing where that cannot be.
    """
    data, serializer = content.data, content.found.reference.serializer
    if serializer.partition("+")[0] not in ("text", "json", "msgpack"):
        return None
    data, serializer = expanded(data, serializer)
    match serializer:
        case "text":
            return data.decode()
        case "json":
            return msgspec.json.format(data, indent=2).decode() + "\n"
        case "msgpack":
            return _as_json(data)
    return None


def _as_json(data: bytes) -> str | None:
    try:
        # Not msgspec's encoder: it would show NaN, which MessagePack holds, as null.
        value = _named(msgspec.msgpack.decode(data))
        return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None


def _named(value: Any) -> Any:
    """The value with what JSON has no word for spelled out: bytes as base64, times as ISO 8601, keys as text."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(_named(key)): _named(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_named(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _output(node: Node, name: str | None, *, dynamic: bool) -> Output:
    """The output that is meant: the named one, or the only one, or the only one that fits the step key."""
    outputs = ", ".join(output.name for output in node.outputs)
    if name is not None:
        found = node.output(name)
        if found is None:
            raise StepNotFound(f"op {node.name!r} has no output {name!r}; it has {outputs}")
        return found
    fitting = [output for output in node.outputs if output.dynamic == dynamic] or node.outputs
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise StepNotFound(f"op {node.name!r} has no outputs")
    raise StepNotFound(f"op {node.name!r} has several outputs; add --output with one of {outputs}")


def _other_depth(state: RunState, node: Node, output: Output, given: int) -> str:
    if output.dynamic and given <= len(node.scope):
        start = f"output {output.name!r} of {node.name!r} is dynamic, one value per key"
    elif node.scope:
        start = f"{node.name!r} is cloned per key of {', '.join(map(str, node.scope))}"
    else:
        return f"{node.name!r} is one step without a key; write {node.name!r}"
    example = next(islice(_examples(state, node, output), 1), None)
    depth = len(node.scope) + output.dynamic
    return (
        f"{start}; write {example!r}"
        if example
        else f"{start}; write {node.name + '[key]' * depth!r}"
    )


def _examples(state: RunState, node: Node, output: Output) -> Any:
    for step in state.sealed_steps(node):
        if not output.dynamic:
            yield str(step)
            continue
        expansion = state.expansion(Level(node.name, output.name), step.key_path)
        for key in expansion.ordered_keys() if expansion else ():
            yield format_step_key(node.name, (*step.key_path, key))


def _no_value(state: RunState, node: Node, producer: StepId, output: Output, wanted: StepId) -> str:
    status = state.status(producer)
    explain = f"`runstore explain {state.run_id} '{producer}'` says why"
    if state.find(producer) is None:
        return f"run {state.run_id!r} has no step '{producer}'; {known_steps(state, node, str(producer))}"
    if status != SUCCEEDED:
        return f"'{wanted}' has no value: its step {_NO_VALUE[status]}; {explain}"
    if output.dynamic:
        return f"'{producer}' yielded no key {wanted.key_path[-1]!r} under output {output.name!r}"
    return f"step '{producer}' succeeded without output {output.name!r}"
