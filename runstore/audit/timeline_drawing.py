"""A timeline as lines of text and as SVG. Pure: from a `Timeline` to text.

Time runs from left to right at one scale; a gap between epochs is cut to a few places and says how long it was, since
a run that waited for a night would else be a line of nothing.
"""

import datetime as dt
from collections.abc import Iterator
from typing import NamedTuple

from runstore.audit.markup import shown
from runstore.audit.timeline import Bar, EpochSpan, Timeline

_ROW_PX, _NAME_PX, _WIDTH_PX, _GAP_SHARE = 22, 180, 900, 0.06
_TICK_PX = 90
"""What a mark of the time needs."""
_ROUND_S = (
    *(digit * 10.0**power for power in range(-4, 1) for digit in (1, 2, 5)),
    *(10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200),
    *(86_400 * days for days in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
)


class _Piece(NamedTuple):
    """An epoch, or the gap before one, and where it lies between 0 and 1."""

    begun: dt.datetime
    ended: dt.datetime
    left: float
    right: float
    epoch: EpochSpan | None


class Scale:
    """Where a time lies: epochs in proportion, gaps cut."""

    def __init__(self, epochs: tuple[EpochSpan, ...]) -> None:
        gaps = len(epochs) - 1
        share = min(_GAP_SHARE, 0.5 / max(gaps, 1))
        active = sum((one.last - one.begun).total_seconds() for one in epochs)
        self.pieces: list[_Piece] = []
        left = 0.0
        for number, epoch in enumerate(epochs):
            if number:
                before = epochs[number - 1].last
                self.pieces.append(_Piece(before, epoch.begun, left, left + share, None))
                left += share
            seconds = (epoch.last - epoch.begun).total_seconds()
            part = seconds / active if active else 1 / len(epochs)
            right = left + part * (1 - share * gaps)
            self.pieces.append(_Piece(epoch.begun, epoch.last, left, right, epoch))
            left = right

    def place(self, time: dt.datetime) -> float:
        """Between 0 and 1."""
        for piece in self.pieces:
            if time <= piece.ended:
                length = (piece.ended - piece.begun).total_seconds()
                part = (time - piece.begun).total_seconds() / length if length else 0.0
                return piece.left + max(part, 0.0) * (piece.right - piece.left)
        return 1.0


def text(timeline: Timeline, width: int) -> Iterator[str]:
    """Lines of at most `width` characters: █ at work, ✗ something failed, ! interrupted, ┊ nobody executed the run."""
    names = max([len(line.name) for line in timeline.lines] + [5])
    places = max(width - names - 2, 20)
    scale = Scale(timeline.epochs)
    ground = [" "] * places
    heads = [" "] * places
    for piece in scale.pieces:
        left, right = _between(piece.left, piece.right, places)
        if piece.epoch is None:
            ground[left:right] = "┊" * (right - left)
        else:
            label = f"│{piece.epoch.epoch}"[: right - left]
            heads[left : left + len(label)] = label
    yield f"{'epoch':<{names}}  {''.join(heads)}".rstrip()
    for line in timeline.lines:
        row = list(ground)
        for bar in line.bars:
            left, right = _between(scale.place(bar.begun), scale.place(bar.ended), places)
            row[left:right] = _mark(bar) * (right - left)
        yield f"{line.name:<{names}}  {''.join(row)}".rstrip()
    yield from _notes(timeline)


def _notes(timeline: Timeline) -> Iterator[str]:
    for number, epoch in enumerate(timeline.epochs):
        if number:
            gap = (epoch.begun - timeline.epochs[number - 1].last).total_seconds()
            yield f"┊ {seconds_text(gap)} between epochs {epoch.epoch - 1} and {epoch.epoch}"
        took = (epoch.last - epoch.begun).total_seconds()
        begun = epoch.begun.strftime("%Y-%m-%d %H:%M:%S")
        yield f"epoch {epoch.epoch}: {begun} UTC, {seconds_text(took)}, {epoch.ended}"


def _between(left: float, right: float, places: int) -> tuple[int, int]:
    first = min(int(left * places), places - 1)
    return first, max(min(round(right * places), places), first + 1)


def _mark(bar: Bar) -> str:
    if bar.interrupted:
        return "!"
    return "✗" if bar.failed else "█"


def seconds_text(seconds: float) -> str:
    """`0.04 s`, `12.3 s`, `3 min 20 s`, `5 h 02 min`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def svg(timeline: Timeline) -> Iterator[str]:
    """The lines of an SVG picture, which needs no script, no font and no network."""
    scale, height = Scale(timeline.epochs), (len(timeline.lines) + 2) * _ROW_PX
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_NAME_PX + _WIDTH_PX + 10} {height}" '
        'font-family="sans-serif" font-size="12" role="img">'
    )
    yield f"<title>run {shown(timeline.run_id)}, {shown(timeline.status)}</title>"
    for piece in scale.pieces:
        left, width = _px(piece.left), (piece.right - piece.left) * _WIDTH_PX
        if piece.epoch is None:
            gap = seconds_text((piece.ended - piece.begun).total_seconds())
            yield _rect(left, 0, width, height, "#f0d9d9", f"nobody executed the run for {gap}")
            yield f'<text x="{left + width / 2:.1f}" y="14" text-anchor="middle" fill="#a33">{shown(gap)}</text>'
        else:
            label = f"epoch {piece.epoch.epoch}, {piece.epoch.ended}"
            yield _rect(left, 0, width, height, "#f6f6f6", label)
            yield f'<text x="{left + 3:.1f}" y="14" fill="#555">{shown(label)}</text>'
            yield from _axis(piece, height)
    for number, line in enumerate(timeline.lines, 1):
        top = number * _ROW_PX
        yield f'<text x="0" y="{top + 15}">{shown(line.name)}</text>'
        for bar in line.bars:
            left, right = _px(scale.place(bar.begun)), _px(scale.place(bar.ended))
            yield _rect(
                left, top + 4, max(right - left, 1.5), _ROW_PX - 8, _colour(bar), _title(bar)
            )
    yield "</svg>"


def _axis(piece: _Piece, height: int) -> Iterator[str]:
    """The time since an epoch began, at round places."""
    seconds = (piece.ended - piece.begun).total_seconds()
    width = (piece.right - piece.left) * _WIDTH_PX
    step = next((one for one in _ROUND_S if seconds / one * _TICK_PX <= width), 0)
    for number in range(1, int(seconds / step) + 1 if step else 0):
        x = _px(piece.left) + number * step / seconds * width
        if x + _TICK_PX / 3 < _px(piece.right):
            yield f'<line x1="{x:.1f}" y1="20" x2="{x:.1f}" y2="{height - 18}" stroke="#dfe3e7"/>'
            text = _round_text(number * step)
            yield f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle" fill="#777">{text}</text>'


def _round_text(seconds: float) -> str:
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.4g} {unit}"
    return f"{seconds:.4g} s"


def _px(place: float) -> float:
    return _NAME_PX + place * _WIDTH_PX


def _rect(x: float, y: float, width: float, height: float, fill: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}">'
        f"<title>{shown(title)}</title></rect>"
    )


def _colour(bar: Bar) -> str:
    if bar.interrupted:
        return "#e0a030"
    return "#c33" if bar.failed else "#3a7"


def _title(bar: Bar) -> str:
    faults = [(bar.failed, "failed"), (bar.interrupted, "interrupted")]
    told = "".join(f", {count:,} {what}" for count, what in faults if count)
    took = seconds_text((bar.ended - bar.begun).total_seconds())
    return f"{bar.attempts:,} attempts in {took}{told}"
