"""How answers look: tables, times, counts. In a pipe there are no colours and nothing is cut."""

import datetime as dt
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from runstore.audit import HookFailures

COLOURS = {
    "succeeded": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "waiting": "yellow",
    "failed": "red",
    "crashed": "red",
    "blocked": "yellow",
    "cancelled": "yellow",
    "skipped": "yellow",
    "problem": "red",
    "note": "yellow",
    "lacks": "yellow",
    "ok": "green",
}

_NO_LIMIT = 1_000_000  # characters in a line of a table
_BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """A table on standard output, at its natural width: a narrow terminal wraps lines, nothing is cut or folded.

    `right`: the columns that are aligned to the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*[Text(cell, style=COLOURS.get(cell, "")) for cell in row])
    console = Console(file=sys.stdout, width=_NO_LIMIT, highlight=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_json(value: Any) -> None:
    """A value as indented JSON."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def coloured(status: str, width: int = 0) -> str:
    """A status, padded; `click.echo` takes the colour away in a pipe."""
    return click.style(status.ljust(width), fg=COLOURS.get(status))


def time_text(time: dt.datetime) -> str:
    """A time of the log, in UTC like the run ids."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration_text(seconds: float) -> str:
    """`0.04 s`, `0.8 s`, `12 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 0.1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def bytes_text(size: int) -> str:
    """`900 B`, `1.4 kB`, `23 MB`, `1,204 GB`; units of a thousand."""
    amount, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.1f} {unit}" if unit != "B" and amount < 10 else f"{amount:,.0f} {unit}"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 step`, `1,204 steps`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def at_least(count: int | None, *, more: bool) -> str:
    """`1,204`; `1,204+` where more may come, `?` where nothing is known."""
    return "?" if count is None else f"{count:,}{'+' if more else ''}"


def listed(counts: dict[str, int]) -> str:
    """`1 interrupted, 340 never started`."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def safe(text: str) -> str:
    """Text of an op or of a log, for a terminal: control characters spelled out, lines kept."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if char in "\n\t" or not _is_control(char)
        else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def _is_control(char: str) -> bool:
    # A bidi control can make a line read as what it is not.
    return unicodedata.category(char) in ("Cc", "Cs") or unicodedata.bidirectional(char) in _BIDI


def hook_failure_line(failed: "HookFailures") -> str:
    """Of a hook the first call that failed, and how many more there are."""
    more = f" and {counted(failed.count - 1, 'other call')}" if failed.count > 1 else ""
    error = first_line(f"{failed.type}: {failed.message}")
    return f"hook {failed.hook} failed for {safe(failed.step)} (seq {failed.seq}){more}: {error}"


def first_line(text: str, limit: int = 500) -> str:
    """The first line of an error's message, cut to a length that leaves room for a remedy."""
    line = safe(text.strip().split("\n", 1)[0])
    return line if len(line) <= limit else line[: limit - 1] + "…"
