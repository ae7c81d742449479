"""Requests to a service: tried again where that may help, and given up for good where nothing gets through.

Every error of a service becomes ours here. Whether it may pass is told by its type and code, since each filesystem of
fsspec brings exceptions of its own.
"""

import errno
import math
import random
import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from runstore.credentials import redacted
from runstore.errors import StorageFailed, TransferFailed

TRIES = 7
"""Of one request, over some 6 s: enough for throttling and for a server that restarts."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
GIVE_UP_AFTER_S = 60.0
"""No try of a request begins later: a service that does not answer costs so much, and at most one time-out more."""
IN_A_ROW = 16
"""When as many requests have finally failed and none has succeeded in between, the service is down: the run stops."""

_PASSING_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "EBUSY",  # throttling, as s3fs says it
        "ECONNABORTED",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTUNREACH",
        "EINTR",
        "EIO",
        "ENETDOWN",
        "ENETUNREACH",
        "EPIPE",
        "EREMOTEIO",  # an internal error of the service
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)
_PASSING_CODES = frozenset(
    {"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"}
)
"""Of S3, for what s3fs calls an invalid argument although only the transfer went wrong."""
_LASTING = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
_LASTING_NAMES = ("Credential", "Profile", "Param", "Region", "Certificate", "Validation", "Config")
"""In the names of exceptions of the clients, for what a repetition does not mend."""
_CLIENTS = ("aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "google", "azure", "urllib3")

T = TypeVar("T")


class Requests:
    """What one base asks of its service."""

    def __init__(self, give_up_after_s: float = GIVE_UP_AFTER_S) -> None:
        self._closed = threading.Event()
        self._give_up_after_s = give_up_after_s
        self._failed_in_a_row = 0
        self._answered = -math.inf
        """When the service has last answered a request, with yes or no."""

    def ask(self, address: str, request: Callable[[], T], within_s: float = math.inf) -> T:
        """What a request answers, tried again with growing, jittered waits; `address` is for messages.

        `within_s`: no try begins later, where that is sooner than for others. Passes FileNotFoundError and
        FileExistsError on. Raises TransferFailed where the last try failed too, and StorageFailed where there is no use
        in trying, or where nothing gets through to the service any longer.
        """
        begun, within_s = monotonic(), min(within_s, self._give_up_after_s)
        for number in range(1, TRIES + 1):
            try:
                answer = request()
            except (FileNotFoundError, FileExistsError):
                self._note_answer()
                raise
            except StorageFailed:  # of a request that this one is made of
                raise
            except Exception as error:
                if not may_pass(error):
                    raise refused(address, error) from None
                wait_s, took_s = _wait_s(number), monotonic() - begun
                if took_s + wait_s >= within_s:
                    raise self._too_late(address, error, number, took_s) from None
                if number == TRIES or self._closed.wait(wait_s):
                    raise self._given_up(address, error, number) from None
            else:
                self._note_answer()
                return answer
        raise AssertionError("unreachable")

    def _note_answer(self) -> None:
        self._failed_in_a_row, self._answered = 0, monotonic()

    def _too_late(self, address: str, error: Exception, tries: int, took_s: float) -> StorageFailed:
        """Where others got through meanwhile it is this transfer alone that failed; else the service is down."""
        self._failed_in_a_row += 1
        what = (
            f"{address}: {fact_of(error)}; given up after {took_s:.0f} s ({tries} of {TRIES} tries)"
        )
        remedy = (
            "see to the service, then `runstore resume`; what is only slow is waited for longer with give_up_after_s "
            f"(now {self._give_up_after_s:g}) in [tool.runstore.storage]"
        )
        if self._answered > monotonic() - took_s:
            return TransferFailed(f"{what}; {remedy}")
        return StorageFailed(
            f"{what}, and no other request was answered in that time. Nothing that was committed is lost; {remedy}"
        )

    def _given_up(self, address: str, error: Exception, tries: int) -> StorageFailed:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= IN_A_ROW:
            return StorageFailed(
                f"{address}: {fact_of(error)}; {self._failed_in_a_row} requests in a row have failed, after {tries} "
                "tries each. Nothing that was committed is lost; see to the service, then `runstore resume`"
            )
        return TransferFailed(
            f"{address}: {fact_of(error)}, after {tries} tries; see to the service, then `runstore resume`"
        )

    def close(self) -> None:
        """Let waits end: what would be tried again fails now."""
        self._closed.set()


def may_pass(error: Exception) -> bool:
    """True for throttling, time-outs, broken connections and errors on the side of the service."""
    if isinstance(error, _LASTING):
        return False
    if isinstance(error, (TimeoutError, ConnectionError, EOFError)):
        return True
    if code_of(error) in _PASSING_CODES:
        return True
    if isinstance(error, OSError):
        return error.errno is None or error.errno in _PASSING_ERRNOS
    kind = type(error)
    return kind.__module__.partition(".")[0] in _CLIENTS and not any(
        word in kind.__name__ for word in _LASTING_NAMES
    )


def code_of(error: BaseException) -> str:
    """The code by which S3 names an error (`SlowDown`, `PreconditionFailed`, `412`); empty where it has none."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def refused(address: str, error: Exception) -> StorageFailed:
    """For what the service does not do, and will not do the next time."""
    return StorageFailed(
        f"{address}: {fact_of(error)}; see to the service or its settings (`runstore storage test URL` tries them), "
        "then `runstore resume`"
    )


def fact_of(error: Exception) -> str:
    """What an error says, on one line, without credentials."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    words = " ".join(text.split()) or type(error).__name__
    return redacted(words if len(words) <= 300 else words[:297] + "…")


def _wait_s(number: int) -> float:
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (number - 1))
    return random.uniform(longest / 2, longest)
