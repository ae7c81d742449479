"""`runstore prune`."""

import datetime as dt

import click

from execution.cli.durations import duration
from execution.cli.failure import Command
from execution.cli.options import json_option, opened, outputs_option, store_option
from execution.cli.terminal import bytes_text, counted, print_json
from runstore.housekeeping import Amount, Pruned, prune

_WHY = {
    "orphan": "outputs that the run does not need",
    "unnamed": "objects that no event names",
    "left behind": "at a place that the run was moved away from",
    "old": "outputs of a run that is old",
}


@click.command(cls=Command)
@click.argument("run", metavar="[RUN]", required=False)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be deleted, and write nothing.")
@click.option(
    "--older-than",
    callback=lambda ctx, parameter, value: duration(value) if value else None,
    metavar="30d",
    help="Also all outputs of runs that were last written to so long ago (w, d, h, m).",
)
@click.option("--keep-failed", is_flag=True, help="Leave runs alone that did not succeed.")
@json_option
@store_option
@outputs_option
def command(
    run: str | None,
    dry_run: bool,
    older_than: dt.timedelta | None,
    keep_failed: bool,
    as_json: bool,
    store: str | None,
    outputs: str | None,
) -> None:
    """Delete outputs that nobody needs, of one run or of all: what killed and failed attempts have left.

    The log stays, and says what was deleted. What a rerun uses is kept, and a run that is alive is left alone.
    """
    with opened(store, outputs) as found:
        told = []
        for one in prune(
            found, run, dry_run=dry_run, older_than=older_than, keep_failed=keep_failed
        ):
            told.append(one)
            if not as_json:
                _tell(one, dry_run, is_named=run is not None)
    if as_json:
        print_json(told)
    elif run is None:
        _tell_all(told, dry_run)


def _tell(one: Pruned, dry_run: bool, *, is_named: bool) -> None:
    if one.left_alone:
        click.echo(f"{one.run_id}: left alone: {one.left_alone}")
        return
    if one.deleted.objects:
        click.echo(f"{one.run_id}: {_verb(dry_run)} {_amount(one.deleted)}")
        for why, amount in one.why.items():
            click.echo(f"    {_amount(amount)}: {_WHY[why]}")
    elif is_named:
        click.echo(f"{one.run_id}: nothing to delete")
    if one.uploads:
        uploads = counted(one.uploads, "unfinished upload")
        click.echo(f"{one.run_id}: {uploads} {'to abort' if dry_run else 'aborted'}")
    if one.in_use.objects:
        click.echo(f"{one.run_id}: kept {_amount(one.in_use)}, used by {', '.join(one.users)}")


def _tell_all(told: list[Pruned], dry_run: bool) -> None:
    total = sum((one.deleted for one in told), Amount())
    looked_at = [one for one in told if not one.left_alone]
    what = f"{_verb(dry_run)} {_amount(total)}" if total.objects else "nothing to delete"
    click.echo(f"{counted(len(looked_at), 'run')} looked at: {what}")


def _verb(dry_run: bool) -> str:
    return "would delete" if dry_run else "deleted"


def _amount(amount: Amount) -> str:
    return f"{counted(amount.objects, 'object')}, {bytes_text(amount.size_bytes)}"
