"""Types of inputs and outputs: where a value does not fit, and what is looked at (issue point 3.8)."""

import collections.abc
import dataclasses
import datetime as dt
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Protocol, TypedDict

import msgspec
import pytest

from execution import DynamicOut, DynamicOutput, In, Out, Output, execute, job, op
from execution.definition.job import JobDefinition
from execution.definition.types import covers, misfit
from execution.definition.wire_types import types_to_check
from execution.errors import WrongType


class Row(msgspec.Struct):
    name: str
    size: int = 0


class Wide(Row):
    extra: int = 0


@dataclasses.dataclass
class Point:
    x: float
    label: "str | None" = None


class Pair(NamedTuple):
    one: int
    two: str


class Table(TypedDict):
    rows: list[Row]


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Plain:
    pass


class Asked(Protocol):
    def ask(self) -> int: ...


UserId = NewType("UserId", int)
Positive = Annotated[int, msgspec.Meta(gt=0)]
NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)

FITS: list[tuple[Any, Any]] = [
    (1, int),
    (1, float),
    (1.5, float),
    (Level.LOW, int),
    (True, bool),
    (None, int | None),
    ("a", int | str),
    ([1, 2], list[int]),
    ([1, None], list[int | None]),
    ([], list[Row]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ({1, 2}, set[int]),
    ({"a": [1]}, dict[str, list[int]]),
    ({"a": 1}, Mapping[str, int]),
    ([1], Sequence[int]),
    ([1], Iterable[int]),
    ([1], Iterator[int]),
    (Row("a"), Row),
    (Wide("a"), Row),
    (Point(1), Point),
    (Pair(1, "a"), Pair),
    ({"rows": [Row("a")]}, Table),
    (Colour.RED, Colour),
    (NOW, dt.datetime),
    (NOW, dt.date),
    ("a", Literal["a", "b"]),
    (5, UserId),
    (5, Positive),
    (object(), Asked),
    (Plain(), Plain),
    (len, collections.abc.Callable),
    (int, type[int]),
    (5, None),
    (5, Any),
    (5, object),
    (5, "Unknown"),
]

MISFITS: list[tuple[Any, Any, str]] = [
    ("a", int, "$ is 'a' of type str, where int is declared"),
    (True, int, "$ is True of type bool, where int is declared"),
    (True, float, "$ is True of type bool, where float is declared"),
    (1, bool, "$ is 1 of type int, where bool is declared"),
    (None, int, "$ is None of type NoneType, where int is declared"),
    (1, str | None, "$ is 1 of type int, where str | None is declared"),
    ([1, "a"], list[int], "$[1] is 'a' of type str, where int is declared"),
    ((1,), list[int], "$ is (1,) of type tuple, where list[int] is declared"),
    ([1, "a"], list[int] | None, "$[1] is 'a' of type str, where int is declared"),
    (
        {"a": {"b": 1.5}},
        dict[str, dict[str, int]],
        "$['a']['b'] is 1.5 of type float, where int is",
    ),
    ({1: 1}, dict[str, int], "$ key 1 is 1 of type int, where str is declared"),
    ((1, 2), tuple[int, str], "$[1] is 2 of type int, where str is declared"),
    ((1, "a", 2), tuple[int, str], "$ is (1, 'a', 2) of type tuple, where tuple[int, str] is"),
    (Row("a", "b"), Row, "$.size is 'b' of type str, where int is declared"),  # type: ignore[arg-type]
    ({"name": "a"}, Row, "$ is {'name': 'a'} of type dict, where Row is declared"),
    (Point("a"), Point, "$.x is 'a' of type str, where float is declared"),  # type: ignore[arg-type]
    (Point(1, 2), Point, "$.label is 2 of type int, where str | None is declared"),  # type: ignore[arg-type]
    (Pair(1, 2), Pair, "$.two is 2 of type int, where str is declared"),  # type: ignore[arg-type]
    ({"rows": [1]}, Table, "$.rows[0] is 1 of type int, where Row is declared"),
    ({"more": 1}, Table, "$ is {'more': 1} of type dict, where Table is declared"),
    ("red", Colour, "$ is 'red' of type str, where Colour is declared"),
    ("c", Literal["a", "b"], "$ is 'c' of type str, where typing.Literal['a', 'b'] is declared"),
    ("a", UserId, "$ is 'a' of type str, where int is declared"),
    (0, Positive, "$ is 0 of type int, where"),
    (5, Plain, "$ is 5 of type int, where Plain is declared"),
    (5, Sequence[int], "$ is 5 of type int, where collections.abc.Sequence[int] is declared"),
]


@pytest.mark.parametrize(("value", "declared"), FITS, ids=range(len(FITS)))
def test_a_value_fits(value: Any, declared: Any) -> None:
    """3.8: what annotations allow, is allowed; an int is a float, a subclass its class."""
    assert misfit(value, declared) is None


@pytest.mark.parametrize(("value", "declared", "told"), MISFITS, ids=range(len(MISFITS)))
def test_a_misfit_is_named_with_its_place_and_both_types(
    value: Any, declared: Any, told: str
) -> None:
    """3.8: the first place inside the value, its type and the declared one."""
    assert str(misfit(value, declared)).startswith(told)


def test_what_is_stored_must_be_of_the_very_type() -> None:
    """3.8: JSON comes back as the declared type, so an int for a float or a subclass would be changed."""
    for value, declared in [(1, float), (Wide("a"), Row), (Level.LOW, int), ([1], list[float])]:
        assert misfit(value, declared) is None
        assert misfit(value, declared, exact=True) is not None


@pytest.mark.parametrize(
    ("declared", "given", "sure"),
    [
        (int, int, True),
        (int | None, int, True),
        (float, int, True),
        (int, bool, False),
        (int, object, False),
        (Row, Wide, True),
        (Wide, Row, False),
        (list, list[int], True),
        (list[int], list[int], True),
        (list[int | None], list[int], True),
        (Iterable[int], list[int], True),
        (list[int], list[object], False),
        (list[str], list[int], False),
        (list[int], int, False),
        (dict[str, int], dict[str, int], True),
        (Mapping[str, int], dict[str, int], True),
        (dict[str, int], list[int], False),
        (int | str, int | str, True),
        (int, int | None, False),
        (Any, object, True),
    ],
)
def test_what_surely_fits_is_not_looked_at(declared: Any, given: Any, sure: bool) -> None:
    """3.8: a reader that declares what the producer does costs nothing."""
    assert covers(declared, given) is sure


# In a run


@op(out=DynamicOut(int))
def fan():
    for key in "abc":
        yield DynamicOutput(ord(key), key)


@op
def loose(x: int):
    return x if x < 99 else "many"


@op
def typed(x: int) -> int:
    return x


@op
def summed(xs: list[int]) -> int:
    return sum(xs)


@op
def both(x: int, xs: list[int], named: dict[str, int], more: list[int | str]) -> int:
    return x


def test_only_inputs_of_uncertain_type_are_looked_at() -> None:
    """3.8: what a producer declares is held by its stored form; the rest is checked when it arrives."""

    @job
    def j():
        pieces = fan()
        mapped = pieces.map(typed)
        uncertain = pieces.map(loose)
        summed(mapped.collect())
        summed(uncertain.collect())
        both(1, pieces.collect(), mapped.collect(as_dict=True), [typed(1), typed(2)])

    found = {node.name: types_to_check(node, j.graph, j.ops) for node in j.graph.nodes}
    assert {name: checks for name, checks in found.items() if checks} == {
        "summed_2": {"xs": list[int]}
    }


@op(out=DynamicOut(int))
def split(x: int):
    yield DynamicOutput(x, "l")
    yield DynamicOutput(x + 1, "r")


@op
def rows(xs: list[list[int]]) -> int:
    return sum(map(sum, xs))


@op
def tables(xs: dict[str, list[int]]) -> int:
    return sum(map(sum, xs.values()))


@op
def wrong(xs: list[int]) -> int:
    return len(xs)


def test_nested_collects_have_nested_types() -> None:
    """3.8, D8: a collect of a collect is a list of lists; only what does not follow is looked at."""

    @job
    def j():
        inner = fan().map(lambda x: split(x).map(typed))
        rows(inner.collect().collect())
        tables(inner.collect().collect(as_dict=True))

    assert not any(types_to_check(node, j.graph, j.ops) for node in j.graph.nodes)
    result = j.execute_in_process()
    assert result.output_for_node("rows") == result.output_for_node("tables") == 591

    @job
    def bad():
        wrong(fan().map(lambda x: split(x).map(typed)).collect().collect())

    with pytest.raises(
        WrongType, match=r"input 'xs': \$\[0\] is \[97, 98\] of type list, where int is"
    ):
        bad.execute_in_process()


def test_an_input_of_another_type_fails_the_step(tmp_path: Path) -> None:
    """3.8: the clone that gets the wrong type fails, its siblings go on; the log names input and types."""

    @job
    def j():
        fan().map(loose).map(typed)

    result = execute(j, tmp_path)
    assert result.output_for_node("typed") == {"a": 97, "b": 98}
    assert [(one.step_key, one.error.type) for one in result.failures] == [
        ("typed[c]", "execution.errors.WrongType")
    ]
    assert result.failures[0].error.message.startswith(
        "step 'typed[c]', input 'x': $ is 'many' of type str, where int is declared; connect"
    )


def test_types_of_in_and_out_stand_before_the_annotation() -> None:
    """3.8: In(Type), Out(Type) and DynamicOut(Type) by place, with a description."""

    @op(ins={"x": In(str, description="a text")}, out=Out(str, description="again"))
    def again(x: int) -> int:
        return x

    assert again.input_types == {"x": str}
    assert again.declared == {"result": str}
    assert (again.ins["x"].description, again.outs["result"].description) == ("a text", "again")

    @job
    def j():
        again("a")

    assert j.execute_in_process().output_for_node("again") == "a"


@op(out=Out(Plain, serializer="pickle"))
def pickled(x: int):
    return Plain() if x else 5


@op(out=Out(list[int], serializer="msgpack"))
def packed(x: int):
    return [x, "a"] if x else [x]


@op(out=Out(float))
def rounded(x: int):
    return x


def only(node: Any, *args: Any) -> JobDefinition:
    @job
    def j():
        node(*args)

    return j


def test_formats_that_do_not_hold_a_type_are_checked() -> None:
    """3.8: a pickled, packed or registered value is held against its type before it is stored."""
    assert type(only(pickled, 1).execute_in_process().output_for_node("pickled")) is Plain
    assert only(packed, 0).execute_in_process().output_for_node("packed") == [0]
    assert (pickled.unenforced, rounded.unenforced) == ({"result": Plain}, {})
    for node, value, told in [
        (pickled, 0, r"output 'result': \$ is 5 of type int, where Plain is declared"),
        (packed, 1, r"output 'result': \$\[1\] is 'a' of type str, where int is declared"),
        (rounded, 1, r"output 'result': \$ is 1 of type int, where float is declared"),
    ]:
        with pytest.raises(WrongType, match=told):
            only(node, value).execute_in_process()


def test_nothing_is_converted() -> None:
    """3.8: a reader that declares a class gets no class made of a dict that was stored."""

    @op
    def stored():
        return {"name": "a"}

    @op
    def read(row: Row) -> str:
        return row.name

    @job
    def j():
        read(stored())

    with pytest.raises(
        WrongType, match=r"input 'row': \$ is .* of type dict, where Row is declared"
    ):
        j.execute_in_process()


def test_a_direct_call_is_checked_as_a_run_is() -> None:
    """3.8, 3.11: inputs and outputs of an op called as a function."""
    assert typed(1) == 1
    with pytest.raises(WrongType, match="step 'typed', input 'x'"):
        typed("a")
    with pytest.raises(WrongType, match="step 'rounded', output 'result'"):
        rounded(1)

    @op(out={"a": Out(int), "b": Out(str)})
    def two():
        yield Output(1, "a")
        yield Output(2, "b")

    with pytest.raises(WrongType, match="output 'b'"):
        list(two())
