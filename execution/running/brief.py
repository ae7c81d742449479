"""What all tickets of an epoch have in common, made once.

It is made of data and of the job alone, so that whoever has both makes the same tickets.
"""

from collections.abc import Mapping
from typing import Any

from execution.definition.job import JobDefinition
from execution.definition.wire_types import types_to_check
from execution.running.context import OpContext
from execution.running.given import given_to
from execution.running.inputs import Argument
from execution.running.resources import Resources
from execution.running.told import Ticket
from runstore.keys import KeyPath
from runstore.log.graph import Graph
from runstore.log.state import RunState


class Brief:
    """What a worker is told once, before any ticket."""

    def __init__(
        self,
        job: JobDefinition,
        graph: Graph,
        config: Mapping[str, Any],
        tags: Mapping[str, str],
        run_id: str,
        epoch: int,
    ) -> None:
        self.job = job
        self.graph = graph
        self.config = config
        self.tags = tags
        """Of the run."""
        self.run_id = run_id
        self.epoch = epoch
        common = {**job.tags, **tags}
        self._told = {
            node.name: (op_config(config, node.name), {**common, **node.tags})
            for node in graph.nodes
        }
        self._only_order = {
            node.name: names
            for node in graph.nodes
            if (names := [argument.name for argument in node.inputs if argument.order])
        }
        self.given: dict[str, dict[str, Argument]] = {
            node.name: given
            for node in graph.nodes
            if (given := given_to(node, job.ops[node.name], config))
        }
        """Node -> what its steps are given beside what they read; without those that are given nothing."""
        self._standing = {
            node.name: (
                job.ops[node.name],
                types_to_check(node, graph, job.ops) or None,
                job.retry_policies.get(node.name),
            )
            for node in graph.nodes
        }
        """What is the same on all tickets of a node."""

    @classmethod
    def of(cls, state: RunState, job: JobDefinition) -> "Brief":
        """That of the epoch which begins in this state."""
        tags = state.started.tags if state.started else {}
        return cls(job, state.graph, state.config, tags, state.run_id, state.epoch)

    def tags_of(self, node: str) -> Mapping[str, str]:
        """Those of job, run and node."""
        return self._told[node][1]

    def resources(self, *, several_loops: bool = False) -> Resources:
        """The job's resources for one process, none of them open; `several_loops`: for workers with a loop each."""
        config = self.config.get("resources", {})
        return Resources(self.job.resources, config, self.run_id, several_loops=several_loops)

    def context(
        self, node: str, key_path: KeyPath, attempt: int, retry_number: int = 0
    ) -> OpContext:
        """What an op is told about itself."""
        config, tags = self._told[node]
        return OpContext(
            self.run_id,
            self.job.name,
            node,
            key_path,
            attempt,
            self.epoch,
            config,
            tags,
            retry_number,
        )

    def ticket(
        self,
        context: OpContext,
        arguments: dict[str, Argument | list[Argument]],
        step_key: str,
        losses: int = 0,
    ) -> Ticket:
        """The ticket of an attempt that reads `arguments` from the graph; they become part of it."""
        node = context.node
        if node in self.given:
            arguments.update(self.given[node])
        if node in self._only_order:
            for name in self._only_order[node]:
                arguments.pop(name, None)
        op, checks, policy = self._standing[node]
        return Ticket(op, context, arguments, step_key, checks, policy, losses)


def op_config(config: Mapping[str, Any], node: str) -> Any:
    """What a run config says for one node; `{}` where it says nothing."""
    return config.get("ops", {}).get(node, {}).get("config", {})
