"""A run of which many steps are known at once, counted in the index: what is blocked, what a collect still waits for.

It asks for failed steps first and goes down from these; a run in which nothing failed has nothing that is blocked.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property

from runstore.audit.census import Census
from runstore.audit.lookup import Lookup, TooMany
from runstore.audit.waiting_for import Left, LookedUp, left_of, owners_of
from runstore.keys import KeyPath
from runstore.log.blocked import blocked_by
from runstore.log.events import Counts
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Level, Node, Wire
from runstore.log.transitions import SUCCEEDED

_UNSETTLED = 20_000
"""Of so many steps finding each by its keys is shorter than looking at all."""


class Counted(LookedUp):
    """As `LookedUp`; `failing`: the nodes whose steps may have failed, all that matter of them."""

    most = 1_000

    def __init__(self, look: Lookup, census: Census, failing: Iterable[Node]) -> None:
        super().__init__(look, census.upto)
        self._census, self._failing = census, tuple(failing)

    @cached_property
    def failures(self) -> dict[StepId, int]:
        """The steps that have failed in this epoch, and the seqs of the events that say so."""
        return {
            step: seq for node in self._failing for step, seq in self._census.failures(node).items()
        }

    @cached_property
    def blocked(self) -> dict[str, set[KeyPath]]:
        """Node -> key paths of its blocked steps."""
        return blocked_by(self, self.failures)

    def failed_at(self, step: StepId) -> int:
        """As in `Run`."""
        return self.failures.get(step, 0)

    def is_blocked(self, step: StepId) -> bool:
        """As in `Run`."""
        return step.key_path in self.blocked.get(step.node, ())

    def may_be_stuck(self, step: StepId) -> bool:
        """As in `Run`."""
        if not self._census.keys_stand:
            return True
        return step in self.failures or self.is_blocked(step)

    def may_have_retried(self, node: Node) -> bool:
        """As `Census.may_have_retried`."""
        return self._census.may_have_retried(node)

    def unsettled(self, nodes: Iterable[Node]) -> list[KeyPath] | None:
        """The clones of nodes that may have something left to do; None where these are not few."""
        try:
            return [
                path
                for node in nodes
                if node.scope
                for path in self._census.unsettled(node, (), _UNSETTLED)
            ]
        except TooMany:
            return None

    def keys(self, level: Level, maker_path: KeyPath) -> Iterator[str]:
        """As in `Run`."""
        return self._look.keys(level, maker_path)

    def left(self, step: StepId, wire: Wire) -> Left:
        """As in `Run`."""
        if not isinstance(wire.source, FromCollect):
            return left_of(self, step, wire)
        path, count = wire.path(step.key_path), 1
        for depth, (one, at) in enumerate(zip(wire.source.over, wire.makers, strict=True)):
            maker = self.graph.by_name[one.level.node]
            if depth and at != tuple(range(len(path) + depth)):
                raise TooMany  # its keys are those of a product
            if not depth:
                below = tuple([path[place] for place in at])
                if self.status(StepId(maker.name, below)) != SUCCEEDED:
                    return left_of(self, step, wire)
            else:
                below, tally = path, self._census.tally(maker, path)
                if tally["succeeded"] < count:
                    unsealed = count - tally["succeeded"]
                    left = unsealed - tally["skipped"]
                    return self._left(step, wire, maker, path, left, unsealed)
            count = self._census.keys(one.level, below)
        if wire.pieces:
            return Left(0, count, None)
        tally = self._census.tally(wire.producer, path)
        left = count - tally["succeeded"] - tally["skipped"]
        return self._left(step, wire, wire.producer, path, left, count)

    def _left(
        self, step: StepId, wire: Wire, node: Node, below: KeyPath, left: int, of: int
    ) -> Left:
        if left != 1:
            return Left(left, of, None)
        settled = self._census.settled(node, below)
        for owner in owners_of(self, step, wire):
            if str(owner) not in settled:
                return Left(1, of, owner)
        raise TooMany  # it went on meanwhile


def counted(look: Lookup, *, upto: int | None = None) -> tuple[Counted, Counts]:
    """A run, and how many steps of each op stand how; raises TooMany where the index does not say it."""
    census = Census(look, upto)
    tallies = {node.name: census.tally(node) for node in look.graph.nodes}
    failing = [node for node in look.graph.nodes if tallies[node.name]["failed"]]
    run = Counted(look, census, failing)
    counts = {
        node.name: _states(
            tallies[node.name], census.clones(node.scope), len(run.blocked.get(node.name, ()))
        )
        for node in look.graph.nodes
    }
    return run, counts


def _states(tally: Counter[str], clones: int, blocked: int) -> dict[str, int]:
    pending = clones - tally.total() - blocked
    if pending < 0:
        raise TooMany  # the log is not what it should be; whoever reads it whole can say why
    states = {"pending": pending, **tally, "blocked": blocked}
    return {state: count for state, count in states.items() if count}
