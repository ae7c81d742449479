"""`runstore messages`."""

import logging
import time
from collections.abc import Iterator

import click
import msgspec

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import safe
from runstore.audit.messages import is_of, messages
from runstore.log.messages import Message
from runstore.store import RunStore

POLL_S = 0.2
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@click.command(cls=Command)
@run_argument("last")
@click.option("--step", metavar="STEP", help="Only of that step, or of all clones of that op.")
@click.option(
    "--level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="DEBUG",
    help="Only of that level or above.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as long as the run is executed.")
@json_option
@store_option
def command(
    run: str, step: str | None, level: str, follow: bool, as_json: bool, store: str | None
) -> None:
    """Print what ops have logged with context.log: time, level, step and text; with --json one JSON object each.

    A line is there once the events of its step are; one of a step that was killed is lost.
    """
    with opened(store) as found:
        run_id, lowest = found.resolve(run), logging.getLevelNamesMapping()[level.upper()]
        for one in _all(found, run_id, follow):
            if one.level >= lowest and (step is None or is_of(one, step)):
                click.echo(msgspec.json.encode(one).decode() if as_json else _line(one))


def _all(store: RunStore, run_id: str, follow: bool) -> Iterator[Message]:
    """Every message, then those that come while the run has a living executor."""
    number = 0
    while True:
        claim = store.claim(run_id)  # asked first: what was written last must still be read
        for one in messages(store, run_id, after=number):
            number = one.number
            yield one
        if not follow or claim is None or not claim.is_alive():
            return
        time.sleep(POLL_S)


def _line(message: Message) -> str:
    when = message.time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    level = logging.getLevelName(message.level)
    return f"{when}  {level:<8}  {safe(message.step)}  {safe(message.text)}"
