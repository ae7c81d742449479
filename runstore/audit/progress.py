"""How far a run is, in one line: `213/598 clones of summarise done`.

A run that has ended says it in its last event, so that a list of a thousand finished runs reads two thousand rows. One
that has not is counted in the index, and folded only where it cannot be.
"""

import msgspec

from runstore.audit.counted import counted
from runstore.audit.lookup import Lookup, TooMany
from runstore.errors import FormatTooNew, LogDamaged
from runstore.log.events import Counts, RunCancelled, RunFailed, RunStarted, RunSucceeded
from runstore.log.graph import Graph, Node
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.store import RunStore, RunSummary


class Progress(msgspec.Struct, frozen=True):
    """How far a run is, by its deepest mapped op that has work left; by its ops where there is none."""

    node: str
    """Empty: `done` and `total` count ops."""
    done: int
    total: int
    failed: int
    """Failed steps of all ops."""

    def __str__(self) -> str:
        what = f"clones of {self.node}" if self.node else "ops"
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.done:,}/{self.total:,} {what} done{failed}"


def progress(store: RunStore, run: RunSummary) -> Progress | None:
    """How far a listed run is; None where this version cannot read its log."""
    try:
        if run.status not in ("running", "crashed"):
            last = store.event(run.run_id, run.events)
            if isinstance(last, RunSucceeded | RunFailed | RunCancelled):
                first = store.event(run.run_id, 1)
                if isinstance(first, RunStarted):
                    return _from_counts(first.graph, last.counts)
        return _unended(store, run)
    except (FormatTooNew, LogDamaged):
        return None


def _unended(store: RunStore, run: RunSummary) -> Progress:
    # Counting reads no event: what a newer version has appended is found by the last.
    store.event(run.run_id, run.events)
    look = Lookup(store, run.run_id)
    try:
        counts = counted(look, upto=run.events if run.status == "running" else None)[1]
    except TooMany:
        return progress_of(store.state(run.run_id))
    return _from_counts(look.graph, counts)


def progress_of(state: RunState) -> Progress:
    """How far a run is, from its state."""
    return _from_counts(state.graph, Remaining(state).counts())


def _from_counts(graph: Graph, counts: Counts) -> Progress:
    failed = sum(states.get("failed", 0) for states in counts.values())
    unfinished = [node for node in graph.nodes if node.scope and _left(node, counts) > 0]
    if unfinished:
        deepest = max(unfinished, key=lambda node: graph.depth[node.name])
        states = counts[deepest.name]
        return Progress(deepest.name, _done(states), sum(states.values()), failed)
    finished = [node for node in graph.nodes if _is_finished(node, counts)]
    return Progress("", len(finished), len(graph.nodes), failed)


def _done(states: dict[str, int]) -> int:
    return states.get("succeeded", 0) + states.get("skipped", 0)


def _left(node: Node, counts: Counts) -> int:
    states = counts.get(node.name, {})
    return sum(states.values()) - _done(states)


def _is_finished(node: Node, counts: Counts) -> bool:
    # A mapped op without steps is finished once its level is sealed empty, which its producer's success says.
    if node.scope and not counts.get(node.name):
        return all(
            _done(counts.get(level.node, {})) and not counts.get(level.node, {}).get("failed")
            for level in node.scope
        )
    return bool(counts.get(node.name)) and not _left(node, counts)
