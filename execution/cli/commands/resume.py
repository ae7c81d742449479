"""`runstore resume`."""

from pathlib import Path
from typing import Any

import click

from execution.cli.config_options import config_options, given_config
from execution.cli.driving import drive, plan_lines
from execution.cli.failure import Command, job_file_failure, typed
from execution.cli.job_options import chosen, executor_option, load
from execution.cli.options import json_option, opened, run_argument, store_option
from execution.cli.terminal import at_least, counted, listed, print_json, print_table, time_text
from execution.errors import ExecutionError
from execution.planning.resume_plan import NodePlan, ResumePlan
from execution.running.launch import plan_resume, resume
from runstore.errors import RunStoreError
from runstore.store import RunStore


@click.command(cls=Command)
@run_argument("last")
@click.option("--dry-run", is_flag=True, help="Say what would be reused and run; write nothing.")
@click.option("--job", metavar="FILE_OR_MODULE:JOB", help="In place of the job that the log names.")
@click.option("--outputs", metavar="URL", help="Where new outputs go, in place of the log's place.")
@config_options
@click.option(
    "--on-code-change",
    type=click.Choice(["reuse", "rerun", "fail"]),
    default="reuse",
    show_default=True,
    help="What becomes of finished work whose op has changed.",
)
@click.option("--take-over", is_flag=True, help="Also while another process executes the run.")
@executor_option
@click.option("--fail-fast", is_flag=True, help="Start no new step after a failure.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@json_option
@store_option
@click.pass_context
def command(
    ctx: click.Context,
    run: str,
    dry_run: bool,
    job: str | None,
    outputs: str | None,
    config: tuple[Path, ...],
    settings: tuple[str, ...],
    on_code_change: Any,
    take_over: bool,
    executor: str | None,
    fail_fast: bool,
    quiet: bool,
    as_json: bool,
    store: str | None,
) -> None:
    """Go on with a run that crashed, failed or was cancelled, at its first incomplete step.

    \b
        runstore resume                  the last run
        runstore resume --dry-run        what would run, and why
        runstore resume 20261122-1810    by the beginning of its id
    """
    if as_json and not dry_run:
        raise click.UsageError("--json belongs to --dry-run", ctx)
    what: dict[str, Any] = {
        "job": load(job) if job else None,
        "outputs": outputs,
        "on_code_change": on_code_change,
    }
    with opened(store) as found:
        what["run_config"] = given_config(
            config, settings, lambda: found.state(found.resolve(run)).config
        )
        if dry_run:
            _print_plan(_planned(ctx, run, found, what), ctx, as_json=as_json)
            return
        ctx.params["run"] = found.resolve(run)
        drive(
            ctx,
            found,
            lambda control: resume(
                ctx.params["run"],
                found,
                take_over=take_over,
                executor=chosen(executor),
                fail_fast=fail_fast,
                control=control,
                **what,
            ),
            quiet=quiet,
        )


def _planned(ctx: click.Context, run: str, store: RunStore, what: dict[str, Any]) -> ResumePlan:
    try:
        return plan_resume(run, store, **what)
    except (ExecutionError, RunStoreError):
        raise
    except (Exception, SystemExit) as error:
        failure = job_file_failure(error)
        if failure is None:
            raise
        raise failure from error


def _print_plan(plan: ResumePlan, ctx: click.Context, *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    for line in plan_lines(plan):
        click.echo(line)
    if plan.succeeded:
        return
    click.echo()
    heads = ("op", "sealed", "reuse", "run", "why")
    print_table(heads, [_row(node) for node in plan.nodes], right=("sealed", "reuse", "run"))
    click.echo(f"\nnext:  {typed('resume', plan.run_id, *_same_options(ctx), ctx=ctx)}")


def _same_options(ctx: click.Context) -> list[str]:
    """What was given beside --dry-run: the resume that follows does exactly what was planned."""
    given = {name: ctx.params[name] for name in ("job", "outputs", "on_code_change", "executor")}
    if given["on_code_change"] == "reuse":
        given["on_code_change"] = None
    words = [(name, value) for name, value in given.items() if value is not None]
    words += [("config", file) for file in ctx.params["config"]]
    words += [("set", setting) for setting in ctx.params["settings"]]
    return [word for name, value in words for word in (f"--{name.replace('_', '-')}", str(value))]


def _row(node: NodePlan) -> tuple[str, ...]:
    why = listed(node.run)
    if node.waiting:
        why = f"{why}, and waiting for more keys" if why else "waiting for its keys"
    if node.due:
        why += f", due {time_text(node.due)}"
    if node.orphans:
        why += ("; " if why else "") + counted(node.orphans, "orphan")
    sealed = at_least(node.sealed, more=node.waiting)
    run = at_least(None if node.sealed is None else sum(node.run.values()), more=node.waiting)
    return node.node, sealed, f"{node.reuse:,}", run, why
