"""SIGTERM and Ctrl-C where nobody else listens.

SIGTERM would end the process at once, with resources open: here the run stops as by Ctrl-C, what is open is closed, and
then the signal ends the process. Ctrl-C would interrupt the engine anywhere, though it is meant for steps that run
elsewhere: here the first is a request to stop, the second interrupts. The command line has handlers of its own; so may
a program that calls `execute`: then nothing is done here.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


@contextmanager
def unwound_by_sigterm() -> Iterator[None]:
    """While entered, SIGTERM raises Terminated in the main thread; on the way out it takes its default effect."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _hear)
    try:
        yield
    except Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _hear(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the second ends the process at once
    raise Terminated("stopped by SIGTERM")


class Interrupts:
    """While entered, the first Ctrl-C is noted, and the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.reason = ""
        """Why the run is to stop; empty while it is not."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Do so, where Ctrl-C would interrupt."""
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.reason = "interrupted"
        signal.signal(signal.SIGINT, signal.default_int_handler)
