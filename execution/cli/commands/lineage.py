"""`runstore lineage`."""

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import print_json, safe
from runstore.audit import dot, lineage, mermaid, tree
from runstore.audit.lineage import MEMBERS


@click.command(cls=Command)
@run_argument()
@click.argument("step", metavar="'OP[KEY]'")
@click.option(
    "--up", "direction", flag_value="up", default="up", help="What it was made from (default)."
)
@click.option("--down", "direction", flag_value="down", help="What was made from it.")
@click.option(
    "--depth", type=click.IntRange(min=1), help="Follow so many readings; all by default."
)
@click.option(
    "--members",
    type=click.IntRange(min=0),
    default=MEMBERS,
    show_default=True,
    help="Follow so many members of each collect, and readers of each output; 0: all.",
)
@click.option("--dot", "form", flag_value="dot", help="Print a graph for Graphviz.")
@click.option("--mermaid", "form", flag_value="mermaid", help="Print a graph for Mermaid.")
@json_option
@store_option
def command(
    run: str,
    step: str,
    direction: str,
    depth: int | None,
    members: int,
    form: str | None,
    as_json: bool,
    store: str | None,
) -> None:
    """Show what a step was made from, or what was made from it, output by output. 'op[key]' may also be one piece."""
    with opened(store) as found:
        towards = "down" if direction == "down" else "up"
        answer = lineage(found, run, step, towards, depth=depth, members=members or None)  # type: ignore[arg-type]
    if as_json:
        print_json(answer)
        return
    draw = {"dot": dot, "mermaid": mermaid}.get(form or "", tree)
    for line in draw(answer):
        click.echo(safe(line))
