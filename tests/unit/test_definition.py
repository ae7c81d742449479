"""What a user writes, and the graph data that it compiles to (rules D1-D6, D9)."""

from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import execution
from execution import DynamicOut, DynamicOutput, In, OpContext, Out, Output, job, op
from execution.definition.job import JobDefinition
from execution.errors import DefinitionError
from runstore.log.graph import Constant, FanIn, FromCollect, FromOutput, Level, Over


@op
def one():
    """A plain value."""
    return 1


@op(out=DynamicOut())
def numbers():
    """A dynamic output."""
    yield DynamicOutput(1, "a")


@op
def echo(x):
    """One input."""
    return x


@op
def add(x, y):
    """Two inputs."""
    return x + y


@op
def process(xs):
    """A list."""
    return xs


@op(out={"left": Out(), "right": Out()})
def both():
    """Two plain outputs."""
    yield Output(1, "left")
    yield Output(2, "right")


@op(out={"values": DynamicOut(), "negatives": DynamicOut()})
def two_dynamic():
    """Two dynamic outputs."""
    yield DynamicOutput(1, "a", "values")


NUMBERS = Level("numbers", "result")
PIECE = FromOutput("numbers", "result")


def composed(body: Callable[[], Any]) -> JobDefinition:
    """A job of a body, which may return anything."""

    def compose() -> None:
        body()

    compose.__name__ = "j"
    return job(compose)


def inputs(definition: JobDefinition, node: str) -> dict[str, Any]:
    """Argument -> source of a node."""
    return {one.name: one.source for one in definition.graph.by_name[node].inputs}


def test_the_exported_names() -> None:
    """D1: every exported name is there, and the authoring names are among them."""
    for name in execution.__all__:
        assert getattr(execution, name) is not None
    assert {
        "op",
        "job",
        "In",
        "Out",
        "DynamicOut",
        "Output",
        "DynamicOutput",
        "Nothing",
        "OpContext",
        "OpExecutionContext",
        "execute",
        "resume",
        "plan_resume",
        "RunResult",
    } <= set(execution.__all__)
    assert execution.OpExecutionContext is OpContext


# D2


@pytest.mark.parametrize("name", ["context", "_context", "_"])
def test_a_first_parameter_of_that_name_is_the_context(name: str) -> None:
    """D2: a first parameter named context, _context or _ receives the context; all others are inputs."""
    scope: dict[str, Any] = {}
    exec(f"def f({name}, x, context2): pass", scope)
    made = op(scope["f"])
    assert made.takes_context
    assert [parameter.name for parameter in made.inputs] == ["x", "context2"]


def test_a_context_elsewhere_is_an_input() -> None:
    """D2: only the first parameter can be the context."""
    made = op(_second)
    assert not made.takes_context
    assert [parameter.name for parameter in made.inputs] == ["x", "context"]


def _second(x, context):
    return x


class Row(NamedTuple):
    """A value type."""

    name: str


def _typed() -> dict[str, Any]:
    def plain() -> int: ...
    def generator() -> Iterator[Output[int]]: ...
    def wrapped() -> Output[Row]: ...
    def dynamic() -> list[DynamicOutput[Row]]: ...
    def dynamic_generator() -> Iterator[DynamicOutput[int]]: ...
    def untyped_dynamic() -> list[DynamicOutput]: ...
    def list_of() -> list[int]: ...
    def text() -> "str": ...
    def nothing(): ...

    return dict(locals())


@pytest.mark.parametrize(
    ("name", "dynamic", "declared"),
    [
        ("plain", False, int),
        ("generator", False, int),
        ("wrapped", False, Row),
        ("dynamic", True, Row),
        ("dynamic_generator", True, int),
        ("untyped_dynamic", True, None),
        ("list_of", False, list[int]),
        ("text", False, str),
        ("nothing", False, None),
    ],
)
def test_the_return_annotation_declares_the_output(name: str, dynamic: bool, declared: Any) -> None:
    """D2: without declared outs there is one, `result`, typed by the annotation, which can make it dynamic."""
    made = op(_typed()[name])
    assert list(made.outs) == ["result"]
    assert made.outs["result"].dynamic == dynamic
    assert made.declared == {"result": declared}


