"""A run as a picture of lines that fits a terminal: ops with their bars, what runs, how fast it goes.

Pure: from counts and a size to lines, none longer than the terminal is wide, no more than it is high. Where there is no
place for all, what is at work and what has failed goes first, and the rest is counted. A key is shown as its step key
has it, so nothing in it can move the cursor; it stands last on its line, so that its length costs nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from execution.cli.counting import OpCount
from execution.cli.terminal import at_least, counted, duration_text, safe

if TYPE_CHECKING:
    from rich.text import Text

BAR_CELLS, LEAST_BAR_CELLS = 30, 8
NAME_CELLS, LEAST_NAME_CELLS = 32, 10
GAP = 2


@dataclass(frozen=True)
class Glyphs:
    """What a bar is made of: told apart also where there are no colours."""

    done: str = "━"
    reused: str = "╌"
    failed: str = "×"
    left: str = "·"
    cut: str = "…"


ASCII = Glyphs("=", "-", "x", ".", "~")


@dataclass(frozen=True)
class Running:
    """A step that runs."""

    step: str
    age_s: float
    worker: str = ""


@dataclass(frozen=True)
class Row:
    """An op."""

    op: OpCount
    reused: int
    is_at_work: bool = False


@dataclass(frozen=True)
class Picture:
    """All that a frame shows."""

    rows: Sequence[Row]
    running: Sequence[Running]
    """Oldest first."""
    footer: str
    note: str = ""


def frame(picture: Picture, width: int, height: int, glyphs: Glyphs | None = None) -> "list[Text]":
    """The lines of a picture, for a terminal of that size."""
    glyphs = glyphs or Glyphs()
    below = [_line(picture.footer, "dim", width, glyphs)]
    if picture.note:
        below.append(_line(picture.note, "yellow", width, glyphs))
    room = max(2, height - len(below) - 1)
    running = _running_lines(picture.running, width, max(1, room // 3), glyphs)
    room = max(0, room - len(running))
    lines = [*_op_lines(picture.rows, width, room, glyphs)[:room], *running, *below]
    for line in lines:
        line.truncate(width, overflow="crop")
    return lines


def _line(text: str, style: str, width: int, glyphs: Glyphs) -> "Text":
    from rich.text import Text

    return Text(_cut(_flat(text), width, glyphs), style=style, no_wrap=True)


def _flat(text: str) -> str:
    """Text that stays on its line."""
    return safe(text).replace("\n", " ").replace("\t", " ")


def _cut(text: str, cells: int, glyphs: Glyphs) -> str:
    """Text of at most so many cells."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, max(0, cells - 1)).rstrip() + glyphs.cut


