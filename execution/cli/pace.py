"""How fast a run goes, how long its steps have been running, and how long the rest may take.

Pure: told of looks at the run and of the time of each, it reads no clock. What a step of an op costs is found as a
sampling profiler finds it, from how often steps of that op were seen running; so no event has to be timed.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from execution.cli.counting import OpCount
from runstore.log.expanded import StepId

RECENT_S = 30.0
"""What `rate` looks back on."""
WARM_UP_S, WARM_UP_STEPS = 3.0, 5
"""Before so much was seen nothing is said of the time left."""


class Left(NamedTuple):
    """How long the rest may take, or why nobody can say."""

    seconds: float | None
    why: str = ""
    """Where there are no seconds."""
    without: tuple[str, ...] = ()
    """Ops of one step that has not ended, of which nothing is known; they come on top."""


class Ages:
    """Since when each attempt that runs was seen running."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def look(self, running: Iterable[tuple[StepId, int]], now: float) -> list[tuple[StepId, float]]:
        """Each step and its age in seconds, oldest first; `running`: with the seq of its start, in that order."""
        running = list(running)
        self._since = {seq: self._since.get(seq, now) for _, seq in running}
        return [(step, now - self._since[seq]) for step, seq in running]


class Pace:
    """What follows from looks at a run since `begun`, when `ops` stood as they do."""

    def __init__(self, ops: Sequence[OpCount], begun: float) -> None:
        self._begun = self._last = begun
        self._at_begin = {op.node: _ended(op) for op in ops}
        self._ops = ops
        self._seen: deque[tuple[float, int]] = deque([(begun, 0)])
        self._busy_s: Counter[str] = Counter()

    def look(self, ops: Sequence[OpCount], running: Iterable[StepId], now: float) -> None:
        """Take in how a run stands."""
        passed_s, self._last, self._ops = now - self._last, now, ops
        for step in running:
            self._busy_s[step.node] += passed_s  # type: ignore[assignment]
        self._seen.append((now, sum(self.done(op) for op in ops)))
        while len(self._seen) > 2 and self._seen[1][0] < now - RECENT_S:
            self._seen.popleft()

    def reused(self, op: OpCount) -> int:
        """Of the settled steps of an op those that were so at the beginning."""
        return min(self._at_begin.get(op.node, 0), op.settled)

    def done(self, op: OpCount) -> int:
        """How many steps of an op have ended since."""
        return max(0, _ended(op) - self._at_begin.get(op.node, 0))

    @property
    def rate(self) -> float:
        """Steps that have ended per second, of late."""
        (then, before), (now, done) = self._seen[0], self._seen[-1]
        return max(0, done - before) / (now - then) if now > then else 0.0

    def left(self) -> Left:
        """How long what is left may take, where steps go on to take as long, and as many run at a time."""
        unsealed = [op.node for op in self._ops if not op.is_closed]
        if unsealed:
            return Left(None, f"the keys of {unsealed[0]} are not all known")
        elapsed_s, busy_s = self._last - self._begun, sum(self._busy_s.values())
        done = {op.node: self.done(op) for op in self._ops}
        if elapsed_s < WARM_UP_S or sum(done.values()) < WARM_UP_STEPS or not busy_s:
            return Left(None, "too little was seen")
        unknown = [op for op in self._ops if op.left and not done[op.node]]
        if unmeasured := [op.node for op in unknown if op.mapped]:
            return Left(None, f"no clone of {unmeasured[0]} has ended yet")
        cost_s = {node: self._busy_s[node] / count for node, count in done.items() if count}
        left_s = sum(op.left * cost_s.get(op.node, 0.0) for op in self._ops)
        return Left(left_s * elapsed_s / busy_s, without=tuple(op.node for op in unknown))


def _ended(op: OpCount) -> int:
    return op.settled + op.failed


def rate_text(per_s: float) -> str:
    """`1,204 steps/s`, `2.4 steps/s`, `14 steps/min`, `3 steps/h`."""
    for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
        rate = per_s * factor
        if rate >= 1 or unit == "h":
            break
    return f"{rate:.1f} steps/{unit}" if rate < 10 and unit == "s" else f"{rate:,.0f} steps/{unit}"


def left_text(left: Left) -> str:
    """`about 40 s left`, `about 3 min left and report`, `time left unknown: the keys of resize are not all known`."""
    if left.seconds is None:
        return f"time left unknown: {left.why}"
    if not left.seconds and left.without:
        return ""
    after = f" and {left.without[0]}" if left.without else ""
    after += f" and {len(left.without) - 1} more" if len(left.without) > 1 else ""
    return f"about {_coarse(left.seconds)} left{after}"


def _coarse(seconds: float) -> str:
    if seconds < 57.5:
        return f"{max(1, round(seconds / 5)) * 5} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    minutes = round(seconds / 600) * 10
    return f"{minutes // 60} h {minutes % 60:02} min"