def test_declared_outs_win_over_the_annotation() -> None:
    """D2: a type in Out stands before the annotation; several outs are typed by a tuple."""

    @op(out={"a": Out(), "b": DynamicOut(bytes), "c": Out(is_required=False, serializer="pickle")})
    def several() -> tuple[int, list[DynamicOutput[str]], float]: ...

    assert several.declared == {"a": int, "b": bytes, "c": float}
    assert [(out.dynamic, out.is_required, out.serializer) for out in several.outs.values()] == [
        (False, True, None),
        (True, True, None),
        (False, False, "pickle"),
    ]


def test_the_code_of_an_op_is_its_meaning() -> None:
    """R5: the digest follows the source without comments and layout, or the declared version."""
    sources = {
        "def f(x): return x + 1": "plus",
        "def f(x):\n    # a comment\n    return (x +\n        1)": "plus",
        "def f(x): return x + 2": "other",
    }
    codes = {}
    for number, (source, meaning) in enumerate(sources.items()):
        codes.setdefault(meaning, set()).add(op(_from_source(source, number)).code)
    assert len(codes["plus"]) == 1
    assert codes["plus"].isdisjoint(codes["other"])
    versions = {op(version=version)(_second).code for version in ("1", "1", "2")}
    assert len(versions) == 2
    assert op(code_version="1")(_second).code in versions


def _from_source(source: str, number: int) -> Any:
    import linecache

    name = f"<source {number}>"
    linecache.cache[name] = (len(source), None, [line + "\n" for line in source.splitlines()], name)
    scope: dict[str, Any] = {}
    exec(compile(source, name, "exec"), scope)
    return scope["f"]


# D3


def test_calling_records_nodes_in_order() -> None:
    """D3: nodes stand in the order of calls; the same op twice takes the next free number; an alias names a node."""

    @job(name="mine", tags={"team": "x"}, description="d")
    def j():
        echo(one())
        echo.alias("echo_2")(one())
        echo(one.tag({"a": "1"}).alias("uno")())

    assert [node.name for node in j.graph.nodes] == [
        "one",
        "echo",
        "one_2",
        "echo_2",
        "uno",
        "echo_3",
    ]
    assert j.graph.by_name["uno"].tags == {"a": "1"}
    assert j.graph.by_name["uno"].op == "one"
    assert (j.name, j.tags, j.description, j.graph.name) == ("mine", {"team": "x"}, "d", "mine")


def test_tags_stand_in_the_graph_as_text() -> None:
    """D3: a tag that is no text becomes its JSON, so that the log can be read; what JSON cannot hold is refused."""

    @op(tags={"n": 1, "s": "x"})
    def tagged():
        """What it says."""
        return 1

    @job(tags={"list": [1, None]})
    def j():
        tagged.tag({"more": {"a": True}})()

    assert j.execute_in_process().success
    assert j.graph.nodes[0].tags == {"n": "1", "s": "x", "more": '{"a":true}'}
    assert j.tags == {"list": "[1,null]"}
    assert tagged.description == "What it says."
    for make, told in [
        (lambda: op(tags={"a": {1}})(_second), r"op '_second': tag 'a', as name and value, is"),
        (lambda: op(tags={1: "a"})(_second), "op '_second': tag 1 is a int; name it by text"),
        (lambda: one.tag("a"), "op 'one': tags are a str; write a dict"),
        (lambda: one.tag({"a": "\ud800"}), "op 'one': tag 'a', as name and value, is"),
    ]:
        with pytest.raises(DefinitionError, match=told):
            make()


def test_arguments_by_place_and_by_name() -> None:
    """D3: handles and plain values are passed by place or name; a default may stay unconnected."""

    @op
    def three(x, y, z=5):
        return x

    made = composed(lambda: (three(1, y=one()), three([1, {"a": None}], 2, 3)))
    assert inputs(made, "three") == {"x": Constant(1), "y": FromOutput("one", "result")}
    assert inputs(made, "three_2") == {
        "x": Constant([1, {"a": None}]),
        "y": Constant(2),
        "z": Constant(3),
    }


def test_several_outputs_by_order_and_by_name() -> None:
    """D3: several outs are a namedtuple of handles."""

    def body() -> None:
        left, right = both()
        add(left, right)
        outs = both()
        add(outs.right, outs.left)

    made = composed(body)
    assert inputs(made, "add") == {
        "x": FromOutput("both", "left"),
        "y": FromOutput("both", "right"),
    }
    assert inputs(made, "add_2") == {
        "x": FromOutput("both_2", "right"),
        "y": FromOutput("both_2", "left"),
    }


