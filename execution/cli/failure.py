"""Errors to one clear line, an exit code, and the command to type next. A traceback only where runstore is to blame."""

import shlex
import sys
import traceback
from enum import IntEnum
from types import TracebackType

import click

from execution.errors import (
    CodeChanged,
    DefinitionError,
    ExecutionError,
    InvalidSelection,
    JobNotFound,
    SelectionIncomplete,
)
from runstore.credentials import redacted
from runstore.errors import (
    ConfigError,
    FormatTooNew,
    InvalidKey,
    LogDamaged,
    OutputLost,
    RunConflict,
    RunInUse,
    RunNotFound,
    RunStoreError,
    StepNotFound,
    StoreNotFound,
)

_SHOWN_FRAMES = 3


class ExitCode(IntEnum):
    """What the command tells the shell."""

    DONE = 0
    RUN_FAILED = 1
    USAGE = 2
    STOPPED = 3
    CONFLICT = 4
    INTERRUPTED = 130
    TERMINATED = 143


_USAGE = (
    ConfigError,
    DefinitionError,
    InvalidKey,
    InvalidSelection,
    JobNotFound,
    RunInUse,
    RunNotFound,
    SelectionIncomplete,
    StepNotFound,
    StoreNotFound,
)


class Failure(Exception):
    """What went wrong, the exit code, and what to type next."""

    def __init__(self, message: str, exit_code: ExitCode, next_command: str = "") -> None:
        super().__init__(redacted(message))
        self.message = redacted(message)
        self.exit_code = exit_code
        self.next_command = next_command

    def show(self) -> None:
        """Print to standard error."""
        if self.message:
            click.secho("error: ", err=True, nl=False, fg="red")
            click.echo(self.message, err=True)
        if self.next_command:
            click.echo(f"next:  {self.next_command}", err=True)


class Command(click.Command):
    """A subcommand whose errors become Failures."""

    def invoke(self, ctx: click.Context) -> object:
        """Run it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            return ctx.exit(ExitCode.INTERRUPTED)
        except (RunStoreError, ExecutionError) as error:
            failure = failure_of(error, ctx)
        except Failure as raised:
            failure = raised
        failure.show()
        return ctx.exit(failure.exit_code)


def failure_of(error: RunStoreError | ExecutionError, ctx: click.Context) -> Failure:
    """An error that was raised on purpose, as the shell is to see it."""
    return Failure(_one_line(error), exit_code_of(error), _next(error, ctx))


def exit_code_of(error: Exception) -> ExitCode:
    """The exit code for an error that was raised on purpose."""
    if isinstance(error, RunConflict):
        return ExitCode.CONFLICT
    return ExitCode.USAGE if isinstance(error, _USAGE) else ExitCode.STOPPED


def _one_line(error: Exception) -> str:
    where = job_file_frames(error.__traceback__) if isinstance(error, DefinitionError) else []
    place = f" ({where[-1].filename}, line {where[-1].lineno})" if where else ""
    return " ".join(str(error).split()) + place


def _next(error: Exception, ctx: click.Context) -> str:
    run = ctx.params.get("run")
    match error:
        case StoreNotFound():
            return "runstore run path/to/file.py:job"
        case RunNotFound():
            return typed("runs", ctx=ctx)
        case StepNotFound():
            return typed("show", run, ctx=ctx)
        case JobNotFound() | DefinitionError() | ConfigError() | InvalidKey():
            return _help(ctx)
        case InvalidSelection():
            return typed("show", run, ctx=ctx)
        case SelectionIncomplete():
            return _help(ctx)
        case RunInUse():
            return typed("runs", ctx=ctx)
        case RunConflict():
            return typed("log", error.run_id or run or "last", "--follow", ctx=ctx)
        case FormatTooNew():
            return "python -m pip install --upgrade runstore"
        case CodeChanged():
            return typed("resume", run, "--on-code-change", "reuse", ctx=ctx)
        case LogDamaged():
            return typed("doctor", ctx=ctx)
        case OutputLost() if ctx.params.get("step"):
            return typed("explain", run, ctx.params["step"], ctx=ctx)
        case _ if ctx.info_name == "resume":
            return typed("resume", run, ctx=ctx)
    return typed("doctor", ctx=ctx)


def _help(ctx: click.Context) -> str:
    return " ".join(["runstore", *ctx.command_path.split()[1:], "--help"])


def typed(*words: str | None, ctx: click.Context) -> str:
    """A command to type next; with `--store` where it was given."""
    parts = ["runstore", *[word for word in words if word]]
    if ctx.params.get("store"):
        parts += ["--store", str(ctx.params["store"])]
    return " ".join(shlex.quote(part) for part in parts)


# Errors in the user's own job file


def job_file_failure(error: BaseException) -> Failure | None:
    """An exception that the import of a job's file raised, readable; None if it came from elsewhere."""
    frames = job_file_frames(error.__traceback__)
    if not frames and not (isinstance(error, SyntaxError) and _came_through(error.__traceback__)):
        return None
    lines = ["the job's file cannot be imported"]
    for frame in frames[-_SHOWN_FRAMES:]:
        lines.append(f"  {frame.filename}, line {frame.lineno}, in {frame.name}")
        lines += [f"    {frame.line}"] if frame.line else []
    lines += [
        f"  {line}" for text in traceback.format_exception_only(error) for line in text.splitlines()
    ]
    return Failure("\n".join(lines), ExitCode.USAGE, _again())


def _again() -> str:
    return "correct it, then " + shlex.join(["runstore", *sys.argv[1:]])


def job_file_frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames below the import of a job's file, those of the import system left out."""
    frames = traceback.extract_tb(trace)
    for place, frame in enumerate(frames):
        if _is_loading(frame):
            return [one for one in frames[place + 1 :] if not _is_machinery(one)]
    return []


def _came_through(trace: TracebackType | None) -> bool:
    return any(_is_loading(frame) for frame in traceback.extract_tb(trace))


def _is_loading(frame: traceback.FrameSummary) -> bool:
    return frame.name == "load_job" and frame.filename.endswith("loading.py")


def _is_machinery(frame: traceback.FrameSummary) -> bool:
    inside = ("execution/definition/", "importlib/")
    return frame.filename.startswith("<frozen") or any(
        part in frame.filename.replace("\\", "/") for part in inside
    )