def _padded(text: str, cells: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(text, cells)


# What runs


def _running_lines(
    running: Sequence[Running], width: int, room: int, glyphs: Glyphs
) -> "list[Text]":
    shown = running if len(running) <= room else running[: room - 1]
    ages = [duration_text(one.age_s) if one.age_s >= 1 else "" for one in shown]
    age_cells = max(map(len, ages), default=0)
    worker_cells = max((len(_flat(one.worker)) for one in shown), default=0)
    if worker_cells > width // 4:
        worker_cells = 0
    lines = []
    for one, age in zip(shown, ages, strict=True):
        parts = [f"{age:>{age_cells}}"] if age_cells else []
        parts += [_padded(_flat(one.worker), worker_cells)] if worker_cells else []
        text = (" " * GAP).join([*parts, _flat(one.step)])
        lines.append(_line(f"  {text}", "cyan", width, glyphs))
    if len(shown) < len(running):
        more = len(running) - len(shown)
        text = f"and {more:,} more at work" if shown else f"{counted(more, 'step')} at work"
        lines.append(_line(f"  {text}", "cyan", width, glyphs))
    return lines


# Ops


@dataclass(frozen=True)
class _Column:
    head: str
    text: Callable[[Row], str]
    style: str = ""
    is_wanted: Callable[[Row], bool] = lambda _: True


_COLUMNS = (
    _Column("done", lambda row: _done(row.op)),
    _Column("reused", lambda row: f"{row.reused:,}", "dim", lambda row: row.reused > 0),
    _Column("waiting", lambda row: f"{row.op.waiting:,}", "yellow", lambda row: row.op.waiting > 0),
    _Column("failed", lambda row: f"{row.op.failed:,}", "red", lambda row: row.op.failed > 0),
    _Column("left", lambda row: _left(row.op)),
)
_SPARED = ("reused", "waiting", "left")
"""Columns that go first where a terminal is narrow; `failed` stays."""


def _done(op: OpCount) -> str:
    return f"{op.settled:,}/{at_least(op.sealed, more=not op.is_closed)}"


def _left(op: OpCount) -> str:
    return at_least(None if op.sealed is None else op.left, more=not op.is_closed)


def _op_lines(rows: Sequence[Row], width: int, room: int, glyphs: Glyphs) -> "list[Text]":
    shown, rest = _most_telling(rows, room - 1)
    layout = _Layout(shown, width)
    lines = [layout.head(), *(layout.line(row, glyphs) for row in shown)]
    if rest:
        lines.append(_line(_counted(rest), "dim", width, glyphs))
    return lines


def _most_telling(rows: Sequence[Row], room: int) -> tuple[list[Row], list[Row]]:
    """As many rows as there is room for, in their order, and the rest, which takes one line."""
    if len(rows) <= room:
        return list(rows), []
    order = sorted(range(len(rows)), key=lambda number: (_rank(rows[number]), number))
    kept = max(0, room - 1)
    return [rows[number] for number in sorted(order[:kept])], [
        rows[number] for number in order[kept:]
    ]


def _rank(row: Row) -> int:
    if row.is_at_work:
        return 0
    if row.op.failed:
        return 1
    if row.op.left and row.op.settled:
        return 2
    return 4 if _is_finished(row.op) else 3


def _is_finished(op: OpCount) -> bool:
    return op.is_closed and op.sealed is not None and not op.left


def _counted(rows: Sequence[Row]) -> str:
    finished = sum(_is_finished(row.op) for row in rows)
    kinds = [f"{finished:,} done"] if finished else []
    kinds += [f"{len(rows) - finished:,} to come"] if finished < len(rows) else []
    return f"and {counted(len(rows), 'other op')}: {', '.join(kinds)}"


class _Layout:
    """Which columns there is place for, and how wide each is."""

    def __init__(self, rows: Sequence[Row], width: int) -> None:
        from rich.cells import cell_len

        self._columns = [one for one in _COLUMNS if any(map(one.is_wanted, rows))]
        longest = max([len("op"), *(cell_len(_flat(row.op.node)) for row in rows)])
        for spared in ("", *_SPARED):
            self._columns = [one for one in self._columns if one.head != spared]
            self._cells = [
                max([len(one.head), *(len(one.text(row)) for row in rows)]) for one in self._columns
            ]
            left = width - sum(self._cells) - GAP * len(self._cells)
            if left >= min(longest, LEAST_NAME_CELLS):
                break
        self._name = max(1, min(longest, NAME_CELLS, left))
        self._bar = min(BAR_CELLS, left - self._name - GAP)
        if self._bar < LEAST_BAR_CELLS:
            self._bar = 0
            self._name = max(1, min(longest, left))

    def head(self) -> "Text":
        from rich.text import Text

        bar = " " * (self._bar + GAP) if self._bar else ""
        heads = [
            f"{one.head:>{cells}}" for one, cells in zip(self._columns, self._cells, strict=True)
        ]
        text = (" " * GAP).join([_padded("op", self._name) + bar, *heads])
        return Text(text, style="dim", no_wrap=True)

    def line(self, row: Row, glyphs: Glyphs) -> "Text":
        from rich.text import Text

        style = "green" if _is_finished(row.op) and not row.op.failed else ""
        name = _padded(_cut(_flat(row.op.node), self._name, glyphs), self._name)
        line = Text(no_wrap=True)
        line.append(name, style)
        if self._bar:
            line.append(" " * GAP)
            for text, style in _bar(row, self._bar, glyphs):
                line.append(text, style)
        for column, cells in zip(self._columns, self._cells, strict=True):
            is_dim = column.style and not column.is_wanted(row)
            line.append(f"{'':{GAP}}{column.text(row):>{cells}}", "dim" if is_dim else column.style)
        return line


def _bar(row: Row, cells: int, glyphs: Glyphs) -> list[tuple[str, str]]:
    op = row.op
    parts = [
        (row.reused, glyphs.reused, "blue"),
        (op.settled - row.reused, glyphs.done, "green"),
        (op.failed, glyphs.failed, "red"),
        (op.left + (0 if op.is_closed else max(1, op.sealed or 0) // 4 + 1), glyphs.left, "dim"),
    ]  # a bar to which more may come is not full
    widths = _shares([count for count, _, _ in parts], cells)
    if not sum(widths):
        return [(" " * cells, "")]
    return [(glyph * n, style) for n, (_, glyph, style) in zip(widths, parts, strict=True)]


def _shares(counts: Sequence[int], cells: int) -> list[int]:
    """Cells in proportion to counts; none for nothing, and one at least for anything."""
    total = sum(counts)
    if not total:
        return [0] * len(counts)
    widths = [max(1, count * cells // total) if count else 0 for count in counts]
    while (over := sum(widths) - cells) != 0:
        # What was rounded is given to, or taken from, the widest: there it is seen least.
        widest = max(range(len(widths)), key=widths.__getitem__)
        if over > 0 and widths[widest] <= 1:
            break
        widths[widest] -= over if over < 0 else min(over, widths[widest] - 1)
    return widths
