"""`runstore who`."""

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, outputs_option, store_option
from execution.cli.terminal import counted, print_json, safe, time_text
from runstore.audit import Writer, who

_SHOWN = 20


@click.command(cls=Command)
@click.argument("what", metavar="FILE|URL|SHA256")
@json_option
@store_option
@outputs_option
def command(what: str, as_json: bool, store: str | None, outputs: str | None) -> None:
    """Say which run, op, key, attempt and epoch wrote these bytes: a file (also one that was moved), URL or sha256."""
    with opened(store, outputs) as found:
        answer = who(found, what, limit=1_000 if as_json else _SHOWN)
    if as_json:
        print_json(answer)
        return
    for number, writer in enumerate(answer.writers):
        if number:
            click.echo()
        _show(writer)
    if answer.total > len(answer.writers):
        more = counted(answer.total - len(answer.writers), "other output")
        click.echo(f"\nand {more} with the same bytes; --json lists them")


def _show(writer: Writer) -> None:
    key = "" if writer.mapping_key is None else f", key {safe(writer.mapping_key)!r}"
    counts = "it counts" if writer.counts else "it does not count any more"
    how = {
        "sha256": "the same bytes",
        "address": "stored there; what lies there now is missing or other bytes",
        "address and sha256": "the same bytes at the same address",
    }[writer.by]
    lines = {
        "step": f"{writer.step} of run {writer.run_id}",
        "output": f"{writer.output}{key}; {counts}",
        "written": f"attempt {writer.attempt}, epoch {writer.epoch}, seq {writer.seq}, {time_text(writer.time)} UTC"
        + (", in a parent of this run" if writer.reused else ""),
        "address": safe(writer.address),
        "bytes": f"{writer.reference.size_bytes:,} as {writer.reference.serializer}, sha256 {writer.reference.sha256}",
        "found by": how,
    }
    for name, text in lines.items():
        click.echo(f"{name:<9}{text}")
