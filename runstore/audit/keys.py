"""Which steps an op has, and how each of them stands: the sealed keys in order, then the orphans.

Answered from the fold of the log and one row at a time, so that an op of a million clones can be paged.
"""

import datetime as dt
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase

import msgspec

from runstore.errors import StepNotFound
from runstore.keys import KeyPath, parse_step_key
from runstore.log.expanded import StepId
from runstore.log.graph import Node
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.store import RunStore

_COMPARED = 5_000  # keys that a mistyped one is compared with

KEY_STATES = (
    "succeeded",
    "failed",
    "skipped",
    "running",
    "interrupted",
    "waiting",
    "blocked",
    "pending",
    "orphan",
)


class Key(msgspec.Struct, frozen=True):
    """One step of an op."""

    step: str
    """The step key, `echo[a]`; it can be pasted into every command."""
    key_path: KeyPath
    status: str
    """One of KEY_STATES. Interrupted: running when its executor died. Waiting: to be tried again when it is due.
    Orphan: its key is not in the last seal."""
    attempts: int
    why: str = ""
    """Why a pending step is to run: never started, interrupted, failed, lost or invalidated."""
    due: dt.datetime | None = None
    """When a waiting step is."""


def keys(
    store: RunStore,
    run: str,
    op: str,
    *,
    status: Collection[str] = (),
    like: str | None = None,
) -> Iterator[Key]:
    """The steps of an op, in the order of their keys; those of one `status`, with a key `like` a glob.

    The glob is held against each mapping key of a step, as it was yielded. Raises RunNotFound, StepNotFound.
    """
    summary = store.run(run)
    state = store.state(summary.run_id)
    alive = summary.status == "running"
    yield from keys_of(state, find_node(state, op), status=status, like=like, alive=alive)


def keys_of(
    state: RunState,
    node: Node,
    *,
    status: Collection[str] = (),
    like: str | None = None,
    alive: bool,
) -> Iterator[Key]:
    """The steps of a node of a run that was read before; `alive`: the run is being executed."""
    remaining = Remaining(state)
    for step, found in _steps(state, remaining, node):
        step_status = found if alive or found != "running" else "interrupted"
        if (not status or step_status in status) and _is_like(step, like):
            place = state.find(step)
            attempts = place[0].attempts[place[1]] if place else 0
            why = remaining.why_pending(step) if step_status == "pending" else ""
            due = state.waiting.get(step) if state.waiting else None
            yield Key(str(step), step.key_path, step_status, attempts, why, due)


def find_node(state: RunState, op: str) -> Node:
    """The node of that name; raises StepNotFound with the names there are."""
    node = state.graph.by_name.get(op)
    if node is None:
        names = list(state.graph.by_name)
        close = get_close_matches(op, names, 1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise StepNotFound(
            f"run {state.run_id!r} has no op {op!r}; {meant}it has {', '.join(names)}"
        )
    return node


def find_step(state: RunState, text: str) -> StepId:
    """The step of that step key; raises InvalidKey, or StepNotFound with what to write instead."""
    name, key_path = parse_step_key(text)
    node = find_node(state, name)
    step = StepId(name, key_path)
    if state.find(step) is None:
        raise StepNotFound(
            f"run {state.run_id!r} has no step '{step}'; {known_steps(state, node, str(step))}"
        )
    return step


def known_steps(state: RunState, node: Node, asked: str) -> str:
    """What to write in place of a step key that names no step of this node."""
    if not node.scope:
        return f"{node.name!r} is one step without a key; write {node.name!r}"
    shown = [str(one) for one in state.sealed_steps(node)]
    if not shown:
        levels = ", ".join(map(str, node.scope))
        return f"the keys of {levels}, which {node.name!r} is cloned for, are not known"
    close = get_close_matches(asked, shown, 1) if len(shown) <= _COMPARED else []
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}`runstore keys {state.run_id} {node.name}` lists its {len(shown):,} keys"


def _steps(state: RunState, remaining: Remaining, node: Node) -> Iterator[tuple[StepId, str]]:
    yield from remaining.steps(node)
    for step in state.orphans(node) if node.scope else ():
        yield step, "orphan"


def _is_like(step: StepId, like: str | None) -> bool:
    return like is None or any(fnmatchcase(key, like) for key in step.key_path)
