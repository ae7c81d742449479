"""`runstore export`."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from execution.cli.failure import Command, ExitCode, Failure
from execution.cli.options import opened, outputs_option, run_argument, store_option
from runstore.errors import RunStoreError

if TYPE_CHECKING:
    from runstore.store import RunStore

FORMATS = ("jsonl", "parquet", "html", "openlineage", "otel")
_TABLES = ("events", "steps", "outputs", "keys", "lineage", "collects")


@click.command(cls=Command)
@run_argument("last")
@click.option("--format", "form", type=click.Choice(FORMATS), default="jsonl", show_default=True)
@click.option(
    "--table",
    type=click.Choice(_TABLES),
    help="With jsonl: the rows of a table instead of the log.",
)
@click.option(
    "--out",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The file to write, or for parquet the folder; standard output where there is none.",
)
@store_option
@outputs_option
def command(
    run: str,
    form: str,
    table: str | None,
    out: Path | None,
    store: str | None,
    outputs: str | None,
) -> None:
    """Give a run to other programs.

    jsonl is the log as it stands, which `runstore import` takes into another store; parquet a folder with a file for
    each table: events, steps, outputs, keys, lineage, collects; html one page to read without a network; openlineage
    the events of the run and its ops, with datasets by URI; otel spans with their real times; both as lines of JSON.
    """
    if table is not None and form != "jsonl":
        raise Failure(f"{form} has no --table; leave it out, or export as jsonl", ExitCode.USAGE)
    with opened(store, outputs) as found, _writable(out):
        if form == "parquet":
            _parquet(found, run, out)
        elif form == "openlineage" and out is not None:
            _openlineage(found, run, out)
        else:
            _write(_lines(found, run, form, table), out)


@contextmanager
def _writable(out: Path | None) -> Iterator[None]:
    """Where the file or the folder cannot be written, say so."""
    try:
        yield
    except OSError as error:
        if out is None or isinstance(error, RunStoreError):
            raise
        fact = error.strerror or str(error)
        raise Failure(f"{out}: {fact}; name another place", ExitCode.USAGE) from None


def _lines(store: "RunStore", run: str, form: str, table: str | None) -> Iterable[str]:
    from runstore.audit.export_html import export_html
    from runstore.audit.export_lines import export_log, export_rows

    if form == "html":
        return export_html(store, run)
    if form == "openlineage":
        from runstore.audit.export_openlineage import openlineage_lines

        return openlineage_lines(store, run)
    if form == "otel":
        from runstore.audit.export_otel import otel_lines

        return otel_lines(store, run)
    return export_log(store, run) if table is None else export_rows(store, run, table)


def _parquet(store: "RunStore", run: str, out: Path | None) -> None:
    from runstore.audit.export_parquet import export_parquet

    if out is None:
        raise Failure("parquet is a folder of files; add --out DIR", ExitCode.USAGE)
    for path in export_parquet(store, run, out):
        click.echo(f"{path}", err=True)


def _openlineage(store: "RunStore", run: str, out: Path) -> None:
    from runstore.audit.export_openlineage import export_openlineage

    export_openlineage(store, run, out)
    click.echo(f"{out}", err=True)


def _write(lines: Iterable[str], out: Path | None) -> None:
    if out is None:
        for line in lines:
            sys.stdout.buffer.write(line.encode() + b"\n")
        sys.stdout.buffer.flush()
        return
    rest = iter(lines)
    first = next(rest, None)  # errors now, before a file that is there is written over
    with out.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in chain([] if first is None else [first], rest))
    click.echo(f"{out}", err=True)
