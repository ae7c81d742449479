"""Symbols for values that a run will have: what ops return in a body, what `.map` and `.collect` make of it (D4-D9).

A handle knows where its value comes from and on which levels it depends (its scope, rule D6). Nothing here records a
node; `composition.py` does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from execution.errors import DefinitionError
from runstore.log.graph import FromCollect, FromOutput, Level, Over

Scope = tuple[Level, ...]


class Body:
    """The body of a job while it is evaluated: which levels are open, as their callables are being called."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.open: list[Level] = []
        """Outermost first."""
        self.mapped: dict[Level, None] = {}
        """Every level in the order of its first `.map`."""

    @contextmanager
    def opening(self, scope: Scope) -> Iterator[None]:
        """A callable is called with a handle of this scope."""
        self.mapped.update(dict.fromkeys(scope))
        before = len(self.open)
        self.open += [level for level in scope if level not in self.open]
        try:
            yield
        finally:
            del self.open[before:]

    def closed(self, scope: Scope) -> Scope:
        """The levels of a scope that are not open here."""
        return tuple(level for level in scope if level not in self.open)

    def ordered(self, scopes: list[Scope], scope_of: Callable[[str], Scope]) -> Scope:
        """The union of scopes in the order of rule D7; `scope_of` gives that of a node."""
        mapped = list(self.mapped)
        left = sorted(
            {level for scope in scopes for level in scope},
            key=lambda level: (
                (1, self.open.index(level)) if level in self.open else (0, mapped.index(level))
            ),
        )
        union: list[Level] = []
        while left:
            union.append(next(level for level in left if set(scope_of(level.node)).issubset(union)))
            left.remove(union[-1])
        return tuple(union)


class Handle:
    """A symbol for a value that a run will have."""

    def __init__(self, body: Body, source: FromOutput | FromCollect, scope: Scope) -> None:
        self._body = body
        self._source = source
        self._scope = scope

    def _name(self) -> str:
        return f"output {self._source.output!r} of {self._source.node!r}"

    def _refuse(self, fact: str, verb: str) -> NoReturn:
        raise DefinitionError(f"{fact} {self._name()}, which cannot be {verb}; use map or collect")

    def _refuse_use(self, verb: str) -> NoReturn:
        raise DefinitionError(
            f"job {self._body.job!r}: {self._name()} cannot be {verb}; use map or collect"
        )

    def __iter__(self) -> Iterator[Any]:
        self._refuse_use("iterated")

    def __getitem__(self, key: Any) -> Any:
        self._refuse_use("indexed")

    def alias(self, name: str) -> NoReturn:
        """A handle has no alias; the op it comes from has."""
        self._refuse_use("aliased")


class OutputHandle(Handle):
    """One value per key path of its scope: a plain output, a piece inside a map, or what a collect gives."""

    def _refuse_use(self, verb: str) -> NoReturn:
        raise DefinitionError(
            f"job {self._body.job!r}: {self._name()} cannot be {verb} at definition; pass it to an op, "
            "or declare it DynamicOut to map over its values"
        )

    def map(self, fn: Callable[[Any], Any]) -> NoReturn:
        """Only a dynamic output can be mapped."""
        self._refuse_dynamic("mapped")

    def collect(self, *, as_dict: bool = False) -> NoReturn:
        """Only a dynamic output can be collected."""
        self._refuse_dynamic("collected")

    def _refuse_dynamic(self, verb: str) -> NoReturn:
        job, source = self._body.job, self._source
        if isinstance(source, FromCollect):
            raise DefinitionError(
                f"job {job!r}: {self._name()} cannot be {verb}, since it is collected already; pass it to an op"
            )
        if Level(source.node, source.output) in self._scope:
            raise DefinitionError(
                f"job {job!r}: one piece of {self._name()} cannot be {verb}; pass it to an op, "
                f"or call map and collect on what {source.node!r} returned"
            )
        raise DefinitionError(
            f"job {job!r}: {self._name()} cannot be {verb}, since it is not a DynamicOut; "
            "declare it with out=DynamicOut()"
        )


class MappedHandle(Handle):
    """What `.map` returned, or a dynamic output: one value per key path of its scope, to be mapped or collected."""

    def __init__(
        self, body: Body, source: FromOutput | FromCollect, scope: Scope, maps: Scope
    ) -> None:
        super().__init__(body, source, scope)
        self._maps = maps
        """The levels of the maps that it came out of, outermost first."""

    def _name(self) -> str:
        levels = ", ".join(map(str, self._body.closed(self._scope) or self._maps))
        return f"{super()._name()} (mapped under {levels})"

    def map(self, fn: Callable[[Any], Any]) -> Any:
        """Call `fn` once with a symbol for one value; what it wires is cloned per key (rule D5)."""
        with self._body.opening(self._scope):
            returned = fn(OutputHandle(self._body, self._source, self._scope))
        return _wrapped(returned, self._maps, self._body)

    def collect(self, *, as_dict: bool = False) -> Handle:
        """The values of the last level, in the order of its keys: a list, or {key: value} (rules D8, D9)."""
        source, rest = self._source, self._scope[:-1]
        if self._maps[-1] not in self._scope:
            raise DefinitionError(
                f"job {self._body.job!r}: {Handle._name(self)} cannot be collected over {self._maps[-1]}, "
                "since it does not depend on the mapped value; use it as it is"
            )
        over = source.over if isinstance(source, FromCollect) else ()
        over = (Over(self._scope[-1], "dict" if as_dict else "list"), *over)
        collected = FromCollect(source.node, source.output, over)
        closed = self._body.closed(rest)
        if not closed:
            return OutputHandle(self._body, collected, rest)
        maps = tuple(level for level in self._maps if level != self._scope[-1])
        return MappedHandle(self._body, collected, rest, maps or closed)


class DynamicHandle(MappedHandle):
    """A dynamic output."""

    def __init__(self, body: Body, level: Level, producer_scope: Scope) -> None:
        source = FromOutput(level.node, level.output)
        super().__init__(body, source, (*producer_scope, level), (level,))

    def _name(self) -> str:
        return f"dynamic output {self._source.output!r} of {self._source.node!r}"


def _wrapped(result: Any, maps: Scope, body: Body) -> Any:
    """What a mapped callable returned, in the same shape, as something to map or collect."""

    def wrap(handle: Handle) -> Handle:
        inner = handle._maps if isinstance(handle, MappedHandle) else ()
        levels = tuple(dict.fromkeys((*maps, *inner)))
        return MappedHandle(body, handle._source, handle._scope, levels)

    what = f"the callable mapped over {maps[-1]}"
    return in_shape(result, wrap, f"job {body.job!r}: {what}")


def in_shape(result: Any, change: Callable[[Handle], Handle], what: str) -> Any:
    """A handle, or a tuple, namedtuple, list or dict of handles, with each of them changed; None stays None (D5)."""
    if result is None:
        return None
    if isinstance(result, Handle):
        return change(result)
    if isinstance(result, tuple):
        parts = [in_shape(part, change, what) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    if isinstance(result, list):
        return [in_shape(part, change, what) for part in result]
    if isinstance(result, dict):
        return {name: in_shape(part, change, what) for name, part in result.items()}
    raise DefinitionError(
        f"{what} returned an object of type {type(result).__name__}; return a handle, a tuple, list or dict of "
        "handles, or None"
    )
