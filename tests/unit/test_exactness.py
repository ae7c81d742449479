"""Of any value, however it is declared: it comes back equal and of the same type, or is refused when it is stored."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
import zoneinfo
from typing import Annotated, Any, NamedTuple, Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.errors import NotStorable
from runstore.exactness import same
from runstore.outputs.serializers import deserialize, serialize

D = decimal.Decimal
PARIS = zoneinfo.ZoneInfo("Europe/Paris")
INDIA = dt.timezone(dt.timedelta(hours=5, minutes=30))
NOON = dt.datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=dt.UTC)
NAN, INF = math.nan, math.inf
REMEDIES = ("annotat", "register", "allow pickle", "change the annotation")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Line:
    ends: tuple[Point, Point]
    tags: set[str] = dataclasses.field(default_factory=set)
    colour: Colour = Colour.RED


class Box(msgspec.Struct, frozen=True):
    lines: dict[str, list[tuple[int, uuid.UUID]]] = {}


class Text(str):
    """Equal to its text, and not it."""


class Number(int):
    """Equal to its number, and not it."""


class Row(list):  # type: ignore[type-arg]
    """Equal to its list, and not it."""


class Table(dict):  # type: ignore[type-arg]
    """Equal to its dict, and not it."""


def nested(depth: int) -> Any:
    """A list in a list, and so on."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


in_itself: list[Any] = []
in_itself.append(in_itself)

ID = uuid.UUID(int=7)
KEPT = [
    ((1, "a"), tuple[int, str]),
    ((), tuple[()]),
    ({1, 2}, set[int]),
    ({frozenset({1}), frozenset()}, set[frozenset[int]]),
    (frozenset({(1, "a")}), frozenset[tuple[int, str]]),
    (NOON, dt.datetime),
    (NOON.astimezone(INDIA), dt.datetime),
    ([NOON.replace(tzinfo=None)], list[dt.datetime]),
    (NOON.timetz(), dt.time),
    (D("1.00"), D),
    (D("-0"), D),
    (D("1E+400"), D),
    ({"a": D("1.0")}, dict[str, D]),
    (ID, uuid.UUID),
    (Colour.RED, Colour),
    (Level.LOW, Level),
    (Word.YES, Word),
    ({Level.LOW: Word.YES}, dict[Level, Word]),
    (Pair(1, "a"), Pair),
    (Point(1), Point),
    (Line((Point(1), Point(2, -0.0)), {"a"}), Line),
    (Box({"a": [(1, ID)]}), Box),
    ({"a": [(1, ID)]}, dict[str, list[tuple[int, uuid.UUID]]]),
    ([None, (1,)], list[tuple[int] | None]),
    (None, Optional[int]),  # noqa: UP045
    (True, int | bool),
    (1, int | bool),
    ("a", int | str),
    (b"a\0", bytes),
    ([b"a\0"], list[bytes]),
    (bytearray(b"ab"), bytearray),
    (NAN, float),
    ([1.0, NAN, -INF], list[float]),
    ({"a": (INF, None)}, dict[str, tuple[float, None]]),
    (-0.0, float),
    (2**63, int),
    (1, Annotated[int, msgspec.Meta(ge=0)]),
    ([1], Annotated[list[int], {"no": "hash"}]),
    (nested(300), list),
    (NAN, None),
    ({"a": [NAN, -INF, -0.0]}, None),
    ([b"a", {2: None}], None),
    ({(1, 2): {3: b""}}, None),
    (2**64 - 1, None),
    (nested(300), None),
]
REFUSED = [
    ((1, 2), None, "annotate"),
    ({1}, None, "annotate"),
    (frozenset(), None, "annotate"),
    (D("1.0"), None, "annotate"),
    (ID, None, "annotate"),
    (Colour.RED, None, "annotate"),
    (Pair(1, "a"), None, "annotate"),
    (Point(1), None, "annotate"),
    ([(1,)], list[Any], "return that type"),
    (Pair(1, "a"), tuple[int, str], "return that type"),
    (True, int, "return that type"),
    (1, bool, "return that type"),
    (1, float, "return that type"),
    (Level.LOW, int, "return that type"),
    (Word.YES, str, "return that type"),
    (Text("a"), str, "return that type"),
    (Number(1), int, "return that type"),
    (Row(), list, "return that type"),
    (Table(), dict, "return that type"),
    (collections.OrderedDict(a=1), dict[str, int], "return that type"),
    (NOON.replace(tzinfo=PARIS), dt.datetime, r"\$ has a zone.*astimezone\(datetime.UTC\)"),
    ([NOON.astimezone(PARIS)], list[dt.datetime], r"\$\[0\] has a zone.*astimezone"),
    ({"a": NOON.replace(tzinfo=zoneinfo.ZoneInfo("UTC"))}, dict[str, dt.datetime], r"has a zone"),
    (NOON.astimezone(dt.timezone(dt.timedelta(hours=1), "CET")), dt.datetime, "annotate"),
    (NOON.replace(fold=1), dt.datetime, r"\$ has a fold"),
    (NOON.astimezone(PARIS), None, r"\$ has a zone"),
    (Text("a"), None, r"\$ is a subclass of str; store str\(value\)"),
    ([Row()], None, r"\$\[0\] is a subclass of list; store list\(value\)"),
    ({"a": Table()}, dict[str, Any], r"\$\['a'\] is a subclass of dict"),
    (collections.defaultdict(int), None, r"is a subclass of dict"),
    (["\ud800"], list[str], r"\$\[0\] has a lone surrogate.*store bytes"),
    ({"\ud800": 1}, None, "has a lone surrogate"),
    (Point(1, NOON.astimezone(PARIS)), Any, r"\$.y has a zone"),  # type: ignore[arg-type]
    (nested(100_000), None, "nested too deeply, or in itself; store it flat"),
    (nested(100_000), list, "nested too deeply"),
    (in_itself, None, "nested too deeply, or in itself"),
    ({1: "a", "1": "b"}, dict[str, str], "return that type"),
    (collections.deque([1]), None, "annotate"),
    (1j, None, "annotate"),
    ((NAN, 1), None, "from json and from msgpack; annotate"),
]


