"""3.7: resources are opened once per process, when a step first needs them, and closed in reverse order."""

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from execution import (
    DynamicOut,
    DynamicOutput,
    InitResourceContext,
    OpContext,
    ResourceDefinition,
    ResourceParam,
    build_op_context,
    execute,
    job,
    op,
    resource,
    resume,
)
from execution.definition.job import JobDefinition
from execution.errors import DefinitionError, ResourceFailed
from execution.running.event_loop import EventLoop
from execution.running.resources import Resources
from runstore import RunStore
from runstore.errors import ConfigError


class Journal(list[str]):
    """What happened, in order, and resources that write into it."""

    def kept(self, name: str) -> Any:
        """A resource that is opened and closed."""

        @resource
        def opened(init_context: InitResourceContext) -> Iterator[str]:
            self.append(f"open {name}")
            try:
                yield name
            finally:
                self.append(f"close {name}")

        return opened


class Entered:
    """A plain object with `__enter__` and `__exit__`."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def __enter__(self) -> "Entered":
        self.journal.append("enter")
        return self

    def __exit__(self, *error: object) -> None:
        self.journal.append("exit")


@op(out=DynamicOut())
def letters() -> Iterator[DynamicOutput[str]]:
    """Two pieces, without resources."""
    yield DynamicOutput("a", "a")
    yield DynamicOutput("b", "b")


def using(journal: Journal, fails: str = "") -> Any:
    """An op that uses `db` and `cache`, and may fail for a piece."""

    @op(required_resource_keys={"db"})
    def uses(context: OpContext, cache: ResourceParam[str], letter: str) -> str:
        journal.append(f"use {letter}")
        if letter == fails:
            raise ValueError(letter)
        return f"{context.resources.db}+{cache}+{letter}"

    return uses


def two_resources(journal: Journal, fails: str = "") -> JobDefinition:
    """A job whose clones use two resources."""
    uses = using(journal, fails)

    @job(resource_defs={"db": journal.kept("db"), "cache": journal.kept("cache")})
    def stores() -> None:
        letters().map(uses)

    return stores


def test_resources_are_opened_once_and_closed_in_reverse_order(tmp_path: Path) -> None:
    """Before the first step that needs them, and after the last; by key and by parameter."""
    journal = Journal()
    result = execute(two_resources(journal), tmp_path)
    assert result.output_for_node("uses") == {"a": "db+cache+a", "b": "db+cache+b"}
    assert journal == [
        "open cache",
        "open db",
        "use a",
        "use b",
        "close db",
        "close cache",
    ]


def test_what_no_step_needs_is_not_opened(tmp_path: Path) -> None:
    """Neither a resource without a user, nor any in a resume with nothing to run for it."""
    journal = Journal()

    @job(resource_defs={"unused": journal.kept("unused")})
    def plain() -> None:
        letters()

    assert execute(plain, tmp_path).success
    assert journal == []


def test_resources_are_closed_when_steps_fail_and_opened_anew_by_a_resume(tmp_path: Path) -> None:
    """A failure closes them as a success does."""
    journal = Journal()
    assert execute(two_resources(journal, "b"), tmp_path, run_id="r").status == "failed"
    assert journal[-2:] == ["close db", "close cache"]
    journal.clear()
    assert resume("r", tmp_path, job=two_resources(journal)).success
    assert journal == ["open cache", "open db", "use b", "close db", "close cache"]


def test_resources_are_closed_when_a_run_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C in a step: closed before the interrupt leaves `execute`."""
    journal = Journal()

    @op(required_resource_keys={"db"})
    def interrupted() -> None:
        raise KeyboardInterrupt

    @job(resource_defs={"db": journal.kept("db")})
    def stops() -> None:
        interrupted()

    with pytest.raises(KeyboardInterrupt):
        execute(stops, tmp_path)
    assert journal == ["open db", "close db"]


