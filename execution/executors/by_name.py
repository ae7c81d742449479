"""The executor that a text names: `in_process`, `threads:32`, `processes:4`."""

from collections.abc import Callable

from execution.executors.base import Executor
from execution.executors.in_process import InProcessExecutor
from execution.executors.processes import processes
from execution.executors.threads import threads
from runstore.errors import ConfigError

_WITH_WORKERS: dict[str, Callable[..., Executor]] = {"threads": threads, "processes": processes}
FORMS = "in_process, threads:N or processes:N"


def executor_named(text: str) -> Executor:
    """A new executor; without a number the default of its kind. Raises ConfigError."""
    kind, separator, number = text.partition(":")
    if text == "in_process":
        return InProcessExecutor()
    if kind not in _WITH_WORKERS or (separator and not (number.isascii() and number.isdigit())):
        raise ConfigError(f"no executor is named {text!r}; write {FORMS}")
    return _WITH_WORKERS[kind](int(number)) if separator else _WITH_WORKERS[kind]()
