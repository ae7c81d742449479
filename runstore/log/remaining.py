"""(RunState) -> what is done, failed, skipped, blocked and left: what resume, dry-run, explain and audit all ask.

Pure. What is left to do is the sealed keys without those that succeeded, never a list of steps guessed from what has
events; *blocked* is derived here and is never an event (rule F2).
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator

import msgspec

from runstore.keys import KeyPath
from runstore.log.events import Counts
from runstore.log.graph import FromCollect, FromOutput, Node
from runstore.log.state import RunState, StepId
from runstore.log.transitions import FAILED, PENDING, SKIPPED, STATUS_NAMES, SUCCEEDED, WHY_NAMES


class NodeProgress(msgspec.Struct, frozen=True):
    """One node of a run, counted."""

    node: str
    mapped: bool
    sealed: int | None
    """How many steps the node has; None while the keys that it is cloned for are not sealed."""
    states: dict[str, int]
    """State -> number of steps: succeeded, failed, skipped, running, waiting, blocked, pending. Without zeros."""
    pending: dict[str, int]
    """Why pending -> number: never started, interrupted, failed, lost, invalidated. Without zeros."""
    orphans: int = 0
    due: dt.datetime | None = None
    """When the first of its steps that wait for a retry is due."""

    @property
    def done(self) -> int:
        """Steps that succeeded or were skipped."""
        return self.states.get("succeeded", 0) + self.states.get("skipped", 0)


class Remaining:
    """A run's progress, node by node."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._blocked: dict[str, set[KeyPath]] = {}
        self._closed: set[str] = set()
        for node in state.graph.nodes:
            self._find_blocked(node)

    def nodes(self) -> list[NodeProgress]:
        """Every node in definition order."""
        return [self.node(node) for node in self._state.graph.nodes]

    def node(self, node: Node) -> NodeProgress:
        """One node, counted."""
        mapped = bool(node.scope)
        if not self.is_expanded(node):
            closed = {"blocked": 1} if node.name in self._closed and not mapped else {}
            sealed = 0 if self._is_skipped(node) else None
            orphans = len(self._state.orphans(node)) if mapped else 0
            return NodeProgress(node.name, mapped, sealed, closed, {}, orphans)
        states: Counter[str] = Counter()
        why: Counter[str] = Counter()
        for prefix in self._state.prefixes(node):
            self._count(node, prefix, states, why)
        orphans = len(list(self._state.steps_of(node))) - sum(states.values()) if mapped else 0
        return NodeProgress(
            node.name,
            mapped,
            sum(states.values()),
            dict(states),
            dict(why),
            orphans,
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
        blocked = len(self._blocked.get(node.name, ()))
        counted[PENDING] -= blocked
        states.update({STATUS_NAMES[status]: count for status, count in counted.items() if count})
        if blocked:
            states["blocked"] += blocked
        if counted[PENDING] > 0:
            why.update(
                WHY_NAMES[columns.why[slot]] for slot in order if columns.status[slot] == PENDING
            )

    def is_expanded(self, node: Node) -> bool:
        """True once the keys that a node is cloned for are sealed and still hold."""
        return all(self._holds(StepId(level.node, ())) for level in node.scope)

    def _holds(self, producer: StepId) -> bool:
        status = self._state.status(producer)
        return status == SUCCEEDED or (status != FAILED and producer in self._state.lost)

    def _is_skipped(self, node: Node) -> bool:
        """True where what a node is cloned for was skipped: it has no steps (rule X3)."""
        levels = [StepId(level.node, ()) for level in node.scope]
        return any(self._state.status(step) == SKIPPED for step in levels)

    def _why(self, step: StepId) -> int:
        place = self._state.find(step)
        return place[0].why[place[1]] if place else 0

    def steps(self, node: Node) -> Iterator[tuple[StepId, str]]:
        """(step, state) of every sealed step of a node, in key order."""
        if not self.is_expanded(node):
            return
        blocked = self._blocked.get(node.name, set())
        for step in self._state.sealed_steps(node):
            state = STATUS_NAMES[self._state.status(step)]
            yield step, "blocked" if step.key_path in blocked and state == "pending" else state

    def state_of(self, step: StepId) -> str:
        """The state of one step, as in `NodeProgress.states`."""
        if step.node in self._closed or step.key_path in self._blocked.get(step.node, ()):
            return "blocked"
        return STATUS_NAMES[self._state.status(step)]

    def why_pending(self, step: StepId) -> str:
        """Why a pending step will run: never started, interrupted, failed, lost or invalidated."""
        return WHY_NAMES[self._why(step)]

    def counts(self) -> Counts:
        """Node -> state -> number of steps, as the run's last event carries them: what waits is pending then."""
        return {progress.node: _without_waits(progress.states) for progress in self.nodes()}

    # Blocked: a source has failed, or is itself blocked

    def _find_blocked(self, node: Node) -> None:
        paths: set[KeyPath] = set()
        for source in node.sources():
            stuck = self._stuck(source)
            if not stuck:
                continue
            producer = self._state.graph.by_name[source.node]
            if isinstance(source, FromOutput) and producer.scope == node.scope:
                paths |= stuck
            else:
                paths |= {step.key_path for step in self._all_steps(node)}
        blocked = {path for path in paths if self._state.status(StepId(node.name, path)) == PENDING}
        if blocked:
            self._blocked[node.name] = blocked
        if node.scope and any(self._is_stuck(StepId(level.node, ())) for level in node.scope):
            self._closed.add(node.name)

    def _stuck(self, source: FromOutput | FromCollect) -> set[KeyPath]:
        stuck = {step.key_path for step in self._state.failures if step.node == source.node}
        stuck |= self._blocked.get(source.node, set())
        if source.node in self._closed:
            stuck.add(())
        return stuck

    def _is_stuck(self, step: StepId) -> bool:
        return (
            self._state.status(step) == FAILED
            or step.key_path in self._blocked.get(step.node, ())
            or step.node in self._closed
        )

    def _all_steps(self, node: Node) -> Iterator[StepId]:
        return self._state.sealed_steps(node)


def _without_waits(states: dict[str, int]) -> dict[str, int]:
    waiting = states.get("waiting", 0)
    if not waiting:
        return states
    rest = {state: count for state, count in states.items() if state != "waiting"}
    return {**rest, "pending": rest.get("pending", 0) + waiting}
