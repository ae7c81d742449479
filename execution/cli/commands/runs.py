"""`runstore runs`."""

import datetime as dt
from typing import Any

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, store_option
from execution.cli.terminal import duration_text, print_json, print_table, safe, time_text
from runstore.audit import Progress, progress
from runstore.store import RunSummary


@click.command(cls=Command)
@json_option
@store_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, store: str | None) -> None:
    """List the runs of the store, the newest last."""
    with opened(store) as found:
        listed = [(run, progress(found, run)) for run in found.runs()]
    if as_json:
        print_json([_as_json(run, far) for run, far in listed])
        return
    heads = ("run", "job", "status", "progress", "started (UTC)", "duration")
    print_table(heads, [_row(run, far) for run, far in listed], right=("duration",))


def _row(run: RunSummary, far: Progress | None) -> tuple[str, ...]:
    until = dt.datetime.now(dt.UTC) if run.status == "running" else run.updated
    return (
        run.run_id,
        safe(run.name),
        run.status,
        str(far) if far else "not readable by this version",
        time_text(run.started)[:-3],
        duration_text((until - run.started).total_seconds()),
    )


def _as_json(run: RunSummary, far: Progress | None) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(run), "progress": far, "progress_text": str(far) if far else None}
