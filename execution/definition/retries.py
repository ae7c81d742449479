"""When a failed attempt is followed by another: what a job declares, and what an op may raise (rule F3).

A policy is no part of the graph and does not stand in the log, so that a resume may bring another one; the log holds
what came of it: each attempt with its error, and when the next one is due.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from execution.errors import DefinitionError, ExecutionError, StepTimedOut
from runstore.errors import RunStoreError, TransferFailed

LONGEST_WAIT_S = 10 * 365 * 86_400.0
_PASSING = (StepTimedOut, TransferFailed)
"""Ten years: an absolute time must come out of every delay."""


class Backoff(Enum):
    """How the delay grows with n, the number of the retry: 1 for the first."""

    LINEAR = "LINEAR"
    """n · delay"""
    EXPONENTIAL = "EXPONENTIAL"
    """(2ⁿ - 1) · delay"""


class Jitter(Enum):
    """How chance changes the delay, after `Backoff` has."""

    FULL = "FULL"
    """Anything from 0 up to it."""
    PLUS_MINUS = "PLUS_MINUS"
    """Up to one `delay` more or less."""


@dataclass(frozen=True)
class RetryPolicy:
    """Try a step again when it has failed: `max_retries` times, each after `delay` seconds (None: at once)."""

    max_retries: int = 1
    delay: float | None = None
    backoff: Backoff | None = None
    jitter: Jitter | None = None

    def __post_init__(self) -> None:
        _check_count(self.max_retries, "RetryPolicy", DefinitionError)
        _check_seconds(self.delay, "RetryPolicy delay", DefinitionError)
        for name, kind in (("backoff", Backoff), ("jitter", Jitter)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise DefinitionError(
                    f"RetryPolicy {name} is {value!r}; write one of {', '.join(map(str, kind))}"
                )
            if value is not None and self.delay is None:
                raise DefinitionError(
                    f"RetryPolicy has a {name} and no delay that it could change; set delay too"
                )

    def calculate_delay(self, attempt_num: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait before retry `attempt_num` (1 for the first); `draw` gives numbers from 0 up to 1."""
        base = self.delay or 0
        delay = base * _growth(self.backoff, attempt_num)
        if self.jitter is Jitter.FULL:
            delay = draw() * delay
        elif self.jitter is Jitter.PLUS_MINUS:
            delay = delay + (2 * (draw() * base) - base)
        return delay


def _growth(backoff: Backoff | None, number: int) -> int:
    if backoff is Backoff.EXPONENTIAL:
        return (
            int(2 ** min(number, 64)) - 1
        )  # beyond that any delay is longer than the longest wait
    return number if backoff is Backoff.LINEAR else 1


class RetryRequested(Exception):
    """Raised by an op that wants to be tried again; taken as it is, whatever policy there is.

    `max_retries`: how often at most; `seconds_to_wait`: not before that (None: at once).
    """

    __module__ = "execution"  # as which the log names it

    def __init__(self, max_retries: int = 1, seconds_to_wait: float | None = None) -> None:
        super().__init__()
        self.max_retries = _check_count(max_retries, "RetryRequested", ValueError)
        self.seconds_to_wait = _check_seconds(
            seconds_to_wait, "RetryRequested seconds_to_wait", ValueError
        )

    def __str__(self) -> str:
        cause = self.__cause__ or self.__context__
        return f"{type(cause).__name__}: {cause}" if cause else "the op asked to be tried again"


class Failure(Exception):
    """Raised by an op that has failed, with what there is to say about it.

    `metadata`: exact in JSON; stands in the log beside the error. `allow_retries=False`: no policy tries it again.
    """

    __module__ = "execution"

    def __init__(
        self,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        allow_retries: bool | None = None,
    ) -> None:
        super().__init__("" if description is None else description)
        self.description = description
        self.metadata = dict(metadata or {})
        self.allow_retries = allow_retries is None or bool(allow_retries)


def check_policy(policy: Any, where: str) -> RetryPolicy | None:
    """A policy as it was given, or None; raises DefinitionError for anything else."""
    if policy is not None and not isinstance(policy, RetryPolicy):
        raise DefinitionError(
            f"{where}: the retry policy is a {type(policy).__name__}; write RetryPolicy(max_retries=…)"
        )
    return policy


def wait_before_retry(
    error: BaseException, policy: RetryPolicy | None, retries: int
) -> float | None:
    """Seconds until a step that raised `error` is to be tried again; None: not at all.

    `retries`: how many of the step's budget are used up. No policy tries again what execution or runstore itself has
    refused, such as a wrong output: the next attempt would give the same. A transfer that failed may be bad luck, and
    so may be an attempt that took too long.
    """
    if isinstance(error, RetryRequested):
        allowed, wait_s = error.max_retries, error.seconds_to_wait or 0.0
        return min(wait_s, LONGEST_WAIT_S) if retries < allowed else None
    if policy is None or retries >= policy.max_retries:
        return None
    if isinstance(error, ExecutionError | RunStoreError) and not isinstance(error, _PASSING):
        return None
    if isinstance(error, Failure) and not error.allow_retries:
        return None
    return min(max(0.0, policy.calculate_delay(retries + 1)), LONGEST_WAIT_S)


def _check_count(value: Any, what: str, error: type[Exception]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise error(f"{what} max_retries is {value!r}; write a whole number from 0 on")
    return value


def _check_seconds(value: Any, what: str, error: type[Exception]) -> float | None:
    if value is None:
        return None
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if not number or not 0 <= value <= LONGEST_WAIT_S:
        raise error(f"{what} is {value!r}; write seconds, from 0 to {LONGEST_WAIT_S:,.0f}")
    return float(value)