def test_all_forms_of_a_resource(tmp_path: Path) -> None:
    """Values, functions with and without parameter, contextlib, async, plain objects and plain context managers."""
    journal = Journal()

    @resource
    def returned() -> str:
        return "returned"

    @resource
    @contextlib.contextmanager
    def managed(_: InitResourceContext) -> Iterator[str]:
        yield "managed"
        journal.append("closed managed")

    @resource
    async def awaited(_: InitResourceContext) -> str:
        await asyncio.sleep(0)
        return "awaited"

    @resource
    async def streamed(_: InitResourceContext) -> AsyncIterator[str]:
        yield "streamed"
        await asyncio.sleep(0)
        journal.append("closed streamed")

    @resource
    @contextlib.asynccontextmanager
    async def async_managed(_: InitResourceContext) -> AsyncIterator[str]:
        yield "async_managed"
        journal.append("closed async_managed")

    keys = ["returned", "managed", "awaited", "streamed", "async_managed", "plain", "entered"]

    @op(required_resource_keys=keys)
    async def shows(context: OpContext) -> list[str]:
        await asyncio.sleep(0)
        return [
            type(value).__name__ if key == "entered" else str(value)
            for key, value in ((key, getattr(context.resources, key)) for key in keys)
        ]

    @job(
        resource_defs={
            "returned": returned,
            "managed": managed,
            "awaited": awaited,
            "streamed": streamed,
            "async_managed": async_managed,
            "plain": 7,
            "entered": Entered(journal),
        }
    )
    def everything() -> None:
        shows()

    result = execute(everything, tmp_path)
    assert result.output_for_node("shows") == [*keys[:5], "7", "Entered"]
    # opened in the order of their keys, closed in the reverse one
    assert journal == [
        "enter",
        "closed streamed",
        "closed managed",
        "exit",
        "closed async_managed",
    ]


def test_a_resource_may_require_another() -> None:
    """It is opened first, is given in the init context, and is closed last."""
    journal = Journal()

    @resource(required_resource_keys={"db"})
    def table(init_context: InitResourceContext) -> Iterator[str]:
        yield f"table of {init_context.resources.db}"
        journal.append("close table")

    @op(required_resource_keys={"table"})
    def reads(context: OpContext) -> str:
        return str(context.resources.table)

    @job(resource_defs={"table": table, "db": journal.kept("db")})
    def nested() -> None:
        reads()

    result = nested.execute_in_process()
    assert result.output_for_node("reads") == "table of db"
    assert journal == ["open db", "close table", "close db"]


def test_config_of_a_resource_is_checked_and_given(tmp_path: Path) -> None:
    """`run_config["resources"][key]["config"]`: typed, with the path in each error, and recorded in the log."""

    @resource(config_schema={"url": str, "retries": int})
    def client(init_context: InitResourceContext) -> str:
        return f"{init_context.resource_config['url']} x{init_context.resource_config['retries']}"

    @op(required_resource_keys={"client"})
    def calls(context: OpContext) -> str:
        return str(context.resources.client)

    @job(resource_defs={"client": client, "plain": 1})
    def remote() -> None:
        calls()

    def run(resources: Any) -> Any:
        return execute(remote, tmp_path, run_config={"resources": resources})

    given = {"client": {"config": {"url": "here", "retries": 2}}}
    assert run(given).output_for_node("calls") == "here x2"
    for bad, parts in [
        (
            {"client": {"config": {"ur": "here", "retries": 2}}},
            ["$.resources.client.config.ur", "url"],
        ),
        ({"client": {"config": {"url": 1, "retries": 2}}}, ["$.resources.client.config.url"]),
        ({"clint": {}}, ["$.resources.clint", "did you mean 'client'"]),
        ({"client": {"confg": {}}}, ["$.resources.client.confg", "config"]),
        ({**given, "plain": {"config": 1}}, ["$.resources.plain.config", "takes no config"]),
        ({}, ["$.resources.client.config"]),
    ]:
        with pytest.raises(ConfigError) as caught:
            run(bad)
        for part in parts:
            assert part in str(caught.value)


