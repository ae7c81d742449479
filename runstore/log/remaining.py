"""(RunState) -> what is done, failed, skipped, blocked and left: what resume, dry-run, explain and audit all ask.

Pure. What is left to do is the sealed keys without those that succeeded, never a list of steps guessed from what has
events; *blocked* is derived here and is never an event (rule F2).
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator

import msgspec

from runstore.keys import KeyPath
from runstore.log.blocked import blocked_by
from runstore.log.events import Counts
from runstore.log.expanded import StepId
from runstore.log.graph import Node
from runstore.log.state import RunState
from runstore.log.transitions import PENDING, SKIPPED, STATUS_NAMES, WHY_NAMES


class NodeProgress(msgspec.Struct, frozen=True):
    """One node of a run, counted."""

    node: str
    mapped: bool
    sealed: int | None
    """How many steps are known; None while none of the keys that the node is cloned for are sealed."""
    states: dict[str, int]
    """State -> number of steps: succeeded, failed, skipped, running, waiting, blocked, pending. Without zeros."""
    pending: dict[str, int]
    """Why pending -> number: never started, interrupted, failed, lost, invalidated. Without zeros."""
    orphans: int = 0
    unsealed: int = 0
    """At how many key paths it is not known yet which keys there will be."""
    due: dt.datetime | None = None
    """When the first of its steps that wait for a retry is due."""

    @property
    def done(self) -> int:
        """Steps that succeeded or were skipped."""
        return self.states.get("succeeded", 0) + self.states.get("skipped", 0)

    @property
    def is_done(self) -> bool:
        """True when all its steps are known, and done."""
        return not self.unsealed and self.done == self.sealed


class Remaining:
    """A run's progress, node by node."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._blocked = blocked_by(state, state.failures)

    def nodes(self) -> list[NodeProgress]:
        """Every node in definition order."""
        return [self.node(node) for node in self._state.graph.nodes]

    def node(self, node: Node) -> NodeProgress:
        """One node, counted."""
        states: Counter[str] = Counter()
        why: Counter[str] = Counter()
        expanded = unsealed = 0
        for prefix, known in self._prefixes(node):
            if known:
                expanded += 1
                self._count(node, prefix, states, why)
            else:
                unsealed += 1
        blocked = len(self._blocked.get(node.name, ()))
        if blocked:
            states["blocked"], states["pending"] = blocked, states["pending"] - blocked
        total = states.total()
        return NodeProgress(
            node.name,
            bool(node.scope),
            None if unsealed and not expanded else total,
            dict(+states),
            dict(+why),
            len(self._state.orphans(node)) if node.scope else 0,
            unsealed,
            self._first_due(node) if states["waiting"] else None,
        )

    def _first_due(self, node: Node) -> dt.datetime:
        return min(due for step, due in self._state.waiting.items() if step.node == node.name)

    def _count(self, node: Node, prefix: KeyPath, states: Counter[str], why: Counter[str]) -> None:
        columns = self._state.steps(node, prefix)
        expansion = self._state.expansion_under(node, prefix) if node.scope else None
        order = expansion.order if expansion else range(1)
        whole = isinstance(order, range) and len(order) == len(columns.status)
        counted = (
            {status: columns.status.count(status) for status in range(len(STATUS_NAMES))}
            if whole
            else Counter(columns.status[slot] for slot in order)
        )
        for status, count in counted.items():
            if count:
                states[STATUS_NAMES[status]] += count
        if counted[PENDING] > 0:
            why.update(
                WHY_NAMES[columns.why[slot]] for slot in order if columns.status[slot] == PENDING
            )

    def _prefixes(self, node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, bool]]:
        """(key path without its last key, True) where a node's keys are known and hold, (what is known of it, False)
        where they are not; nothing where what it is cloned for was skipped (rule X3).
        """
        if not node.scope:
            yield (), True
            return
        maker = self._state.maker(node, path)
        if not self._state.holds(maker):
            if self._state.status(maker) != SKIPPED:
                yield path, False
        elif len(path) == len(node.scope) - 1:
            yield path, True
        else:
            expansion = self._state.expansion_under(node, path)
            for key in expansion.ordered_keys() if expansion else ():
                yield from self._prefixes(node, (*path, key))

    def _why(self, step: StepId) -> int:
        place = self._state.find(step)
        return place[0].why[place[1]] if place else 0

    def steps(self, node: Node) -> Iterator[tuple[StepId, str]]:
        """(step, state) of every sealed step of a node, in key order."""
        for prefix, known in self._prefixes(node):
            expansion = self._state.expansion_under(node, prefix) if known and node.scope else None
            if expansion is not None:
                for key in expansion.ordered_keys():
                    step = StepId(node.name, (*prefix, key))
                    yield step, self.state_of(step)
            elif known:
                yield StepId(node.name, ()), self.state_of(StepId(node.name, ()))

    def state_of(self, step: StepId) -> str:
        """The state of one step, as in `NodeProgress.states`."""
        if step.key_path in self._blocked.get(step.node, ()):
            return "blocked"
        return STATUS_NAMES[self._state.status(step)]

    def why_pending(self, step: StepId) -> str:
        """Why a pending step will run: never started, interrupted, failed, lost or invalidated."""
        return WHY_NAMES[self._why(step)]

    def counts(self) -> Counts:
        """Node -> state -> number of steps, as the run's last event carries them: what waits is pending then."""
        return {progress.node: _without_waits(progress.states) for progress in self.nodes()}


def _without_waits(states: dict[str, int]) -> dict[str, int]:
    waiting = states.get("waiting", 0)
    if not waiting:
        return states
    rest = {state: count for state, count in states.items() if state != "waiting"}
    return {**rest, "pending": rest.get("pending", 0) + waiting}
