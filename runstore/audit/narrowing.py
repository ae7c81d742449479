"""Which keys may lead to the rows that are wanted, where these are few: a walk over key paths passes by the rest.

Found in the index before the walk. It may let too much through and never too little; whoever walks looks at each row.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from runstore.audit.lookup import Choice, Lookup
from runstore.keys import KeyPath, parse_step_key
from runstore.log.events import (
    RunResumed,
    StepFailed,
    StepInvalidated,
    StepRetried,
    StepSkipped,
)
from runstore.log.graph import Level, Node

# The step of an op, or its clones: those that have yielded a key like a glob, have an event of a kind, began more often
# than once, or than they ended.
_STEP = "FROM events WHERE run = ? AND step = ?"
_CLONES = "FROM events WHERE run = ? AND step > ? || '[' AND step < ? || '\\'"
_YIELDED = "SELECT DISTINCT step {steps} AND key GLOB ?"
_OF_KIND = "SELECT DISTINCT step {steps} AND key IS NULL AND kind = ?"
_STARTED_AGAIN = """
SELECT step {steps} AND key IS NULL AND kind IN ('StepStarted', 'StepReused') GROUP BY step HAVING count(*) > 1"""
_NOT_ENDED = """
SELECT step {steps} AND key IS NULL AND kind BETWEEN 'StepFailed' AND 'StepSucceeded' AND kind <> 'StepSkipped'
GROUP BY step HAVING count(*) < 2 * count(*) FILTER (WHERE kind IN ('StepStarted', 'StepReused'))"""

_LISTED = {
    "failed": (_OF_KIND, StepFailed.__name__),
    "waiting": (_OF_KIND, StepRetried.__name__),
    "skipped": (_OF_KIND, StepSkipped.__name__),
    "running": (_NOT_ENDED,),
    "interrupted": (_NOT_ENDED,),
}
"""State -> how steps are found that may have it; not every state leaves a mark."""


class Trail:
    """Towards steps that are known: those with given keys at some places of their key path, of one node."""

    def __init__(self, places: tuple[int, ...], paths: Iterable[KeyPath]) -> None:
        self._places, self._paths = places, list(paths)
        self._by_depth: dict[int, dict[KeyPath, set[str]]] = {}

    def after(self, path: KeyPath) -> Choice | None:
        """As in `lookup.Narrowing`."""
        depth = len(path)
        known = self._by_depth.get(depth)
        if known is None:
            known = self._by_depth[depth] = self._leads(depth)
        names = known.get(tuple([path[place] for place in self._places if place < depth]))
        if names is not None and depth not in self._places:
            return None
        return Choice(None, frozenset(names or ()))

    def _leads(self, depth: int) -> dict[KeyPath, set[str]]:
        """The keys before `depth`, as far as given -> those that may stand at it."""
        found: dict[KeyPath, set[str]] = {}
        at = self._places.index(depth) if depth in self._places else None
        for path in self._paths:
            pairs = zip(self._places, path, strict=True)
            names = found.setdefault(tuple([key for place, key in pairs if place < depth]), set())
            if at is not None:
                names.add(path[at])
        return found


class Like:
    """Towards the clones of a node that have a key like a glob."""

    def __init__(self, look: Lookup, node: Node, glob: str) -> None:
        self._glob = glob
        self._wide = widened(glob)
        self._trails = [
            Trail(at, _yielded(look, level.node, self._wide))
            for level, at in zip(node.scope, look.graph.makers[node.name], strict=True)
        ]

    def after(self, path: KeyPath) -> Choice | None:
        """As in `lookup.Narrowing`."""
        if any(fnmatchcase(key, self._glob) for key in path):
            return None
        names: set[str] = set()
        for trail in self._trails[len(path) + 1 :]:
            leads = trail.after(path)
            if leads is None:
                return None
            names |= leads.names
        return Choice(self._wide, frozenset(names))


def widened(glob: str) -> str:
    """A glob of SQLite's that lets through what the glob does, and perhaps more: keys are matched by `fnmatchcase`."""
    # Both know `*` and `?`; what stands in brackets they write differently, so it may be anything here.
    return glob if "[" not in glob else glob[: glob.index("[")] + "*"


def _yielded(look: Lookup, op: str, glob: str) -> list[KeyPath]:
    """The key paths of the steps of an op that have yielded such a key."""
    return _paths(look, _YIELDED, look.graph.by_name[op], glob)


def were_started_again(look: Lookup) -> bool:
    """True for a run in which steps may have been started more than once though none of their attempts had failed."""
    return any(isinstance(event, RunResumed | StepInvalidated) for _, event in look.wide)


def retried(look: Lookup, nodes: Sequence[Node]) -> list[KeyPath]:
    """The steps of nodes that may have had more than one attempt."""
    if were_started_again(look):
        return _found(look, nodes, [(_STARTED_AGAIN,)])
    return _found(look, nodes, [(_OF_KIND, StepRetried.__name__)])


def standing(look: Lookup, nodes: Sequence[Node], status: frozenset[str]) -> list[KeyPath] | None:
    """The steps of nodes that may stand so; None where these may be any."""
    if not status <= set(_LISTED):
        return None
    return _found(look, nodes, {_LISTED[one] for one in status})


def towards(scope: tuple[Level, ...], paths: Iterable[KeyPath]) -> Trail:
    """Towards known steps of a scope."""
    depth = len(scope)
    return Trail(tuple(range(depth)), [path for path in paths if len(path) == depth])


def _found(look: Lookup, nodes: Sequence[Node], asked: Iterable[tuple[str, ...]]) -> list[KeyPath]:
    return [
        path for sql, *more in asked for node in nodes for path in _paths(look, sql, node, *more)
    ]


def _paths(look: Lookup, sql: str, node: Node, *more: str) -> list[KeyPath]:
    steps, named = (_CLONES, (node.name, node.name)) if node.scope else (_STEP, (node.name,))
    rows = look.store.query(sql.format(steps=steps), (look.number, *named, *more))
    return [parse_step_key(step)[1] for (step,) in rows]
