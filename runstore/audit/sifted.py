"""A run of which, of the many sources of a collect, only those are looked at that are still to come.

So it costs little to ask near the end of a run, where a collect over thousands waits for a few.
"""

from collections.abc import Iterator

from runstore.audit.census import Census
from runstore.audit.lookup import Lookup, TooMany
from runstore.audit.waiting_for import Left, LookedUp, left_of
from runstore.keys import KeyPath
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Node, Wire
from runstore.log.transitions import SKIPPED, SUCCEEDED

_FEW = 50


class Sifted(LookedUp):
    """As `LookedUp`; what has succeeded or was skipped is passed by."""

    most = 400

    def __init__(self, look: Lookup, census: Census) -> None:
        super().__init__(look, census.upto)
        self._census = census
        self._unsettled: dict[tuple[str, KeyPath], list[StepId]] = {}

    def left(self, step: StepId, wire: Wire) -> Left:
        """As in `Run`."""
        if not isinstance(wire.source, FromCollect):
            return left_of(self, step, wire)
        if len(wire.source.over) > 1:
            raise TooMany
        path = wire.path(step.key_path)
        below = tuple([path[place] for place in wire.makers[0]])
        level = wire.source.over[0].level
        if wire.pieces or self.status(StepId(level.node, below)) != SUCCEEDED:
            return left_of(self, step, wire)
        left = self._of(wire.producer, path)
        of = self._census.keys(level, below)
        return Left(len(left), of, left[0] if len(left) == 1 else None)

    def _read_by(self, wire: Wire, step: StepId) -> Iterator[StepId]:
        """Of the steps that are read those that may keep a step from running."""
        for producer, keys in self._fixed(wire, step):
            path = tuple([keys[place] for place in sorted(keys)])
            if len(path) == len(producer.scope):
                yield StepId(producer.name, path)
            elif sorted(keys) == list(range(len(path))):
                yield from self._of(producer, path)
            else:
                raise TooMany

    def _of(self, node: Node, below: KeyPath) -> list[StepId]:
        """The clones of a node below a key path that are neither succeeded nor skipped."""
        found = self._unsettled.get((node.name, below))
        if found is None:
            paths = self._census.unsettled(node, below, _FEW)
            steps = [StepId(node.name, path) for path in paths]
            found = self._unsettled[node.name, below] = [
                step
                for step in steps
                if self._look.is_sealed(step) and self.status(step) not in (SUCCEEDED, SKIPPED)
            ]
        return found
