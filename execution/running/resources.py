"""The resources of a job in one process: each is opened when a step first needs it, and closed in reverse order.

What is opened here never leaves the process: a ticket names keys, and the worker that gets it opens its own. Workers
that are threads of one process share it, so there what is open must be fit for use by several threads.
"""

import contextlib
import inspect
import logging
import threading
import types
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from execution.definition.resources import ResourceDefinition, StandIn
from execution.errors import DefinitionError, ResourceFailed

if TYPE_CHECKING:
    from execution.running.event_loop import EventLoop

LOGGER = "runstore.resource"


class InitResourceContext(msgspec.Struct, frozen=True):
    """What the function of a resource is told."""

    resource_key: str
    resource_config: Any
    resources: "OpenResources"
    """Those that it requires, already open."""
    run_id: str
    log: Any
    """An ordinary logger, `runstore.resource.KEY`; its lines belong to no step, so they are not stored."""


class OpenResources:
    """The resources that somebody requires, as attributes."""

    def __init__(self, opened: Mapping[str, Any]) -> None:
        self.__dict__.update(opened)

    def __getattr__(self, key: str) -> Any:
        known = ", ".join(sorted(self.__dict__)) or "none"
        raise AttributeError(
            f"resource {key!r} was not required here (required: {known}); "
            f"add required_resource_keys={{{key!r}}} where the op, hook or resource is defined"
        )


class Resources:
    """Definitions and config, and what has been opened of them. Until the first `take` all of it is data."""

    def __init__(
        self,
        definitions: Mapping[str, Any],
        config: Mapping[str, Any],
        run_id: str,
        *,
        several_loops: bool = False,
    ) -> None:
        """`several_loops`: their users have event loops of their own, so that none may belong to one of these."""
        self._definitions = definitions
        self._several_loops = several_loops
        self._lock = threading.RLock()
        self._config = config
        self._run_id = run_id
        self._opened: dict[str, Any] = {}
        self._exits: list[tuple[str, Callable[[], object]]] = []
        self._taken: dict[frozenset[str], OpenResources] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def take(self, keys: frozenset[str], loop: "EventLoop") -> OpenResources:
        """These resources, opened if they are not yet; raises ResourceFailed."""
        found = self._taken.get(keys)
        if found is None:
            with self._lock:
                found = OpenResources({key: self._open(key, loop) for key in sorted(keys)})
                self._taken[keys] = found
        return found

    @property
    def must_be_closed(self) -> bool:
        """True while something is open that wants to be closed."""
        return bool(self._exits)

    def close(self) -> None:
        """Close what is open, last opened first, all of it; then raise ResourceFailed for the first that refused."""
        failed: ResourceFailed | None = None
        self._opened, self._taken = {}, {}
        while self._exits:
            key, leave = self._exits.pop()
            try:
                leave()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                failed = failed or _failed(key, "closed", error)
        if failed is not None:
            raise failed

    def _open(self, key: str, loop: "EventLoop") -> Any:
        if key not in self._opened:
            try:
                self._opened[key] = self._made(key, self._definitions[key], loop)
            except (ResourceFailed, KeyboardInterrupt):
                raise
            except BaseException as error:  # also a panic of an extension, which is no Exception
                raise _failed(key, "opened", error) from error
        return self._opened[key]

    def _made(self, key: str, definition: Any, loop: "EventLoop") -> Any:
        if isinstance(definition, StandIn):
            return definition.value
        if not isinstance(definition, ResourceDefinition):
            return self._entered(key, definition, loop)
        context = InitResourceContext(
            key,
            definition.built(self._config.get(key, {}).get("config", {})),
            self.take(definition.required_resource_keys, loop),
            self._run_id,
            logging.getLogger(f"{LOGGER}.{key}"),
        )
        made = definition(context)
        if inspect.iscoroutine(made):
            self._refuse_async(made)
            made = loop.run(made)
        elif isinstance(made, types.AsyncGeneratorType):
            self._refuse_async()
            made = loop.iterate(made)
        if isinstance(made, types.GeneratorType):
            return self._begun(key, made)
        # Others that a function returns may be entered by the ops themselves: a lock, a transaction.
        return self._entered(key, made, loop) if _is_of_contextlib(made) else made

    def _begun(self, key: str, generator: Iterator[Any]) -> Any:
        nothing = object()
        value = next(generator, nothing)
        if value is nothing:
            raise DefinitionError("its function yielded nothing; yield the resource once")
        self._exits.append((key, lambda: _end(generator)))
        return value

    def _entered(self, key: str, made: Any, loop: "EventLoop") -> Any:
        if hasattr(type(made), "__aenter__") and hasattr(type(made), "__aexit__"):
            self._refuse_async()
            value = loop.run(made.__aenter__())
            self._exits.append((key, lambda: loop.run(made.__aexit__(None, None, None))))
            return value
        if hasattr(type(made), "__enter__") and hasattr(type(made), "__exit__"):
            value = made.__enter__()
            self._exits.append((key, lambda: made.__exit__(None, None, None)))
            return value
        return made

    def _refuse_async(self, coroutine: Coroutine[Any, Any, Any] | None = None) -> None:
        if not self._several_loops:
            return
        if coroutine is not None:
            coroutine.close()  # never to be awaited
        raise DefinitionError(
            "it is opened asynchronously and belongs to one event loop; threads share resources, and have a loop each; "
            "run the job in one process or in processes, or open it without async"
        )


def _is_of_contextlib(made: Any) -> bool:
    managers = (contextlib.AbstractContextManager, contextlib.AbstractAsyncContextManager)
    return any(base in managers for base in type(made).__mro__)


def _end(generator: Iterator[Any]) -> None:
    nothing = object()
    if next(generator, nothing) is not nothing:
        raise DefinitionError("its function yielded twice; yield the resource once")


def _failed(key: str, verb: str, error: BaseException) -> ResourceFailed:
    failed = ResourceFailed(
        f"resource {key!r} could not be {verb}: {type(error).__name__}: {error}; the run stops. "
        "Correct the cause, then `runstore resume`"
    )
    failed.__cause__ = error
    return failed
