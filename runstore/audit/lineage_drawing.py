"""A lineage as text for other programs: a tree, Graphviz, Mermaid. Whatever a key holds is escaped for each of them.

Pure: from a `Lineage` to text.
"""

from collections.abc import Iterator

from runstore.audit.lineage import Lineage, Reading

Edge = tuple[str, str, str]
"""(from, to, label)."""


def tree(lineage: Lineage) -> Iterator[str]:
    """One line for each step, below the step that it was reached from; one that was shown is not shown again below."""
    below: dict[str, dict[str, list[Reading]]] = {}
    for reading in lineage.readings:
        near, far = (reading.reader, reading.source)
        if lineage.direction == "down":
            near, far = far, near
        below.setdefault(near, {}).setdefault(far, []).append(reading)
    start = lineage.steps[0].step
    yield start
    yield from _branches(start, below, "", {start}, lineage)


def _branches(
    step: str,
    below: dict[str, dict[str, list[Reading]]],
    indent: str,
    shown: set[str],
    lineage: Lineage,
) -> Iterator[str]:
    status = {one.step: one.status for one in lineage.steps}
    branches = list(below.get(step, {}).items())
    notes = _left_out(step, lineage)
    for place, (other, readings) in enumerate(branches):
        is_last = place == len(branches) - 1 and not notes
        repeated = other in shown and bool(below.get(other))
        state = "" if status.get(other) in (None, "succeeded") else f", {status[other]}"
        again = ", shown above" if repeated else ""
        yield f"{indent}{'└─' if is_last else '├─'} {other}  ({_what(readings)}{state}{again})"
        if not repeated:
            shown.add(other)
            yield from _branches(
                other, below, indent + ("   " if is_last else "│  "), shown, lineage
            )
    for place, note in enumerate(notes):
        yield f"{indent}{'└─' if place == len(notes) - 1 else '├─'} {note}"


def _what(readings: list[Reading]) -> str:
    first = readings[0]
    piece = "" if first.key is None or len(readings) > 1 else f" [{first.key!r}]"
    several = f" and {len(readings) - 1:,} more" if len(readings) > 1 else ""
    collected = f", collected at seq {first.collect}" if first.collect else ""
    return f"{first.output}{piece} as {first.input}{several}{collected}"


def _left_out(step: str, lineage: Lineage) -> list[str]:
    if lineage.direction == "down":
        return []
    return [
        f"… {one.succeeded - one.followed:,} more of the {one.succeeded:,} values of {one.source} as {one.input}"
        for one in lineage.collects
        if one.reader == step and one.succeeded > one.followed
    ]


def dot(lineage: Lineage) -> Iterator[str]:
    """For Graphviz; arrows lead the way that values took."""
    yield "digraph lineage {"
    yield "  rankdir=LR; node [shape=box];"
    for one in lineage.steps:
        style = ", style=bold" if one.depth == 0 else ""
        label = _quoted(f"{one.step}\n{one.status}")
        yield f"  {_quoted(one.step)} [label={label}{style}];"
    for source, reader, label in _edges(lineage):
        yield f"  {_quoted(source)} -> {_quoted(reader)} [label={_quoted(label)}];"
    yield "}"


def mermaid(lineage: Lineage) -> Iterator[str]:
    """For Mermaid; arrows lead the way that values took."""
    names = {one.step: f"s{number}" for number, one in enumerate(lineage.steps)}
    yield "flowchart LR"
    for one in lineage.steps:
        yield f'  {names[one.step]}["{_entities(one.step)}<br/>{one.status}"]'
    for source, reader, label in _edges(lineage):
        yield f'  {names[source]} -->|"{_entities(label)}"| {names[reader]}'


def _edges(lineage: Lineage) -> Iterator[Edge]:
    labels: dict[tuple[str, str], dict[str, None]] = {}
    for one in lineage.readings:
        labels.setdefault((one.source, one.reader), {})[one.input] = None
    for (source, reader), inputs in labels.items():
        yield source, reader, ", ".join(inputs)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _entities(text: str) -> str:
    """Every character that Mermaid or HTML could take for its own, as an entity."""
    return "".join(
        char if char.isalnum() or char in " ._/-[]" else f"#{ord(char)};" for char in text
    )
