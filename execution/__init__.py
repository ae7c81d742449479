"""Write ops and jobs whose graphs grow at run time; execute and resume them over runstore's log.

A name is imported when it is first used, so that `runstore --help` loads no engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from execution.definition.graph import GraphDefinition, graph
    from execution.definition.hooks import HookDefinition, failure_hook, success_hook
    from execution.definition.ins_outs import DynamicOut, DynamicOutput, In, Nothing, Out, Output
    from execution.definition.job import JobDefinition, job
    from execution.definition.op import OpDefinition, op
    from execution.definition.resources import ResourceDefinition, ResourceParam, resource
    from execution.definition.retries import Backoff, Failure, Jitter, RetryPolicy, RetryRequested
    from execution.executors.dask import dask
    from execution.executors.processes import processes
    from execution.executors.threads import threads
    from execution.planning.rerun_plan import RerunPlan
    from execution.planning.resume_plan import ResumePlan
    from execution.running.context import OpContext, OpExecutionContext
    from execution.running.direct import build_op_context
    from execution.running.hook_runner import HookContext
    from execution.running.launch import execute, plan_resume, resume
    from execution.running.rerun import plan_rerun, rerun
    from execution.running.resources import InitResourceContext
    from execution.running.result import RunResult

_HOMES = {
    "Backoff": "definition.retries",
    "DynamicOut": "definition.ins_outs",
    "DynamicOutput": "definition.ins_outs",
    "Failure": "definition.retries",
    "GraphDefinition": "definition.graph",
    "HookContext": "running.hook_runner",
    "HookDefinition": "definition.hooks",
    "In": "definition.ins_outs",
    "InitResourceContext": "running.resources",
    "Jitter": "definition.retries",
    "JobDefinition": "definition.job",
    "Nothing": "definition.ins_outs",
    "OpContext": "running.context",
    "OpDefinition": "definition.op",
    "OpExecutionContext": "running.context",
    "Out": "definition.ins_outs",
    "Output": "definition.ins_outs",
    "ResourceDefinition": "definition.resources",
    "ResourceParam": "definition.resources",
    "RerunPlan": "planning.rerun_plan",
    "ResumePlan": "planning.resume_plan",
    "RetryPolicy": "definition.retries",
    "RetryRequested": "definition.retries",
    "RunResult": "running.result",
    "build_op_context": "running.direct",
    "dask": "executors.dask",
    "execute": "running.launch",
    "graph": "definition.graph",
    "failure_hook": "definition.hooks",
    "job": "definition.job",
    "op": "definition.op",
    "plan_rerun": "running.rerun",
    "plan_resume": "running.launch",
    "processes": "executors.processes",
    "resource": "definition.resources",
    "rerun": "running.rerun",
    "resume": "running.launch",
    "success_hook": "definition.hooks",
    "threads": "executors.threads",
}

if not TYPE_CHECKING:  # hidden from type checkers, which would believe any name

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import_module("execution.running.launch")  # a job can then run itself, `execute_in_process`
        home = import_module(f"execution.{_HOMES[name]}")
        globals()[name] = value = getattr(home, name)
        return value


__all__ = [
    "Backoff",
    "DynamicOut",
    "DynamicOutput",
    "Failure",
    "GraphDefinition",
    "HookContext",
    "HookDefinition",
    "In",
    "InitResourceContext",
    "Jitter",
    "JobDefinition",
    "Nothing",
    "OpContext",
    "OpDefinition",
    "OpExecutionContext",
    "Out",
    "Output",
    "RerunPlan",
    "ResourceDefinition",
    "ResourceParam",
    "ResumePlan",
    "RetryPolicy",
    "RetryRequested",
    "RunResult",
    "build_op_context",
    "dask",
    "execute",
    "failure_hook",
    "graph",
    "job",
    "op",
    "plan_rerun",
    "plan_resume",
    "processes",
    "rerun",
    "resource",
    "resume",
    "success_hook",
    "threads",
]
