"""The one loop over one stream of events.

Append the event, then act on it. The engine knows nothing that RunState has not folded from events; a resume is
the same loop, begun from what the log holds. Everything that arrives from workers arrives here, at one place.
"""

import contextlib
import datetime as dt
import time
from collections.abc import Sequence
from functools import partial
from math import inf

from msgspec import structs

from execution.definition.job import JobDefinition
from execution.errors import (
    CodeChanged,
    ResourceFailed,
    WorkerLost,
)
from execution.executors.base import Executor
from execution.planning.scheduler import Decision, Scheduler
from execution.running.brief import Brief
from execution.running.context import OpContext
from execution.running.control import Control
from execution.running.hook_calls import HookCalls
from execution.running.inputs import InputLost, InputResolver
from execution.running.limits import Limits
from execution.running.lost_outputs import LostOutputs
from execution.running.termination import Interrupts
from execution.running.told import Told
from runstore import failpoints
from runstore.errors import RunStoreError, StorageFailed
from runstore.keys import format_step_key, parse_step_key
from runstore.log.events import (
    AnyEvent,
    HookFailed,
    HookSucceeded,
    RunCancelled,
    RunFailed,
    RunSucceeded,
    StepRetried,
    StepSkipped,
    StepStarted,
)
from runstore.log.expanded import StepId
from runstore.log.graph import Node
from runstore.log.recorder import GROUP_S, Recorder
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.outputs.output_store import OutputStore

NAP_S = 0.1
"""During a wait, requests to stop are looked for this often."""
GRACE_S = 10.0
"""How long steps may go on that run when a stop is requested, where they can be left before their end."""


