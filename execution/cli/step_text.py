"""A step as text: what `runstore show RUN STEP` prints."""

import json
from collections.abc import Iterator
from typing import Any

import click

from execution.cli.terminal import coloured, duration_text, first_line, print_table, safe, time_text
from runstore.audit import StepAttempt, StepInput, StepOutput, StepReport
from runstore.keys import escape_key


def print_step(step: StepReport) -> None:
    """Its attempts, its config, its inputs and its outputs."""
    orphan = "" if step.is_sealed else ", an orphan: the last seal does not hold its key"
    click.echo(f"{step.step} of run {step.run_id}: {coloured(step.status)}{orphan}")
    click.echo(f"op       {step.op}")
    if step.config:
        click.echo(f"config   {safe(_json(step.config))}")
    if step.attempts:
        click.echo()
        heads = ("attempt", "epoch", "outcome", "started", "duration", "worker", "code", "seqs")
        print_table(heads, map(_attempt, step.attempts), right=("attempt", "epoch", "duration"))
    for one in step.attempts:
        if one.error:
            text = first_line(f"{one.error.type}: {one.error.message}")
            click.echo(f"\nattempt {one.attempt} raised {text}")
    for line in [*_inputs(step), *_outputs(step)]:
        click.echo(line)


def _attempt(one: StepAttempt) -> tuple[str, ...]:
    outcome = f"reused from seq {one.parent_seq} of the parent" if one.parent_seq else one.outcome
    return (
        str(one.attempt),
        str(one.epoch),
        outcome,
        time_text(one.started),
        "" if one.duration_s is None else duration_text(one.duration_s),
        _worker(one),
        one.code,
        f"{one.seq:,} to {one.ended_seq:,}" if one.ended_seq else f"{one.seq:,}",
    )


def _worker(one: StepAttempt) -> str:
    if not one.ended_seq or one.parent_seq:
        return ""  # who ran an attempt is known by its end; what was reused was not run
    return safe(one.worker or "the executor")


def _inputs(step: StepReport) -> Iterator[str]:
    if step.inputs:
        yield "\nread"
    for one in step.inputs:
        yield f"  {one.input:<12} {_source(one)}"


def _source(one: StepInput) -> str:
    if one.reference is None:
        values = f"{one.collected:,} of {one.sealed:,} values of {one.source}.{one.output}"
        return f"{values}, collected at seq {one.seq}"
    piece = "" if one.key is None else f"[{escape_key(one.key)}]"
    return (
        f"{one.output}{piece} of {one.source} (seq {one.seq}), sha256 {one.reference.sha256}\n"
        f"  {'':<12} {safe(one.address)}"
    )


def _outputs(step: StepReport) -> Iterator[str]:
    if step.outputs or step.pieces:
        yield "\nstored"
    for one in step.outputs:
        yield from _output(one)
    for piece in step.pieces:
        shown = sum(one.output == piece.output for one in step.outputs)
        left = f"; {piece.sealed - shown:,} not shown here" if piece.sealed > shown else ""
        yield (
            f"  {piece.output} sealed with {piece.sealed:,} keys (seq {piece.seal_seq}), "
            f"digest {piece.keys_digest}{left}"
        )


def _output(one: StepOutput) -> Iterator[str]:
    name = one.output if one.key is None else f"{one.output}[{escape_key(one.key)}]"
    reference = one.reference
    yield f"  {name} (seq {one.seq}): {reference.size_bytes:,} B as {reference.serializer}, sha256 {reference.sha256}"
    yield f"    {safe(one.address)}"
    if one.metadata:
        yield f"    metadata {safe(_json(one.metadata))}"
    if one.problem:
        yield f"    {click.style(safe(one.problem), fg='red')}"
    elif one.preview is not None:
        yield f"    {safe(' '.join(one.preview.split()))}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
