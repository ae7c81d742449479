"""`runstore cancel`."""

import time

import click

from execution.cli.failure import Command, typed
from execution.cli.options import opened, run_argument, store_option
from runstore.store import RunStore

PATIENCE_S = 5.0
POLL_S = 0.1


@click.command(cls=Command)
@run_argument()
@store_option
@click.pass_context
def command(ctx: click.Context, run: str, store: str | None) -> None:
    """Stop a run: ask its living executor to stop after the running step, or close a crashed run."""
    with opened(store) as found:
        run_id = found.resolve(run)
        done = found.cancel(run_id)
        if done == "asked":
            _wait(found, run_id, ctx)
            return
        status = found.run(run_id).status
    if done == "over":
        click.echo(f"run {run_id} is over ({status}); nothing to cancel")
    else:
        click.echo(f"run {run_id} had crashed and is now cancelled")
    if status != "succeeded":
        click.echo(f"next:  {typed('resume', run_id, ctx=ctx)}")


def _wait(store: RunStore, run_id: str, ctx: click.Context) -> None:
    click.echo(f"asked {store.claim(run_id) or 'the executor'} to stop after its running step")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status = store.run(run_id).status
        if status != "running":
            click.echo(f"run {run_id} is {status}")
            if status != "succeeded":
                click.echo(f"next:  {typed('resume', run_id, ctx=ctx)}")
            return
        time.sleep(POLL_S)
    click.echo(f"run {run_id} is still in its running step; it will stop after that")
    click.echo(f"next:  {typed('log', run_id, '--follow', ctx=ctx)}")