def test_a_list_of_handles_is_a_fan_in() -> None:
    """D3, D8: a list or tuple of handles is one argument; it may mix plain, mapped, collected and given ones."""

    def body() -> None:
        found = numbers()
        found.map(lambda x: process([x, one(), found.collect(), 7]))

    made = composed(body)
    collected = FromCollect("numbers", "result", (Over(NUMBERS),))
    assert inputs(made, "process") == {
        "xs": FanIn((PIECE, FromOutput("one", "result"), collected, Constant(7)))
    }
    assert made.graph.by_name["process"].scope == (NUMBERS,)


# D5, D6, D9


def test_map_calls_once_with_a_symbol() -> None:
    """D5: the callable of `.map` is called once, at definition, and what it calls is cloned per key."""
    calls: list[Any] = []
    made = composed(lambda: numbers().map(lambda x: calls.append(x) or echo(x)))  # type: ignore[func-returns-value]
    assert len(calls) == 1
    assert inputs(made, "echo") == {"x": PIECE}
    assert made.graph.by_name["echo"].scope == (NUMBERS,)


Named = namedtuple("Named", "first second")


@pytest.mark.parametrize(
    ("shape", "pick"),
    [
        (lambda x: (echo(x), x), lambda r: r[0]),
        (lambda x: Named(echo(x), x), lambda r: r.first),
        (lambda x: [echo(x)], lambda r: r[0]),
        (lambda x: {"k": (echo(x),)}, lambda r: r["k"][0]),
        (lambda x: echo(x), lambda r: r),
        (lambda x: one() and echo(x), lambda r: r),
    ],
)
def test_what_map_returns_keeps_its_shape(shape: Any, pick: Any) -> None:
    """D5: handle, tuple, namedtuple, list and dict come back as such, of handles that can be mapped and collected."""
    results: list[Any] = []

    def body() -> None:
        results.append(numbers().map(shape))
        assert type(results[0]).__name__ in ("MappedHandle", "tuple", "Named", "list", "dict")
        process(pick(results[0]).collect())
        pick(results[0]).map(echo)

    made = composed(body)
    assert inputs(made, "process") == {"xs": FromCollect("echo", "result", (Over(NUMBERS),))}
    assert inputs(made, "echo_2") == {"x": FromOutput("echo", "result")}


def test_map_of_nothing_is_nothing() -> None:
    """D5: a callable that returns nothing is mapped all the same."""
    results: list[Any] = []
    made = composed(lambda: results.append(numbers().map(lambda x: echo(x) and None)))
    assert results == [None]
    assert made.graph.by_name["echo"].scope == (NUMBERS,)


def test_one_dynamic_output_is_one_level() -> None:
    """D6: inputs under the same dynamic output meet at the same key, however often and wherever it is mapped."""

    def body() -> None:
        found = numbers()
        first = found.map(echo)
        second = found.map(echo)
        first.map(lambda x: second.map(lambda y: add(x, y)))
        found.map(lambda x: found.map(lambda y: add(x, y)))

    made = composed(body)
    assert all(node.scope == (NUMBERS,) for node in made.graph.nodes[1:])
    assert inputs(made, "add") == {
        "x": FromOutput("echo", "result"),
        "y": FromOutput("echo_2", "result"),
    }
    assert inputs(made, "add_2") == {"x": PIECE, "y": PIECE}


def test_a_node_without_a_mapped_input_is_shared() -> None:
    """D6: what does not depend on the mapped value is one step, wherever it is written."""
    made = composed(lambda: numbers().map(lambda x: add(x, one())))
    assert made.graph.by_name["one"].scope == ()
    assert made.graph.by_name["add"].scope == (NUMBERS,)


def test_collects_of_any_kind() -> None:
    """D8, D9: a collect is a list or a dict, of the pieces or of what was mapped, and no longer mapped."""

    def body() -> None:
        found = numbers()
        process(found.collect())
        process(found.collect(as_dict=True))
        process(found.map(echo).collect(as_dict=True))

    made = composed(body)
    assert inputs(made, "process") == {"xs": FromCollect("numbers", "result", (Over(NUMBERS),))}
    assert inputs(made, "process_2") == {
        "xs": FromCollect("numbers", "result", (Over(NUMBERS, "dict"),))
    }
    assert inputs(made, "process_3") == {
        "xs": FromCollect("echo", "result", (Over(NUMBERS, "dict"),))
    }
    assert all(
        made.graph.by_name[name].scope == () for name in ("process", "process_2", "process_3")
    )


