"""`runstore search`."""

import datetime as dt
from itertools import islice

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, store_option
from execution.cli.terminal import coloured, counted, print_json, time_text
from runstore.audit import Match, search


@click.command(cls=Command)
@click.argument("key", metavar="KEY_GLOB")
@click.option("--op", metavar="OP", help="Only clones of this op.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]),
    help="Only runs that were started then or later, in UTC.",
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@json_option
@store_option
def command(
    key: str,
    op: str | None,
    since: dt.datetime | None,
    limit: int,
    as_json: bool,
    store: str | None,
) -> None:
    """Find clones by key over all runs, newest run first: 'Europe/*' finds every clone with such a key, as yielded."""
    after = since.replace(tzinfo=dt.UTC) if since else None
    with opened(store) as found:
        matches = list(islice(search(found, key, op=op, since=after), limit))
    if as_json:
        print_json(matches)
        return
    for match in matches:
        click.echo(_line(match))
    if not matches:
        click.echo("no clone of any run has such a key", err=True)
    elif len(matches) == limit:
        click.echo(f"the first {limit:,}; --limit shows more", err=True)


def _line(match: Match) -> str:
    status = coloured("orphan" if match.orphan else match.status, 10)
    when = time_text(match.started) if match.started else "never started"
    return f"{match.run_id}  {status} {counted(match.attempts, 'attempt'):>11}  {when:<19}  {match.step}"
