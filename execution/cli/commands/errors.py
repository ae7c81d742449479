"""`runstore errors`."""

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import counted, first_line, print_json, safe
from runstore.audit import ErrorGroup, errors


@click.command(cls=Command)
@run_argument("last")
@click.option("--traceback", is_flag=True, help="With the traceback of the first of each.")
@json_option
@store_option
def command(run: str, traceback: bool, as_json: bool, store: str | None) -> None:
    """Group the errors of a run by type and message: how many, whether they stand, and steps that raised them."""
    with opened(store) as found:
        groups = errors(found, run)
    if as_json:
        print_json(groups)
        return
    if not groups:
        click.echo("no attempt has raised an error", err=True)
    for group in groups:
        _show(group, traceback)


def _show(group: ErrorGroup, traceback: bool) -> None:
    click.echo(
        f"{group.count:,} × {safe(group.op)}: {first_line(f'{group.type}: {group.message}')}"
    )
    left = (
        f" and {group.steps - len(group.examples):,} more"
        if group.steps > len(group.examples)
        else ""
    )
    click.echo(
        f"    {counted(group.steps, 'step')}, {group.stands}; seq {group.first_seq} to {group.last_seq}"
    )
    click.echo(f"    {', '.join(map(safe, group.examples))}{left}")
    if traceback:
        click.echo(safe(group.traceback).rstrip())
