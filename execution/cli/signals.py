"""SIGINT and SIGTERM while a run is driven: the first stops it after its running step, the second leaves at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from execution.cli.failure import ExitCode

_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


class StopSignals:
    """While entered, turns the two signals into a question that the engine asks."""

    def __init__(self, on_first: Callable[[str], None], on_second: Callable[[], None]) -> None:
        self._on_first, self._on_second = on_first, on_second
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in _CODES:
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        heard = signal.Signals(number)
        if self._received is not None:
            self._on_second()
            os._exit(_CODES[heard])
        self._received = heard
        self._on_first(heard.name)

    @property
    def reason(self) -> str:
        """Why the run is to stop; empty while it is not."""
        return f"stopped by {self._received.name}" if self._received else ""

    @property
    def exit_code(self) -> ExitCode | None:
        """What to tell the shell if the run stopped for a signal."""
        return _CODES[self._received] if self._received else None
