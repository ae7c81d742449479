"""What `run` and `resume` take about the job itself: where it is defined, and its config."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from execution.cli.failure import job_file_failure
from execution.definition.job import JobDefinition
from execution.definition.loading import load_job
from execution.errors import ExecutionError
from runstore.errors import ConfigError, RunStoreError

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """`--config FILE`."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Run config, a .toml or .json file: [ops.NODE.config] …",
    )(function)


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


def read_config(file: Path | None) -> dict[str, Any] | None:
    """The run config of a file; raises ConfigError in one line."""
    if file is None:
        return None
    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}
    reader = readers.get(file.suffix)
    if reader is None:
        raise ConfigError(
            f"{file} is neither .toml nor .json; write the run config in one of these"
        )
    try:
        config = reader(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}; name an existing file with --config"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}; correct the file") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{file} holds a {type(config).__name__}; a run config is a table")
    return config
