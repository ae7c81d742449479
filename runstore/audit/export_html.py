"""A run as one page: summary, timeline, keys, errors, lineage of what came out in the end; read without a network.

No script, nothing from elsewhere; a policy in the page forbids both. Whatever comes from the job is escaped.
"""

from collections.abc import Iterable, Iterator

from runstore.audit.anchor import anchor
from runstore.audit.errors import errors
from runstore.audit.key_grid import GridRow, key_grid
from runstore.audit.lineage import lineage
from runstore.audit.lineage_drawing import tree
from runstore.audit.markup import shown
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
body { font: 14px/1.5 sans-serif; margin: 2em auto; max-width: 1120px; color: #222 }
table { border-collapse: collapse } td, th { text-align: left; padding: 2px 12px 2px 0; vertical-align: top }
pre { background: #f6f6f6; padding: 8px; overflow-x: auto; white-space: pre-wrap }
.failed, .crashed, .blocked { color: #c33 } .skipped, .waiting, .interrupted, .pending { color: #a70 }
"""


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
    facts = {
        "job": f"{run.name}, {run.job or 'defined in a notebook or __main__'}",
        "status": run.status,
        "events": f"{run.events:,}, level {report.level}",
        "outputs": ", ".join(report.bases),
        "config": report.config or "",
        "tags": ", ".join(f"{name}={value}" for name, value in report.tags.items()),
        "parent": report.parent.run if report.parent else "",
        "anchor": str(anchor(store, run.run_id)),
    }
    yield from _table((), ([name, fact] for name, fact in facts.items() if fact))
    heads = ("epoch", "from", "to", "ended", "steps started", "process", "runstore", "seq")
    rows = (
        (one.epoch, one.begun, one.last, one.ended, one.started_steps, f"{one.pid} on {one.host}", one.version, one.seq)
        for one in report.epochs
    )  # fmt: skip
    yield from _table(heads, rows)


def _ops(report: RunReport) -> Iterator[str]:
    yield "<h2>Ops</h2>"
    rows = (
        (
            op.progress.node,
            "?" if op.progress.sealed is None else op.progress.sealed,
            ", ".join(f"{count:,} {state}" for state, count in op.progress.states.items()),
            seconds_text(op.seconds),
        )
        for op in report.ops
    )
    yield from _table(("op", "steps", "states", "time in steps"), rows)


def _errors(store: RunStore, run_id: str) -> Iterator[str]:
    yield "<h2>Errors</h2>"
    groups = errors(store, run_id)
    if not groups:
        yield "<p>No attempt has raised an error.</p>"
    for group in groups:
        stands = f"{group.standing:,} not mended" if group.standing else "all mended since"
        yield (
            f"<h3>{group.count:,} × {shown(group.op)}: {shown(group.type)}</h3>"
            f"<pre>{shown(group.message)}</pre>"
            f"<p>{group.steps:,} steps, {stands}: {shown(', '.join(group.examples))}</p>"
            f"<details><summary>traceback of the first</summary><pre>{shown(group.traceback)}</pre></details>"
        )


def _keys(store: RunStore, run_id: str) -> Iterator[str]:
    yield "<h2>Keys</h2>"
    grid = key_grid(store, run_id, limit=ROWS)
    levels: tuple[str, ...] | None = None
    group: list[GridRow] = []
    for row in grid.rows:
        if row.levels != levels and group:
            yield from _of_levels(group)
            group = []
        levels = row.levels
        group.append(row)
    if group:
        yield from _of_levels(group)
    if grid.next is not None:
        yield f"<p>The first {ROWS:,} rows; <code>runstore keys {shown(run_id)}</code> has all.</p>"


def _of_levels(rows: list[GridRow]) -> Iterator[str]:
    heads = (" / ".join(rows[0].levels) or "not cloned", *(cell.op for cell in rows[0].cells))
    yield "<table><tr>" + "".join(f"<th>{shown(head)}</th>" for head in heads) + "</tr>"
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
    yield "<table>"
    named = list(heads)
    if named:
        yield "<tr>" + "".join(f"<th>{shown(head)}</th>" for head in named) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{shown(cell)}</td>" for cell in row) + "</tr>"
    yield "</table>"
