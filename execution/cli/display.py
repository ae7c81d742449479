"""What a person sees while a run is driven: a live table on a terminal, a line now and then elsewhere, or nothing.

All of it goes to standard error; standard output belongs to the ops. `update` is called after every event: it looks at
the clock, or at nothing, and counts only when it is time.
"""

import contextlib
import os
import sys
import time
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import click

from execution.cli.counting import OpCount, count_ops, progress_text
from execution.cli.terminal import duration_text, time_text
from runstore.log.state import RunState

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_S = 5.0
REFRESHES_PER_S = 5


class Display(Protocol):
    """Shows a run to whoever waits for it."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def update(self, state: RunState) -> None:
        """Something has happened."""

    def note(self, line: str) -> None:
        """A line from inside a signal handler."""

    def close(self) -> None:
        """The run has ended."""

    def abandon(self) -> None:
        """This process is about to end, now, inside a signal handler: take no lock."""


def choose_display(*, quiet: bool) -> Display:
    """The display that fits standard error."""
    if quiet:
        return Silence()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LiveTable()
    return Lines()


class Silence:
    """For `--quiet`."""

    def say(self, line: str) -> None:
        """Nothing."""

    def update(self, state: RunState) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def abandon(self) -> None:
        """Nothing."""


class Lines:
    """For a pipe or a log file: at most one line every few seconds. A reader that is gone stops no run."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._next = self._begun + LINE_S

    def say(self, line: str) -> None:
        """A line that stays."""
        with contextlib.suppress(OSError):
            click.echo(line, err=True)

    def update(self, state: RunState) -> None:
        """Perhaps a line."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LINE_S
        self.say(f"{duration_text(now - self._begun):>8}  {progress_text(count_ops(state))}")

    def note(self, line: str) -> None:
        """A line, past the buffers: a handler may have interrupted a write."""
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())

    def close(self) -> None:
        """Nothing is held."""

    def abandon(self) -> None:
        """Nothing is held."""


class LiveTable:
    """For a terminal: ops and their counts, redrawn by a thread of its own, so that it goes on during a long step.

    That thread only reads the state: attributes and copies, whatever the engine's thread is doing to it.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._begun = time.monotonic()
        self._state: RunState | None = None
        self._ops: list[OpCount] = []
        self._at_start: dict[str, int] = {}
        self._note = ""
        self._live = Live(
            get_renderable=self._table,
            console=Console(stderr=True, highlight=False),
            refresh_per_second=REFRESHES_PER_S,
        )

    def say(self, line: str) -> None:
        """A line that stays, above the table."""
        if self._live.is_started:
            self._live.console.print(line, markup=False)
        else:
            click.echo(line, err=True)

    def update(self, state: RunState) -> None:
        """The table begins with the first event, and draws itself from then on."""
        if self._state is None:
            self._state = state
            self._ops = count_ops(state)
            self._at_start = {op.node: op.settled for op in self._ops}
            self._live.start()

    def note(self, line: str) -> None:
        """A line below the table, drawn by the other thread."""
        self._note = line

    def close(self) -> None:
        """Draw a last time and give the terminal back."""
        if self._live.is_started:
            self._live.stop()

    def abandon(self) -> None:
        """Show the cursor again."""
        os.write(2, b"\x1b[?25h\n")

    def _table(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if self._state is not None:
            with contextlib.suppress(
                RuntimeError
            ):  # changed while it was read: the next time, then
                self._ops = count_ops(self._state)
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        table.add_column("op")
        for head in ("reused", "done", "failed", "left"):
            table.add_column(head, justify="right")
        for op in self._ops:
            table.add_row(*self._row(op))
        return Group(table, Text(self._footer(), style="dim", no_wrap=True, overflow="ellipsis"))

    def _row(self, op: OpCount) -> list[Any]:
        from rich.text import Text

        reused = min(self._at_start.get(op.node, 0), op.settled)
        left = "?" if op.sealed is None else f"{op.left:,}"
        finished = op.sealed is not None and not op.left
        return [
            Text(op.node, style="green" if finished and not op.failed else ""),
            f"{reused:,}",
            f"{op.settled - reused:,}",
            Text(f"{op.failed:,}", style="red" if op.failed else ""),
            left,
        ]

    def _footer(self) -> str:
        elapsed_s = time.monotonic() - self._begun
        done = sum(op.settled + op.failed for op in self._ops) - sum(self._at_start.values())
        parts = [duration_text(elapsed_s), f"{max(0, done) / max(elapsed_s, 0.001):,.0f} steps/s"]
        running = list(self._state.running) if self._state else []
        if running:
            more = f" and {len(running) - 1} more" if len(running) > 1 else ""
            parts.append(f"running {running[0]}{more}")
        elif self._state and self._state.waiting:
            parts.append(_waiting_text(self._state))
        return self._note or "  ".join(parts)


def _waiting_text(state: RunState) -> str:
    waits = list(state.waiting.items())
    if not waits:  # started meanwhile
        return ""
    step, due = min(waits, key=itemgetter(1))
    more = f" and {len(waits) - 1:,} more wait" if len(waits) > 1 else " waits"
    return f"{step}{more} for a retry, due {time_text(due)}"
