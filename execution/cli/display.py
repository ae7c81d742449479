"""What a person sees while a run is driven: a live picture on a terminal, a line now and then elsewhere, or nothing.

All of it goes to standard error; standard output belongs to the ops. `update` is called after every event: it looks at
the clock, or at nothing, and counts only when it is time.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

import click

from execution.cli.counting import OpCount, count_ops, progress_text
from execution.cli.frame import ASCII, Glyphs, Picture, Row, Running, frame
from execution.cli.pace import Ages, Pace, left_text, rate_text
from execution.cli.terminal import duration_text, safe, time_text
from runstore.log.expanded import StepId
from runstore.log.state import RunState

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

LINE_S = 5.0
REFRESHES_PER_S = 5
COUNTING_SHARE = 0.05
"""Of the time that counting may take: where it takes long, a picture shows older counts."""
MOST_SHOWN = 1_000
"""Running steps that are looked at for their age."""

AtWork = Callable[[], Mapping[str, str]]
"""Step key -> worker, of what runs."""


class Display(Protocol):
    """Shows a run to whoever waits for it."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def update(self, state: RunState) -> None:
        """Something has happened."""

    def began(self, at_work: AtWork) -> None:
        """Who runs what can be asked from now on."""

    def note(self, line: str) -> None:
        """A line from inside a signal handler."""

    def countdown(self, line: str) -> None:
        """In place of the last note: the same, with a second less."""

    def close(self) -> None:
        """The run has ended."""

    def abandon(self) -> None:
        """This process is about to end, now, inside a signal handler: take no lock."""


def choose_display(*, quiet: bool) -> Display:
    """The display that fits standard error."""
    if quiet:
        return Silence()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LivePicture()
    return Lines()


class Silence:
    """For `--quiet`."""

    def say(self, line: str) -> None:
        """Nothing."""

    def update(self, state: RunState) -> None:
        """Nothing."""

    def began(self, at_work: AtWork) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""

    def countdown(self, line: str) -> None:
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
        self._watch: _Watch | None = None
        self._at_work: AtWork = dict
        self._counts_down = False

    def say(self, line: str) -> None:
        """A line that stays."""
        with contextlib.suppress(OSError):
            click.echo(line, err=True)

    def update(self, state: RunState) -> None:
        """Perhaps a line."""
        now = time.monotonic()
        if self._watch is None:
            self._watch = _Watch(state, self._begun)
        if now < self._next:
            return
        self._next = now + LINE_S
        self.say(f"{duration_text(now - self._begun):>8}  {self._line(self._watch, now)}")

    def _line(self, watch: "_Watch", now: float) -> str:
        watch.look(now)
        parts = [progress_text(watch.ops), rate_text(watch.pace.rate)]
        if watch.running and watch.running[0][1] >= LINE_S:
            step, age_s = watch.running[0]
            worker = self._at_work().get(str(step), "")
            on = f" on {safe(worker)}" if worker else ""
            parts.append(f"{safe(str(step))} runs for {duration_text(age_s)} or more{on}")
        return ", ".join(parts)

    def began(self, at_work: AtWork) -> None:
        """Lines name the worker of what runs for long."""
        self._at_work = at_work

    def note(self, line: str) -> None:
        """A line, past the buffers: a handler may have interrupted a write."""
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())

    def countdown(self, line: str) -> None:
        """A line, once."""
        if not self._counts_down:
            self._counts_down = True
            self.note(line)

    def close(self) -> None:
        """Nothing is held."""

    def abandon(self) -> None:
        """Nothing is held."""


