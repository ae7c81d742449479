"""Logs made by hand: a small graph, its events, and a fold that stamps them as the recorder would."""

import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from runstore.log.codec import encode, keys_digest
from runstore.log.events import (
    EPOCH_KINDS,
    FORMAT_VERSION,
    AnyEvent,
    DynamicOutputStored,
    ErrorInfo,
    ExpansionSealed,
    OutputStored,
    RunResumed,
    RunStarted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, FromOutput, Graph, Input, Level, Node, Output, Over
from runstore.log.state import RunState
from runstore.outputs.reference import OutputReference

T0 = dt.datetime(2026, 11, 22, 18, 0, tzinfo=dt.UTC)
KEYS = Level("fan_out", "result")

CHAIN = Graph(
    "chain",
    (
        Node("fan_out", "fan_out", (), (Output("result", dynamic=True),)),
        Node(
            "echo",
            "echo",
            (Input("x", FromOutput("fan_out", "result")),),
            (Output("result"),),
            (KEYS,),
        ),
        Node(
            "shout",
            "shout",
            (Input("x", FromOutput("echo", "result")),),
            (Output("result"),),
            (KEYS,),
        ),
        Node(
            "total",
            "total",
            (Input("xs", FromCollect("shout", "result", (Over(KEYS),))),),
            (Output("result"),),
        ),
    ),
)


def reference(path: str = "x.json", data: bytes = b"1") -> OutputReference:
    """The reference of some bytes."""
    return OutputReference(path, len(data), hashlib.sha256(data).hexdigest(), "json")


def run_started(graph: Graph = CHAIN, **fields: Any) -> RunStarted:
    """The first event of a run."""
    given: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "job": "",
        "graph": graph,
        "config": {},
        "tags": {},
        "level": "fast",
        "base": "outputs/r",
        "host": "here",
        "pid": 1,
        "version": "0",
    }
    return RunStarted(**{**given, **fields})


def run_resumed(**fields: Any) -> RunResumed:
    """A new epoch."""
    return RunResumed(**{"host": "here", "pid": 1, "version": "0", "log_digest": "", **fields})


def start(step: str, attempt: int = 1, code: str = "c") -> StepStarted:
    """An attempt begins."""
    return StepStarted(step, {}, code, attempt)


def fail(step: str, attempt: int = 1) -> StepFailed:
    """An attempt fails."""
    return StepFailed(step, ErrorInfo("ValueError", "no", ""), 0.1, attempt)


def retried(step: str, attempt: int = 1, due: dt.datetime = T0) -> StepRetried:
    """An attempt fails and is to be followed by another."""
    return StepRetried(step, ErrorInfo("ValueError", "no", ""), 0.1, due, attempt)


def plain(step: str, attempt: int = 1, output: str = "result") -> list[AnyEvent]:
    """A whole successful attempt of an op with one plain output."""
    return [
        start(step, attempt),
        OutputStored(step, output, reference(), attempt),
        StepSucceeded(step, 0.1, attempt),
    ]


def pieces(keys: Iterable[str], attempt: int = 1, step: str = "fan_out") -> list[AnyEvent]:
    """What an attempt of a dynamic op stores, and its seal."""
    keys = list(keys)
    stored = [DynamicOutputStored(step, "result", key, reference(), attempt) for key in keys]
    return [
        *stored,
        ExpansionSealed(step, "result", len(keys), keys_digest(keys), attempt=attempt),
    ]


def fan_out(keys: Iterable[str], attempt: int = 1) -> list[AnyEvent]:
    """A whole successful attempt of `fan_out`."""
    return [
        start("fan_out", attempt),
        *pieces(keys, attempt),
        StepSucceeded("fan_out", 0.1, attempt),
    ]


class Fold:
    """A RunState that stamps what it is given: next seq, epoch, a second later."""

    def __init__(self, graph: Graph = CHAIN, **fields: Any) -> None:
        self.state = RunState("r")
        self(run_started(graph, **fields))

    def __call__(self, *events: AnyEvent | list[AnyEvent]) -> RunState:
        """Apply events, or lists of them."""
        for given in events:
            for event in given if isinstance(given, list) else [given]:
                self.state.apply(self.state.seq + 1, self.stamped(event))
        return self.state

    def stamped(self, event: AnyEvent) -> AnyEvent:
        """The event with the envelope that comes next."""
        opens = type(event) in EPOCH_KINDS
        seconds = dt.timedelta(seconds=self.state.seq)
        return msgspec.structs.replace(event, epoch=self.state.epoch + opens, time=T0 + seconds)

    def status(self, node: str, *key_path: str) -> int:
        """The status of a step."""
        return self.state.status(StepId(node, key_path))


def body(event: AnyEvent, epoch: int = 1) -> str:
    """The row of an event."""
    return encode(msgspec.structs.replace(event, epoch=epoch, time=T0))
