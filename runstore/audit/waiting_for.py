"""What a step that has not begun waits for, and whether a step that failed keeps it from ever beginning.

Asked of the few steps that it depends on, each looked up by the index; where these are many, as those of a large
collect, of a run that is counted (`counted.py`), or of the fold of the whole log. All say the same.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from runstore.audit.history import History
from runstore.audit.lookup import Lookup, TooMany
from runstore.keys import KeyPath
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Graph, Level, Node, Wire
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.log.transitions import FAILED, PENDING, SKIPPED, SUCCEEDED


class Left(NamedTuple):
    """What of a source is still to come."""

    steps: int
    of: int
    """Of so many steps."""
    only: StepId | None
    """Where it is one, which."""


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

    def may_be_stuck(self, step: StepId) -> bool:
        """False for a step of which it is known that neither it nor anything that it needs has failed."""

    def left(self, step: StepId, wire: Wire) -> Left:
        """What of a source of a step is still to come."""


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

    def may_be_stuck(self, step: StepId) -> bool:
        """As in `Run`."""
        return True

    def left(self, step: StepId, wire: Wire) -> Left:
        """As in `Run`."""
        return left_of(self, step, wire)


class LookedUp:
    """A run that is asked step by step; raises TooMany where that takes too long. `upto`: as in `Census`."""

    most = 100
    """Steps and keys that are looked up before counting them is the shorter way."""

    def __init__(self, look: Lookup, upto: int | None = None) -> None:
        self._look, self._upto = look, upto
        self._asked = 0
        self._blocked: dict[StepId, bool] = {}

    @property
    def graph(self) -> Graph:
        """As in `Run`."""
        return self._look.graph

    def status(self, step: StepId) -> int:
        """As in `Run`."""
        self._count()
        return self._history(step).status

    def keys(self, level: Level, maker_path: KeyPath) -> Iterator[str]:
        """As in `Run`."""
        for key in self._look.keys(level, maker_path):
            self._count()
            yield key

    def failed_at(self, step: StepId) -> int:
        """As in `Run`."""
        history = self._history(step)
        return history.last.ended_seq if history.status == FAILED and history.last else 0

    def is_blocked(self, step: StepId) -> bool:
        """As in `Run`."""
        ended = self._look.frame.ended
        if ended is not None and not ended.counts.get(step.node, {}).get("blocked"):
            return False
        if step not in self._blocked:
            node = self.graph.by_name[step.node]
            self._blocked[step] = self.exists(node, step) and any(
                self._is_stuck(other)
                for wire in self.graph.wires[step.node]
                for other in self._read_by(wire, step)
            )
        return self._blocked[step]

    def may_be_stuck(self, step: StepId) -> bool:
        """As in `Run`."""
        return True

    def left(self, step: StepId, wire: Wire) -> Left:
        """As in `Run`."""
        return left_of(self, step, wire)

    def _is_stuck(self, step: StepId) -> bool:
        status = self.status(step)
        return status == FAILED or (status == PENDING and self.is_blocked(step))

    def exists(self, node: Node, step: StepId) -> bool:
        """As `RunState.exists`."""
        for level, at in zip(node.scope, self.graph.makers[node.name], strict=True):
            maker = StepId(level.node, tuple([step.key_path[place] for place in at]))
            status = self.status(maker)
            if status != SUCCEEDED and (status == FAILED or not self._history(maker).lost):
                return False
        return True

    def sealed_steps(self, node: Node, keys: Mapping[int, str]) -> Iterator[StepId]:
        """As `RunState.sealed_steps`."""
        for path in self._look.paths(node, keys):
            self._count()
            step = StepId(node.name, path)
            if not keys or self._look.is_sealed(step):
                yield step

    def _read_by(self, wire: Wire, step: StepId) -> Iterator[StepId]:
        """The steps that a step reads by one wire, and those whose keys its collect goes over."""
        for producer, keys in self._fixed(wire, step):
            for path in self._look.paths(producer, keys):
                yield StepId(producer.name, path)

    def _fixed(self, wire: Wire, step: StepId) -> Iterator[tuple[Node, dict[int, str]]]:
        """The nodes that a step reads by one wire, each with the keys at places of the key paths that it reads."""
        at = dict(zip(wire.scope, wire.at, strict=True))
        over = wire.source.over if isinstance(wire.source, FromCollect) else ()
        for node in (wire.producer, *(self.graph.by_name[one.level.node] for one in over)):
            places = enumerate(node.scope)
            yield node, {place: step.key_path[at[level]] for place, level in places if level in at}

    def _history(self, step: StepId) -> History:
        return self._look.history(step, self._upto)

    def _count(self) -> None:
        self._asked += 1
        if self._asked > self.most:
            raise TooMany


def waits_for(run: Run, step: StepId) -> Iterator[str]:
    """What a pending step still needs."""
    for wire in run.graph.wires[step.node]:
        left = run.left(step, wire)
        if left.only is not None:
            yield f"'{left.only}'"
        elif left.steps:
            yield f"{left.steps:,} of {left.of:,} steps of {wire.source.node}"


def left_of(run: Run, step: StepId, wire: Wire) -> Left:
    """What of a source is still to come, each of its steps asked how it stands."""
    owners = list(owners_of(run, step, wire))
    left = [one for one in owners if run.status(one) not in (SUCCEEDED, SKIPPED)]
    return Left(len(left), len(owners), left[0] if len(left) == 1 else None)


def owners_of(run: Run, step: StepId, wire: Wire) -> Iterator[StepId]:
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
        for owner in owners_of(run, step, wire):
            found = culprit(run, owner) if run.may_be_stuck(owner) else None
            if found is not None:
                return found
    return None
