"""`runstore keys`."""

from itertools import chain

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import coloured, counted, print_json, time_text
from runstore.audit import KEY_STATES, Key, keys
from runstore.keys import escape_key


@click.command(cls=Command)
@run_argument()
@click.argument("op")
@click.option(
    "--status",
    multiple=True,
    type=click.Choice(KEY_STATES),
    help="Only those; may be given several times.",
)
@click.option("--like", metavar="GLOB", help="Only keys that match, such as 'Europe/*'.")
@json_option
@store_option
@click.pass_context
def command(
    ctx: click.Context,
    run: str,
    op: str,
    status: tuple[str, ...],
    like: str | None,
    as_json: bool,
    store: str | None,
) -> None:
    """List the steps of an op: status, attempts, step key. A step key can be pasted into `cat` and `explain`."""
    with opened(store) as found:
        rows = keys(found, run, op, status=status, like=like)
        first = next(rows, None)  # errors now, and the store may close
    known = chain([first] if first else [], rows)
    if as_json:
        print_json(list(known))
        return
    if first is None:
        click.echo(f"no step of {op} matches, or its keys are not known yet", err=True)
    for row in known:
        click.echo(_line(row))


def _line(row: Key) -> str:
    attempts = counted(row.attempts, "attempt")
    why = f"  ({row.why})" if row.why else ""
    why = f"  (due {time_text(row.due)})" if row.due else why
    nested = f"  {' / '.join(map(escape_key, row.key_path))}" if len(row.key_path) > 1 else ""
    return f"{coloured(row.status, 10)} {attempts:>11}  {row.step}{nested}{why}"
