"""Execute, resume, plan: from a job and a store to an engine that runs."""

import contextlib
import copy
import datetime as dt
import os
from collections.abc import Mapping
from typing import Any

from execution.definition.composition import set_invoker
from execution.definition.job import JobDefinition, check_given, set_launcher
from execution.definition.loading import load_job
from execution.definition.run_config import check_config, check_logged
from execution.errors import ExecutionError, JobNotFound
from execution.executors.base import Executor
from execution.executors.in_process import InProcessExecutor
from execution.planning.resume_plan import (
    OnCodeChange,
    ResumePlan,
    changed_code,
    check_graph,
    code_invalidations,
    node_plans,
)
from execution.running.adoption import take_rest
from execution.running.control import Control, NoControl
from execution.running.direct import invoke
from execution.running.engine import Engine
from execution.running.lost_outputs import invalidate_lost
from execution.running.result import RunResult
from execution.running.termination import Interrupts, unwound_by_sigterm
from runstore.errors import ConfigError, RunStoreError
from runstore.keys import check_run_id, new_run_id
from runstore.log.events import (
    FORMAT_VERSION,
    RunResumed,
    RunStarted,
    RunSucceeded,
)
from runstore.log.recorder import Recorder, this_host
from runstore.log.state import RunState
from runstore.store import RunStore, as_store, opened_for
from runstore.version import __version__

StoreLike = RunStore | str | os.PathLike[str] | None


def execute(
    job: JobDefinition,
    store: StoreLike = None,
    *,
    run_config: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    executor: Executor | None = None,
    tags: Mapping[str, str] | None = None,
    fail_fast: bool = False,
    control: Control | None = None,
) -> RunResult:
    """Run a job to its end and return what came of it; failed steps are in the result, not raised.

    `store`: a RunStore, a path, or None for the configured default (created where there is none). With a
    `run_id` of your choice the call is idempotent: it starts the run, resumes it, or reports its success; a run of
    another job, and a `run_config` that differs from the log's, are then refused. `fail_fast`: start no new step after
    a failure. `control`: who watches and may stop the run. `executor`: what runs the steps, `threads(32)` or
    `processes(4)`; else that of the job, else this process, one step at a time.

    Raises DefinitionError, ConfigError, StorageFailed and ResourceFailed (both resumable), TakenOver, RunConflict where
    another process begins or executes a run of this id.
    """
    check_given(job, executor)
    with opened_for(store) as opened:
        if run_id is not None and opened.has_run(check_run_id(run_id)):
            return _again(job, opened, run_id, run_config, executor, fail_fast, control)
        config = check_config(job, run_config)
        run_id = run_id or new_run_id(dt.datetime.now(dt.UTC))
        host, pid = this_host()
        started = RunStarted(
            format=FORMAT_VERSION,
            job=job.reference,
            graph=job.graph,
            config=config,
            tags=check_tags(tags),
            level=opened.level,
            base=opened.base_for(run_id),
            small_outputs=opened.small_outputs,
            host=host,
            pid=pid,
            version=__version__,
        )
        return drive(opened, opened.start(run_id, started), job, executor, fail_fast, control)


def resume(
    run_id: str = "last",
    store: StoreLike = None,
    *,
    job: JobDefinition | None = None,
    run_config: Mapping[str, Any] | None = None,
    outputs: str | None = None,
    executor: Executor | None = None,
    take_over: bool = False,
    on_code_change: OnCodeChange = "reuse",
    fail_fast: bool = False,
    control: Control | None = None,
) -> RunResult:
    """Go on with a run that crashed, failed or was cancelled, at its first incomplete step (rules R1-R8).

    `job`: in place of the one that the log names. `run_config`, `outputs`: in place of the log's, and recorded.
    `on_code_change`: "reuse" finished work of ops that have changed, "rerun" them and what is downstream, or
    "fail". On a run that has succeeded it does nothing.

    Raises RunAlive unless `take_over`, PlanChanged, CodeChanged, JobNotFound, and what `execute` raises.
    """
    check_given(job, executor)
    with opened_for(store, must_exist=True, outputs=outputs) as opened:
        run_id = opened.resolve(run_id)
        if not take_over:
            opened.refuse_living(run_id)
        recorder = opened.reopen(run_id)
        if isinstance(recorder.state.ended, RunSucceeded):
            return RunResult(opened, recorder.state, job or _known_job(recorder.state))
        job = job or job_of(recorder.state)
        plan = plan_into(recorder, opened, job, run_config, outputs, on_code_change, take_over)
        recorder.open_epoch(take_over=take_over)
        control = control or NoControl()
        control.planned(plan)
        return drive(opened, recorder, job, executor, fail_fast, control)


def plan_resume(
    run_id: str = "last",
    store: StoreLike = None,
    *,
    job: JobDefinition | None = None,
    run_config: Mapping[str, Any] | None = None,
    outputs: str | None = None,
    on_code_change: OnCodeChange = "reuse",
) -> ResumePlan:
    """What `resume` with the same arguments will reuse and run; writes nothing (rule R4)."""
    with opened_for(store, must_exist=True, outputs=outputs) as opened:
        run_id = opened.resolve(run_id)
        recorder = opened.replayed(run_id)
        if isinstance(recorder.state.ended, RunSucceeded):
            return ResumePlan(
                run_id, recorder.state.epoch, True, (), (), (), node_plans(recorder.state)
            )
        return plan_into(
            recorder, opened, job or job_of(recorder.state), run_config, outputs, on_code_change
        )


