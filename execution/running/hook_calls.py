"""Which hooks are to be called, and with what: the executor process's part.

What a step owes to hooks is an event, committed with its outcome, so that a crash forgets no call. A call that has not
ended in the log is made again: at least once.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from msgspec import structs

from execution.definition.hooks import Hooks
from execution.definition.job import JobDefinition
from execution.running.context import OpContext
from execution.running.hook_runner import HookContext, HookTicket
from execution.running.inputs import Argument, Branch, Collected, Stored
from execution.running.told import Told
from runstore.log.events import HooksDue, StepFailed, StepSucceeded
from runstore.log.expanded import StepId
from runstore.log.graph import Level, Node
from runstore.log.recorder import Recorder


class HookCalls:
    """The calls that are due, in the order in which they became so."""

    def __init__(
        self,
        recorder: Recorder,
        job: JobDefinition,
        context_of: Callable[[Node, StepId, str], OpContext],
    ) -> None:
        self._recorder = recorder
        self._state = recorder.state
        self._job = job
        self._context_of = context_of
        self._exceptions: dict[tuple[StepId, int], BaseException] = {}
        self.are_committed = True
        """False while an outcome that a call would tell of is not on disk."""
        self.queue: deque[tuple[StepId, int, str]] = deque(
            (step, attempt, name)
            for (step, attempt), due in self._state.hooks_due.items()
            for name in due.hooks
            if self._state.find(step) and any(name == hook.name for hook in self._hooks(step))
        )

    def _hooks(self, step: StepId) -> Hooks:
        return self._job.hooks.get(step.node, ())

    def due(self, step: StepId, told: Told) -> HooksDue | None:
        """What the last message of an attempt owes to hooks; to be appended in the commit of its events."""
        hooks, event = self._hooks(step), told.events[-1] if told.events else None
        if not hooks or not isinstance(event, StepSucceeded | StepFailed):
            return None
        outcome = "success" if isinstance(event, StepSucceeded) else "failure"
        names = tuple(hook.name for hook in hooks if hook.outcome == outcome)
        if not names:
            return None
        if told.exception is not None:
            self._exceptions[step, event.attempt] = told.exception
        self.are_committed = False
        self.queue.extend((step, event.attempt, name) for name in names)
        return HooksDue(event.step, names, self._state.seq, event.attempt)

    def take(self) -> HookTicket:
        """The next call; the outcome that it tells of must be on disk."""
        step, attempt, name = self.queue.popleft()
        node = self._state.graph.by_name[step.node]
        outcome = self._recorder.event(self._state.hooks_due[step, attempt].outcome)
        context = HookContext(
            name,
            self._job.ops[step.node],
            structs.replace(self._context_of(node, step, str(step)), attempt=attempt),
            outcome.error if isinstance(outcome, StepFailed) else None,
            self._outputs(node, step) if isinstance(outcome, StepSucceeded) else {},
        )
        hook = next(hook for hook in self._hooks(step) if hook.name == name)
        exception = self._exceptions.get((step, attempt))
        if not any(other[:2] == (step, attempt) for other in self.queue):
            self._exceptions.pop((step, attempt), None)
        return HookTicket(hook, context, exception)

    def _outputs(self, node: Node, step: StepId) -> dict[str, Argument]:
        found: dict[str, Argument] = {}
        for output in node.outputs:
            declared = self._job.declared(node.name, output.name)
            seq = self._state.output_seq(step, output.name)
            expansion = self._state.expansion(Level(node.name, output.name), step.key_path)
            if output.dynamic and expansion is not None:
                seqs = [expansion.seqs[slot] for slot in expansion.order]
                found[output.name] = Collected(
                    Branch("dict", list(expansion.ordered_keys())),
                    seqs,
                    partial(self._recorder.references, seqs),
                    declared,
                    (node.name, output.name),
                )
            elif seq:
                reference = self._recorder.reference(seq)
                found[output.name] = Stored(seq, reference, declared, (node.name, output.name))
        return found