def type_id(value: Any) -> str:
    """A test's id from a value or a type."""
    return getattr(value, "__name__", type(value).__name__)


@pytest.mark.parametrize(("value", "declared"), KEPT, ids=type_id)
def test_what_is_stored_comes_back_the_same(value: Any, declared: Any) -> None:
    """Type, content and order, all the way down, are those of the value that was stored."""
    stored = serialize(value, declared)
    back = deserialize(stored.data, stored.serializer, declared)
    assert same(value, back)
    assert type(value) is type(back)


@pytest.mark.parametrize(("value", "declared", "told"), REFUSED, ids=type_id)
def test_what_would_come_back_changed_is_refused(value: Any, declared: Any, told: str) -> None:
    """It is refused when it is stored, and the error says where it is inexact, where that is known, and what to do."""
    with pytest.raises(NotStorable, match=told) as caught:
        serialize(value, declared)
    assert any(remedy in str(caught.value) for remedy in REMEDIES)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (D("1.0"), D("1.00")),
        (D("0"), D("-0")),
        ({1, 2.0}, {1.0, 2}),
        ({frozenset({1})}, {frozenset({True})}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "a"}, {True: "a"}),
        ((1, 2), Pair(1, 2)),  # type: ignore[arg-type]
        (Level.LOW, 1),
        (Point(1, 1), Point(1, 1.0)),
        (NOON, NOON.astimezone(INDIA)),
        (NOON, NOON.replace(tzinfo=zoneinfo.ZoneInfo("UTC"))),
        (NOON, NOON.replace(fold=1)),
        (NOON.astimezone(PARIS), NOON.astimezone(dt.timezone(dt.timedelta(hours=2)))),
        ([], Row()),
        ("a", Text("a")),
        (Row([1]), Row([2])),
        (b"", bytearray()),
    ],
    ids=repr,
)
def test_equal_is_not_enough(one: Any, other: Any) -> None:
    """What `==` calls equal, or a set or a tuple hides, is told apart, and each is the same as itself."""
    assert not same(one, other)
    assert not same([one], [other])
    assert same(one, one)
    assert same(other, other)


