"""`runstore rerun`."""

from pathlib import Path
from typing import Any

import click

from execution.cli.config_options import config_options, given_config
from execution.cli.driving import drive, rerun_lines
from execution.cli.failure import Command, job_file_failure, typed
from execution.cli.job_options import chosen, executor_option, load
from execution.cli.options import (
    json_option,
    level_option,
    opened,
    outputs_option,
    run_argument,
    small_outputs_option,
    store_option,
)
from execution.cli.terminal import at_least, print_json, print_table
from execution.errors import ExecutionError
from execution.planning.rerun_plan import RerunNode, RerunPlan
from execution.running.rerun import new_id, plan_rerun, rerun
from runstore.errors import RunStoreError
from runstore.store import RunStore


@click.command(cls=Command)
@run_argument("last")
@click.option("--select", metavar="EXPR", multiple=True, help="What is to run; may be repeated.")
@click.option("--from-failure", is_flag=True, help="Run what had not finished, and what needs it.")
@click.option("--dry-run", is_flag=True, help="Say what would be reused and run; write nothing.")
@click.option("--run-id", metavar="NEW", help="Start, resume, or report the success of this run.")
@click.option("--job", metavar="FILE_OR_MODULE:JOB", help="In place of the job that the log names.")
@config_options
@executor_option
@click.option("--fail-fast", is_flag=True, help="Start no new step after a failure.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@json_option
@store_option
@outputs_option
@level_option
@small_outputs_option
@click.pass_context
def command(
    ctx: click.Context,
    run: str,
    select: tuple[str, ...],
    from_failure: bool,
    dry_run: bool,
    run_id: str | None,
    job: str | None,
    config: tuple[Path, ...],
    settings: tuple[str, ...],
    executor: str | None,
    fail_fast: bool,
    quiet: bool,
    as_json: bool,
    store: str | None,
    outputs: str | None,
    level: str | None,
    small_outputs: str | None,
) -> None:
    """Start a new run of RUN's job in which the selected steps run; the others are taken from RUN by reference.

    \b
        --select op              all steps of an op
        --select 'op[key]'       one clone; 'op[2024-*]' those whose key fits
        --select op+             and what needs it, one level far; op++ two, 'op*' all
        --select +op             and what it needs, one level far; '*op' all
        --select 'op[key]*'      a clone and its chain, the collects, and all after them
        --from-failure           what failed or never ran, and all that needs it

    Several expressions may be given, or one with commas. Without any, everything runs anew.
    """
    if as_json and not dry_run:
        raise click.UsageError("--json belongs to --dry-run", ctx)
    what: dict[str, Any] = {
        "select": select,
        "from_failure": from_failure,
        "job": load(job) if job else None,
    }
    with opened(store, outputs, level, small_outputs=small_outputs) as found:
        what["run_config"] = given_config(
            config, settings, lambda: found.state(found.resolve(run)).config
        )
        if dry_run:
            _print_plan(_planned(run, found, what), ctx, as_json=as_json)
            return
        ctx.params["run"] = found.resolve(run)
        drive(
            ctx,
            found,
            lambda control: rerun(
                ctx.params["run"],
                found,
                new_run_id=run_id or new_id(),
                executor=chosen(executor),
                fail_fast=fail_fast,
                control=control,
                **what,
            ),
            quiet=quiet,
        )


def _planned(run: str, store: RunStore, what: dict[str, Any]) -> RerunPlan:
    try:
        return plan_rerun(run, store, **what)
    except (ExecutionError, RunStoreError):
        raise
    except (Exception, SystemExit) as error:
        failure = job_file_failure(error)
        if failure is None:
            raise
        raise failure from error


def _print_plan(plan: RerunPlan, ctx: click.Context, *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    for line in rerun_lines(plan):
        click.echo(line)
    click.echo()
    heads = ("op", "sealed", "reuse", "run", "left out", "")
    numbers = ("sealed", "reuse", "run", "left out")
    print_table(heads, [_row(node) for node in plan.nodes], right=numbers)
    click.echo(f"\nnext:  {typed('rerun', plan.parent, *_same_options(ctx), ctx=ctx)}")


def _row(node: RerunNode) -> tuple[str, ...]:
    sealed = at_least(node.sealed, more=node.waiting)
    counts = (f"{node.reuse:,}", f"{node.run:,}", f"{node.left_out:,}")
    return (node.node, sealed, *counts, "waiting for its keys" if node.waiting else "")


def _same_options(ctx: click.Context) -> list[str]:
    """What was given beside --dry-run: the rerun that follows does exactly what was planned."""
    words = [word for one in ctx.params["select"] for word in ("--select", one)]
    words += ["--from-failure"] if ctx.params["from_failure"] else []
    for name in ("run_id", "job", "outputs", "level", "small_outputs", "executor"):
        if ctx.params[name] is not None:
            words += [f"--{name.replace('_', '-')}", str(ctx.params[name])]
    words += [word for file in ctx.params["config"] for word in ("--config", str(file))]
    return words + [word for one in ctx.params["settings"] for word in ("--set", one)]
