"""Clones by key, over all runs: where has this key occurred, and what came of it?

The keys are read from the index alone; what became of a clone is looked up when it is asked for.
"""

import datetime as dt
from collections.abc import Iterator
from fnmatch import fnmatchcase

import msgspec

from runstore.audit.lookup import Lookup, number_of
from runstore.audit.narrowing import widened
from runstore.errors import FormatTooNew, LogDamaged
from runstore.keys import KeyPath, parse_step_key
from runstore.log.expanded import StepId
from runstore.log.graph import Level, Node
from runstore.log.transitions import STATUS_NAMES
from runstore.store import RunStore, RunSummary

# The pieces with such a key: (the step that yielded them, the key), from the index, each once.
_KEYS = "SELECT DISTINCT step, key FROM events WHERE run = ? AND step IS NOT NULL AND key GLOB ? ORDER BY step, key"


class Match(msgspec.Struct, frozen=True):
    """A clone whose key fits."""

    run_id: str
    step: str
    status: str
    """running, also where its executor has died."""
    attempts: int
    orphan: bool
    """The last seal does not hold its key."""
    started: dt.datetime | None
    """Its last attempt."""


def search(
    store: RunStore, key: str, *, op: str | None = None, since: dt.datetime | None = None
) -> Iterator[Match]:
    """The clones of all runs, newest first, of which a mapping key fits a glob (`*`, `?`, `[…]`, `[!…]`; case matters).

    `op`: only of that op; `since`: only runs that were started then or later. Runs that cannot be read are left out.
    """
    for run in reversed(store.runs()):
        if since is None or run.started >= since:
            yield from _in_run(store, run, key, op)


def _in_run(store: RunStore, run: RunSummary, key: str, op: str | None) -> Iterator[Match]:
    found = store.query(_KEYS, (number_of(store, run.run_id), widened(key)))
    pieces = [(maker, one) for maker, one in found if fnmatchcase(one, key)]
    if not pieces:
        return
    try:
        look = Lookup(store, run.run_id)
    except (FormatTooNew, LogDamaged):
        return
    seen = set()
    for maker, one in pieces:
        for step in _clones(look, StepId(*parse_step_key(maker)), one, op):
            if step not in seen:
                seen.add(step)
                yield _match(look, step)


def _clones(look: Lookup, maker: StepId, key: str, op: str | None) -> Iterator[StepId]:
    """The clones that have this key of that maker somewhere in their key path."""
    for node in look.graph.nodes:
        if op is not None and node.name != op:
            continue
        for level in node.scope:
            if level.node == maker.node:
                for path in _paths(look, node, level, maker, key):
                    yield StepId(node.name, path)


def _paths(look: Lookup, node: Node, level: Level, maker: StepId, key: str) -> Iterator[KeyPath]:
    depth = node.scope.index(level)
    if not look.piece(level, maker.key_path, key)[0]:
        return  # of another output of the maker, or never sealed
    fixed = dict(zip(look.graph.makers[node.name][depth], maker.key_path, strict=True))
    yield from look.paths(node, {**fixed, depth: key})


def _match(look: Lookup, step: StepId) -> Match:
    history = look.history(step)
    last = history.last
    return Match(
        look.run_id,
        str(step),
        STATUS_NAMES[history.status],
        last.attempt if last else 0,
        not look.is_sealed(step),
        last.started if last else None,
    )
