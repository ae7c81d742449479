"""What `run` and `resume` take about the job itself: where it is defined."""

from execution.cli.failure import job_file_failure
from execution.definition.job import JobDefinition
from execution.definition.loading import load_job
from execution.errors import ExecutionError
from runstore.errors import RunStoreError


def load(reference: str) -> JobDefinition:
    """The job of a reference; an error in its file is shown with file and line."""
    try:
        return load_job(reference)
    except (ExecutionError, RunStoreError):
        raise
    except (Exception, SystemExit) as error:
        failure = job_file_failure(error)
        if failure is None:
            raise
        raise failure from error