@pytest.mark.parametrize("cause", ["raises", "exits", "panics", "yields nothing"])
def test_a_resource_that_cannot_be_opened_stops_the_run(tmp_path: Path, cause: str) -> None:
    """A clear error naming it; what was open is closed; the run is no failure of a step, and can be resumed."""
    journal, works = Journal(), []

    @resource
    def broken() -> Iterator[int]:
        if cause == "raises" and not works:
            raise ConnectionError("no route")
        if cause == "exits" and not works:
            sys.exit("no route")
        if cause == "panics" and not works:
            raise BaseException("no route")
        if works:
            yield 1

    @op(required_resource_keys={"a", "broken"})
    def needs() -> int:
        return 1

    @job(resource_defs={"a": journal.kept("a"), "broken": broken})
    def stops() -> None:
        needs()

    with pytest.raises(ResourceFailed, match=r"resource 'broken' could not be opened: .*no"):
        execute(stops, tmp_path, run_id="r")
    assert journal == ["open a", "close a"]
    with RunStore.open(tmp_path) as store:
        assert store.run("r").status == "cancelled"
        assert store.state("r").failures == {}
        *_, (_, last) = store.events("r")
    assert "resource 'broken' could not be opened" in last.reason  # type: ignore[union-attr]
    works.append(True)
    assert resume("r", tmp_path, job=stops).success


def test_a_resource_that_cannot_be_closed_stops_the_run_before_its_end(tmp_path: Path) -> None:
    """What it wrote may be lost, so the run is not called a success; the others are closed all the same."""
    journal = Journal()

    @resource
    def flushes() -> Iterator[int]:
        yield 1
        raise OSError("disk full")

    @op(required_resource_keys={"a", "flushes"})
    def writes() -> int:
        return 1

    @job(resource_defs={"a": journal.kept("a"), "flushes": flushes})
    def stops() -> None:
        writes()

    with pytest.raises(ResourceFailed, match="resource 'flushes' could not be closed: OSError"):
        execute(stops, tmp_path, run_id="r")
    assert journal == ["open a", "close a"]
    with RunStore.open(tmp_path) as store:
        assert store.run("r").status == "cancelled"
    assert resume("r", tmp_path, job=stops).success  # nothing to run, so nothing to open


def test_what_was_not_required_is_not_there() -> None:
    """An op sees what it requires; the error says how to require it."""

    @op(required_resource_keys={"db"})
    def nosy(context: OpContext) -> Any:
        assert not hasattr(context.resources, "cache")
        return context.resources.cache

    @job(resource_defs={"db": 1, "cache": 2})
    def one() -> None:
        nosy()

    result = one.execute_in_process(raise_on_error=False)
    message = result.failures[0].error.message
    assert "'cache' was not required here (required: db)" in message
    assert "required_resource_keys={'cache'}" in message


@resource(required_resource_keys={"y"})
def needs_y() -> int:
    """Requires another."""
    return 1


@resource(required_resource_keys={"x"})
def needs_x() -> int:
    """Requires another."""
    return 1


@op(required_resource_keys={"db"})
def needs_db() -> int:
    """Requires `db`."""
    return 1


