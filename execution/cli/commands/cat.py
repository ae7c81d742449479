"""`runstore cat`: rule T3."""

import sys
from pathlib import Path

import click

from execution.cli.failure import Command, ExitCode, Failure
from execution.cli.options import opened, outputs_option, run_argument, store_option
from runstore.audit import Content, cat, printable


@click.command(cls=Command)
@run_argument()
@click.argument("step", metavar="'OP[KEY]'")
@click.option("--output", metavar="NAME", help="Which output, where the op has several.")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="Write the stored bytes there."
)
@store_option
@outputs_option
@click.pass_context
def command(
    ctx: click.Context,
    run: str,
    step: str,
    output: str | None,
    out: Path | None,
    store: str | None,
    outputs: str | None,
) -> None:
    """Print what a step stored, verified against the log.

    Text as text, JSON and MessagePack as JSON; any other format as its stored bytes into a pipe or --out FILE.
    Nothing is unpickled. 'op[key]' of an op that yields keys is what it yielded under that key.
    """
    with opened(store, outputs) as found:
        content = cat(found, run, step, output)
    if out is not None:
        _write(content, out)
        return
    text = printable(content)
    if text is not None:
        sys.stdout.write(text)
        if sys.stdout.isatty() and not text.endswith("\n"):
            sys.stdout.write("\n")
    elif sys.stdout.isatty():
        reference = content.found.reference
        click.echo(
            f"{reference.serializer}, {reference.size_bytes:,} bytes, at {content.found.address}"
        )
        click.echo("to have the bytes, add --out FILE or pipe them into a program")
    else:
        sys.stdout.buffer.write(content.data)


def _write(content: Content, out: Path) -> None:
    try:
        out.write_bytes(content.data)
    except OSError as error:
        raise Failure(f"{out}: {error.strerror}; name another file", ExitCode.USAGE) from None
    size = content.found.reference.size_bytes
    click.echo(f"{size:,} bytes of {content.found.reference.serializer} written to {out}", err=True)
