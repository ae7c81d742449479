"""Prove that your own job survives: stop the world at a chosen point, in a process of its own, and look.

    points = record_points(lambda: execute(my_job, store_a))        # every point at which a crash matters
    ending = in_fork(lambda: run_with(Failpoint(nth=7), store_b))   # a real process, really killed
    assert ending.killed
    resume("last", store_b)

Points: `event.before`, `event.after` (one per event), `commit.before`, `commit.after`, `output.before`,
`output.partial` (half of the bytes are written), `output.after`, `wait` (nothing but a retry is to come),
`delete.before`, `delete.after` (of some objects, by housekeeping).
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from runstore import failpoints
from runstore.keys import parse_step_key


def kill() -> NoReturn:
    """End this process with SIGKILL, as the out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class Point(NamedTuple):
    """A point that was reached: its name, and what it was about."""

    name: str
    subject: Any

    def __str__(self) -> str:
        return f"{self.name} {getattr(self.subject, 'step', '') or type(self.subject).__name__}"


@dataclass
class Failpoint:
    """Do something when the `nth` matching point is reached.

    Leave out what does not matter: `point` is the name of a point, `kind` that of an event, `step` a step key,
    `key` a mapping key anywhere in the event's step or yielded by it. `action` kills by default; let it raise
    to see an error instead.
    """

    nth: int = 1
    point: str | None = None
    kind: str | None = None
    step: str | None = None
    key: str | None = None
    action: Callable[[], Any] = kill
    reached: int = 0
    """How many matching points were reached so far."""

    def __call__(self, name: str, subject: Any) -> None:
        """Hear of a point."""
        if not self._matches(name, subject):
            return
        self.reached += 1
        if self.reached == self.nth:
            self.action()

    def _matches(self, name: str, subject: Any) -> bool:
        if self.point is not None and name != self.point:
            return False
        if self.kind is not None and type(subject).__name__ != self.kind:
            return False
        step = getattr(subject, "step", None)
        if self.step is not None and step != self.step:
            return False
        return self.key is None or (step is not None and self.key in _keys(step, subject))


def _keys(step: str, subject: Any) -> tuple[str, ...]:
    return (*parse_step_key(step)[1], getattr(subject, "mapping_key", ""))


@contextlib.contextmanager
def armed(failpoint: Callable[[str, Any], None]) -> Iterator[None]:
    """Let `failpoint` hear every point of this process while the block runs."""
    failpoints.listen(failpoint)
    try:
        yield
    finally:
        failpoints.listen(None)


def record_points(function: Callable[[], Any]) -> list[Point]:
    """Call `function`; every point that it passes, in order."""
    points: list[Point] = []
    with armed(lambda name, subject: points.append(Point(name, subject))):
        function()
    return points


@dataclass(frozen=True)
class Ending:
    """How a forked process ended."""

    signal: int
    """0 where it ended by itself."""
    code: int
    """Exit code; 1 where the function raised."""

    @property
    def killed(self) -> bool:
        """True when SIGKILL ended it."""
        return self.signal == signal.SIGKILL


def in_fork(function: Callable[[], Any]) -> Ending:
    """Call `function` in a forked process and wait for its end; open stores inside it, not outside.

    A fork costs some milliseconds, which makes it cheap to kill a run at every point. The traceback of an
    exception goes to standard error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run_child(function)
    status = os.waitpid(child, 0)[1]
    return Ending(
        os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, os.waitstatus_to_exitcode(status)
    )


def _run_child(function: Callable[[], Any]) -> NoReturn:
    code = 1
    try:
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
