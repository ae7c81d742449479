"""`runstore timeline`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from execution.cli.failure import Command, ExitCode, Failure
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import print_json, safe
from runstore.audit import Timeline, svg, timeline, timeline_text
from runstore.audit.timeline import By


@click.command(cls=Command)
@run_argument("last")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture there: SVG, or a page where the name ends in .html.",
)
@click.option(
    "--by",
    type=click.Choice(["op", "worker"]),
    default="op",
    help="What has a line of its own: each op (default), or each worker.",
)
@json_option
@store_option
def command(run: str, out: Path | None, by: By, as_json: bool, store: str | None) -> None:
    """Draw when each op, or each worker, was at work.

    █ at work, ✗ something failed, ! interrupted, ┊ nobody executed the run.
    """
    with opened(store) as found:
        answer = timeline(found, run, by=by)
    if as_json:
        print_json(answer)
    elif out is not None:
        _write(answer, out)
    else:
        for line in timeline_text(answer, shutil.get_terminal_size((100, 24)).columns):
            click.echo(safe(line))


def _write(answer: Timeline, out: Path) -> None:
    lines = _page(answer) if out.suffix in (".html", ".htm") else svg(answer)
    try:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise Failure(f"{out}: {error.strerror}; name another file", ExitCode.USAGE) from None
    click.echo(f"{out}", err=True)


def _page(answer: Timeline) -> Iterator[str]:
    yield "<!doctype html><html lang=en><head><meta charset=utf-8>"
    yield "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>run {answer.run_id}</title></head><body>"
    yield from svg(answer)
    yield "</body></html>"
