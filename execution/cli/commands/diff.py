"""`runstore diff`."""

import json
from collections.abc import Sequence

import click

from execution.cli.failure import Command
from execution.cli.options import json_option, opened, store_option
from execution.cli.terminal import counted, duration_text, print_json, print_table, safe
from runstore.audit import OpDiff, RunDiff, Side, Single, diff
from runstore.keys import escape_key

_SHOWN = 20


@click.command(cls=Command)
@click.argument("left", metavar="RUN1")
@click.argument("right", metavar="RUN2")
@json_option
@store_option
def command(left: str, right: str, as_json: bool, store: str | None) -> None:
    """Compare two runs: keys added and gone, outputs changed (by digest), time by op, code and config."""
    with opened(store) as found:
        answer = diff(found, left, right)
    print_json(answer) if as_json else _show(answer)


def _show(answer: RunDiff) -> None:
    for name, side in (("left", answer.left), ("right", answer.right)):
        click.echo(f"{name:<6} {_side(side)}")
    click.echo()
    print_table(
        ("op", "left", "right", "time left", "time right", "code"),
        [_op(op) for op in answer.ops],
        right=("left", "right", "time left", "time right"),
    )
    for setting in answer.config:
        values = f"{_json(setting.left)} → {_json(setting.right)}"
        click.echo(f"\nconfig {safe(setting.path)}: {values}")
    click.echo(f"\n{counted(answer.same, 'output')} the same, byte for byte")
    _list("key added", "keys added", answer.keys_added)
    _list("key gone", "keys gone", answer.keys_gone)
    _list("output added", "outputs added", answer.outputs_added)
    _list("output gone", "outputs gone", answer.outputs_gone)
    if answer.changed:
        click.echo(f"{counted(len(answer.changed), 'output')} changed")
    for one in answer.changed[:_SHOWN]:
        shown = _label(Single(one.step, one.output, one.key))
        click.echo(f"  {shown}: {one.left[:12]}… → {one.right[:12]}…")
    _more(len(answer.changed))


def _side(side: Side) -> str:
    job = safe(side.job or "a job of a notebook or __main__")
    return (
        f"{side.run_id}, {side.status}, {counted(side.epochs, 'epoch')}, {counted(side.outputs, 'output')}; "
        f"{job}, runstore {side.version}"
    )


def _op(op: OpDiff) -> tuple[str, ...]:
    code = "changed" if op.code_changed else ""
    return (
        op.op,
        "no such op" if op.left_steps is None else f"{op.left_steps:,}",
        "no such op" if op.right_steps is None else f"{op.right_steps:,}",
        duration_text(op.left_seconds),
        duration_text(op.right_seconds),
        code and f"{code}: {', '.join(op.left_code)} → {', '.join(op.right_code)}",
    )


def _list(one: str, many: str, found: Sequence[Single]) -> None:
    if found:
        click.echo(counted(len(found), one, many))
    for each in found[:_SHOWN]:
        click.echo(f"  {_label(each)}")
    _more(len(found))


def _more(count: int) -> None:
    if count > _SHOWN:
        click.echo(f"  and {count - _SHOWN:,} more; --json lists them")


def _label(one: Single) -> str:
    piece = "" if one.key is None else f"[{escape_key(one.key)}]"
    return f"{one.step}{piece}, {one.output}"


def _json(value: object) -> str:
    return safe(json.dumps(value, ensure_ascii=False))
