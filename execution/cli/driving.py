"""From a call that executes or resumes to what the shell and a person see of it: lines, signals, the exit code."""

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Callable, Sequence
from math import ceil, inf

import click

from execution.cli.display import AtWork, Display, choose_display
from execution.cli.failure import (
    ExitCode,
    Failure,
    exit_code_of,
    failure_of,
    job_file_failure,
    typed,
)
from execution.cli.signals import StopSignals
from execution.cli.terminal import counted, duration_text, first_line, hook_failure_line, listed
from execution.errors import ExecutionError
from execution.planning.rerun_plan import RerunPlan
from execution.planning.resume_plan import ResumePlan
from execution.running.control import Control
from execution.running.result import RunResult
from runstore.audit import FailureKind, failure_kinds, hook_failures
from runstore.errors import RunConflict, RunStoreError
from runstore.log.events import RunFailed, RunSucceeded
from runstore.log.remaining import Remaining
from runstore.log.state import RunState
from runstore.store import RunStore

_SHOWN_FAILURES = 5


class Watch:
    """A Control: shows a run as it goes, and stops it on a signal."""

    def __init__(self, display: Display, place: str, then: Callable[[str], str]) -> None:
        self.run_id = ""
        """Empty until the run has begun."""
        self.state: RunState | None = None
        """The state that is driven; None until its first event, and for a run that had succeeded before."""
        self.display = display
        self._place = place
        self._then = then
        """From a run to the command that goes on with it."""
        self._left_s = inf
        self.signals = StopSignals(self._first_signal, self._second_signal)

    def began(self, at_work: AtWork) -> None:
        """Steps may run."""
        self.display.began(at_work)

    def stop_requested(self) -> str:
        """A signal was received."""
        return self.signals.reason

    def planned(self, plan: ResumePlan | RerunPlan) -> None:
        """A resume or a rerun begins."""
        self.run_id = plan.run_id
        lines = (
            rerun_lines(plan, begun=True)
            if isinstance(plan, RerunPlan)
            else plan_lines(plan, begun=True)
        )
        for line in lines:
            self.display.say(line)

    def progressed(self, state: RunState) -> None:
        """After every event."""
        if not self.run_id:
            self.run_id = state.run_id
            ops = counted(len(state.graph.nodes), "op")
            self.display.say(f"run {state.run_id} of {state.graph.name}, {ops}, in {self._place}")
        self.state = state
        self.display.update(state)

    def stopping(self, running: int, left_s: float) -> None:
        """A countdown, where the engine waits for steps that run elsewhere."""
        seconds = ceil(left_s)
        if seconds < self._left_s:
            self._left_s = seconds
            steps = counted(running, "step")
            self.display.countdown(
                f"stopping: {steps} may end within {seconds} s; once more leaves at once"
            )

    def _first_signal(self, name: str) -> None:
        self.display.note(f"{name}: stopping after the running step; once more leaves at once")

    def _second_signal(self) -> None:
        self.display.abandon()
        if self.run_id:
            with contextlib.suppress(OSError):  # nobody reads any more
                os.write(2, f"next:  {self._then(self.run_id)}\n".encode())


def drive(
    ctx: click.Context, store: RunStore, call: Callable[[Control], RunResult], *, quiet: bool
) -> None:
    """Execute or resume, and leave with the exit code that says how it went."""
    if logging.lastResort is not None:  # what is logged without any configuration says by whom
        logging.lastResort.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    display = choose_display(quiet=quiet)
    watch = Watch(display, str(store.directory), lambda run_id: _resume(run_id, ctx))
    begun = time.monotonic()
    try:
        with watch.signals:
            result = call(watch)
    except (RunStoreError, ExecutionError) as error:
        raise _stopped(error, watch, ctx) from error
    except SystemExit as error:
        raise job_file_failure(error) or error from error
    except KeyboardInterrupt as error:  # raised by the op itself: signals are heard by `watch`
        if not watch.run_id:
            raise
        raise Failure("", ExitCode.INTERRUPTED, _resume(watch.run_id, ctx)) from error
    except Exception as error:
        display.close()
        raise job_file_failure(error) or _unexpected(error, watch, ctx) from error
    finally:
        display.close()
    if watch.state is None:
        display.say(f"run {result.run_id} has already succeeded; nothing to do")
    else:
        _end(ctx, store, watch.state, watch, time.monotonic() - begun)


def _stopped(error: RunStoreError | ExecutionError, watch: Watch, ctx: click.Context) -> Failure:
    if isinstance(error, RunConflict):
        error.run_id = error.run_id or watch.run_id
    failure = failure_of(error, ctx)
    if watch.run_id and exit_code_of(error) == ExitCode.STOPPED:
        failure.next_command = _resume(watch.run_id, ctx)
    return failure


def _unexpected(error: Exception, watch: Watch, ctx: click.Context) -> Failure:
    traceback.print_exception(error)
    then = _resume(watch.run_id, ctx) if watch.run_id else typed("doctor", ctx=ctx)
    return Failure(
        f"a defect in runstore or in an extension of it: {type(error).__name__}: {error}",
        ExitCode.STOPPED,
        then,
    )


def _resume(run_id: str, ctx: click.Context) -> str:
    executor = ctx.params.get("executor")
    words = () if executor is None else ("--executor", executor)
    return typed("resume", run_id, *words, ctx=ctx)


# How it ended


