"""Keys against ops: how each clone of each op stands, page by page, with the counts of all.

A row is a key path, a column an op that is cloned for its levels; ops that are not cloned share the first row. A page
is looked up; how many steps stand how is said by the last event of a run that has ended, and counted in the index of
any other. The whole log is read where that cannot be counted, and where rows that fit the filters are rare and cannot
be found otherwise. Both give the same rows.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import dropwhile, islice

import msgspec

from runstore.audit.census import Census
from runstore.audit.counted import Counted, counted
from runstore.audit.keys import KEY_STATES, find_node
from runstore.audit.lookup import Lookup, Narrowing, TooMany
from runstore.audit.narrowing import Like, retried, standing, towards, were_started_again
from runstore.audit.waiting_for import LookedUp
from runstore.errors import InvalidKey
from runstore.keys import KeyPath, format_step_key, parse_step_key
from runstore.log.events import Counts, RunSucceeded, StepInvalidated
from runstore.log.expanded import StepId
from runstore.log.graph import Graph, Level, Node
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.log.transitions import PENDING, STATUS_NAMES
from runstore.store import RunStore

PAGE = 50
_LOOKED_THROUGH = 400
"""Rows that do not fit the filters before folding the log is the shorter way to those that do."""
_UNSETTLED = frozenset(KEY_STATES) - {"succeeded", "skipped", "orphan"}


class Cell(msgspec.Struct, frozen=True):
    """One step."""

    op: str
    status: str
    """One of KEY_STATES."""
    attempts: int


class GridRow(msgspec.Struct, frozen=True):
    """One key path, and its step in each op."""

    levels: tuple[str, ...]
    """`node.output` of each level; empty for the ops that are not cloned."""
    key_path: KeyPath
    cells: tuple[Cell, ...]
    cursor: str
    """What to go on after."""


class KeyGrid(msgspec.Struct, frozen=True):
    """A page of the grid."""

    run_id: str
    rows: tuple[GridRow, ...]
    next: str | None
    """The cursor of the next page; None where there is none."""
    counts: Counts
    """Op -> status -> number of steps, of the whole run, whatever the filters."""


class Filter(msgspec.Struct, frozen=True):
    """Which rows are wanted."""

    ops: tuple[str, ...] = ()
    status: frozenset[str] = frozenset()
    like: str | None = None
    retried: bool = False

    @property
    def looks_at_cells(self) -> bool:
        """True where a row has to be known before it is known to be wanted."""
        return bool(self.status) or self.retried

    def wants(self, row: GridRow) -> bool:
        """Does any of its steps fit?"""
        if self.like is not None and not any(fnmatchcase(key, self.like) for key in row.key_path):
            return False
        return any(
            (not self.status or cell.status in self.status)
            and (not self.retried or cell.attempts > 1)
            for cell in row.cells
        )


def key_grid(
    store: RunStore,
    run: str = "last",
    *,
    ops: Collection[str] = (),
    status: Collection[str] = (),
    like: str | None = None,
    retried: bool = False,
    after: str | None = None,
    limit: int = PAGE,
) -> KeyGrid:
    """A page of keys × ops. Raises RunNotFound, StepNotFound; InvalidKey for what is no cursor of this grid.

    `status`, `like` (a glob over mapping keys), `retried` (more than one attempt): rows in which a step fits.
    `after`: the cursor of the page before.
    """
    summary = store.run(run)
    look = Lookup(store, summary.run_id)
    wanted = Filter(tuple(ops), frozenset(status), like, retried)
    for op in ops:
        find_node(look.frame, op)
    if after:
        _check_cursor(look, after)
    alive = summary.status == "running"
    try:
        upto = summary.events if alive else None
        page, counts = _page_looked_up(look, wanted, after, limit, alive=alive, upto=upto)
    except TooMany:
        page, counts = _page_folded(store.state(summary.run_id), wanted, after, limit, alive=alive)
    more = page[limit - 1].cursor if len(page) > limit else None
    return KeyGrid(summary.run_id, tuple(page[:limit]), more, counts)


def _check_cursor(look: Lookup, after: str) -> None:
    """Raise InvalidKey where no page can have given this cursor: what follows it would be a page of nothing."""
    groups = {str(number): nodes for number, _, nodes in _groups(look.graph, ())}
    with suppress(InvalidKey):
        number, path = parse_step_key(after)
        if number in groups and look.is_known(StepId(groups[number][0].name, path)):
            return
    raise InvalidKey(
        f"{after!r} is no cursor of run {look.run_id!r}; give the one that the page before has printed, or leave it out"
    )


def _page_looked_up(
    look: Lookup,
    wanted: Filter,
    after: str | None,
    limit: int,
    *,
    alive: bool = False,
    upto: int | None = None,
) -> tuple[list[GridRow], Counts]:
    """Each row by the index; raises TooMany where that cannot say it, or where rows that fit are rare."""
    run, states = _run(look, upto)
    counts = {op: _states(of_op, 0, alive=alive) for op, of_op in states.items()}
    of_ops = [counts.get(op, {}) for op in wanted.ops or counts]
    if wanted.status and not any(wanted.status & set(states) for states in of_ops):
        return [], counts
    rows = _looked_up(look, run, wanted, after, counts, alive=alive)
    if wanted.looks_at_cells:
        rows = _some(rows, limit + _LOOKED_THROUGH)
    return list(islice((row for row in rows if wanted.wants(row)), limit + 1)), counts


def _run(look: Lookup, upto: int | None) -> tuple[LookedUp, Counts]:
    """A run and its counts: those of its last event, or counted where that has none."""
    ended = look.frame.ended
    if ended is None:
        return counted(look, upto=upto)
    if isinstance(ended, RunSucceeded):
        return LookedUp(look), ended.counts
    if any(isinstance(event, StepInvalidated) for _, event in look.wide):
        raise TooMany  # there may be orphans, of which the last event says nothing
    failing = [node for node in look.graph.nodes if ended.counts.get(node.name, {}).get("failed")]
    return Counted(look, Census(look), failing), ended.counts


def _page_folded(
    state: RunState, wanted: Filter, after: str | None, limit: int, *, alive: bool
) -> tuple[list[GridRow], Counts]:
    remaining = Remaining(state)
    rows = _folded(state, remaining, wanted, after, alive=alive)
    counts = {one.node: _states(one.states, one.orphans, alive=alive) for one in remaining.nodes()}
    return list(islice((row for row in rows if wanted.wants(row)), limit + 1)), counts


def _some(rows: Iterator[GridRow], most: int) -> Iterator[GridRow]:
    """So many rows, then TooMany."""
    for number, row in enumerate(rows):
        if number == most:
            raise TooMany
        yield row


def _states(states: dict[str, int], orphans: int, *, alive: bool) -> dict[str, int]:
    named = {_shown(state, alive=alive): count for state, count in states.items()}
    return {**named, "orphan": orphans} if orphans else named


Group = tuple[int, tuple[Level, ...], tuple[Node, ...]]
"""(number, levels, nodes): the nodes that are cloned for the same levels, in definition order."""


def _groups(graph: Graph, ops: tuple[str, ...]) -> list[Group]:
    by_scope: dict[tuple[Level, ...], list[Node]] = {}
    for node in graph.nodes:
        by_scope.setdefault(node.scope, []).append(node)
    groups = enumerate(sorted(by_scope.items(), key=lambda pair: len(pair[0])))
    named = [
        (number, scope, tuple(node for node in nodes if not ops or node.name in ops))
        for number, (scope, nodes) in groups
    ]
    return [group for group in named if group[2]]


def _from(after: str | None, groups: list[Group]) -> Iterator[tuple[Group, KeyPath | None]]:
    """The groups that are left behind a cursor, the first of them with the key path to go on after."""
    number, path = parse_step_key(after) if after else ("", ())
    for group in groups:
        if not number or group[0] > int(number):
            yield group, None
        elif group[0] == int(number) and path:
            yield group, path


def _looked_up(
    look: Lookup,
    run: LookedUp,
    wanted: Filter,
    after: str | None,
    counts: Counts,
    *,
    alive: bool,
) -> Iterator[GridRow]:
    for group, behind in _from(after, _groups(look.graph, wanted.ops)):
        nodes = group[2]
        narrowing = _narrowing(look, run, wanted, nodes, counts)
        for path in look.paths(nodes[0], {}, behind or (), narrowing=narrowing):
            if wanted.like is None or any(fnmatchcase(key, wanted.like) for key in path):
                yield _row(
                    group, path, [_cell(look, run, node, path, alive=alive) for node in nodes]
                )


def _narrowing(
    look: Lookup, run: LookedUp, wanted: Filter, nodes: tuple[Node, ...], counts: Counts
) -> Narrowing | None:
    """Where the rows of these nodes lie that fit; None: anywhere."""
    found: list[KeyPath] | None = None
    if wanted.retried:
        found = retried(look, _retried(look, run, nodes))
    elif wanted.status:
        fitting = [node for node in nodes if wanted.status & set(counts.get(node.name, ()))]
        found = _standing(look, run, fitting, wanted.status) if nodes[0].scope else None
    if found is not None:
        return towards(nodes[0].scope, found)
    return Like(look, nodes[0], wanted.like) if wanted.like is not None else None


def _standing(
    look: Lookup, run: LookedUp, nodes: list[Node], status: frozenset[str]
) -> list[KeyPath] | None:
    """The steps of mapped nodes that may stand so; None where these may be any."""
    if not isinstance(run, Counted):
        return standing(look, nodes, status)
    found = standing(look, nodes, status - {"blocked"})
    if found is None:
        return run.unsettled(nodes) if status <= _UNSETTLED else None
    blocked = nodes if "blocked" in status else ()
    return [*found, *(path for node in blocked for path in run.blocked.get(node.name, ()))]


def _retried(look: Lookup, run: LookedUp, nodes: tuple[Node, ...]) -> list[Node]:
    """The nodes whose steps may have had more than one attempt."""
    if were_started_again(look) or not isinstance(run, Counted):
        return list(nodes)
    return [node for node in nodes if run.may_have_retried(node)]


def _cell(look: Lookup, run: LookedUp, node: Node, path: KeyPath, *, alive: bool) -> Cell:
    step = StepId(node.name, path)
    history = look.history(step)
    attempts = history.last.attempt if history.last else 0
    status = STATUS_NAMES[history.status]
    if history.status == PENDING and run.is_blocked(step):
        status = "blocked"
    return Cell(node.name, _shown(status, alive=alive), attempts)


def _shown(status: str, *, alive: bool) -> str:
    """A state as it is shown: what ran when its executor died was interrupted."""
    return "interrupted" if status == "running" and not alive else status


def _folded(
    state: RunState, remaining: Remaining, wanted: Filter, after: str | None, *, alive: bool
) -> Iterator[GridRow]:
    for group, behind in _from(after, _groups(state.graph, wanted.ops)):
        for path in _behind(behind, state.sealed_steps(group[2][0])):
            cells = [
                _of_state(state, remaining, StepId(node.name, path), alive=alive)
                for node in group[2]
            ]
            yield _row(group, path, cells)


def _behind(path: KeyPath | None, steps: Iterator[StepId]) -> Iterator[KeyPath]:
    paths = (step.key_path for step in steps)
    return paths if path is None else islice(dropwhile(lambda one: one != path, paths), 1, None)


def _of_state(state: RunState, remaining: Remaining, step: StepId, *, alive: bool) -> Cell:
    status = remaining.state_of(step)
    place = state.find(step)
    attempts = place[0].attempts[place[1]] if place else 0
    return Cell(step.node, _shown(status, alive=alive), attempts)


def _row(group: Group, path: KeyPath, cells: list[Cell]) -> GridRow:
    number, levels, _ = group
    return GridRow(tuple(map(str, levels)), path, tuple(cells), format_step_key(str(number), path))
