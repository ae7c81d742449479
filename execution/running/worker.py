"""What a worker has besides the ticket of an attempt: made when an op first needs it, closed with the executor."""

from typing import TYPE_CHECKING, Any

from execution.definition.op import OpDefinition
from execution.running.event_loop import EventLoop
from execution.running.resources import Resources

if TYPE_CHECKING:
    from execution.running.context import OpContext


class Worker:
    """One place where ops run, one at a time.

    `name`: what the ends of its attempts say of who ran them, on one line; empty for the process that drives the run.
    """

    def __init__(self, resources: Resources | None = None, name: str = "") -> None:
        self.name = name
        self.loop = EventLoop()
        self.resources = Resources({}, {}, "") if resources is None else resources

    def equip(self, op: OpDefinition, context: "OpContext") -> dict[str, Any]:
        """Give the context what the op requires; returns those of its parameters that are resources.

        Raises ResourceFailed.
        """
        opened = self.resources.take(op.required_resource_keys, self.loop)
        vars(context)["resources"] = opened
        return {name: getattr(opened, name) for name in op.resource_parameters}

    def close(self) -> None:
        """Give everything back; raises ResourceFailed where a resource could not be closed."""
        try:
            self.resources.close()
        finally:
            self.loop.close()