def _end(
    ctx: click.Context, store: RunStore, state: RunState, watch: Watch, seconds: float
) -> None:
    """From the state that was just driven: the log is not read again."""
    run_id, how = state.run_id, type(state.ended).__name__.removeprefix("Run").lower()
    watch.display.say(f"run {run_id} {how} in {duration_text(seconds)}: {_totals(state)}")
    for failed in hook_failures(state, lambda seq: store.event(run_id, seq)):
        watch.display.say(f"warning: {hook_failure_line(failed)}")
    if isinstance(state.ended, RunSucceeded):
        watch.display.say(f"look:  {typed('show', run_id, ctx=ctx)}")
    elif isinstance(state.ended, RunFailed):
        kinds = failure_kinds(state, lambda seq: store.event(run_id, seq))
        _tell_failures(kinds, run_id, ctx)
        raise Failure("", ExitCode.RUN_FAILED, _resume(run_id, ctx))
    else:
        raise Failure("", watch.signals.exit_code or ExitCode.STOPPED, _resume(run_id, ctx))


def _totals(state: RunState) -> str:
    nodes = Remaining(state).nodes()
    totals: dict[str, int] = {}
    for node in nodes:
        for name, count in node.states.items():
            totals[name] = totals.get(name, 0) + count
    unknown = sum(node.unsealed > 0 for node in nodes)
    if set(totals) == {"succeeded"} and not unknown:
        return f"{counted(totals['succeeded'], 'step')} succeeded"
    after = f", and {counted(unknown, 'op')} whose keys are not all known" if unknown else ""
    return f"{listed(totals) or 'no step'}{after}"


def _tell_failures(kinds: Sequence[FailureKind], run_id: str, ctx: click.Context) -> None:
    """The first error of each kind (rule F2), also with --quiet: it is an error."""
    for kind in kinds[:_SHOWN_FAILURES]:
        more = f" and {kind.count - 1:,} more of {kind.op}" if kind.count > 1 else ""
        error = first_line(f"{kind.type}: {kind.message}")
        click.echo(f"  {kind.step}{more}: {error}", err=True)
    if len(kinds) > _SHOWN_FAILURES:
        left = len(kinds) - _SHOWN_FAILURES
        click.echo(f"  and {counted(left, 'other kind')} of error", err=True)
    words: tuple[str, ...] = ("explain", run_id, kinds[0].step)
    if kinds[0].count > 1:
        words = ("keys", run_id, kinds[0].op, "--status", "failed")
    click.echo(f"look:  {typed(*words, ctx=ctx)}", err=True)


def plan_lines(plan: ResumePlan, *, begun: bool = False) -> list[str]:
    """What a resume will do, in words: said by `resume` when it begins and by `resume --dry-run`."""
    if plan.succeeded:
        return [f"run {plan.run_id} has already succeeded; nothing to do"]
    why: dict[str, int] = {}
    for node in plan.nodes:
        for reason, count in node.run.items():
            why[reason] = why.get(reason, 0) + count
    waiting = [node.node for node in plan.nodes if node.waiting]
    reasons = f" ({listed(why)})" if why else ""
    after = f"; the keys of {', '.join(waiting)} are not all known yet" if waiting else ""
    verb = "resuming run" if begun else "a resume of run"
    lines = [
        f"{verb} {plan.run_id}, epoch {plan.epoch}: {counted(plan.to_reuse, 'step')} reused, "
        f"{plan.to_run:,} to run{reasons}{after}"
    ]
    if plan.changed_code:
        names = ", ".join(plan.changed_code)
        again = any("invalidated" in n.run for n in plan.nodes if n.node in plan.changed_code)
        then = "runs again" if again else "is reused (--on-code-change rerun does it again)"
        lines.append(
            f"warning: the code of {names} has changed; finished work of the old code {then}"
        )
    if plan.changes:
        lines.append(f"new against the log: {', '.join(plan.changes)}")
    return lines + _lost_lines(plan.lost)


def _lost_lines(lost: Sequence[str]) -> list[str]:
    if not lost:
        return []
    shown = ", ".join(lost[:3]) + (" …" if len(lost) > 3 else "")
    return [
        f"warning: {counted(len(lost), 'stored output')} missing or altered, to be made again: {shown}"
    ]


def rerun_lines(plan: RerunPlan, *, begun: bool = False) -> list[str]:
    """What a rerun will do, in words: said by `rerun` when it begins and by `rerun --dry-run`."""
    waiting = [node.node for node in plan.nodes if node.waiting]
    after = f"; the keys of {', '.join(waiting)} are not all known yet" if waiting else ""
    start = (
        f"run {plan.run_id}, a rerun of {plan.parent}" if begun else f"a rerun of run {plan.parent}"
    )
    lines = [
        f"{start}: {counted(plan.to_reuse, 'step')} reused, {plan.to_run:,} to run, {plan.left_out:,} left out{after}"
    ]
    if plan.unasked:
        lines.append(
            f"{', '.join(plan.unasked)}: not selected, but run too: the op whose keys they are cloned for runs again"
        )
    if plan.left_out:
        names = [node.node for node in plan.nodes if node.left_out]
        lines.append(
            f"{', '.join(names)}: not selected, and left out where what they need runs again or did not succeed"
        )
    if plan.changed_code:
        lines.append(
            f"warning: the code of {', '.join(plan.changed_code)} has changed; finished work of the old code is reused "
            "(select it to run it again)"
        )
    if plan.changes:
        lines.append(f"new against run {plan.parent}: {', '.join(plan.changes)}")
    return lines + _lost_lines(plan.lost)
