"""How an attempt that raised is told: its error as text, and whether there is to be another."""

import traceback

import msgspec

from execution.definition.retries import Failure, wait_before_retry
from execution.errors import ResourceFailed, StepError
from execution.running.storable_text import storable_text
from execution.running.told import Ticket, Told
from runstore.errors import NotStorable, StorageFailed, TransferFailed
from runstore.exactness import first_inexact
from runstore.log.codec import check_exact
from runstore.log.events import UNSTAMPED, AnyEvent, ErrorInfo, StepFailed, StepRetried

MAX_ERROR_TEXT = 65_536


def comes_from_outside(error: BaseException, worker: str) -> bool:
    """True for what the op cannot have raised: Ctrl-C and SIGTERM where the run is driven, which has no name as a
    `worker`, and the end of an attempt that nobody asks for more.

    All else is the op's (rule F2), also what is no Exception: extensions in Rust panic so, and pytest fails so.
    """
    return isinstance(error, GeneratorExit) or (isinstance(error, KeyboardInterrupt) and not worker)


def stops_the_run(error: BaseException) -> bool:
    """True for what will meet every other step too; a transfer that failed may be bad luck, and ends the attempt."""
    return isinstance(error, (StorageFailed, ResourceFailed)) and not isinstance(
        error, TransferFailed
    )


def failed(
    ticket: Ticket,
    done: list[AnyEvent],
    error: BaseException,
    duration_s: float,
    worker: str = "",
) -> Told:
    """The last word of an attempt that raised: it will be tried again, or not (rule F3). `worker`: who ran it."""
    key, context = ticket.step_key, ticket.context
    try:
        described = _with_metadata(key, error)
    except StepError as refused:
        error, described = refused, describe_error(refused)
    wait_s = wait_before_retry(error, ticket.retry_policy, context.retry_number)
    if wait_s is None:
        done.append(StepFailed(key, described, duration_s, context.attempt, worker))
        return Told(key, done, exception=error)
    done.append(StepRetried(key, described, duration_s, UNSTAMPED, context.attempt, worker=worker))
    return Told(key, done, wait_s=wait_s)


def _with_metadata(step: str, error: BaseException) -> ErrorInfo:
    """The error as text, with what a `Failure` says beside it."""
    described = describe_error(error)
    if not isinstance(error, Failure) or not error.metadata:
        return described
    place, part = first_inexact(error.metadata) or ("$", error.metadata)
    try:
        check_exact(part, f"its metadata {place}")
    except NotStorable as refused:
        raise StepError(
            f"step {step!r} raised Failure({described.message!r}), but {refused}"
        ) from error
    return msgspec.structs.replace(described, metadata=error.metadata)


def describe_error(error: BaseException) -> ErrorInfo:
    """An exception as text, whatever its `repr` does, however long it is (rule F5)."""
    try:
        message = str(error)
    except Exception:
        message = "(the error's own text cannot be shown)"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:
        trace = "".join(traceback.format_tb(error.__traceback__))
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    name, message, trace = (storable_text(text, MAX_ERROR_TEXT) for text in (name, message, trace))
    return ErrorInfo(name, message, trace)