def test_depth_counts_from_the_start() -> None:
    """X4: a node is one deeper than the deepest that it reads."""
    made = composed(lambda: process([numbers().map(echo).map(echo).collect(), one()]))
    assert made.graph.depth == {"numbers": 1, "echo": 2, "echo_2": 3, "one": 1, "process": 4}


# Errors


def two_jobs() -> None:
    """A handle of one job in another."""
    kept: list[Any] = []
    composed(lambda: kept.append(one()))
    composed(lambda: echo(kept[0]))


def collect_of_shared() -> None:
    """A collect of what does not depend on its map."""
    composed(lambda: numbers().map(lambda x: one()).collect())


class Thing:
    """No handle."""


BAD_JOBS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "D4 passed": (
        lambda: echo(numbers()),
        [
            "job 'j', op 'echo', input 'x'",
            "dynamic output 'result' of 'numbers'",
            "use map or collect",
        ],
    ),
    "D4 passed mapped": (
        lambda: echo(numbers().map(echo)),
        ["op 'echo", "output 'result' of 'echo'", "use map or collect"],
    ),
    "D4 passed in a list": (
        lambda: process([numbers()]),
        ["op 'process', input 'xs'", "'numbers'", "use map or collect"],
    ),
    "D4 iterated": (
        lambda: list(numbers()),
        ["job 'j'", "'result' of 'numbers'", "iterated", "use map or collect"],
    ),
    "D4 indexed": (
        lambda: numbers()[0],
        ["job 'j'", "'result' of 'numbers'", "indexed", "use map or collect"],
    ),
    "D4 aliased": (
        lambda: numbers().alias("x"),
        ["job 'j'", "'result' of 'numbers'", "aliased", "use map or collect"],
    ),
    "D4 mapped iterated": (
        lambda: list(numbers().map(echo)),
        ["'result' of 'echo'", "iterated", "use map or collect"],
    ),
    "D4 map of plain": (
        lambda: one().map(echo),
        ["job 'j'", "'result' of 'one'", "is not a DynamicOut", "out=DynamicOut()"],
    ),
    "D4 collect of plain": (
        lambda: one().collect(),
        ["'result' of 'one'", "is not a DynamicOut", "out=DynamicOut()"],
    ),
    "D4 collect of a piece": (
        lambda: numbers().map(lambda x: x.collect()),
        ["job 'j'", "one piece of output 'result' of 'numbers'", "on what 'numbers' returned"],
    ),
    "D4 map of a collect": (
        lambda: numbers().collect().map(echo),
        ["'numbers'", "collected", "pass it to an op"],
    ),
    "D3 plain iterated": (
        lambda: list(one()),
        ["job 'j'", "'result' of 'one'", "iterated", "DynamicOut"],
    ),
    "D5 returned": (
        lambda: numbers().map(lambda x: 5),
        ["job 'j'", "numbers.result", "returned an object of type int", "return a handle"],
    ),
    "D5 returned inside": (
        lambda: numbers().map(lambda x: (echo(x), Thing())),
        ["returned an object of type Thing", "return a handle"],
    ),
    "D8 collect of shared": (
        collect_of_shared,
        ["'one'", "numbers.result", "does not depend on the mapped value", "use it as it is"],
    ),
    "D8 collected twice": (
        lambda: numbers().map(lambda x: numbers().collect()).collect(),
        ["does not depend"],
    ),
    "D3 too many": (lambda: echo(1, 2), ["job 'j', op 'echo'", "takes 1 inputs, 2 were given"]),
    "D3 unknown": (lambda: echo(z=1), ["op 'echo'", "no input 'z'", "it has x"]),
    "D3 twice": (lambda: echo(1, x=1), ["op 'echo'", "input 'x' was given twice"]),
    "D3 inexact": (
        lambda: echo((1, 2)),
        ["op 'echo', input 'x'", "does not hold exactly", "use None, bool"],
    ),
    "D3 nan": (lambda: echo(float("nan")), ["op 'echo', input 'x'", "does not hold exactly"]),
    "D3 dict of handles": (
        lambda: echo({"a": one()}),
        ["op 'echo', input 'x'", "dict of handles", "pass a handle or a list"],
    ),
    "D3 op": (
        lambda: echo(one),
        ["job 'j', op 'echo', input 'x'", "<op one>", "has not been called", "what it returns"],
    ),
    "D3 op with an alias": (lambda: echo(one.alias("first")), ["has not been called"]),
    "D3 op in a list": (lambda: echo([one(), one]), ["<op one>", "has not been called"]),
    "D3 handles inside": (lambda: echo([[one()]]), ["op 'echo', input 'x'"]),
    "D3 same alias": (
        lambda: (one.alias("a")(), one.alias("a")()),
        ["job 'j'", "two nodes named 'a'", "choose another alias"],
    ),
    "D3 bad alias": (lambda: one.alias("a b")(), ["alias 'a b'", "'one'", "choose another"]),
    "D3 another job": (two_jobs, ["op 'echo', input 'x'", "handle of another job"]),
}


