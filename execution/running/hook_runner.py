"""A call of one hook: a worker's part. What it tells is whether the hook returned or raised, and what it has logged."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from execution.definition.hooks import HookDefinition
from execution.definition.op import OpDefinition
from execution.errors import StepError
from execution.running.context import OpContext
from execution.running.failing import comes_from_outside, describe_error
from execution.running.inputs import Argument
from execution.running.loading import load
from execution.running.resources import OpenResources
from execution.running.step_log import StepLog
from execution.running.told import Told
from execution.running.worker import Worker
from runstore.keys import KeyPath
from runstore.log.events import ErrorInfo, HookFailed, HookSucceeded
from runstore.outputs.output_store import OutputStore


class HookContext(msgspec.Struct, frozen=True, dict=True):
    """What a hook is told: the step, and how it has ended."""

    hook_name: str
    op: OpDefinition
    step: OpContext
    """The context of the attempt that has ended."""
    error: ErrorInfo | None = None
    """Of a failure, as the log has it."""
    outputs: Mapping[str, Argument] = {}
    """Of a success, where the values are."""

    @property
    def run_id(self) -> str:
        """That of the run."""
        return self.step.run_id

    @property
    def job_name(self) -> str:
        """That of the job."""
        return self.step.job_name

    @property
    def step_key(self) -> str:
        """`echo[a]` (rule K2)."""
        return self.step.step_key

    @property
    def mapping_key(self) -> str | None:
        """The innermost key that the clone stands for."""
        return self.step.mapping_key

    @property
    def key_path(self) -> KeyPath:
        """A mapping key for each level of the node's scope."""
        return self.step.key_path

    @property
    def attempt(self) -> int:
        """The attempt that has ended."""
        return self.step.attempt

    @property
    def op_config(self) -> Any:
        """That of the op."""
        return self.step.op_config

    @property
    def tags(self) -> dict[str, str]:
        """Of the job, the run and the node."""
        return self.step.tags

    @cached_property
    def log(self) -> StepLog:
        """A logger; its lines are stored with those of the step."""
        return StepLog(self.run_id, self.step_key, self.attempt).getChild(f"hook.{self.hook_name}")

    @cached_property
    def resources(self) -> OpenResources:
        """What the hook requires, as attributes."""
        return OpenResources({})

    @cached_property
    def op_exception(self) -> BaseException | None:
        """What the op raised; where that was another process, a StepError with its type, message and traceback."""
        if self.error is None:
            return None
        rebuilt = StepError(f"{self.error.type}: {self.error.message}")
        rebuilt.add_note(self.error.traceback)
        return rebuilt

    @cached_property
    def op_output_values(self) -> dict[str, Any]:
        """Output -> its value, {key: value} for a dynamic one; read from storage when they are first asked for."""
        outputs: OutputStore | None = vars(self).get("storage")
        return {} if outputs is None else load(dict(self.outputs), outputs)


class HookTicket(msgspec.Struct, frozen=True):
    """All that a worker needs to call one hook; what was raised goes with it where it can travel."""

    hook: HookDefinition
    context: HookContext
    exception: BaseException | None = None


def run_hook(ticket: HookTicket, outputs: OutputStore, worker: Worker) -> Iterator[Told]:
    """Call a hook; whatever it raises is told, and stops nothing."""
    hook, context = ticket.hook, ticket.context
    step, attempt = context.step_key, context.attempt
    vars(context)["storage"] = outputs
    if ticket.exception is not None:
        vars(context)["op_exception"] = ticket.exception
    ended: HookSucceeded | HookFailed = HookSucceeded(step, hook.name, attempt)
    try:
        if hook.required_resource_keys:
            vars(context)["resources"] = worker.resources.take(
                hook.required_resource_keys, worker.loop
            )
        given = hook.function(context)
        if inspect.iscoroutine(given):
            worker.loop.run(given)
    except BaseException as error:
        if comes_from_outside(error, worker.name):
            raise
        ended = HookFailed(step, hook.name, describe_error(error), attempt)
    log = vars(context).get("log")
    lines: Sequence[Any] = log.take() if log is not None else ()
    yield Told(step, (ended,), messages=lines)
