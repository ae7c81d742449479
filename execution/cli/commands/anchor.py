"""`runstore anchor`."""

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import print_json
from runstore.audit import anchor


@click.command(cls=Command)
@run_argument("last")
@json_option
@store_option
def command(run: str, as_json: bool, store: str | None) -> None:
    """Print the rolling digest of a run's log, SEQ:SHA256, to be kept elsewhere; `verify --anchor` proves by it."""
    with opened(store) as found:
        answer = anchor(found, run)
    print_json(answer) if as_json else click.echo(str(answer))