class Engine:
    """Drives one epoch of one run to its end."""

    def __init__(
        self,
        recorder: Recorder,
        job: JobDefinition,
        outputs: OutputStore,
        executor: Executor,
        control: Control,
        *,
        fail_fast: bool = False,
        interrupts: Interrupts | None = None,
    ) -> None:
        self._recorder = recorder
        self._state = recorder.state
        self._job = job
        self._outputs = outputs
        self._executor = executor
        self._control = control
        self._fail_fast = fail_fast
        self._interrupts = interrupts or Interrupts()
        self._stop = ""
        self._stop_at = inf
        """When running steps are no longer waited for, of the monotonic clock."""
        self._running = 0
        self._due: dt.datetime | None = None
        """When the first of the waiting steps is due that were not at the last look."""
        self._awaited: dt.datetime | None = None
        self._lost = LostOutputs(recorder, outputs)
        self._brief = Brief.of(recorder.state, job)
        graph = recorder.state.graph
        tags = {node.name: self._brief.tags_of(node.name) for node in graph.nodes}
        self._limits = Limits(job, graph, tags)
        self._scheduler = Scheduler(recorder.state, self._limits.nodes)
        self._inputs = InputResolver(recorder, job.declared)
        self._context = partial(_context, recorder.state, self._brief)
        self._hook_calls = HookCalls(recorder, job, self._context)

    def run(self) -> None:
        """Run until nothing is ready, running or waiting, or until asked to stop; append how it ended."""
        executor = self._executor
        executor.open(self._outputs, self._brief)
        self._control.began(lambda: executor.at_work)
        try:
            while True:
                self._start_ready()
                if self._running:
                    if not executor.is_inline and self._stops_at_once():
                        break
                    has_room = executor.has_room
                    may_wait = has_room or not executor.is_inline
                    if may_wait and (has_room or self._recorder.is_due()):
                        # Nothing can be started: what is known goes on disk before the wait.
                        self._recorder.commit()
                    told = executor.next_message(self._patience_s() if may_wait else None)
                    if told is not None:
                        self._take(told)
                    else:
                        self._recorder.commit()  # also a sign of life when it is time for one
                        self._control.progressed(self._state)
                elif not self._nap():
                    break
            self._executor.close()  # what a resource does when it is closed still belongs to the run
            self._end()
        except (KeyboardInterrupt, ResourceFailed) as error:
            self._stop = str(error) or "interrupted"
            self._cancel()
            raise
        except (StorageFailed, WorkerLost, CodeChanged):
            # Outputs cannot be written, or no worker can go on. What is known of other steps goes on disk, if the log's
            # disk still takes it.
            with contextlib.suppress(RunStoreError):
                self._recorder.commit()
            raise
        finally:
            self._executor.close()

    # Deciding

    def _start_ready(self) -> None:
        while self._hook_calls.queue and self._executor.has_room:
            self._call_hook()
        while self._executor.has_room and not self._limits.is_full and not self._must_stop():
            if self._state.waiting:
                self._due = self._scheduler.due(utc_now())
            decision = self._scheduler.take(self._limits.held())
            if decision is None:
                return
            if decision.skip:
                self._append(StepSkipped(str(decision.step), decision.skip))
                if self._recorder.is_due():
                    self._recorder.commit()
            else:
                self._start(decision)

    def _must_stop(self) -> bool:
        if not self._stop:
            self._stop = self._control.stop_requested() or self._interrupts.reason
        if not self._stop and self._recorder.cancel_requested():
            self._stop = "cancelled by `runstore cancel`"
        return bool(self._stop) or (self._fail_fast and bool(self._state.failures))

    def _stops_at_once(self) -> bool:
        """True when a stop was requested, and steps that run elsewhere have had their time to end."""
        self._must_stop()
        if not self._stop:
            return False
        now = time.monotonic()
        if self._stop_at == inf:
            self._stop_at = now + GRACE_S
        self._control.stopping(self._running, max(0.0, self._stop_at - now))
        return now >= self._stop_at

    def _start(self, decision: Decision) -> None:
        node, step = decision.node, decision.step
        arguments, seqs = self._inputs.resolve(node, step, self._record)
        op, step_key = self._job.ops[node.name], format_step_key(node.name, step.key_path)
        context = self._context(node, step, step_key)
        self._append(StepStarted(step_key, seqs, op.code, context.attempt))
        # A step starts only with its start, and all that it reads, on disk.
        self._recorder.commit()
        self._running += 1
        if self._limits.are_any:
            self._limits.started(node.name)
        losses = self._state.losses.get(step, 0) if self._state.losses else 0
        self._executor.submit(self._brief.ticket(context, arguments, step_key, losses))

    def _call_hook(self) -> None:
        if not self._hook_calls.are_committed:
            # Nothing leaves the process on an event that could still be lost.
            self._commit_to_tell()
            self._hook_calls.are_committed = True
        self._running += 1
        self._executor.submit(self._hook_calls.take())

    # Waiting

    def _patience_s(self) -> float:
        """Seconds after which a wait for workers is broken off, to commit or begin something, or to look around."""
        patience_s = GROUP_S if self._recorder.has_pending else NAP_S
        until_due_s = self._until_due()
        return patience_s if until_due_s is None else min(patience_s, until_due_s)

    def _until_due(self) -> float | None:
        """Seconds until a step is due, or may start, that there is room for; None where none is to come."""
        if not self._executor.has_room or self._limits.is_full:
            return None
        left_s = inf
        if self._due is not None and self._state.waiting:
            left_s = max(0.0, (self._due - utc_now()).total_seconds())
        if self._limits.nodes and self._scheduler.holds_back(self._limits.held()):
            left_s = min(left_s, self._limits.left_s())
        return None if left_s == inf else left_s

    def _nap(self) -> bool:
        """Nothing is ready or running: sleep a little if a retry is to come; False if none is."""
        until_due_s = self._until_due()
        if until_due_s is None or self._must_stop():
            return False
        if self._state.waiting and self._awaited != self._due:
            self._commit_to_tell()
            self._awaited = self._due
            failpoints.reached("wait", self._due)
        self._recorder.commit()  # gives a sign of life when it is time for one
        self._control.progressed(self._state)
        time.sleep(min(NAP_S, until_due_s))
        return True

    def _record(self, event: AnyEvent) -> int:
        self._append(event)
        return self._state.seq

    # Taking in

    def _take(self, told: Told) -> None:
        if told.is_last:
            self._running -= 1
            if self._limits.are_any and not _is_of_hook(told):
                self._limits.ended(_step(told.step_key).node)
        if told.messages:
            self._recorder.note(told.messages)
        if told.lost is not None:
            self._input_lost(told.step_key, told.lost)
        for event in told.events if told.wait_s is None else _with_due(told.events, told.wait_s):
            self._append(self._lost.reproduced(event) if self._state.lost else event)
        if told.is_last and self._job.hooks:
            due = self._hook_calls.due(_step(told.step_key), told)
            if due is not None:
                self._append(due)
        if told.wait_s is not None:
            step = _step(told.step_key)
            self._scheduler.wait(step, self._state.waiting[step])
        if told.is_last and self._lost.put_off:
            for step_key, loss in self._lost.take_put_off():
                self._input_lost(step_key, loss)
        if not told.is_last and self._recorder.is_due():
            self._recorder.commit()

    def _append(self, event: AnyEvent) -> None:
        settled = self._recorder.append(event)
        if settled is not None:
            self._scheduler.settled(settled)
        self._control.progressed(self._state)

    def _input_lost(self, step_key: str, loss: InputLost) -> None:
        """Lost bytes are made again by the step that made them; the reader waits for it (rule R6)."""
        is_new = False
        for event in self._lost.invalidations(step_key, loss):
            self._append(event)
            is_new = True
        if is_new:
            self._recorder.commit()
            self._scheduler.rebuild()

    # Ending

    def _end(self) -> None:
        counts = Remaining(self._state).counts()
        if self._stop:
            self._append(RunCancelled(counts, self._stop))
        elif self._state.failures:
            self._append(RunFailed(counts))
        else:
            _assert_complete(self._state)
            self._append(RunSucceeded(counts))
        self._commit_to_tell()

    def _cancel(self) -> None:
        with contextlib.suppress(RunStoreError):
            self._append(RunCancelled(Remaining(self._state).counts(), self._stop))
            self._commit_to_tell()

    def _commit_to_tell(self) -> None:
        """Nothing is told outside that could still be lost, by what the level is to survive."""
        self._recorder.commit(durable=self._state.level == "durable")


