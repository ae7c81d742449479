"""`runstore show`."""

from pathlib import Path

import click

from execution.cli.failure import Command
from execution.cli.options import (
    json_option,
    opened,
    outputs_option,
    run_argument,
    store_option,
)
from execution.cli.step_text import print_step
from execution.cli.terminal import (
    at_least,
    coloured,
    counted,
    duration_text,
    first_line,
    hook_failure_line,
    listed,
    print_json,
    print_table,
    safe,
    time_text,
)
from runstore.audit import Epoch, OpSummary, RunReport, progress, show, show_step
from runstore.log.remaining import NodeProgress


@click.command(cls=Command)
@run_argument("last")
@click.argument("step", metavar="['OP[KEY]']", required=False)
@json_option
@store_option
@outputs_option
def command(
    run: str, step: str | None, as_json: bool, store: str | None, outputs: str | None
) -> None:
    """Show one run: where it came from, its epochs, its ops, and the first error of each kind.

    With a step: its attempts, its config, what it read, and what it stored, with the beginning of what is text.
    """
    if step is not None:
        with opened(store, outputs) as found:
            answer = show_step(found, run, step)
        if as_json:
            print_json(answer)
        else:
            print_step(answer)
        return
    with opened(store) as found:
        report = show(found, run)
        far, directory = progress(found, report.run), found.directory
    if as_json:
        print_json(report)
        return
    _head(report, str(far) if far else "", directory)
    click.echo()
    heads = ("epoch", "from", "duration", "ended", "steps started", "process", "seq")
    numbers = ("epoch", "duration", "steps started", "seq")
    print_table(heads, [_epoch(epoch) for epoch in report.epochs], right=numbers)
    click.echo()
    columns = ("op", "steps", "succeeded", "failed", "other", "time in steps")
    right = ("steps", "succeeded", "failed", "time in steps")
    print_table(columns, [_op(op) for op in report.ops], right=right)
    for kind in report.failures:
        more = f" and {counted(kind.count - 1, 'other')} of {kind.op}" if kind.count > 1 else ""
        error = first_line(f"{kind.type}: {kind.message}")
        click.echo(f"\n{kind.step}{more} failed (seq {kind.seq}, attempt {kind.attempt}): {error}")
    for failed in report.hook_failures:
        click.echo(f"\n{hook_failure_line(failed)}")


def _place(base: str, directory: Path | None) -> str:
    return base if directory is None or "://" in base else str(directory / base)


def _head(report: RunReport, far: str, directory: Path | None) -> None:
    run = report.run
    lines = {
        "run": run.run_id,
        "job": safe(f"{run.name}, {run.job or 'defined in a notebook or __main__'}"),
        "parent": _parent(report),
        "status": f"{coloured(run.status)}, {far}",
        "events": f"{run.events:,}, level {report.level}",
        "outputs": ", ".join(_place(base, directory) for base in report.bases),
        "deleted": _deleted(report),
        "config": safe(str(report.config)) if report.config else "",
        "tags": safe(", ".join(f"{key}={value}" for key, value in report.tags.items())),
    }
    for name, text in lines.items():
        if text:
            click.echo(f"{name:<9}{text}")


def _deleted(report: RunReport) -> str:
    deleted = report.deleted
    if deleted is None:
        return ""
    return f"{counted(deleted.outputs, 'output')} by `runstore prune`, last at {time_text(deleted.last)}"


def _parent(report: RunReport) -> str:
    parent = report.parent
    if parent is None:
        return ""
    words = [*parent.select, *(["what had not finished"] if parent.from_failure else [])]
    again = f"{', '.join(words)} again" if words else "everything anew"
    return safe(f"{parent.run}, {again}; {counted(report.reused, 'step')} reused from there")


def _epoch(epoch: Epoch) -> tuple[str, ...]:
    return (
        str(epoch.epoch),
        time_text(epoch.begun),
        duration_text((epoch.last - epoch.begun).total_seconds()),
        epoch.ended,
        f"{epoch.started_steps:,}",
        f"{epoch.pid} on {safe(epoch.host)}",
        f"{epoch.seq:,}",
    )


def _op(op: OpSummary) -> tuple[str, ...]:
    far = op.progress
    other = {name: n for name, n in far.states.items() if name not in ("succeeded", "failed")}
    if far.orphans:
        other["orphan"] = far.orphans
    return (
        far.node,
        at_least(far.sealed, more=far.unsealed > 0),
        f"{far.states.get('succeeded', 0):,}",
        f"{far.states.get('failed', 0):,}",
        _other(other, far),
        duration_text(op.seconds),
    )


def _other(counts: dict[str, int], far: NodeProgress) -> str:
    due = f", due {time_text(far.due)}" if far.due else ""
    return listed(counts) + due or ("keys not known yet" if far.sealed is None else "")
