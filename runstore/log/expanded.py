"""The expanded graph: which steps a run has, by the keys that were sealed, and where the facts about them stand.

It asks nothing of events: `RunState` tells it what was sealed. A step is found by its node and its key path; key paths
are walked level by level, each level offering the keys that its producer was sealed with at that path (rule D7).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from runstore.keys import KeyPath, format_step_key
from runstore.log.columns import Expansion, OpenExpansion, Steps
from runstore.log.graph import Graph, Level, Node
from runstore.log.transitions import PENDING

_ANY: Final[dict[int, str]] = {}
_IN_ORDER: Final = tuple(range(64))
"""The places of a key path, as a producer has them whose levels stand in the same order; almost all do."""


class StepId(NamedTuple):
    """A step: a node at a key path."""

    node: str
    key_path: KeyPath

    def __str__(self) -> str:
        return format_step_key(self.node, self.key_path)


class ExpandedGraph:
    """The nodes of a graph, cloned per sealed key."""

    def __init__(self) -> None:
        self.graph = Graph("", ())
        self._expansions: dict[tuple[str, str, KeyPath], Expansion] = {}
        self._steps: dict[str, dict[KeyPath, Steps]] = {}
        self._lookup: dict[tuple[str, KeyPath], tuple[Expansion | None, Steps]] = {}
        self._has_orphans = False

    # One step

    def status(self, step: StepId) -> int:
        """PENDING, RUNNING, SUCCEEDED, FAILED, SKIPPED or WAITING; PENDING for a step that is not known (yet)."""
        place = self.find(step)
        return place[0].status[place[1]] if place else PENDING

    def find(self, step: StepId) -> tuple[Steps, int] | None:
        """The columns and the slot of a step; None where its key is not sealed or its node does not exist."""
        node, key_path = step
        found = self._lookup.get((node, key_path[:-1])) or self._look_up(node, key_path)
        if found is None:
            return None
        expansion, columns = found
        if expansion is None or not key_path:
            return (columns, 0) if expansion is None and not key_path else None
        slot = expansion.keys.get(key_path[-1])
        return None if slot is None else (columns, slot)

    def is_last(self, step: StepId) -> bool:
        """True where, of the clones for the keys of an expansion to which a step belongs, none is left to settle."""
        node, key_path = step
        found = self._lookup.get((node, key_path[:-1])) or self._look_up(node, key_path)
        return found is None or found[0] is None or found[1].settled >= len(found[0].order)

    def _look_up(self, name: str, key_path: KeyPath) -> tuple[Expansion | None, Steps] | None:
        """Remember where the steps of a node below a key path are; forgotten when keys are sealed."""
        node = self.graph.by_name.get(name)
        if node is None or len(node.scope) != len(key_path):
            return None
        prefix = key_path[:-1]
        if not self._are_known(node, prefix):
            return None
        expansion = self.expansion_under(node, prefix) if node.scope else None
        if node.scope and expansion is None:
            return None
        found = (expansion, self.steps(node, prefix))
        self._lookup[name, prefix] = found
        return found

    def _are_known(self, node: Node, path: KeyPath) -> bool:
        """True when every key of a path, or of its beginning, was sealed once."""
        expansions = [self.expansion_under(node, path[:depth]) for depth in range(len(path))]
        return all(
            expansion is not None and key in expansion.keys
            for key, expansion in zip(path, expansions, strict=True)
        )

    def steps(self, node: Node, prefix: KeyPath) -> Steps:
        """The columns of a node's steps below `prefix`, all its key path but the last key."""
        below = self._steps.setdefault(node.name, {})
        columns = below.get(prefix)
        if columns is None:
            expansion = self.expansion_under(node, prefix) if node.scope else None
            columns = Steps(node, len(expansion.keys) if expansion else not node.scope)
            if expansion or not node.scope:  # without keys there is nothing to remember
                below[prefix] = columns
        return columns

    def tally(self, node: Node) -> tuple[int | None, int]:
        """(sealed, settled) steps of a node; sealed is None while no keys are known. Any thread may ask."""
        below = self._steps.get(node.name, {})
        settled = sum(columns.settled for columns in list(below.values()))
        if not node.scope:
            return 1, settled
        expansions = [self.expansion_under(node, prefix) for prefix in self.prefixes(node)]
        known = [len(expansion) for expansion in expansions if expansion is not None]
        return (sum(known) if known else None), settled

    def expansion(self, level: Level, producer_path: KeyPath = ()) -> Expansion | None:
        """The keys that a dynamic output was last sealed with; None until its producer has succeeded once."""
        return self._expansions.get((level.node, level.output, producer_path))

    def expansion_under(self, node: Node, prefix: KeyPath) -> Expansion | None:
        """The keys that a mapped node is cloned for below `prefix`, at the level after those of the prefix's keys."""
        depth = len(prefix)
        level, at = node.scope[depth], self.graph.makers[node.name][depth]
        path = prefix if at == _IN_ORDER[:depth] else tuple([prefix[place] for place in at])
        return self._expansions.get((level.node, level.output, path))

    def maker(self, node: Node, prefix: KeyPath) -> StepId:
        """The step whose keys a mapped node is cloned for below `prefix`."""
        at = self.graph.makers[node.name][len(prefix)]
        return StepId(node.scope[len(prefix)].node, tuple([prefix[place] for place in at]))

    # Many steps

    def is_counted(self, step: StepId) -> bool:
        """True for a step whose last key is among the sealed ones of its expansion."""
        if not step.key_path:
            return True
        node = self.graph.by_name[step.node]
        expansion = self.expansion_under(node, step.key_path[:-1])
        return expansion is not None and expansion.position(expansion.keys[step.key_path[-1]]) >= 0

    def is_sealed(self, step: StepId) -> bool:
        """False for an orphan: a clone with a key that the last seal no longer holds (rule R5)."""
        node, path = self.graph.by_name[step.node], step.key_path
        for depth, key in enumerate(path):
            expansion = self.expansion_under(node, path[:depth])
            slot = None if expansion is None else expansion.keys.get(key)
            if expansion is None or slot is None or expansion.position(slot) < 0:
                return False
        return True

    def steps_of(self, node: Node) -> Iterator[StepId]:
        """Every known step of a node, orphans included, in the order of their slots."""
        for path in self._paths(node, len(node.scope), orphans=True):
            yield StepId(node.name, path)

    def sealed_steps(self, node: Node, keys: Mapping[int, str] | None = None) -> Iterator[StepId]:
        """Every step of a node that the last seals hold, in key order; with `keys` only those that have them there."""
        for path in self._paths(node, len(node.scope), keys=keys or _ANY):
            yield StepId(node.name, path)

    def prefixes(self, node: Node) -> Iterator[KeyPath]:
        """The sealed key paths, without the last key, below which a node may have steps."""
        return self._paths(node, max(len(node.scope) - 1, 0))

    def _paths(
        self, node: Node, depth: int, *, orphans: bool = False, keys: Mapping[int, str] = _ANY
    ) -> Iterator[KeyPath]:
        if not depth:
            yield ()
            return
        for prefix in self._paths(node, depth - 1, orphans=orphans, keys=keys):
            expansion = self.expansion_under(node, prefix)
            if expansion is None:
                continue
            wanted = keys.get(depth - 1)
            if wanted is not None:
                slot = expansion.keys.get(wanted)
                if slot is not None and (orphans or expansion.position(slot) >= 0):
                    yield (*prefix, wanted)
                continue
            for key in list(expansion.keys) if orphans else expansion.ordered_keys():
                yield (*prefix, key)

    def orphans(self, node: Node) -> list[StepId]:
        """The clones of a node whose keys the last seals no longer hold."""
        if not self._has_orphans:
            return []
        sealed = set(self.sealed_steps(node))
        return [step for step in self.steps_of(node) if step not in sealed]

    # What becomes known

    def seal(
        self, step: StepId, output: str, piece: OpenExpansion, lost: Collection[str] | None
    ) -> bool:
        """Clone what is below a dynamic output for the keys that an attempt has yielded; true if it had keys before.

        `lost`: of these keys alone the new pieces count, since the others were not lost (rule R6); None: of all.
        """
        place = (step.node, output, step.key_path)
        expansion = self._expansions.get(place)
        is_new = expansion is None
        if expansion is None:
            expansion = self._expansions[place] = Expansion()
        expansion.adopt(piece, None if is_new or lost is None else frozenset(lost))
        self._has_orphans = self._has_orphans or len(expansion) < len(expansion.keys)
        level = Level(step.node, output)
        for node in self.graph.under.get(level, ()):
            if node.scope[-1] == level:
                self._make_room(node, step.key_path, expansion)
        if not is_new:
            self._lookup.clear()
        return not is_new

    def _make_room(self, node: Node, producer_path: KeyPath, expansion: Expansion) -> None:
        """Let the steps that are known below an expansion have its new keys."""
        below = self._steps.get(node.name)
        if not below:
            return
        at = self.graph.makers[node.name][-1]
        nested = (
            len(at) == len(node.scope) - 1
        )  # one prefix has all keys of the path, perhaps in another order
        keys = sorted(zip(at, producer_path, strict=True))
        for prefix in [tuple([key for _, key in keys])] if nested else list(below):
            columns = below.get(prefix)
            if columns is not None and self.expansion_under(node, prefix) is expansion:
                columns.grow(len(expansion.keys))
                columns.recount(expansion.order)

    def replace(self, graph: Graph) -> set[str]:
        """Go on with another graph; returns its nodes that have the shape of before, of which what is known stays."""
        before, self.graph = self.graph.by_name, graph
        same = {
            name
            for name, node in graph.by_name.items()
            if name in before and _shape(node) == _shape(before[name])
        }
        self._lookup.clear()
        for name in [name for name in self._steps if name not in same]:
            del self._steps[name]
        return same


def _shape(node: Node) -> object:
    """What the columns of a node's steps are made by."""
    return node.scope, node.outputs
