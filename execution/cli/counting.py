"""How far a living run is, counted from the columns of its state: cheap enough to ask ten times a second.

The cost grows with the ops and the failures of a run, not with its steps.
"""

from collections import Counter
from dataclasses import dataclass

from runstore.log.state import RunState


@dataclass(frozen=True)
class OpCount:
    """One op of a living run."""

    node: str
    mapped: bool
    depth: int
    sealed: int | None
    """None while its keys are not known."""
    settled: int
    """Succeeded or skipped, now or in an earlier epoch."""
    failed: int
    waiting: int = 0
    """To be tried again when they are due."""
    is_closed: bool = True
    """No more keys can come: all that yields them has ended."""

    @property
    def left(self) -> int:
        """Steps that have not ended."""
        return max(0, (self.sealed or 0) - self.settled - self.failed)


def count_ops(state: RunState) -> list[OpCount]:
    """Every op in definition order; also while another thread applies events."""
    failed = Counter(step.node for step in list(state.failures))
    waiting = Counter(step.node for step in list(state.waiting))
    complete: set[str] = set()
    counts = []
    for node in state.graph.nodes:
        name = node.name
        is_closed = all(level.node in complete for level in node.scope)
        sealed, settled = state.tally(node)
        if is_closed and sealed is not None and settled >= sealed:
            complete.add(name)
        counts.append(
            OpCount(
                name,
                bool(node.scope),
                state.graph.depth[name],
                sealed,
                settled,
                failed[name],
                waiting[name],
                is_closed,
            )
        )
    return counts


def progress_text(ops: list[OpCount]) -> str:
    """`213/598 clones of summarise done`, of the deepest mapped op with work left; of ops where there is none."""
    failed = sum(op.failed for op in ops)
    after = f", {failed:,} failed" if failed else ""
    waiting = sum(op.waiting for op in ops)
    after += f", {waiting:,} waiting for a retry" if waiting else ""
    mapped = [op for op in ops if op.mapped and op.left]
    if mapped:
        op = max(mapped, key=lambda one: one.depth)
        return f"{op.settled:,}/{op.sealed or 0:,} clones of {op.node} done{after}"
    done = sum(op.sealed is not None and op.settled == op.sealed for op in ops)
    return f"{done:,}/{len(ops):,} ops done{after}"
