"""What `run`, `resume` and `rerun` take about the job itself: where it is defined, and what runs its steps."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from execution.cli.failure import job_file_failure
from execution.definition.job import JobDefinition
from execution.definition.loading import load_job
from execution.errors import ExecutionError
from execution.executors.by_name import FORMS, executor_named
from runstore.errors import ConfigError, ExtraMissing, RunStoreError

if TYPE_CHECKING:
    from execution.executors.base import Executor

F = TypeVar("F", bound=Callable[..., Any])


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


def executor_option(function: F) -> F:
    """`--executor NAME:N`; the text is checked here and stays a text, to be said again."""
    return click.option(
        "--executor",
        metavar="NAME[:N]",
        callback=_checked,
        help=f"What runs the steps, and how many at a time: {FORMS}.",
    )(function)


def _checked(ctx: click.Context, option: click.Parameter, text: str | None) -> str | None:
    try:
        chosen(text)
    except (ConfigError, ExtraMissing) as error:
        raise click.BadParameter(str(error), ctx, option) from None
    return text


def chosen(text: str | None) -> "Executor | None":
    """The executor that `--executor` names; None where it was not given."""
    return None if text is None else executor_named(text)
