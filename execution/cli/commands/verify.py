"""`runstore verify`."""

import click
import msgspec

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, outputs_option, run_argument, store_option
from execution.cli.terminal import counted, print_json, safe
from runstore.audit import Finding, Verification, verify

_SHOWN = 50


@click.command(cls=Command)
@run_argument("last")
@click.option("--deep", is_flag=True, help="Hash the bytes of every output.")
@click.option("--anchor", metavar="SEQ:SHA256", help="What `runstore anchor` has printed once.")
@json_option
@store_option
@outputs_option
@click.pass_context
def command(
    ctx: click.Context,
    run: str,
    deep: bool,
    anchor: str | None,
    as_json: bool,
    store: str | None,
    outputs: str | None,
) -> None:
    """Check that a run's log is valid and every output there; exit code 1 where anything is off.

    Each finding has the number of its rule in FORMAT.md. What the log proves, and what it cannot, is said too.
    """
    with opened(store, outputs) as found:
        answer = verify(found, run, deep=deep, anchor=anchor)
    if as_json:
        print_json({"ok": answer.ok, **msgspec.to_builtins(answer)})
    else:
        _show(answer)
    ctx.exit(not answer.ok)


def _show(answer: Verification) -> None:
    hashed = "hashed" if answer.deep else "looked for, not hashed"
    click.echo(
        f"run {answer.run_id}, {answer.status}: {counted(answer.events, 'event')}; "
        f"{counted(answer.outputs, 'output')} {hashed}"
    )
    for finding in answer.findings[:_SHOWN]:
        click.echo(_line(finding))
    if len(answer.findings) > _SHOWN:
        click.echo(f"and {len(answer.findings) - _SHOWN:,} more; --json lists them")
    if answer.checked_to < answer.events:
        click.echo(
            f"rules V3 to V14 were checked up to seq {answer.checked_to:,} of {answer.events:,}"
        )
    click.echo(
        click.style("nothing is off", fg="green")
        if answer.ok
        else click.style(counted(len(answer.findings), "finding"), fg="red")
    )
    for word, facts in (("proved:", answer.proves), ("not provable:", answer.cannot_prove)):
        for fact in facts:
            click.echo(f"{word:<14} {fact}")
    click.echo(f"{'anchor now:':<14} {answer.anchor}")


def _line(finding: Finding) -> str:
    rule = click.style(f"{finding.rule:<7}", fg="red")
    step = f" {safe(finding.step)}" if finding.step else ""
    address = f" ({safe(finding.address)})" if finding.address else ""
    fact = safe(finding.fact).replace("\n", " ")
    return f"{rule} seq {finding.seq}{step}: {fact}{address if finding.address not in fact else ''}"
