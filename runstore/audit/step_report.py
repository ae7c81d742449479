"""What a step is: its attempts, its config, what it read and what it stored, with a look at the bytes.

Found by the index. A preview is taken of text, JSON and MessagePack alone, after the bytes were found to be those of
the log; nothing is unpickled.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from runstore.audit.cat import Content, Found, printable
from runstore.audit.history import Attempt, History
from runstore.audit.lookup import Lookup
from runstore.errors import OutputLost, StorageFailed
from runstore.keys import format_step_key
from runstore.log.events import (
    STORES,
    AnyEvent,
    CollectResolved,
    DynamicOutputStored,
    ErrorInfo,
    OutputStored,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Level
from runstore.log.transitions import PENDING, RUNNING, STATUS_NAMES
from runstore.outputs.reference import OutputReference
from runstore.store import RunStore

PIECES = 20
"""Of each dynamic output so many pieces are shown, unless more are asked for."""
PREVIEW_BYTES = 1 << 16
PREVIEW_CHARS = 200


class StepAttempt(msgspec.Struct, frozen=True):
    """One try of the step."""

    attempt: int
    epoch: int
    outcome: str
    """succeeded, failed, to be tried again, running, interrupted; taken from the parent: reused."""
    seq: int
    """Of its start."""
    ended_seq: int
    """Of its end; 0 where there was none."""
    started: dt.datetime
    ended: dt.datetime | None
    duration_s: float | None
    worker: str
    """Who ran it: known at its end; empty where that was the process which drove the run."""
    code: str
    error: ErrorInfo | None
    parent_seq: int
    """Of a reused step: its success in the log of the parent; else 0."""


class StepInput(msgspec.Struct, frozen=True):
    """Something that the last attempt was given from storage."""

    input: str
    seq: int
    """Of the event that stored it, or of the `CollectResolved`."""
    source: str
    """The step that it comes from; of a collect `node.output`."""
    output: str
    key: str | None
    """Of a piece of a dynamic output."""
    reference: OutputReference | None
    """None for a collect: `runstore collect-inputs` lists its members."""
    address: str
    collected: int | None
    """Of a collect: how many values."""
    sealed: int | None
    """Of a collect: of how many sealed keys."""


class StepOutput(msgspec.Struct, frozen=True):
    """Something that the step has stored and that counts."""

    output: str
    key: str | None
    seq: int
    reference: OutputReference
    address: str
    metadata: dict[str, Any] | None
    preview: str | None
    """The beginning of what is text; None for other formats, and where the bytes are not there."""
    problem: str
    """Why the bytes cannot be had; empty where they can, or were not asked for."""


class Pieces(msgspec.Struct, frozen=True):
    """How many keys a dynamic output was sealed with."""

    output: str
    sealed: int
    keys_digest: str
    seal_seq: int


class StepReport(msgspec.Struct, frozen=True):
    """A step, as `runstore show RUN STEP` prints it."""

    run_id: str
    step: str
    op: str
    status: str
    is_sealed: bool
    """False for an orphan: a key that the last seal does not hold."""
    config: dict[str, Any]
    """Of the op, from the run config in force."""
    attempts: tuple[StepAttempt, ...]
    inputs: tuple[StepInput, ...]
    outputs: tuple[StepOutput, ...]
    pieces: tuple[Pieces, ...]


def show_step(store: RunStore, run: str, step: str, *, pieces: int = PIECES) -> StepReport:
    """The report of a step; of each dynamic output the first `pieces`. Raises RunNotFound, StepNotFound."""
    summary = store.run(run)
    look = Lookup(store, summary.run_id)
    known = look.find(step)
    history = look.history(known)
    status = STATUS_NAMES[history.status]
    if history.status == RUNNING and summary.status != "running":
        status = "interrupted"
    last = history.last
    return StepReport(
        run_id=look.run_id,
        step=str(known),
        op=look.graph.by_name[known.node].op,
        status=status,
        is_sealed=look.is_sealed(known),
        config=look.frame.config.get("ops", {}).get(known.node, {}),
        attempts=tuple(_attempt(one, status, one is last) for one in history.attempts),
        inputs=tuple(_inputs(look, last)) if last else (),
        outputs=tuple(_outputs(look, known, history, pieces)),
        pieces=tuple(_pieces(look, known, history)),
    )


def _attempt(one: Attempt, status: str, is_last: bool) -> StepAttempt:
    running = is_last and status == "running"
    return StepAttempt(
        attempt=one.attempt,
        epoch=one.epoch,
        outcome="running" if running else one.outcome,
        seq=one.seq,
        ended_seq=one.ended_seq,
        started=one.started,
        ended=one.ended,
        duration_s=one.duration_s,
        worker=one.worker,
        code=one.code,
        error=one.error,
        parent_seq=one.parent_seq,
    )


def _inputs(look: Lookup, last: Attempt) -> Iterator[StepInput]:
    outputs = look.outputs
    for name, seqs in last.inputs.items():
        for seq in seqs if isinstance(seqs, list) else [seqs]:
            if not seq:
                continue  # skipped in a list
            event = look.event(seq)
            if isinstance(event, CollectResolved):
                source, _, output = event.source.rpartition(".")
                counts = (event.succeeded, event.sealed)
                yield StepInput(name, seq, source, output, None, None, "", *counts)
            elif isinstance(event, STORES):
                key = event.mapping_key if isinstance(event, DynamicOutputStored) else None
                address = outputs.address(event.reference)
                reference = event.reference
                yield StepInput(
                    name, seq, event.step, event.output, key, reference, address, None, None
                )


def _outputs(look: Lookup, step: StepId, history: History, pieces: int) -> Iterator[StepOutput]:
    for output in look.graph.by_name[step.node].outputs:
        if not output.dynamic:
            seq = history.output_seq(output.name)
            if seq:
                yield _output(look, step, seq, look.event(seq))
            continue
        level = Level(step.node, output.name)
        keys = look.keys(level, step.key_path) if history.status != PENDING else iter(())
        for key in islice(keys, pieces):
            seq, _ = look.piece(level, step.key_path, key)
            yield _output(look, step, seq, look.event(seq))


def _output(look: Lookup, step: StepId, seq: int, event: AnyEvent) -> StepOutput:
    assert isinstance(event, OutputStored | DynamicOutputStored), event
    key = event.mapping_key if isinstance(event, DynamicOutputStored) else None
    outputs = look.outputs
    address = outputs.address(event.reference)
    preview, problem = None, ""
    if event.reference.size_bytes <= PREVIEW_BYTES:
        path = step.key_path if key is None else (*step.key_path, key)
        shown = format_step_key(step.node, path)
        found = Found(look.run_id, shown, event.output, seq, event.reference, address)
        try:
            preview = _beginning(Content(found, outputs.get(event.reference)))
        except (OutputLost, StorageFailed) as error:
            problem = str(error)
    return StepOutput(
        event.output, key, seq, event.reference, address, event.metadata, preview, problem
    )


def _beginning(content: Content) -> str | None:
    with contextlib.suppress(ValueError, msgspec.MsgspecError):
        text = printable(content)
        if text is not None:
            text = text.removesuffix("\n")
            return text if len(text) <= PREVIEW_CHARS else text[:PREVIEW_CHARS] + "…"
    return None


def _pieces(look: Lookup, step: StepId, history: History) -> Iterator[Pieces]:
    if not history.successes or history.status == PENDING:
        return
    sealed_at = {one.seq: one for one in history.attempts}[history.successes[-1].started]
    for seal in sealed_at.seals:
        seq = next(seq for seq, event in look.own(step) if event is seal or event == seal)
        yield Pieces(seal.output, seal.count, seal.keys_digest, seq)