def _job(op: Any = letters, **resources: Any) -> JobDefinition:
    @job(resource_defs=resources)
    def j() -> None:
        op()

    return j


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: _job(needs_db), ["job 'j'", "op 'needs_db'", "resource 'db'", "resource_defs="]),
        (lambda: _job(x=needs_y), ["job 'j'", "resource 'x' requires resource 'y'"]),
        (lambda: _job(x=needs_y, y=needs_x), ["resource 'x' and resource 'y'", "circle"]),
        (lambda: _job(**{"a b": 1}), ["job 'j'", "key 'a b'", "identifier"]),
        (lambda: op(required_resource_keys="db")(lambda: 1), ["is text", "{'db'}"]),
        (lambda: resource(lambda x, y: 1), ["takes 2 parameters", "the init context"]),
        (lambda: resource(tags={})(lambda: 1), ["@resource has no argument tags"]),
    ],
)
def test_what_cannot_be_is_found_at_definition(make: Callable[[], Any], parts: list[str]) -> None:
    """A missing resource names job, op and key; a circle its members."""
    with pytest.raises(DefinitionError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_a_test_may_replace_resources() -> None:
    """`execute_in_process(resources=…)`: plain objects as they are, neither entered nor closed."""
    journal = Journal()
    stand_in, entered = MagicMock(), Entered(journal)
    seen: list[Any] = []

    @op(required_resource_keys={"db", "other"})
    def looks(context: OpContext) -> None:
        seen.append((context.resources.db, context.resources.other))

    @job(resource_defs={"db": journal.kept("db"), "other": journal.kept("other")})
    def one() -> None:
        looks()

    assert one.execute_in_process(resources={"db": stand_in, "other": entered}).success
    assert seen == [(stand_in, entered)]
    assert journal == []


def test_an_op_called_directly_takes_resources_from_its_context() -> None:
    """3.11: by context or by name; definitions are opened, and closed by `with`."""
    journal = Journal()
    uses = using(journal)
    stand_in = MagicMock()
    context = build_op_context(resources={"db": stand_in, "cache": "c"})
    assert context.resources.db is stand_in
    assert uses(context, "x") == f"{stand_in}+c+x"
    assert uses(build_op_context(resources={"db": 1}), "x", cache="given") == "1+given+x"
    with pytest.raises(DefinitionError, match="resource 'cache' is missing; pass build_op_context"):
        uses(build_op_context(resources={"db": 1}), "x")
    kept = {"db": journal.kept("db"), "cache": "c"}
    journal.clear()
    with build_op_context(resources=kept) as opened:
        assert uses(opened, "x") == "db+c+x"
    assert journal == ["open db", "use x", "close db"]
    with pytest.raises(DefinitionError, match="write `with build_op_context"):
        uses(build_op_context(resources=kept), "x")
    assert journal[-1] == "close db"


def test_annotations_may_be_texts() -> None:
    """With `from __future__ import annotations` a parameter is a resource all the same."""
    scope: dict[str, Any] = {}
    source = """
        from __future__ import annotations
        import execution
        from execution import ResourceParam, op

        @op
        def one(db: ResourceParam[int], other: execution.ResourceParam["Later"], x: int) -> int:
            return db + other + x
    """
    exec(textwrap.dedent(source), scope)
    one = scope["one"]
    assert [parameter.name for parameter in one.inputs] == ["x"]
    assert one.required_resource_keys == {"db", "other"}
    assert one(build_op_context(resources={"db": 1, "other": 2}), 3) == 6


def test_what_travels_to_a_worker_holds_nothing_open() -> None:
    """Definitions and config are data as long as nothing was taken; a log never holds them."""
    definitions = {"here": ResourceDefinition(os.getcwd), "plain": 7}
    unopened = Resources(definitions, {"here": {"config": {}}}, "r")
    opened = pickle.loads(pickle.dumps(unopened)).take(frozenset(definitions), EventLoop())
    assert (opened.here, opened.plain) == (os.getcwd(), 7)


JOB = """
    import sys, time
    from pathlib import Path
    from execution import execute, job, op, resource

    HERE = Path(__file__).parent

    @resource
    def db():
        (HERE / "opened").touch()
        try:
            yield "db"
        finally:
            (HERE / "closed").touch()

    @op(required_resource_keys={"db"})
    def first(context) -> int:
        (HERE / "started").touch()
        time.sleep(float(sys.argv[1]) if sys.argv[1:2] and sys.argv[1][0].isdigit() else 1.5)
        return 1

    @op(required_resource_keys={"db"})
    def second(x: int) -> int:
        return x

    @job(resource_defs={"db": db})
    def terminated():
        second(first())

    if __name__ == "__main__":
        execute(terminated, HERE / "store", run_id="r")
"""


@pytest.mark.parametrize("how", ["command", "script"])
def test_sigterm_closes_resources(tmp_path: Path, how: str) -> None:
    """A real SIGTERM: `runstore run` stops after the running step, a script in it; both close what is open."""
    file = tmp_path / "jobs.py"
    file.write_text(textwrap.dedent(JOB))
    words = ["-m", "execution.cli.main", "run", f"{file}:terminated", "--run-id", "r"]
    words += ["--store", str(tmp_path / "store")]
    command = [sys.executable, *(words if how == "command" else [str(file), "60"])]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (tmp_path / "opened").exists()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (143 if how == "command" else -signal.SIGTERM), errors
    assert (tmp_path / "closed").exists()
    with RunStore.open(tmp_path / "store") as store:
        assert store.run("r").status == "cancelled"
        *_, (_, last) = store.events("r")
    assert "SIGTERM" in last.reason  # type: ignore[union-attr]
    assert not (tmp_path / "store" / "outputs" / "r" / "second").exists()