def test_a_nan_is_a_nan() -> None:
    """A NaN comes back as a NaN, whichever; one of Decimal keeps its payload."""
    assert same([NAN, (1, float("-nan"))], [float("nan"), (1, NAN)])
    assert same(D("NaN"), D("NaN"))
    assert not same(D("NaN"), D("NaN1"))
    assert not same(NAN, None)


def test_json_by_name_has_no_nan() -> None:
    """What JSON would turn into null is refused where JSON is named, with the format that holds it."""
    for value, place in (
        (NAN, r"\$"),
        ([1.0, INF], r"\$\[1\]"),
        ({"a": (-INF,)}, r"\$\['a'\]\[0\]"),
    ):
        with pytest.raises(NotStorable, match=rf"{place} is not finite.*serializer='msgpack'"):
            serialize(value, named="json")


# Any value of a recursive strategy, however it is declared

_scalars: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (type(None), st.none()),
    (bool, st.booleans()),
    (int, st.integers()),
    (float, st.floats()),
    (str, st.text(st.characters(codec=None), max_size=4)),
    (bytes, st.binary(max_size=4)),
    (D, st.decimals(allow_nan=False) | st.just(D("NaN"))),
    (uuid.UUID, st.uuids()),
    (dt.datetime, st.datetimes(timezones=st.sampled_from([None, dt.UTC, INDIA, PARIS]))),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas()),
    (Colour, st.just(Colour.RED)),
    (Level, st.just(Level.LOW)),
    (Word, st.just(Word.YES)),
    (complex, st.complex_numbers()),
    (Text, st.builds(Text, st.text(max_size=2))),
    (Number, st.builds(Number, st.integers())),
    (Point, st.builds(Point, st.integers(), st.floats())),
    (Pair, st.builds(Pair, st.integers(), st.text(max_size=2))),
]
_values = st.recursive(
    st.one_of([values for _, values in _scalars]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(Row),
        st.dictionaries(
            st.one_of(st.text(max_size=2), st.integers(), st.none()), inner, max_size=3
        ),
        st.builds(Line, st.tuples(inner, inner)),
    ),
    max_leaves=8,
)


@st.composite
def _typed(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type, and the strategy of its values."""
    shape = draw(st.sampled_from(["one", "list", "set", "tuple", "dict", "union"]))
    if shape == "one" or depth == 0:
        return draw(st.sampled_from(_scalars))
    first, values = draw(_typed(depth - 1))
    if shape == "list":
        return list[first], st.lists(values, max_size=3)
    if shape == "set":
        scalar, hashable = draw(st.sampled_from(_scalars))
        return set[scalar], st.sets(hashable, max_size=3)
    if shape == "union":
        return Optional[first], st.none() | values  # noqa: UP045
    second, others = draw(_typed(depth - 1))
    if shape == "tuple":
        return tuple[first, second], st.tuples(values, others)
    name, names = draw(st.sampled_from(_scalars))
    return dict[name, second], st.dictionaries(names, others, max_size=3)


def comes_back_or_is_refused(value: Any, declared: Any, named: str | None = None) -> None:
    """The one promise."""
    try:
        stored = serialize(value, declared, named)
    except NotStorable as error:
        refused = str(error)
    else:
        assert same(deserialize(stored.data, stored.serializer, declared), value)
        return
    assert any(remedy in refused for remedy in REMEDIES)


@given(_values, st.sampled_from([None, "json", "msgpack", "text", "raw"]))
def test_any_undeclared_value(value: Any, named: str | None) -> None:
    """Whatever it is, in whichever format: it comes back the same or is refused, and never anything else."""
    for declared in (None, Any, object, type(value)):
        comes_back_or_is_refused(value, declared, named)


@given(_typed(), st.data())
def test_any_declared_value(typed: tuple[Any, st.SearchStrategy[Any]], data: st.DataObject) -> None:
    """Declared by its type, nested and in unions, or by one that it is not: the same holds."""
    declared, values = typed
    for named in (None, "json", "msgpack"):
        comes_back_or_is_refused(data.draw(values), declared, named)
        comes_back_or_is_refused(data.draw(_values), declared, named)
