"""SIGTERM where nobody else listens: the run stops as by Ctrl-C, what is open is closed, the signal ends the process.

By default it would end at once, with resources open. The command line has handlers of its own; so may a program that
calls `execute`: then nothing is done here.
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
