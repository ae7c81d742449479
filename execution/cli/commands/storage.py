"""`runstore storage`: `test` and `move`."""

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, outputs_option, run_argument, store_option
from execution.cli.terminal import bytes_text, coloured, counted, print_json
from runstore.housekeeping import Amount, Moved, move, probe


@click.group()
def command() -> None:
    """See to the places that outputs go to."""


@command.command(name="test", cls=Command)
@click.argument("url", metavar="URL")
@click.option("--quick", is_flag=True, help="Leave out the large object (9 MB, S3 alone).")
@json_option
@click.pass_context
def test_command(ctx: click.Context, url: str, quick: bool, as_json: bool) -> None:
    """Try whether outputs can go below a URL: write, read, create once, list, delete.

    Leaves nothing behind. Options and credentials are those of runs. Exit code 1 where something fails that runs need.
    """
    tried = []
    for one in probe(url, quick=quick):
        tried.append(one)
        if not as_json:
            click.echo(f"{coloured(one.verdict, 8)} {one.name:<12} {one.fact}")
            if one.remedy:
                click.echo(f"{'':<21} {one.remedy}")
    if as_json:
        print_json(tried)
    ctx.exit(any(one.verdict == "failed" for one in tried))


@command.command(name="move", cls=Command)
@run_argument()
@click.argument("url", metavar="URL")
@click.option("--delete", "delete_old", is_flag=True, help="Then delete them where they were.")
@json_option
@store_option
@outputs_option
def move_command(
    run: str, url: str, delete_old: bool, as_json: bool, store: str | None, outputs: str | None
) -> None:
    """Take the outputs of a run to another place, each verified against the log and read back.

    Killed at any point it can be run again. Reruns that took outputs of the run go on to find them where they were:
    what they use is not deleted. Two services are told apart by the tables [tool.runstore.storage."URL"].
    """
    with opened(store, outputs) as found:
        moved = move(found, run, url, delete_old=delete_old)
    if as_json:
        print_json(moved)
    else:
        _tell(moved, delete_old)


def _tell(moved: Moved, delete_old: bool) -> None:
    there = f", {_amount(moved.there)} there already" if moved.there.objects else ""
    click.echo(f"{moved.run_id}: copied {_amount(moved.copied)} to {moved.place}{there}")
    if moved.skipped:
        lost = counted(moved.skipped, "output")
        click.echo(f"    left behind {lost} that do not count and are missing or altered")
    places = ", ".join(moved.left)
    if delete_old:
        click.echo(f"    deleted {_amount(moved.deleted)} at {places}")
    else:
        click.echo(f"    still at {places} too; `runstore prune {moved.run_id}` deletes that")
    if moved.users:
        kept = f", {_amount(moved.in_use)} kept for them" if moved.in_use.objects else ""
        click.echo(f"    used there by {', '.join(moved.users)}{kept}")


def _amount(amount: Amount) -> str:
    return f"{counted(amount.objects, 'object')}, {bytes_text(amount.size_bytes)}"
