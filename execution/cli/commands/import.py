"""`runstore import`."""

import sys

import click

from execution.cli.failure import Command, ExitCode, Failure, typed
from execution.cli.options import opened, store_option


@click.command(cls=Command)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True))
@store_option
@click.pass_context
def command(ctx: click.Context, file: str, store: str | None) -> None:
    """Take a run that `runstore export` has written into this store, row by row as it was, once it is found valid.

    Its outputs are not brought along: they are read where the log says they are. Where that was the folder of the
    store that it comes from, copy its `outputs/RUN` into this one's.
    """
    with opened(store, must_exist=False) as found:
        try:
            if file == "-":
                run = found.take_in(sys.stdin, "standard input")
            else:
                with open(file, encoding="utf-8", newline="\n") as lines:
                    run = found.take_in(lines, file)
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.strerror is None:
                raise
            raise Failure(f"{file}: {error}; name another file", ExitCode.USAGE) from None
    click.echo(f"run {run} is in {found.directory}")
    click.echo(f"next:  {typed('verify', run, ctx=ctx)}", err=True)
