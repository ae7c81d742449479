"""Which steps cannot begin since a step failed that they depend on: derived, never an event (rule F2).

Pure. From each failed step it goes down to its readers, so that it costs what there is to find, whatever the run has
besides; a run is asked for no more than `Run` says, however it is known.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from runstore.keys import KeyPath
from runstore.log.expanded import StepId
from runstore.log.graph import FromCollect, Graph, Level, Node, Wire
from runstore.log.transitions import PENDING

_Keys = frozenset[tuple[int, str]]
"""Keys at places of a key path: what a set of steps has in common."""


class Run(Protocol):
    """What is asked of a run."""

    @property
    def graph(self) -> Graph:
        """The graph in force."""

    def status(self, step: StepId) -> int:
        """As `RunState.status`."""

    def exists(self, node: Node, step: StepId) -> bool:
        """As `RunState.exists`."""

    def sealed_steps(self, node: Node, keys: Mapping[int, str]) -> Iterator[StepId]:
        """As `RunState.sealed_steps`."""


def blocked_by(run: Run, failed: Iterable[StepId]) -> dict[str, set[KeyPath]]:
    """Node -> key paths of its blocked steps, where these steps have failed in this epoch."""
    stuck: dict[str, set[KeyPath]] = {}
    for step in failed:
        stuck.setdefault(step.node, set()).add(step.key_path)
    blocked: dict[str, set[KeyPath]] = {}
    for node in run.graph.nodes if stuck else ():
        found = set(_blocked(run, node, stuck))
        if found:
            blocked[node.name] = found
            stuck.setdefault(node.name, set()).update(found)
    return blocked


def _blocked(run: Run, node: Node, stuck: dict[str, set[KeyPath]]) -> Iterator[KeyPath]:
    common = {
        keys for wire in run.graph.wires[node.name] for keys in _stops(run.graph, wire, stuck)
    }
    for keys in common:
        for step in run.sealed_steps(node, dict(keys)):
            if run.status(step) == PENDING and run.exists(node, step):
                yield step.key_path


def _stops(graph: Graph, wire: Wire, stuck: dict[str, set[KeyPath]]) -> Iterator[_Keys]:
    """What the readers have in common that a wire keeps from running: for each stuck step that it reads, and each
    stuck step whose keys its collect goes over.
    """
    at = dict(zip(wire.scope, wire.at, strict=True))
    makers = (
        [graph.by_name[one.level.node] for one in wire.source.over]
        if isinstance(wire.source, FromCollect)
        else []
    )
    for producer in (wire.producer, *makers):
        for path in stuck.get(producer.name, ()):
            yield _in_common(producer.scope, path, at)


def _in_common(scope: tuple[Level, ...], path: KeyPath, at: dict[Level, int]) -> _Keys:
    pairs = zip(scope, path, strict=True)
    return frozenset((at[level], key) for level, key in pairs if level in at)
