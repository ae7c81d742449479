"""`runstore collect-inputs`."""

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import print_json
from runstore.audit import CollectInputs, collect_inputs


@click.command(cls=Command)
@run_argument()
@click.argument("step", metavar="'OP[KEY]'")
@json_option
@store_option
@click.pass_context
def command(ctx: click.Context, run: str, step: str, as_json: bool, store: str | None) -> None:
    """List the keys that fed a collect, in their order, with the digest of each value; exit code 1 if the proof fails.

    Counts and digest are computed from the sealed keys and held against the log.
    """
    with opened(store) as found:
        answers = collect_inputs(found, run, step)
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            _show(answer)
    ctx.exit(not all(answer.holds for answer in answers))


def _show(answer: CollectInputs) -> None:
    click.echo(
        f"{answer.step} of run {answer.run_id}, {answer.input}: {answer.source}, seq {answer.seq}"
    )
    for seal in answer.seals[:20]:
        click.echo(f"  sealed by {seal.step}: {seal.count:,} keys, digest {seal.keys_digest}")
    if len(answer.seals) > 20:
        click.echo(f"  and {len(answer.seals) - 20:,} other seals; --json lists them")
    for member in answer.members:
        click.echo(f"{member.sha256 or 'no value':<64}  {member.step}")
    verdict = (
        "as computed from the keys above"
        if answer.holds
        else f"but computed {answer.computed_digest}"
    )
    click.echo(
        f"  {answer.succeeded:,} of {answer.sealed:,} keys have a value; digest {answer.digest}, {verdict}"
    )
