"""A run as one page: summary, timeline, keys, errors, lineage of what came out in the end; read without a network.

No script, nothing from elsewhere; a policy in the page forbids both. Whatever comes from the job is escaped.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from itertools import groupby

from runstore.audit.anchor import anchor
from runstore.audit.errors import ErrorGroup, errors
from runstore.audit.key_grid import GridRow, KeyGrid, key_grid
from runstore.audit.keys import KEY_STATES
from runstore.audit.lineage import lineage
from runstore.audit.lineage_drawing import tree
from runstore.audit.markup import shown
from runstore.audit.progress import progress
from runstore.audit.show import RunReport, show
from runstore.audit.step_report import show_step
from runstore.audit.timeline import timeline
from runstore.audit.timeline_drawing import seconds_text, svg
from runstore.store import RunStore

ROWS = 500
"""Of the keys so many rows are shown."""
FINAL = 20
"""Of the steps that nothing reads so many are shown, with what they were made from."""

_STYLE = """
:root { --ink: #1d2126; --soft: #68707a; --line: #e4e7eb; --ground: #f6f7f8 }
body { font: 14px/1.5 system-ui, sans-serif; color: var(--ink) }
body { max-width: 1120px; margin: 2.5em auto; padding: 0 1.5em }
h1 { font-size: 1.7em; margin: 0 0 .6em; overflow-wrap: anywhere }
h2 { font-size: 1.2em; margin: 2.4em 0 .7em; padding-bottom: .3em; border-bottom: 1px solid var(--line) }
h3 { font-size: 1em; margin: 1.6em 0 .4em; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: .9em 0; font-variant-numeric: tabular-nums }
th { color: var(--soft); font-weight: 600; white-space: nowrap }
td, th { text-align: left; padding: 3px 20px 3px 0; vertical-align: top; overflow-wrap: anywhere }
tr + tr > * { border-top: 1px solid var(--line) }
td:first-child { min-width: 6em }
.number { text-align: right; white-space: nowrap }
.share { display: flex; width: 180px; height: 10px; margin-top: 6px; background: var(--line) }
pre { background: var(--ground); padding: 8px 12px; margin: .5em 0; overflow-x: auto; white-space: pre-wrap }
section { border-left: 3px solid var(--line); padding-left: 14px }
section.standing { border-color: #c93c37 } section.mended { border-color: #3a9a68 }
.succeeded { color: #1f7a4d } .failed, .crashed, .blocked { color: #c0322d; font-weight: 600 }
.skipped, .waiting, .interrupted, .cancelled, .orphan { color: #996100 } .pending, .running { color: var(--soft) }
svg { width: 100%; height: auto }
@media print { body { margin: 0; max-width: none } h2 { break-after: avoid } tr { break-inside: avoid } }
"""
_LEFT = [state for state in KEY_STATES if state not in ("succeeded", "skipped", "orphan")]
_COLUMNS = ("succeeded", "failed")
_SHARES = {"succeeded": "#3a9a68", "skipped": "#a9cdb9", "failed": "#c93c37", "blocked": "#e6a5a2"}


class _Number(str):
    """Text that stands where numbers do."""


def export_html(store: RunStore, run: str = "last") -> Iterator[str]:
    """The lines of the page. Raises RunNotFound, LogDamaged."""
    report = show(store, run)
    run_id = report.run.run_id
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>run {shown(run_id)}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>Run {shown(run_id)}</h1>"
    yield from _summary(store, report)
    yield "<h2>Timeline</h2>"
    yield from svg(timeline(store, run_id))
    yield from _ops(report)
    yield from _errors(store, run_id)
    yield from _keys(store, run_id)
    yield from _results(store, report)
    yield "</body></html>"


def _summary(store: RunStore, report: RunReport) -> Iterator[str]:
    run = report.run
    far = progress(store, run)
    facts = {
        "job": f"{run.name}, {run.job or 'defined in a notebook or __main__'}",
        "status": f"{run.status}, {far}" if far else run.status,
        "events": f"{run.events:,}, level {report.level}",
        "outputs": ", ".join(report.bases),
        "config": report.config or "",
        "tags": ", ".join(f"{name}={value}" for name, value in report.tags.items()),
        "parent": report.parent.run if report.parent else "",
        "anchor": str(anchor(store, run.run_id)),
    }
    yield "<table>"
    for name, fact in facts.items():
        if fact:
            css = f' class="{shown(run.status)}"' if name == "status" else ""
            yield f"<tr><th>{name}</th><td{css}>{shown(fact)}</td></tr>"
    yield "</table>"
    heads = (
        _Number("epoch"), "from", _Number("duration"), "ended", _Number("steps started"), "process", "runstore",
        _Number("seq"),
    )  # fmt: skip
    rows = (
        (one.epoch, _moment(one.begun), _seconds((one.last - one.begun).total_seconds()), one.ended,
         one.started_steps, f"{one.pid} on {one.host}", one.version, one.seq)
        for one in report.epochs
    )  # fmt: skip
    yield from _table(heads, rows)


def _moment(time: dt.datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def _seconds(seconds: float) -> _Number:
    return _Number(seconds_text(seconds))


def _ops(report: RunReport) -> Iterator[str]:
    yield "<h2>Ops</h2>"
    heads = (
        "op", _Number("steps"), _Number("succeeded"), _Number("failed"), "other", _Number("time in steps"), "",
    )  # fmt: skip
    yield "<table>" + _row("th", heads)
    for op in report.ops:
        states, far = op.progress.states, op.progress
        known = "not known yet" if far.sealed is None else f"{far.sealed:,}"
        more = " and more" if far.sealed is not None and far.unsealed else ""
        other = (f"{count:,} {state}" for state, count in states.items() if state not in _COLUMNS)
        cells = (
            far.node,
            _Number(known + more),
            *(states.get(one, 0) for one in _COLUMNS),
            ", ".join(other),
        )
        drawn = f'<td><div class="share">{_shares(states)}</div></td>'
        yield _row("td", (*cells, _seconds(op.seconds)), drawn)
    yield "</table>"


def _shares(states: dict[str, int]) -> str:
    total = sum(states.values())
    return "".join(
        f'<div style="width: {100 * states[state] / total:.2f}%; background: {colour}"></div>'
        for state, colour in _SHARES.items()
        if states.get(state)
    )


def _errors(store: RunStore, run_id: str) -> Iterator[str]:
    yield "<h2>Errors</h2>"
    groups = errors(store, run_id)
    if not groups:
        yield "<p>No attempt has raised an error.</p>"
    for group in groups:
        yield (
            f'<section class="{_class(group)}">'
            f"<h3>{group.count:,} × {shown(group.op)}: {shown(group.type)}</h3>"
            f"<pre>{shown(group.message)}</pre><p>{shown(_steps_of(group))}</p>"
            f"<details><summary>traceback of the first</summary><pre>{shown(group.traceback)}</pre></details></section>"
        )


def _class(group: ErrorGroup) -> str:
    if group.is_of_hook:
        return ""
    return "standing" if group.standing else "mended"


def _steps_of(group: ErrorGroup) -> str:
    count = f"{group.steps:,} step{'s' if group.steps > 1 else ''}"
    return f"{count}, {group.stands}: {', '.join(group.examples)}"


def _keys(store: RunStore, run_id: str) -> Iterator[str]:
    left = key_grid(store, run_id, status=_LEFT, limit=ROWS)
    if left.rows:
        yield "<h2>Keys that are not done</h2>"
        yield from _grid(left, f"runstore keys {run_id} --status …")
    yield "<h2>Keys</h2>"
    yield from _grid(key_grid(store, run_id, limit=ROWS), f"runstore keys {run_id}")


def _grid(grid: KeyGrid, all_rows: str) -> Iterator[str]:
    for _, rows in groupby(grid.rows, key=lambda row: row.levels):
        yield from _of_levels(list(rows))
    if grid.next is not None:
        yield f"<p>The first {ROWS:,} rows; <code>{shown(all_rows)}</code> has all.</p>"


def _of_levels(rows: list[GridRow]) -> Iterator[str]:
    heads = (" / ".join(rows[0].levels) or "not cloned", *(cell.op for cell in rows[0].cells))
    yield "<table>" + _row("th", heads)
    for row in rows:
        cells = "".join(
            f'<td class="{shown(cell.status)}">{shown(cell.status)}'
            f"{f' ×{cell.attempts}' if cell.attempts > 1 else ''}</td>"
            for cell in row.cells
        )
        yield f"<tr><td>{shown(' / '.join(row.key_path))}</td>{cells}</tr>"
    yield "</table>"


def _results(store: RunStore, report: RunReport) -> Iterator[str]:
    yield "<h2>What came out, and what it was made from</h2>"
    for step in _final_steps(store, report):
        told = show_step(store, report.run.run_id, step)
        yield f"<h3>{shown(told.step)}: {shown(told.status)}</h3>"
        heads = ("output", "bytes", "sha256", "where", "begins")
        rows = (
            (
                one.output if one.key is None else f"{one.output}[{one.key}]",
                f"{one.reference.size_bytes:,} as {one.reference.serializer}",
                one.reference.sha256,
                one.address,
                one.problem or one.preview or "",
            )
            for one in told.outputs
        )
        if told.outputs:
            yield from _table(heads, rows)
        found = lineage(store, report.run.run_id, step)
        yield f"<pre>{shown(chr(10).join(tree(found)))}</pre>"


def _final_steps(store: RunStore, report: RunReport) -> list[str]:
    """The steps, not cloned, of the ops that nothing reads; where all of these are cloned, the first clones."""
    first = store.state(report.run.run_id)
    graph = first.graph
    steps: list[str] = []
    for node in graph.nodes:
        if not graph.readers[node.name]:
            for _, step in zip(range(FINAL), first.sealed_steps(node), strict=False):
                steps.append(str(step))
    return steps[:FINAL]


def _table(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    yield "<table>" + _row("th", heads)
    for row in rows:
        yield _row("td", row)
    yield "</table>"


def _row(element: str, cells: Iterable[object], last: str = "") -> str:
    """A row; numbers, and the heads of their columns, stand at the right."""
    return f"<tr>{''.join(_cell(element, cell) for cell in cells)}{last}</tr>"


def _cell(element: str, cell: object) -> str:
    css = ' class="number"' if isinstance(cell, int | _Number) else ""
    return f"<{element}{css}>{f'{cell:,}' if isinstance(cell, int) else shown(cell)}</{element}>"
