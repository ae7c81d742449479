"""`runstore rm`."""

import sys

import click

from execution.cli.failure import Command, ExitCode, Failure, typed
from execution.cli.options import opened, outputs_option, run_argument, store_option
from execution.cli.terminal import time_text


@click.command(cls=Command)
@run_argument()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also where reruns use its outputs.")
@store_option
@outputs_option
@click.pass_context
def command(
    ctx: click.Context, run: str, yes: bool, force: bool, store: str | None, outputs: str | None
) -> None:
    """Delete a run for ever: its outputs and its log.

    A living run is refused, and one whose outputs a rerun has taken.
    """
    with opened(store, outputs) as found:
        summary = found.run(run)
        found.refuse_living(summary.run_id)
        if not force:
            found.refuse_use(summary.run_id)
        what = (
            f"run {summary.run_id} of {summary.name}, {summary.status}, started {time_text(summary.started)}, "
            f"with {summary.events:,} events and all its outputs"
        )
        if not yes:
            _ask(what, summary.run_id, force, ctx)
        found.remove(summary.run_id, force=force)
    click.echo(f"deleted {what}")


def _ask(what: str, run_id: str, force: bool, ctx: click.Context) -> None:
    again = typed("rm", run_id, "--force" if force else None, "--yes", ctx=ctx)
    if not sys.stdin.isatty():
        raise Failure(
            f"nobody to ask whether to delete {what}; nothing was deleted", ExitCode.USAGE, again
        )
    if not click.confirm(f"Delete {what}?"):
        raise Failure("nothing was deleted", ExitCode.USAGE)