class LivePicture:
    """For a terminal: drawn by a thread of its own, so that it goes on during a long step.

    That thread only reads the state: attributes and copies, whatever the engine's thread is doing to it.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._begun = time.monotonic()
        self._watch: _Watch | None = None
        self._at_work: AtWork = dict
        self._note = ""
        self._is_last = False
        self._count_at = 0.0
        # Keys are shown as they are: `:red_circle:` and `[bold]` are no pictures and no markup.
        console = Console(stderr=True, highlight=False, emoji=False, markup=False)
        self._live = Live(
            self, console=console, refresh_per_second=REFRESHES_PER_S, vertical_overflow="crop"
        )

    def say(self, line: str) -> None:
        """A line that stays, above the picture."""
        if self._live.is_started:
            self._live.console.print(line)
        else:
            click.echo(line, err=True)

    def update(self, state: RunState) -> None:
        """The picture begins with the first event, and draws itself from then on."""
        if self._watch is None:
            self._watch = _Watch(state, self._begun)
            self._live.start()

    def began(self, at_work: AtWork) -> None:
        """The picture names workers."""
        self._at_work = at_work

    def note(self, line: str) -> None:
        """A line below the picture, drawn by the other thread."""
        self._note = line

    def countdown(self, line: str) -> None:
        """In the place of the note."""
        self._note = line

    def close(self) -> None:
        """Draw a last time, all ops and nothing that runs, and give the terminal back."""
        if self._live.is_started:
            self._is_last, self._count_at, self._note = True, 0.0, ""
            self._live.vertical_overflow = "visible"
            self._live.stop()

    def abandon(self) -> None:
        """Show the cursor again."""
        os.write(2, b"\x1b[?25h\n")

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        if self._watch is None:
            return
        self._look(self._watch, time.monotonic())
        picture = self._picture(self._watch)
        height = len(picture.rows) + 4 if self._is_last else console.size.height
        # A terminal writes `^C` where the cursor is: a full line would become two.
        yield from frame(picture, options.max_width - 2, height, _glyphs(console))

    def _look(self, watch: "_Watch", now: float) -> None:
        if now < self._count_at:
            return
        with contextlib.suppress(RuntimeError):  # changed while it was read: the next time, then
            watch.look(now)
        self._count_at = now + (time.monotonic() - now) / COUNTING_SHARE

    def _picture(self, watch: "_Watch") -> Picture:
        at_work = {step.node for step, _ in watch.running}
        rows = [Row(op, watch.pace.reused(op), op.node in at_work) for op in watch.ops]
        return Picture(rows, self._running(watch), self._footer(watch), self._note)

    def _running(self, watch: "_Watch") -> list[Running]:
        if self._is_last:
            return []
        workers = self._at_work()
        keys = [(str(step), age_s) for step, age_s in watch.running]
        return [Running(key, age_s, workers.get(key, "")) for key, age_s in keys]

    def _footer(self, watch: "_Watch") -> str:
        parts = [duration_text(time.monotonic() - self._begun), rate_text(watch.pace.rate)]
        if not self._is_last:
            parts.append(_waiting_text(watch.state) or left_text(watch.pace.left()))
        return "  ".join(part for part in parts if part)


class _Watch:
    """A run that is looked at now and then."""

    def __init__(self, state: RunState, begun: float) -> None:
        self.state = state
        self.ops: list[OpCount] = count_ops(state)
        self.pace = Pace(self.ops, begun)
        self.running: list[tuple[StepId, float]] = []
        """Each step that runs and its age, oldest first."""
        self._ages = Ages()

    def look(self, now: float) -> None:
        """Count anew; raises RuntimeError where the state changed meanwhile."""
        running = list(islice(self.state.running.items(), MOST_SHOWN))
        self.ops = count_ops(self.state)
        self.running = self._ages.look(running, now)
        self.pace.look(self.ops, [step for step, _ in running], now)


def _glyphs(console: "Console") -> Glyphs:
    return Glyphs() if console.encoding.lower().startswith("utf") else ASCII


def _waiting_text(state: RunState) -> str:
    """Where nothing runs, and something waits: for when."""
    waits = list(state.waiting.items())
    if state.running or not waits:
        return ""
    step, due = min(waits, key=itemgetter(1))
    more = f" and {len(waits) - 1:,} more wait" if len(waits) > 1 else " waits"
    return f"{step}{more} for a retry, due {time_text(due)}"
