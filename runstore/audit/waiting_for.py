"""What a step that has not begun waits for, and whether a step that failed keeps it from ever beginning.

Asked of the few steps that it depends on, each looked up by the index; where these are many, as those of a large
collect, of the fold of the whole log. Both say the same.
"""

from collections.abc import Iterator
from typing import Protocol

from runstore.audit.lookup import Lookup
from runstore.keys import KeyPath
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Graph, Level, Wire
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.log.transitions import FAILED, PENDING, SKIPPED, SUCCEEDED

_MOST = 400
"""Steps and keys that are looked up before folding the log is the shorter way."""


class TooMany(Exception):
    """So much would have to be looked up that the whole log is better read at once."""


class Run(Protocol):
    """What is asked of a run, however it is known."""

    @property
    def graph(self) -> Graph:
        """The graph in force."""

    def status(self, step: StepId) -> int:
        """As `RunState.status`."""

    def keys(self, level: Level, maker_path: KeyPath) -> Iterator[str]:
        """The keys that a dynamic output was last sealed with, in their order."""

    def failed_at(self, step: StepId) -> int:
        """The seq of the event by which a step has failed; 0 where it has not."""

    def is_blocked(self, step: StepId) -> bool:
        """As `Remaining.state_of` says of a step that is pending."""


class Folded:
    """A run whose whole log was read."""

    def __init__(self, state: RunState) -> None:
        self._state, self._remaining = state, Remaining(state)
        self.status = state.status

    @property
    def graph(self) -> Graph:
        """As in `Run`."""
        return self._state.graph

    def keys(self, level: Level, maker_path: KeyPath) -> Iterator[str]:
        """As in `Run`."""
        expansion = self._state.expansion(level, maker_path)
        return iter(()) if expansion is None else expansion.ordered_keys()

    def failed_at(self, step: StepId) -> int:
        """As in `Run`."""
        return self._state.failures.get(step, 0)

    def is_blocked(self, step: StepId) -> bool:
        """As in `Run`."""
        return self._remaining.state_of(step) == "blocked"


class LookedUp:
    """A run that is asked step by step; raises TooMany where that takes too long."""

    def __init__(self, look: Lookup) -> None:
        self._look = look
        self._asked = 0
        self._blocked: dict[StepId, bool] = {}

    @property
    def graph(self) -> Graph:
        """As in `Run`."""
        return self._look.graph

    def status(self, step: StepId) -> int:
        """As in `Run`."""
        self._count()
        return self._look.status(step)

    def keys(self, level: Level, maker_path: KeyPath) -> Iterator[str]:
        """As in `Run`."""
        for key in self._look.keys(level, maker_path):
            self._count()
            yield key

    def failed_at(self, step: StepId) -> int:
        """As in `Run`."""
        history = self._look.history(step)
        return history.last.ended_seq if history.status == FAILED and history.last else 0

    def is_blocked(self, step: StepId) -> bool:
        """As in `Run`."""
        ended = self._look.frame.ended
        if ended is not None and not ended.counts.get(step.node, {}).get("blocked"):
            return False
        if step not in self._blocked:
            self._blocked[step] = self._exists(step) and any(
                self._is_stuck(other)
                for wire in self.graph.wires[step.node]
                for other in self._read_by(wire, step)
            )
        return self._blocked[step]

    def _is_stuck(self, step: StepId) -> bool:
        status = self.status(step)
        return status == FAILED or (status == PENDING and self.is_blocked(step))

    def _exists(self, step: StepId) -> bool:
        """True when all that a clone stems from holds; false for what a producer that runs again has left behind."""
        for level, at in zip(
            self.graph.by_name[step.node].scope, self.graph.makers[step.node], strict=True
        ):
            maker = StepId(level.node, tuple([step.key_path[place] for place in at]))
            status = self.status(maker)
            if status != SUCCEEDED and (status == FAILED or not self._look.history(maker).lost):
                return False
        return True

    def _read_by(self, wire: Wire, step: StepId) -> Iterator[StepId]:
        """The steps that a step reads by one wire, and those whose keys its collect goes over."""
        at = dict(zip(wire.scope, wire.at, strict=True))
        over = wire.source.over if isinstance(wire.source, FromCollect) else ()
        makers = [self.graph.by_name[one.level.node] for one in over]
        for producer in (wire.producer, *makers):
            fixed = {
                place: step.key_path[at[level]]
                for place, level in enumerate(producer.scope)
                if level in at
            }
            for path in self._look.paths(producer, fixed):
                yield StepId(producer.name, path)

    def _count(self) -> None:
        self._asked += 1
        if self._asked > _MOST:
            raise TooMany


def waits_for(run: Run, step: StepId) -> Iterator[str]:
    """What a pending step still needs."""
    for wire in run.graph.wires[step.node]:
        owners = list(_owners(run, step, wire))
        left = [one for one in owners if run.status(one) not in (SUCCEEDED, SKIPPED)]
        if len(left) == 1:
            yield f"'{left[0]}'"
        elif left:
            yield f"{len(left):,} of {len(owners):,} steps of {wire.source.node}"


def _owners(run: Run, step: StepId, wire: Wire) -> Iterator[StepId]:
    """The steps whose outputs a step reads from one source; those that yield its keys where these are not sealed."""
    path = wire.path(step.key_path)
    if not isinstance(wire.source, FromCollect):
        yield StepId(wire.source.node, path[:-1] if wire.pieces else path)
        return
    paths = [path]
    for one, at in zip(wire.source.over, wire.makers, strict=True):
        makers = {
            path: StepId(one.level.node, tuple([path[place] for place in at])) for path in paths
        }
        unsealed = [maker for maker in makers.values() if run.status(maker) != SUCCEEDED]
        if unsealed:
            yield from dict.fromkeys(unsealed)
            return
        paths = [
            (*path, key)
            for path, maker in makers.items()
            for key in run.keys(one.level, maker.key_path)
        ]
    owners = (StepId(wire.source.node, path[:-1] if wire.pieces else path) for path in paths)
    yield from dict.fromkeys(owners)


def culprit(run: Run, step: StepId) -> StepId | None:
    """The first failed step that a blocked one waits for, directly or not."""
    if run.failed_at(step):
        return step
    if run.status(step) != PENDING:
        return None
    for wire in run.graph.wires[step.node]:
        for owner in _owners(run, step, wire):
            found = culprit(run, owner)
            if found is not None:
                return found
    return None