def execute_in_process(
    job: JobDefinition,
    *,
    run_config: Mapping[str, Any] | None = None,
    store: StoreLike = None,
    raise_on_error: bool = True,
) -> RunResult:
    """Run a job for a test or a notebook, in memory unless a store is given.

    The run ends like any other; then the first failure in the order of steps is raised, unless `raise_on_error=False`.
    """
    executor = InProcessExecutor()
    opened = RunStore.in_memory() if store is None else as_store(store)
    result = execute(job, opened, run_config=run_config, executor=executor)
    if raise_on_error:
        for failure in result.failures:
            raise executor.exceptions[failure.step_key]
    return result


set_launcher(execute_in_process)
set_invoker(invoke)


def plan_into(
    recorder: Recorder,
    store: RunStore,
    job: JobDefinition,
    run_config: Mapping[str, Any] | None,
    outputs: str | None,
    on_code_change: OnCodeChange,
    take_over: bool = False,
) -> ResumePlan:
    """Append what a resume begins with, uncommitted, and say what follows from it."""
    state = recorder.state
    check_graph(state, job.graph)
    codes = {node: op.code for node, op in job.ops.items()}
    changed = changed_code(state, codes)
    resumed, changes = _resumed(state, store, job, run_config, outputs, take_over)
    recorder.append(resumed)
    if state.is_taking:
        take_rest(recorder, store)
    for event in code_invalidations(state, changed, on_code_change):
        recorder.append(event)
    lost = invalidate_lost(recorder, store)
    return ResumePlan(
        state.run_id, state.epoch, False, tuple(changed), changes, lost, node_plans(state)
    )


def _resumed(
    state: RunState,
    store: RunStore,
    job: JobDefinition,
    run_config: Mapping[str, Any] | None,
    outputs: str | None,
    take_over: bool,
) -> tuple[RunResumed, tuple[str, ...]]:
    if run_config is None:
        check_logged(job, state.config)
    config = None if run_config is None else check_config(job, run_config)
    base = store.base_for(state.run_id) if outputs is not None else None
    new: dict[str, Any] = {
        "graph": job.graph if job.graph != state.graph else None,
        "config": config if config != state.config else None,
        "base": base if base != state.bases[-1] else None,
        "job": job.reference if job.reference and job.reference != state.job else None,
    }
    host, pid = this_host()
    event = RunResumed(
        host=host, pid=pid, version=__version__, log_digest="", take_over=take_over, **new
    )
    return event, tuple(name for name, value in new.items() if value is not None)


def drive(
    store: RunStore,
    recorder: Recorder,
    job: JobDefinition,
    executor: Executor | None,
    fail_fast: bool,
    control: Control | None,
) -> RunResult:
    """Run an engine on an open run to its end, and give the run back."""
    outputs = store.outputs(recorder.state)
    executor, interrupts = _executor_for(job, executor), Interrupts()
    try:
        engine = Engine(
            recorder,
            job,
            outputs,
            executor,
            control or NoControl(),
            fail_fast=fail_fast,
            interrupts=interrupts,
        )
        with (
            unwound_by_sigterm() if job.resources else contextlib.nullcontext(),
            contextlib.nullcontext() if executor.is_inline else interrupts.noted(),
        ):
            engine.run()
    except BaseException:
        # What stopped the run is the news; that its claim could not be given back is none.
        with contextlib.suppress(RunStoreError):
            recorder.close()
        raise
    finally:
        outputs.close()
    recorder.close()
    if interrupts.reason:
        raise KeyboardInterrupt("interrupted")
    return RunResult(store, recorder.state, job)


def _executor_for(job: JobDefinition, given: Executor | None) -> Executor:
    if given is not None:
        return given
    # A copy: runs of one job may be driven at the same time, by several threads.
    return copy.copy(job.executor) or InProcessExecutor()


def _again(
    job: JobDefinition,
    store: RunStore,
    run_id: str,
    given: Mapping[str, Any] | None,
    executor: Executor | None,
    fail_fast: bool,
    control: Control | None,
) -> RunResult:
    known = store.state(run_id)
    if known.graph.name != job.graph.name:
        raise ConfigError(
            f"run {run_id!r} exists and is of job {known.graph.name!r}, not of {job.graph.name!r}; use another run id, "
            "or, where the job has been renamed, resume it with --job FILE_OR_MODULE:JOB, resume(job=…)"
        )
    if given is not None and check_config(job, given) != known.config:
        raise ConfigError(
            f"run {run_id!r} exists with another config ({known.config}); use another run id, or resume it with the "
            "new config"
        )
    return resume(run_id, store, job=job, executor=executor, fail_fast=fail_fast, control=control)


def check_tags(tags: Mapping[Any, Any] | None) -> dict[str, str]:
    """The tags of a run; raises ConfigError where one is no text."""
    for name, value in dict(tags or {}).items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ConfigError(f"tag {name!r} is {value!r}; use text for both")
    return dict(tags or {})


def job_of(state: RunState) -> JobDefinition:
    """The job that a log names; raises JobNotFound where it can only be passed in."""
    if not state.job:
        raise JobNotFound(
            f"the job of run {state.run_id!r} was defined in __main__ or a notebook; "
            "pass it: resume(job=…), or --job FILE_OR_MODULE:JOB"
        )
    return load_job(state.job)


def _known_job(state: RunState) -> JobDefinition | None:
    try:
        return job_of(state)
    except (ExecutionError, ImportError):
        return None
