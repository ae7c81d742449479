"""`runstore explain`."""

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import coloured, print_json, safe, time_text
from runstore.audit import explain


@click.command(cls=Command)
@run_argument()
@click.argument("step", metavar="'OP[KEY]'")
@json_option
@store_option
@click.pass_context
def command(ctx: click.Context, run: str, step: str, as_json: bool, store: str | None) -> None:
    """Say why a step ran, ran again, was reused, or will run, with the events that it rests on."""
    with opened(store) as found:
        answer = explain(found, run, step)
    if as_json:
        print_json(answer)
        return
    click.echo(f"{answer.step} of run {answer.run_id}: {coloured(answer.status)}")
    click.echo(f"{safe(answer.because)}.")
    if answer.facts:
        click.echo()
    for fact in answer.facts:
        text = safe(fact.text).replace("\n", " ")
        click.echo(f"  seq {fact.seq:<7} epoch {fact.epoch}  {time_text(fact.time)}  {text}")
    if answer.traceback:
        click.echo(f"\n{safe(answer.traceback).rstrip()}")
