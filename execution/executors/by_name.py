"""The executor that a text names: `in_process`, `threads:32`, `processes:4`, `dask:tcp://host:8786`."""

from collections.abc import Callable

from execution.executors.base import Executor
from execution.executors.dask import dask
from execution.executors.in_process import InProcessExecutor
from execution.executors.processes import processes
from execution.executors.threads import threads
from runstore.errors import ConfigError

_WITH_WORKERS: dict[str, Callable[..., Executor]] = {
    "dask": dask,
    "processes": processes,
    "threads": threads,
}
FORMS = "in_process, threads:N, processes:N, dask:N or dask:ADDRESS"


def executor_named(text: str) -> Executor:
    """A new executor; without a number the default of its kind. Raises ConfigError, and ExtraMissing."""
    kind, separator, rest = text.partition(":")
    if text == "in_process":
        return InProcessExecutor()
    is_number = rest.isascii() and rest.isdigit()
    is_address = kind == "dask" and ":" in rest
    if kind not in _WITH_WORKERS or (separator and not (is_number or is_address)):
        raise ConfigError(f"no executor is named {text!r}; write {FORMS}")
    if not separator:
        return _WITH_WORKERS[kind]()
    return _WITH_WORKERS[kind](int(rest) if is_number else rest)
