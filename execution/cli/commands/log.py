"""`runstore log`."""

import time
from collections.abc import Iterator

import click

from execution.cli.event_line import event_line
from execution.cli.failure import Command, typed
from execution.cli.options import json_option, opened, run_argument, store_option
from runstore.audit import LogRow, rows
from runstore.log.events import HOUSEKEEPING, KINDS, AnyEvent, RunEnded
from runstore.store import RunStore

POLL_S = 0.2


@click.command(cls=Command)
@run_argument("last")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@click.option(
    "--type",
    "kinds",
    multiple=True,
    metavar="KIND",
    callback=lambda ctx, parameter, value: tuple(_kind(one) for one in value),
    help="Only events of that kind, such as StepFailed; may be given several times.",
)
@json_option
@store_option
@click.pass_context
def command(
    ctx: click.Context,
    run: str,
    follow: bool,
    kinds: tuple[str, ...],
    as_json: bool,
    store: str | None,
) -> None:
    """Print the events of a run: one line each, or with --json one JSON object each, as they stand in the log."""
    with opened(store) as found:
        run_id = found.resolve(run)
        for row in _followed(found, run_id, ctx) if follow else rows(found, run_id):
            if not kinds or (row.event is not None and type(row.event).__name__ in kinds):
                click.echo(_as_json(row) if as_json else event_line(row))


def _kind(given: str) -> str:
    for kind in KINDS:
        if kind.lower() == given.lower():
            return kind
    raise click.BadParameter(f"{given!r} is no kind of event; there are {', '.join(KINDS)}")


def _followed(store: RunStore, run_id: str, ctx: click.Context) -> Iterator[LogRow]:
    """Every row, then those that come, until the run is over or nobody executes it."""
    seq, over = 0, False
    while True:
        alive = _is_alive(
            store, run_id
        )  # asked first: what the executor wrote last must still be read
        for row in rows(store, run_id, after=seq):
            seq, over = row.seq, _is_over(row.event)
            yield row
        if over:
            return
        if not alive:
            click.echo(f"run {run_id} has crashed: nobody executes it", err=True)
            click.echo(f"next:  {typed('resume', run_id, ctx=ctx)}", err=True)
            return
        time.sleep(POLL_S)


def _is_over(event: AnyEvent | None) -> bool:
    if isinstance(event, HOUSEKEEPING):
        return event.run_status != "unfinished"
    return isinstance(event, RunEnded)


def _is_alive(store: RunStore, run_id: str) -> bool:
    claim = store.claim(run_id)
    return claim is not None and claim.is_alive()


def _as_json(row: LogRow) -> str:
    body = row.body.strip()
    if body.startswith("{") and len(body) > 2:
        return f'{{"seq":{row.seq},{body[1:]}'
    return f'{{"seq":{row.seq},"body":{body}}}'
