"""`context.log`: a logger whose lines travel with the events of their step, and to the handlers of the user.

A worker keeps them until it next tells something, and never more than KEPT: a step that logs in a loop must not eat
the memory. What was left out between the first and the last is said in a line of its own.
"""

import datetime as dt
import logging
import threading
from collections import deque
from collections.abc import Sequence

from execution.running.storable_text import storable_text
from runstore.log.messages import Message

LOGGER = "runstore.op"
"""Whose handlers and level the user sets; the logger of each step is below it."""
KEPT = 1_000
"""How many lines are kept between two of the messages of a worker."""
MAX_TEXT = 8_192
_FORMAT = logging.Formatter()


class StepLog(logging.Logger):
    """The logger of one attempt of one step, unknown to `logging.getLogger`.

    What is INFO or above, or enabled by the user's own configuration of `runstore.op`, goes to the table `messages`;
    handlers get what they would of any logger. Records carry `run_id`, `step_key` and `attempt`.
    """

    def __init__(self, run_id: str, step_key: str, attempt: int) -> None:
        super().__init__(f"{LOGGER}.{step_key}")
        self.parent = logging.getLogger(LOGGER)
        self._lines = _Lines(step_key, attempt)
        self._marks = {"run_id": run_id, "step_key": step_key, "attempt": attempt}
        self._stored_name = LOGGER

    def isEnabledFor(self, level: int) -> bool:
        """True for what will be kept or handled."""
        return level >= logging.INFO or super().isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        """Keep a line, and give it to the user's handlers."""
        record.__dict__.update(self._marks)
        self._lines.add(self._stored_name, record)
        if super().isEnabledFor(record.levelno):
            super().handle(record)

    def getChild(self, suffix: str) -> "StepLog":
        """A logger of the same step, under a longer name."""
        child = StepLog(**self._marks)  # type: ignore[arg-type]
        child.name = f"{self.name}.{suffix}"
        child._stored_name = f"{self._stored_name}.{suffix}"
        child._lines = self._lines
        return child

    def take(self) -> Sequence[Message]:
        """The lines since the last call."""
        return self._lines.take() if self._lines.count else ()


class _Lines:
    """The first and the last lines of those that were logged since they were last taken; any thread may add."""

    def __init__(self, step_key: str, attempt: int) -> None:
        self._step, self._attempt = step_key, attempt
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.count = 0
        self._first: list[Message] = []
        self._last: deque[Message] = deque(maxlen=KEPT // 2)

    def add(self, logger: str, record: logging.LogRecord) -> None:
        """Keep a line."""
        line = Message(
            step=self._step,
            attempt=self._attempt,
            time=dt.datetime.fromtimestamp(record.created, dt.UTC),
            level=record.levelno,
            logger=storable_text(logger, 200),
            text=storable_text(_shown(record), MAX_TEXT),
        )
        with self._lock:
            self.count += 1
            (self._first if len(self._first) < KEPT // 2 else self._last).append(line)

    def take(self) -> list[Message]:
        """All that is kept, in order; nothing is kept from then on."""
        with self._lock:
            first, last, left_out = self._first, self._last, self.count
            self._clear()
        left_out -= len(first) + len(last)
        if left_out:
            first.append(self._gap(last[0].time, left_out))
        return [*first, *last]

    def _gap(self, time: dt.datetime, left_out: int) -> Message:
        return Message(
            step=self._step,
            attempt=self._attempt,
            time=time,
            level=logging.WARNING,
            logger="runstore",
            text=f"{left_out:,} lines left out: a step keeps {KEPT:,} between two of its outputs",
        )


def _shown(record: logging.LogRecord) -> str:
    try:
        return _FORMAT.format(record)
    except (
        Exception
    ) as error:  # wrong arguments, or a __str__ that raises: no reason to fail a step
        return f"(a message that cannot be shown: {type(error).__name__})"
