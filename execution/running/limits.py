"""How many steps of a run may run at a time, and how often one may start: of the run, of an op, of a tag's value.

They hold within a run, whoever runs its steps, and also after its resume, since they are the job's. Two runs know
nothing of each other.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import inf

from execution.definition.job import JobDefinition
from runstore.log.graph import Graph

_Group = tuple[str, str]
"""What shares a limit: ("op", its name), or ("tag", "key=value")."""


class Limits:
    """What runs, held against what may."""

    def __init__(
        self,
        job: JobDefinition,
        graph: Graph,
        tags: Mapping[str, Mapping[str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tags`: node -> those of its steps."""
        self._clock = clock
        self._most: dict[_Group, int] = {}
        self._groups: dict[str, list[_Group]] = {}
        self._interval_s: dict[str, float] = {}
        self._op_of = {node.name: job.ops[node.name].name for node in graph.nodes}
        for node in graph.nodes:
            found = dict(_limits_of(job, node.name, tags[node.name]))
            self._most.update(found)
            self._groups[node.name] = list(found)
            per_second = job.ops[node.name].rate_per_s
            if per_second is not None:
                self._interval_s[node.name] = 1 / per_second
        self.nodes = frozenset(
            name for name in self._groups if self._groups[name] or name in self._interval_s
        )
        """Those that are limited by themselves."""
        self._most_of_run = inf if job.max_concurrent is None else job.max_concurrent
        self.are_any = bool(self.nodes) or job.max_concurrent is not None
        """False where nothing is limited, and nothing has to be counted."""
        self.is_full = False
        """True when no step of any node may start now."""
        self._running_in_all = 0
        self._running: Counter[_Group] = Counter()
        self._next_at: dict[str, float] = {}
        """Op -> when its next step may start."""

    def started(self, node: str) -> None:
        """A step of this node runs."""
        self._running_in_all += 1
        self.is_full = self._running_in_all >= self._most_of_run
        for group in self._groups[node]:
            self._running[group] += 1
        if node in self._interval_s:
            self._next_at[self._op_of[node]] = self._clock() + self._interval_s[node]

    def ended(self, node: str) -> None:
        """A step of this node does not run any more."""
        self._running_in_all -= 1
        self.is_full = self._running_in_all >= self._most_of_run
        for group in self._groups[node]:
            self._running[group] -= 1

    def held(self) -> frozenset[str]:
        """The nodes of which no step may start now."""
        if not self.nodes:
            return self.nodes
        now = self._clock()
        return frozenset(
            name for name in self.nodes if self._is_full(name) or self._left(name, now) > 0
        )

    def _is_full(self, node: str) -> bool:
        return any(self._running[group] >= self._most[group] for group in self._groups[node])

    def _left(self, node: str, now: float) -> float:
        return self._next_at.get(self._op_of[node], now) - now if node in self._interval_s else 0.0

    def left_s(self) -> float:
        """Seconds until a step may start that only has to wait for its rate; infinite where there is none."""
        now = self._clock()
        waits = [self._left(node, now) for node in self._interval_s if not self._is_full(node)]
        return min((left for left in waits if left > 0), default=inf)


def _limits_of(
    job: JobDefinition, node: str, tags: Mapping[str, str]
) -> Iterator[tuple[_Group, int]]:
    op = job.ops[node]
    if op.concurrency is not None:
        yield ("op", op.name), op.concurrency
    for key, value in tags.items():
        pair = f"{key}={value}"
        most = job.tag_concurrency.get(pair, job.tag_concurrency.get(key))
        if most is not None:
            yield ("tag", pair), most
