"""Everything that execution raises on purpose; failures of storage and log are `runstore.RunStoreError`."""


class ExecutionError(Exception):
    """The base of every error that execution raises on purpose."""


class DefinitionError(ExecutionError, TypeError):
    """An op or job that is not wired legally. Found when it is defined; names job, op and output."""


class JobNotFound(ExecutionError, LookupError):
    """`FILE_OR_MODULE:JOB` does not lead to a job."""


class StepError(ExecutionError):
    """What an op gave back is not what it declared (a wrong key, output or value); fails that step alone."""


class WrongType(StepError, TypeError):
    """A value is not of the type that an input or output declares; fails that step alone."""


class ResourceFailed(ExecutionError):
    """A resource could not be opened or closed; stops the run, which can be resumed."""


class StepTimedOut(ExecutionError, TimeoutError):
    """A step took longer than its op allows (`@op(timeout=…)`); fails that attempt, and its retry policy applies."""


class WorkerLost(ExecutionError):
    """The process that ran a step is gone; fails that step alone, after it was tried again. Or none can be started."""


class ResumeRefused(ExecutionError):
    """The run cannot go on as asked; the log is unchanged or resumable."""


class PlanChanged(ResumeRefused):
    """The job's graph no longer fits what has succeeded (rule R5)."""


class CodeChanged(ResumeRefused):
    """Ops have changed and `on_code_change` is "fail" (rule R5)."""


class ExpansionChanged(ResumeRefused):
    """A dynamic op that ran again for lost bytes did not yield the sealed keys in order (rule R6)."""


class OutputNotReproduced(ResumeRefused):
    """A lost output came back different, and a step that read the lost one has succeeded (rule R6)."""


class ExpansionIncomplete(ResumeRefused):
    """A collect would run on less than the sealed keys (rule R3); it never does."""


class InvalidSelection(ExecutionError, ValueError):
    """A selection of steps that cannot be read, or that selects nothing."""


class SelectionIncomplete(ExecutionError):
    """A selected step reads what is neither selected nor finished in the run that is to be reused."""