def utc_now() -> dt.datetime:
    """The time that due times are held against."""
    return dt.datetime.now(dt.UTC)


def _with_due(events: Sequence[AnyEvent], wait_s: float) -> list[AnyEvent]:
    """The events of an attempt that is to be tried again, with the time: the clock is that of the log."""
    *before, retried = events
    assert isinstance(retried, StepRetried)
    due = utc_now() + dt.timedelta(seconds=wait_s)
    return [*before, structs.replace(retried, due=due)]


def _is_of_hook(told: Told) -> bool:
    return bool(told.events) and isinstance(told.events[-1], HookSucceeded | HookFailed)


def _step(step_key: str) -> StepId:
    return StepId(*parse_step_key(step_key))


def _assert_complete(state: RunState) -> None:
    left = [node.node for node in Remaining(state).nodes() if not node.is_done]
    # A run that stopped with work left, nothing failed and nothing ready would be a defect of the scheduler.
    assert not left, f"run {state.run_id!r} stopped with work left in {left}"


def _context(state: RunState, brief: Brief, node: Node, step: StepId, step_key: str) -> OpContext:
    """Of the next attempt of a step."""
    place = state.place(step, step_key)
    assert place is not None
    retries = state.retries
    return brief.context(
        node.name,
        step.key_path,
        place[0].attempts[place[1]] + 1,
        retries.get(step, 0) if retries else 0,
    )
