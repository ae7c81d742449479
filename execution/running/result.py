"""What came of a run: its status, its failures, and the values of its outputs, read from storage when asked for."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from execution.definition.job import JobDefinition
from runstore.errors import OutputMissing, StepNotFound
from runstore.keys import KeyPath
from runstore.log.events import ErrorInfo, RunCancelled, RunFailed, RunSucceeded, StepFailed
from runstore.log.expanded import StepId
from runstore.log.graph import Level, Node, Output
from runstore.log.recorder import reference_of
from runstore.log.state import RunState
from runstore.log.transitions import SUCCEEDED
from runstore.outputs.serializers import deserialize
from runstore.store import RunStore, as_store

_ENDINGS = {RunSucceeded: "succeeded", RunFailed: "failed", RunCancelled: "cancelled"}


class StepFailure(NamedTuple):
    """A step that failed in the run's last epoch."""

    step_key: str
    attempt: int
    error: ErrorInfo


class RunResult:
    """A run, seen from its end. Values come typed where the job is known, else as plain JSON values."""

    def __init__(self, store: RunStore, state: RunState, job: JobDefinition | None) -> None:
        self._store = store
        self._state = state
        self._job = job
        self._outputs = store.outputs(state)
        self.run_id = state.run_id

    @classmethod
    def load(
        cls,
        run_id: str = "last",
        store: RunStore | str | os.PathLike[str] | None = None,
        *,
        job: JobDefinition | None = None,
    ) -> "RunResult":
        """A run of a store, by id, unique prefix or `last`; raises RunNotFound. `job` gives its values their types."""
        opened = as_store(store, must_exist=True)
        return cls(opened, opened.state(opened.resolve(run_id)), job)

    @property
    def status(self) -> str:
        """running, crashed, succeeded, failed or cancelled."""
        ended = self._state.ended
        return _ENDINGS[type(ended)] if ended else self._store.run(self.run_id).status

    @property
    def success(self) -> bool:
        """True when every step succeeded or was skipped."""
        return self.status == "succeeded"

    @property
    def failures(self) -> list[StepFailure]:
        """The failed steps, in the order in which steps start (rule X4)."""
        order = {step: place for place, step in enumerate(_in_order(self._state))}
        steps = sorted(self._state.failures, key=lambda step: order.get(step, len(order)))
        return [self._failure(step) for step in steps]

    def _failure(self, step: StepId) -> StepFailure:
        event = self._store.event(self.run_id, self._state.failures[step])
        assert isinstance(event, StepFailed)
        return StepFailure(event.step, event.attempt, event.error)

    def output_for_node(self, name: str, output: str = "result") -> Any:
        """The value of a node's output; for a dynamic or mapped one {key: value}, in the order of the keys; nested, the
        keys are tuples, outermost key first.

        Only of attempts that succeeded. Raises StepNotFound if there is no such node, output or value.
        """
        node = self._state.graph.by_name.get(name)
        if node is None:
            nodes = ", ".join(self._state.graph.by_name)
            raise StepNotFound(f"run {self.run_id!r} has no node {name!r}; it has {nodes}")
        declared = node.output(output)
        if declared is None:
            outputs = ", ".join(one.name for one in node.outputs)
            raise StepNotFound(f"node {name!r} has no output {output!r}; it has {outputs}")
        if declared.dynamic:
            return self._pieces(node, declared)
        if node.scope:
            return self._clones(node, output)
        seq = self._state.output_seq(StepId(name, ()), output)
        if not seq:
            raise StepNotFound(
                f"run {self.run_id!r}: output {output!r} of {name!r} has no value, as it did not succeed"
            )
        return self._values(node, output, {name: seq})[name]

    def _pieces(self, node: Node, output: Output) -> dict[Any, Any]:
        seqs = {}
        for step in self._state.sealed_steps(node):
            expansion = self._state.expansion(Level(node.name, output.name), step.key_path)
            if expansion is not None and self._state.status(step) == SUCCEEDED:
                for key, slot in zip(expansion.ordered_keys(), expansion.order, strict=True):
                    seqs[_label((*step.key_path, key))] = expansion.seqs[slot]
        return self._values(node, output.name, seqs)

    def _clones(self, node: Node, output: str) -> dict[Any, Any]:
        seqs = {
            _label(step.key_path): self._state.output_seq(step, output)
            for step in self._state.sealed_steps(node)
        }
        return self._values(node, output, {key: seq for key, seq in seqs.items() if seq})

    def _values(self, node: Node, output: str, seqs: dict[Any, int]) -> dict[Any, Any]:
        """The values of what the events with these seqs have stored, by the same keys."""
        declared = self._job.declared(node.name, output) if self._job else None
        events = self._store.events_at(self.run_id, seqs.values())
        fetches = self._outputs.get_each(map(reference_of, events))
        return {
            key: deserialize(self._bytes(seq, fetch), reference.serializer, declared)
            for (key, seq), (reference, fetch) in zip(seqs.items(), fetches, strict=True)
        }

    def _bytes(self, seq: int, fetch: Callable[[], bytes]) -> bytes:
        try:
            return fetch()
        except OutputMissing as error:
            raise self._store.why_missing(self.run_id, seq, error) from None

    def __repr__(self) -> str:
        return f"<RunResult {self.run_id} {self.status}>"


def _label(path: KeyPath) -> str | KeyPath:
    return path[0] if len(path) == 1 else path


def _in_order(state: RunState) -> list[StepId]:
    """Every sealed step in the order of rule X4."""
    graph = state.graph
    keyed = [
        (_ordinals(state, node, step), -graph.depth[node.name], index, step)
        for index, node in enumerate(graph.nodes)
        for step in state.sealed_steps(node)
    ]
    return [entry[3] for entry in sorted(keyed)]


def _ordinals(state: RunState, node: Node, step: StepId) -> tuple[int, ...]:
    expansions = [
        (state.expansion_under(node, step.key_path[:depth]), key)
        for depth, key in enumerate(step.key_path)
    ]
    return tuple([one.position(one.keys[key]) for one, key in expansions if one is not None])
