"""`runstore keys`."""

from itertools import chain, groupby

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import coloured, counted, listed, print_json, print_table, time_text
from runstore.audit import KEY_STATES, Key, KeyGrid, key_grid, keys
from runstore.audit.key_grid import PAGE
from runstore.keys import escape_key


@click.command(cls=Command)
@run_argument()
@click.argument("op", required=False)
@click.option(
    "--status",
    multiple=True,
    type=click.Choice(KEY_STATES),
    help="Only those; may be given several times.",
)
@click.option("--like", metavar="GLOB", help="Only keys that match, such as 'Europe/*'.")
@click.option("--retried", is_flag=True, help="Only what took more than one attempt.")
@click.option("--after", metavar="CURSOR", help="The next page of the grid.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"So many rows; of the grid {PAGE} by default, of one op all.",
)
@json_option
@store_option
def command(
    run: str,
    op: str | None,
    status: tuple[str, ...],
    like: str | None,
    retried: bool,
    after: str | None,
    limit: int | None,
    as_json: bool,
    store: str | None,
) -> None:
    """List the steps of an op: status, attempts, step key. A step key can be pasted into `cat` and `explain`.

    Without an op, or page by page: the grid of keys and ops, with the counts of each op.
    """
    if op is None or after is not None or limit is not None:
        with opened(store) as found:
            grid = key_grid(
                found,
                run,
                ops=(op,) if op else (),
                status=status,
                like=like,
                retried=retried,
                after=after,
                limit=limit or PAGE,
            )
        print_json(grid) if as_json else _print_grid(grid)
        return
    with opened(store) as found:
        rows = (
            row
            for row in keys(found, run, op, status=status, like=like)
            if not retried or row.attempts > 1
        )
        first = next(rows, None)  # errors now, and the store may close
    known = chain([first] if first else [], rows)
    if as_json:
        print_json(list(known))
        return
    if first is None:
        click.echo(f"no step of {op} matches, or its keys are not known yet", err=True)
    for row in known:
        click.echo(_line(row))


def _print_grid(grid: KeyGrid) -> None:
    for levels, group in groupby(grid.rows, key=lambda row: row.levels):
        rows = list(group)
        heads = [" / ".join(levels) or "not cloned", *(cell.op for cell in rows[0].cells)]
        cells = [
            [
                " / ".join(map(escape_key, row.key_path)),
                *(
                    cell.status + (f" ×{cell.attempts}" if cell.attempts > 1 else "")
                    for cell in row.cells
                ),
            ]
            for row in rows
        ]
        print_table(heads, cells)
        click.echo()
    if not grid.rows:
        click.echo("no key matches, or none is known yet", err=True)
    for op, states in grid.counts.items():
        click.echo(f"{op}: {listed(states) or 'keys not known yet'}")
    if grid.next is not None:
        click.echo(f"\nnext page: --after '{grid.next}'")


def _line(row: Key) -> str:
    attempts = counted(row.attempts, "attempt")
    why = f"  ({row.why})" if row.why else ""
    why = f"  (due {time_text(row.due)})" if row.due else why
    nested = f"  {' / '.join(map(escape_key, row.key_path))}" if len(row.key_path) > 1 else ""
    return f"{coloured(row.status, 10)} {attempts:>11}  {row.step}{nested}{why}"
