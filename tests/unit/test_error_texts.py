"""Error texts, word for word: each gives the fact, the address and the remedy, in one line (issue point 3.12).

To add one: a function that provokes it, and a row. Say what is wrong, where, and what to do instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from execution import (
    Backoff,
    DynamicOut,
    DynamicOutput,
    Failure,
    In,
    Nothing,
    Out,
    Output,
    RetryPolicy,
    RetryRequested,
    execute,
    graph,
    job,
    op,
    rerun,
    resource,
)
from execution.definition.job import JobDefinition
from runstore import RunStore


@op
def one() -> int:
    return 1


@op
def echo(x):
    return x


@op(out=DynamicOut())
def numbers():
    yield DynamicOutput(1, "a")


@op(out=DynamicOut())
def tens(x):
    yield DynamicOutput(10 * x, "a")


@graph
def pair(x):
    return echo(x), one()


@op(config_schema={"limit": int, "names": [str]})
def load(context):
    return context.op_config["limit"]


@op
def texts() -> Any:
    return [1, "b"]


@op
def halved(xs: list[int]) -> list[int]:
    return [x // 2 for x in xs]


@op
def wrong_output() -> dict[str, list[int]]:
    return {"a": [1, 2.5]}  # type: ignore[list-item]


@op(out=DynamicOut(int))
def wrong_items():
    yield DynamicOutput(1, "a")
    yield DynamicOutput("b", "b")


@op(out=Out(Nothing))
def nothing() -> None: ...


@op(ins={"start": In(Nothing)})
def after() -> None: ...


def said(metadata: Any, **place: Any) -> None:
    """Call, in a job, an op `f` that says something about its output."""

    def f(context) -> Any:
        if not place:
            return Output(1, metadata=metadata)
        context.add_output_metadata(metadata, **place)
        return 1

    op(f)()


def fails(metadata: Any) -> None:
    """A node whose op fails and says this."""

    @op
    def g() -> None:
        raise Failure("row 7 is short", metadata)

    g()


def waits(seconds: float) -> None:
    """A node whose op asks to be tried again."""

    @op
    def g() -> None:
        raise RetryRequested(seconds_to_wait=seconds)

    g()


def composed(body: Callable[[], Any]) -> JobDefinition:
    """A job `j` of a body."""

    def j() -> None:
        body()

    return job(j)


def defined(body: Callable[[], Any]) -> Callable[[], Any]:
    """Define a job."""
    return lambda: composed(body)


def configured(run_config: Any, *, node: Any = load) -> Callable[[], Any]:
    """Run a job of one op with a run config."""
    return lambda: composed(lambda: node()).execute_in_process(run_config=run_config)


def ran(body: Callable[[], Any]) -> Callable[[], Any]:
    """Define a job and run it."""
    return lambda: composed(body).execute_in_process()


@op
def listed(xs):
    return xs


@resource
def unreachable():
    raise ConnectionError("no route")


@op(required_resource_keys={"db"})
def stores() -> int:
    return 1


def _stores() -> None:
    stores()


@op
def nosy(context) -> Any:
    return context.resources.db


def rerun_of(select: str, **more: Any) -> Callable[[], Any]:
    """Run a job whose `echo[a]` fails, and rerun it."""

    def provoke() -> None:
        @op
        def fails(x):
            raise ValueError(x)

        made = composed(lambda: listed(numbers().map(echo).map(fails).collect()))
        store = RunStore.in_memory()
        execute(made, store, run_id="first")
        rerun("first", store, select=select, job=made, **more)

    return provoke


def used_and_removed() -> None:
    """Delete a run whose outputs a rerun uses."""
    made, store = composed(lambda: listed(one())), RunStore.in_memory()
    execute(made, store, run_id="first")
    rerun("first", store, select="listed", job=made, new_run_id="second")
    store.remove("first")


class Row(NamedTuple):
    """One error."""

    name: str
    provoke: Callable[[], Any]
    text: str


CONFIG = {"ops": {"load": {"config": {"limit": 1, "names": []}}}}
LIMT = {"ops": {"load": {"config": {"limt": 1}}}}
WRONG = {"ops": {"load": {"config": {"limit": 1, "names": ["a", 2]}}}}
NAN = {"ops": {"load": {"config": {"limit": float("nan")}}}}
LAOD: Any = {"ops": {"laod": {}}}
X: Any = {"ops": {"echo": {"inputs": {"y": 1}}}}
ONE_X: Any = {"ops": {"echo": {"inputs": {"x": 1}}}}

TABLE = [
    # Definition
    Row(
        "D4 passed",
        defined(lambda: echo(numbers())),
        "job 'j', op 'echo', input 'x' was given dynamic output 'result' of 'numbers', which cannot be passed to "
        "an op; use map or collect",
    ),
    Row(
        "D4 iterated",
        defined(lambda: list(numbers())),
        "job 'j': dynamic output 'result' of 'numbers' cannot be iterated; use map or collect",
    ),
    Row(
        "D4 map of a plain output",
        defined(lambda: one().map(echo)),
        "job 'j': output 'result' of 'one' cannot be mapped, since it is not a DynamicOut; declare it with "
        "out=DynamicOut()",
    ),
    Row(
        "D3 two nodes of one name",
        defined(lambda: (one.alias("a")(), one.alias("a")())),
        "job 'j' has two nodes named 'a'; choose another alias",
    ),
    Row(
        "D4 a mapped output passed",
        defined(lambda: listed(numbers().map(lambda x: tens(x).map(echo)).collect())),
        "job 'j', op 'listed', input 'xs' was given output 'result' of 'echo' (mapped under numbers.result), which "
        "cannot be passed to an op; use map or collect",
    ),
    Row(
        "D5 a callable that returns no handle",
        defined(lambda: numbers().map(lambda x: 5)),
        "job 'j': the callable mapped over numbers.result returned an object of type int; return a handle, a "
        "tuple, list or dict of handles, or None",
    ),
    Row(
        "D8 a collect that does not depend on its map",
        defined(lambda: numbers().map(lambda x: tens(x).map(lambda y: echo(x)).collect())),
        "job 'j': output 'result' of 'echo' cannot be collected over tens.result, since it does not depend on the "
        "mapped value; use it as it is",
    ),
    Row(
        "D8 collected already",
        defined(lambda: numbers().collect().collect()),
        "job 'j': output 'result' of 'numbers' cannot be collected, since it is collected already; pass it to an op",
    ),
    Row(
        "D10 wiring inside a graph",
        defined(lambda: graph(name="g")(lambda: echo(numbers()))()),
        "job 'j', op 'g.echo', input 'x' was given dynamic output 'result' of 'g.numbers', which cannot be passed to "
        "an op; use map or collect",
    ),
    Row(
        "D10 an input of a graph",
        defined(lambda: pair()),
        "job 'j', graph 'pair': missing a required argument: 'x'; its inputs: x",
    ),
    Row(
        "D10 what a graph returns",
        defined(lambda: graph(name="g")(lambda: 5)()),
        "job 'j', graph 'g' returned an object of type int; return a handle, a tuple, list or dict of handles, or None",
    ),
    Row(
        "D10 outside of a job",
        lambda: pair(1),
        "graph 'pair' was called outside a job; call it in the body of a @job or @graph, or make a job of it with "
        "pair.to_job()",
    ),
    Row(
        "D10 a job that returns handles",
        lambda: job(name="j")(lambda: one()),
        "job 'j' returns a OutputHandle; a job returns nothing, read its outputs with RunResult.output_for_node",
    ),
    Row(
        "D3 unknown input",
        defined(lambda: echo(z=1)),
        "job 'j', op 'echo' has no input 'z'; it has x",
    ),
    Row(
        "D3 inexact constant",
        defined(lambda: echo((1, 2))),
        "job 'j', op 'echo', input 'x': the value is (1, 2), which JSON does not hold exactly; use None, bool, int, "
        "finite float, str, list and dict with str keys",
    ),
    Row(
        "D1 an argument that is not known",
        lambda: Out(io_manager_key="x"),
        "Out has no argument io_manager_key here; remove it",
    ),
    Row(
        "3.7 a resource that the job does not have",
        defined(lambda: stores()),
        "job 'j': op 'stores' requires resource 'db', which is not there; add it: resource_defs={'db': …}",
    ),
    Row(
        "3.7 a resource that cannot be opened",
        lambda: execute(job(resource_defs={"db": unreachable})(_stores), RunStore.in_memory()),
        "resource 'db' could not be opened: ConnectionError: no route; the run stops. Correct the cause, then "
        "`runstore resume`",
    ),
    Row(
        "3.7 a resource that is not required",
        ran(lambda: nosy()),
        "resource 'db' was not required here (required: none); add required_resource_keys={'db'} where the op, hook "
        "or resource is defined",
    ),
    Row(
        "3.9 what is no hook",
        lambda: one.with_hooks({len}),
        "op 'one': <built-in function len> is no hook; decorate a function with @success_hook or @failure_hook",
    ),
    Row(
        "3.11 an op called without its context",
        lambda: load(),
        "op 'load' takes a context, and was called outside a job without one; pass it first: "
        "load(build_op_context(), …)",
    ),
    Row(
        "D2 In without a parameter",
        lambda: op(ins={"z": In()})(echo.function),
        "op 'echo' declares In 'z', but its function has no such parameter",
    ),
    # Run config
    Row(
        "3.6 unknown section",
        configured({"op": {}}),
        "run config: $.op: unknown section; did you mean 'ops'?",
    ),
    Row(
        "3.6 unknown op",
        configured(LAOD),
        "run config: $.ops.laod: no op of job 'j'; did you mean 'load'?",
    ),
    Row(
        "3.6 unknown field",
        configured(LIMT),
        "run config: $.ops.load.config.limt: unknown field; did you mean 'limit'?",
    ),
    Row(
        "3.6 required field",
        configured({}),
        "run config: $.ops.load.config.limit: required field is missing; give it a value",
    ),
    Row(
        "3.6 wrong type",
        configured(WRONG),
        "run config: $.ops.load.config.names[1]: expected str, got int; give it a value of that type",
    ),
    Row(
        "3.6 no JSON",
        configured(NAN),
        "run config: $.ops.load.config.limit is nan, which JSON does not hold exactly; use None, bool, int, finite "
        "float, str, list and dict with str keys",
    ),
    Row(
        "3.6 an input without a value",
        configured({}, node=echo),
        "run config: $.ops.echo.inputs.x: input 'x' of 'echo' is not connected and has no value; give it one here, or "
        "connect it in job 'j'",
    ),
    Row(
        "3.6 an unknown input",
        configured(X, node=echo),
        "run config: $.ops.echo.inputs.y: no input of op 'echo'; it has x",
    ),
    Row(
        "3.6 a connected input",
        configured(ONE_X, node=lambda: echo(one())),
        "run config: $.ops.echo.inputs.x: input 'x' is connected in the job; leave it out",
    ),
    # Types
    Row(
        "3.8 a constant",
        defined(lambda: halved("a")),
        "job 'j', op 'halved', input 'xs': $ is 'a' of type str, where list[int] is declared; pass a value of "
        "that type",
    ),
    Row(
        "3.8 an input",
        ran(lambda: halved(texts())),
        "step 'halved', input 'xs': $[1] is 'b' of type str, where int is declared; connect an output of that type, or "
        "change the annotation",
    ),
    Row(
        "3.8 an output",
        ran(lambda: wrong_output()),
        "step 'wrong_output', output 'result': $['a'][1] is 2.5 of type float, where int is declared; return that "
        "type, or change the annotation",
    ),
    Row(
        "3.8 a dynamic item",
        ran(lambda: wrong_items()),
        "step 'wrong_items', output 'result': $ is 'b' of type str, where int is declared; return that type, or change "
        "the annotation",
    ),
    Row(
        "3.8 a default",
        lambda: op(ins={"x": In(int, default_value="a")})(echo.function),
        "op 'echo', default of input 'x': $ is 'a' of type str, where int is declared; give a default of that type",
    ),
    Row(
        "3.8 no In",
        lambda: op(ins={"x": int})(echo.function),
        "op 'echo': ins 'x' is <class 'int'>; declare it with In(…)",
    ),
    # Nothing
    Row(
        "3.3 a value of nothing",
        defined(lambda: echo(nothing())),
        "job 'j', op 'echo', input 'x' was given output 'result' of 'nothing', which is Nothing and has no value; "
        "declare the input with ins={'x': In(Nothing)}, or another type of output",
    ),
    Row(
        "3.3 a constant for nothing",
        defined(lambda: after(5)),
        "job 'j', op 'after', input 'start' is Nothing and takes no value; pass a handle",
    ),
    Row(
        "3.3 nothing as a parameter",
        lambda: op(ins={"x": In(Nothing)})(echo.function),
        "op 'echo': input 'x' is Nothing, so its function gets no value for it; remove the parameter",
    ),
    # Metadata
    Row(
        "3.3 metadata that JSON does not hold",
        ran(lambda: said({"rows": [1, {1, 2}]})),
        "step 'f', output 'result': metadata $.rows[1] is {1, 2}, which JSON does not hold exactly; use None, bool, "
        "int, finite float, str, list and dict with str keys",
    ),
    Row(
        "3.3 metadata that is no dict",
        ran(lambda: said(5)),
        "step 'f', output 'result': metadata is a int; give a dict",
    ),
    Row(
        "3.3 metadata of nothing",
        ran(lambda: said({}, output_name="other")),
        "step 'f' added metadata for output 'other' that it did not give afterwards; add it before the output is "
        "given, by output_name and, for a dynamic output, mapping_key",
    ),
    # Retries
    Row(
        "3.4 a policy that is none",
        lambda: op(retry_policy=3)(echo.function),  # type: ignore[call-overload]
        "op 'echo': the retry policy is a int; write RetryPolicy(max_retries=…)",
    ),
    Row(
        "3.4 a backoff of nothing",
        lambda: RetryPolicy(backoff=Backoff.LINEAR),
        "RetryPolicy has a backoff and no delay that it could change; set delay too",
    ),
    Row(
        "3.4 a backoff by its name",
        lambda: RetryPolicy(delay=1, backoff="LINEAR"),  # type: ignore[arg-type]
        "RetryPolicy backoff is 'LINEAR'; write one of Backoff.LINEAR, Backoff.EXPONENTIAL",
    ),
    Row(
        "3.4 retries that cannot be counted",
        lambda: RetryPolicy(-1),
        "RetryPolicy max_retries is -1; write a whole number from 0 on",
    ),
    Row(
        "3.4 a wait into the past",
        ran(lambda: waits(-1)),
        "RetryRequested seconds_to_wait is -1; write seconds, from 0 to 315,360,000",
    ),
    Row(
        "3.3 metadata of a failure that JSON does not hold",
        ran(lambda: fails({"rows": [1, {1, 2}]})),
        "step 'g' raised Failure('row 7 is short'), but its metadata $.rows[1] is {1, 2}, which JSON does not hold "
        "exactly; use None, bool, int, finite float, str, list and dict with str keys",
    ),
    Row(
        "3.6 a schema that is none",
        lambda: op(config_schema={"a": echo})(load.function),
        "op 'load': the config, field $.a, is declared as <op echo>, which is not supported; use a msgspec Struct, a "
        "dataclass, a pydantic model, a type such as int, list[str] or dict[str, int], or a dict of field to type",
    ),
    # Reruns
    Row(
        "3.10 no pattern",
        rerun_of("echo, echo[a"),
        "'echo[a' is not a pattern (in 'echo, echo[a'); write op, 'op[key]', 'op[2024-*]', with + or * before it for "
        "what it needs, behind it for what needs it",
    ),
    Row(
        "3.10 no key",
        rerun_of("echo[100%]"),
        "'echo[100%]' is not a pattern: '100%' is no part of a key; write % as %25, [ as %5B, ] as %5D",
    ),
    Row(
        "3.10 an unknown op",
        rerun_of("ecko"),
        "'ecko' selects nothing of run 'first': job 'j' has no op 'ecko'; did you mean 'echo'? it has numbers, echo, "
        "fails, listed",
    ),
    Row(
        "3.10 an unknown key",
        rerun_of("echo[b]"),
        "'echo[b]' selects nothing of run 'first'; did you mean 'echo[a]'? `runstore keys first echo` lists all",
    ),
    Row(
        "3.10 a gap",
        rerun_of("listed"),
        "run 'first' cannot be rerun so: 'listed' needs 'fails[a]', which is not selected, and cannot be reused since "
        "it did not succeed there or needs what runs again; select it too, with '+listed' or, with all that it "
        "needs, '*listed'",
    ),
    Row(
        "3.10 a run in use",
        used_and_removed,
        "outputs of run 'first' are used by second, which took them in a rerun; delete these runs first, or `runstore "
        "rm first --force`, after which they can be resumed only where steps can be made again",
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_an_error_is_one_line_in_three_parts(row: Row) -> None:
    """3.12: the text of each error is fixed."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        row.provoke()
    assert str(caught.value) == row.text
    assert "\n" not in row.text


def test_each_name_stands_once() -> None:
    """A row can be told from the others."""
    assert len({row.name for row in TABLE}) == len(TABLE)


def test_a_config_that_fits_is_no_error() -> None:
    """The ops of this table are sound."""
    result = composed(lambda: load()).execute_in_process(run_config=CONFIG)
    assert result.output_for_node("load") == 1
    assert Output(1).value == 1