@pytest.mark.parametrize("case", BAD_JOBS)
def test_illegal_wiring_is_found_at_definition(case: str) -> None:
    """D3-D8: each illegal wiring is one error with the fact, where it is, and what to write instead."""
    body, parts = BAD_JOBS[case]
    with pytest.raises(DefinitionError) as caught:
        composed(body)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert "\n" not in message


def _function(source: str) -> Any:
    scope: dict[str, Any] = {}
    exec(source, scope)
    return scope["f"]


BAD_DEFINITIONS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "outside": (
        lambda: echo(),
        ["op 'echo', called outside a job", "input 'x' is missing", "pass"],
    ),
    "varargs": (
        lambda: op(_function("def f(*xs): pass")),
        ["op 'f': parameter *xs cannot be an input", "name each input"],
    ),
    "keywords": (
        lambda: op(_function("def f(**xs): pass")),
        ["op 'f': parameter **xs", "name each input"],
    ),
    "positional": (
        lambda: op(_function("def f(x, /): pass")),
        ["op 'f': parameter x", "name each input"],
    ),
    "name": (lambda: op(name="a b")(_second), ["op name 'a b'", "choose another"]),
    "keyword": (lambda: op(name="class")(_second), ["op name 'class'", "choose another"]),
    "ins": (
        lambda: op(ins={"z": In()})(_second),
        ["op '_second' declares In 'z'", "no such parameter"],
    ),
    "out name": (
        lambda: op(out={"_x": Out()})(_second),
        ["output name '_x'", "not a public Python identifier"],
    ),
    "unknown of op": (
        lambda: op(pool="x")(_second),
        ["@op has no argument pool", "remove it"],
    ),
    "unknown of job": (
        lambda: job(partitions_def=1, executor_def=2)(_second),
        ["@job has no argument executor_def, partitions_def"],
    ),
    "unknown of In": (lambda: In(metadata={}), ["In has no argument metadata"]),
    "unknown of Out": (lambda: Out(io_manager_key="x"), ["Out has no argument io_manager_key"]),
    "unknown of DynamicOut": (
        lambda: DynamicOut(metadata=1),
        ["DynamicOut has no argument metadata"],
    ),
    "unknown of Output": (lambda: Output(1, tags=1), ["Output has no argument tags"]),
    "unknown of DynamicOutput": (
        lambda: DynamicOutput(1, "a", tags=1),
        ["DynamicOutput has no argument tags"],
    ),
    "parameters": (lambda: job(_second), ["job '_second' takes parameters", "context.op_config"]),
    "returns": (
        lambda: job(_function("def f(): return 1")),
        ["job 'f' returns a int", "RunResult.output_for_node"],
    ),
    "called": (lambda: composed(lambda: None)(), ["job 'j' is not called", "execute(j, store)"]),
}


@pytest.mark.parametrize("case", BAD_DEFINITIONS)
def test_illegal_definitions_are_refused(case: str) -> None:
    """D1-D3, D10: what an op or job cannot be, and an argument that is not known here, is one error naming it."""
    make, parts = BAD_DEFINITIONS[case]
    with pytest.raises(DefinitionError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_a_failed_definition_does_not_leak_into_the_next() -> None:
    """D10: after a body that raised, an op called outside is still a function, and the next job is whole."""
    with pytest.raises(ZeroDivisionError):
        composed(lambda: (one(), 1 / 0))
    assert one() == 1
    assert [node.name for node in composed(one).graph.nodes] == ["one"]


def test_a_job_is_known_by_where_it_is_defined() -> None:
    """T1: a job of a module is recorded by that reference, one made inside a function cannot be."""
    assert composed(one).reference == ""
    assert module_level.reference == f"{__name__}:module_level"


@job
def module_level():
    """A job of this module."""
    one()
