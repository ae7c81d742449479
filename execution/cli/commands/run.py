"""`runstore run`."""

from pathlib import Path
from typing import Any

import click

from execution.cli.config_options import config_options, given_config
from execution.cli.driving import drive
from execution.cli.failure import Command
from execution.cli.job_options import chosen, executor_option, load
from execution.cli.options import (
    level_option,
    opened,
    outputs_option,
    small_outputs_option,
    store_option,
)
from execution.running.launch import execute


@click.command(cls=Command)
@click.argument("job", metavar="FILE_OR_MODULE:JOB")
@click.option("--run-id", metavar="NAME", help="Start, resume, or report the success of this run.")
@config_options
@executor_option
@click.option("--fail-fast", is_flag=True, help="Start no new step after a failure.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@store_option
@outputs_option
@level_option
@small_outputs_option
@click.pass_context
def command(
    ctx: click.Context,
    job: str,
    run_id: str | None,
    config: tuple[Path, ...],
    settings: tuple[str, ...],
    executor: str | None,
    fail_fast: bool,
    quiet: bool,
    store: str | None,
    outputs: str | None,
    level: str | None,
    small_outputs: str | None,
) -> None:
    """Start a run of a job.

    \b
        runstore run path/to/file.py:job
        runstore run package.module:job --run-id nightly-2026-11-22

    With --run-id the command may be repeated: it starts the run, resumes it, or says that it has succeeded.
    """
    definition = load(job)
    run_config: dict[str, Any] | None = given_config(config, settings)
    with opened(store, outputs, level, small_outputs=small_outputs, must_exist=False) as found:
        drive(
            ctx,
            found,
            lambda control: execute(
                definition,
                found,
                run_config=run_config,
                run_id=run_id,
                executor=chosen(executor),
                fail_fast=fail_fast,
                control=control,
            ),
            quiet=quiet,
        )
