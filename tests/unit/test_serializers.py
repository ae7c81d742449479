"""Values come back equal and of the same type, or are refused when they are stored."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pickle
import uuid
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given

from runstore.errors import NotStorable
from runstore.exactness import same
from runstore.outputs.formats import registry
from runstore.outputs.formats.pickled import CloudPickle
from runstore.outputs.reference import OutputReference
from runstore.outputs.serializers import (
    REMEDIES,
    deserialize,
    find_serializer,
    register_serializer,
    serialize,
    type_name,
)
from tests.unit.strategies import json_values


class Zone(msgspec.Struct):
    """A typed value."""

    name: str
    offsets: tuple[int, ...] = ()


@dataclasses.dataclass
class Point:
    """A typed value of the standard library."""

    x: int
    y: float = 0.5


class Colour(enum.Enum):
    """An enumeration."""

    RED = "red"


class Level(enum.IntEnum):
    """Equal to its number, and not it."""

    LOW = 1


class Pair(NamedTuple):
    """Equal to its tuple, and not it."""

    left: int
    right: str


class Movie(TypedDict):
    """A dict of a shape."""

    name: str
    year: int


class Opaque:
    """Nobody can write this down."""

    def __init__(self) -> None:
        self.secret = 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque)

    __hash__ = None  # type: ignore[assignment]


class Unshowable(Opaque):
    """And its repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def type_id(value: Any) -> str:
    """A test's id from a value or a type."""
    return getattr(value, "__name__", type(value).__name__)


NOON = dt.datetime(2026, 11, 22, 12, 0, 0, 5, tzinfo=dt.UTC)
INDIA = dt.timezone(dt.timedelta(hours=5, minutes=30))
UNDECLARED = [
    (None, "json"),
    (True, "json"),
    (7, "json"),
    (-0.0, "json"),
    (1e300, "json"),
    ("é\0\n", "json"),
    ("", "json"),
    ([1, [2, {}]], "json"),
    ({"a": [None]}, "json"),
    (2**63, "json"),
    (b"\xff", "msgpack"),
    ([b"a", 1], "msgpack"),
    ({1: "a", 2: "b"}, "msgpack"),
    (float("nan"), "msgpack"),
    (float("inf"), "msgpack"),
    ({b"k": 1}, "msgpack"),
    ({"a": b"x"}, "msgpack"),
    (NOON, "msgpack"),
    ({(1, 2): 3}, "msgpack"),
    ({True: 1, "a": 2}, "msgpack"),
]
UNDECLARED_REFUSED = [
    (1, 2),
    {1, 2},
    frozenset("a"),
    NOON.astimezone(INDIA),
    NOON.replace(tzinfo=None),
    NOON.date(),
    dt.timedelta(1),
    decimal.Decimal("1.0"),
    uuid.UUID(int=1),
    1 + 2j,
    Point(1),
    Zone("a"),
    Colour.RED,
    Level.LOW,
    Pair(1, "a"),
    collections.OrderedDict(a=1),
    bytearray(b"a"),
    range(3),
    Opaque(),
    Unshowable(),
    object(),
    "\ud800",
    [(1,)],
    {"a": {1}},
    lambda: 1,
    Ellipsis,
    int,
    iter([]),
    collections.Counter("aab"),
    {"a": Level.LOW},
]
DECLARED = [
    ("text", str, "text"),
    ("", str, "text"),
    ("é\r\n\0", str, "text"),
    (b"", bytes, "raw"),
    (b"\0\xff", bytes, "raw"),
    (1, int, "json"),
    (2**63, int, "json"),
    (True, bool, "json"),
    (None, None, "json"),
    (1.5, float, "json"),
    ([1, 2], list[int], "json"),
    ((1, "a"), tuple[int, str], "json"),
    ({1, 2}, set[int], "json"),
    (frozenset({"a"}), frozenset[str], "json"),
    ({"a": 1}, dict[str, int], "json"),
    ({1: "a"}, dict[int, str], "json"),
    (NOON, dt.datetime, "json"),
    (NOON.astimezone(INDIA), dt.datetime, "json"),
    (NOON.date(), dt.date, "json"),
    (NOON.timetz(), dt.time, "json"),
    (dt.timedelta(days=1, microseconds=5), dt.timedelta, "json"),
    (decimal.Decimal("1.10"), decimal.Decimal, "json"),
    (uuid.UUID(int=5), uuid.UUID, "json"),
    (Zone("a", (1, 2)), Zone, "json"),
    ([Zone("a")], list[Zone], "json"),
    (Point(1), Point, "json"),
    (Colour.RED, Colour, "json"),
    (Level.LOW, Level, "json"),
    (Pair(1, "a"), Pair, "json"),
    ({"name": "a", "year": 1}, Movie, "json"),
    (b"ab", bytes | None, "json"),
    (None, int | None, "json"),
    ("a", Literal["a", "b"], "json"),
    ((), tuple[int, ...], "json"),
    ({}, dict, "json"),
    ([1, "a"], list, "json"),
]
DECLARED_REFUSED = [
    (1, str),
    ("1", int),
    (1, float),
    (1.0, int),
    (True, int),
    (1, bool),
    (b"a", str),
    ("a", bytes),
    (bytearray(b"a"), bytes),
    ([1, 2], tuple[int, int]),
    ((1, 2), list[int]),
    ([1, "a"], list[int]),
    ({1: "a"}, dict[str, str]),
    (Level.LOW, int),
    ("a", Literal["b"]),
    (Pair(1, "a"), tuple[int, str]),
    (None, int),
    ({"name": "a"}, Movie),
    ({"name": "a", "year": 1, "more": 2}, Movie),
    (1, dt.date),
    (NOON, dt.date),
    (Zone, Zone),
    (NOON.replace(tzinfo=None), dt.date),
    (Opaque(), int),
    (Unshowable(), str),
    (collections.OrderedDict(a=1), dict),
]


@pytest.mark.parametrize(("value", "name"), UNDECLARED, ids=type_id)
def test_undeclared_values_come_back_as_they_were(value: Any, name: str) -> None:
    """Without a declared type the first of JSON and MessagePack that gives the very value back is taken."""
    stored = serialize(value)
    assert stored.serializer == name
    assert stored.extension == name
    assert same(deserialize(stored.data, stored.serializer), value)


@given(json_values)
def test_any_json_value_comes_back(value: Any) -> None:
    """What JSON holds comes back the same, declared as Any, object or not at all."""
    for declared in (None, Any, object):
        stored = serialize(value, declared)
        assert same(deserialize(stored.data, stored.serializer, declared), value)


@pytest.mark.parametrize("value", UNDECLARED_REFUSED, ids=type_id)
def test_undeclared_values_that_would_change_are_refused(value: Any) -> None:
    """What neither gives back exactly is refused when it is stored, in one line with the three remedies."""
    with pytest.raises(NotStorable) as caught:
        serialize(value)
    message = str(caught.value)
    assert f"a value of type {type(value).__name__}" in message
    assert REMEDIES in message
    for remedy in ("annotate", "register_serializer", "serializer='pickle'"):
        assert remedy in message
    assert len(message) < 500


@pytest.mark.parametrize(("value", "declared", "name"), DECLARED, ids=type_id)
def test_declared_values_come_back_as_they_were(value: Any, declared: Any, name: str) -> None:
    """The declared type picks the format, and gives the value its type on the way back."""
    stored = serialize(value, declared)
    assert stored.serializer == name
    assert stored.extension == {"text": "txt", "raw": "bin"}.get(name, name)
    assert same(deserialize(stored.data, stored.serializer, declared), value)


@pytest.mark.parametrize(("value", "declared"), DECLARED_REFUSED, ids=type_id)
def test_values_that_are_not_of_the_declared_type_are_refused(value: Any, declared: Any) -> None:
    """X1: a value that is not exactly of the declared type is refused, naming both types and the remedy."""
    with pytest.raises(NotStorable) as caught:
        serialize(value, declared)
    message = str(caught.value)
    assert f"a value of type {type(value).__name__}" in message
    assert (
        f"is not exactly the declared type {type_name(declared)}; return that type, or change"
        in message
    )


def test_text_and_bytes_are_stored_as_they_are() -> None:
    """What is declared text or bytes lies on disk as such, for any tool to read."""
    assert serialize("é\n", str).data == "é\n".encode()
    assert serialize(b"\x89PNG", bytes).data == b"\x89PNG"


def test_a_declared_type_that_json_cannot_have_is_told_so() -> None:
    """A value of its declared type, which JSON does not give back, is refused with the three remedies."""
    for value in (Opaque(), 1 + 2j, NOON.tzinfo, "\ud800"):
        with pytest.raises(NotStorable) as caught:
            serialize(value, type(value))
        assert REMEDIES in str(caught.value)


def test_what_is_no_type_declares_nothing() -> None:
    """A declaration that is no type does not stand in the way of an exact value."""
    stored = serialize([1], "not a type")
    assert deserialize(stored.data, stored.serializer, "not a type") == [1]


def _classes_of_a_script() -> list[tuple[type[Any], Any]]:
    """Classes that no module has, each with a value as JSON tells it."""

    @dataclasses.dataclass
    class Point:
        x: int

    class Pair(NamedTuple):
        x: int

    class Mapped(TypedDict):
        x: int

    class Colour(enum.Enum):
        RED = "red"

    return [(Point, {"x": 1}), (Pair, (1,)), (Mapped, {"x": 1}), (Colour, "red")]


@pytest.mark.parametrize("number", range(4), ids=["dataclass", "NamedTuple", "TypedDict", "Enum"])
def test_a_class_is_pickled_by_its_code_after_values_of_it_were_decoded(number: int) -> None:
    """What msgspec notes on a class, how to decode into it, keeps it neither from travelling nor from decoding."""
    pytest.importorskip("cloudpickle")
    kind, told = _classes_of_a_script()[number]
    value = msgspec.convert(told, kind)
    there = CloudPickle().decode(CloudPickle().encode(kind, None), None)
    assert msgspec.to_builtins(msgspec.convert(told, there)) == told
    assert msgspec.convert(told, kind) == value


def test_a_struct_that_would_lose_its_fields_is_not_pickled() -> None:
    """A Struct that no module has is refused by name; one that adds no field to that of a module travels."""
    pytest.importorskip("cloudpickle")

    class Point(msgspec.Struct):
        x: int

    class More(OutputReference):
        def doubled(self) -> int:
            return 2 * self.size

    with pytest.raises(pickle.PicklingError, match=r"Struct '.*Point' .* without its fields"):
        CloudPickle().encode(Point(1), None)
    there = CloudPickle().decode(CloudPickle().encode(More, None), None)
    assert there.__struct_fields__ == OutputReference.__struct_fields__


def test_pickle_needs_its_word() -> None:
    """Nothing is pickled unless it was asked for by name."""
    with pytest.raises(NotStorable):
        serialize(Opaque())
    stored = serialize(Opaque(), named="pickle")
    assert (stored.serializer, stored.extension) == ("pickle", "pickle")
    assert deserialize(stored.data, "pickle") == Opaque()
    assert pickle.loads(stored.data) == Opaque()
    with pytest.raises(NotStorable, match="cannot be written as pickle"):
        serialize(lambda: 1, named="pickle")


@pytest.mark.parametrize("name", ["json", "msgpack", "text", "raw"])
def test_a_named_format_is_exact_too(name: str) -> None:
    """Naming a built-in format does not let a value change: it comes back the same or is refused."""
    for value in ("a", b"a", (1, 2), {1: 2}, float("nan"), [1]):
        try:
            stored = serialize(value, named=name)
        except NotStorable:
            continue
        assert stored.serializer == name
        assert same(deserialize(stored.data, name), value)


def test_message_pack_is_typed_too() -> None:
    """A declared type that MessagePack has no word for comes back from it as that type."""
    for value, declared in (((1, "a"), tuple[int, str]), (Zone("a", (1,)), Zone), ({1}, set[int])):
        stored = serialize(value, declared, "msgpack")
        assert stored.serializer == "msgpack"
        assert same(deserialize(stored.data, "msgpack", declared), value)
        with pytest.raises(NotStorable):
            serialize(value, None, "msgpack")


class Nowhere:
    """A class whose module is no text."""

    __module__ = None  # type: ignore[assignment]


def test_a_class_of_no_module_is_refused_like_any_other() -> None:
    """Whatever a class says of itself, its values are refused with a remedy."""
    with pytest.raises(NotStorable, match="annotate"):
        serialize(Nowhere())


class _Upper:
    name, extension = "upper", "up"

    def encode(self, value: Any, declared: Any) -> bytes:
        return str(value).upper().encode()

    def decode(self, data: bytes, declared: Any) -> Any:
        return data.decode().lower()


@pytest.fixture
def upper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered format, forgotten afterwards."""
    monkeypatch.setattr(registry, "by_name", dict(registry.by_name))
    register_serializer(_Upper())


@pytest.mark.usefixtures("upper")
def test_a_registered_format_is_used_by_its_name() -> None:
    """A format of the user's own is found by name, when it is written and when it is read."""
    stored = serialize("abc", named="upper")
    assert stored == (b"ABC", "upper", "up")
    assert deserialize(stored.data, "upper") == "abc"


def test_unknown_and_taken_names_are_refused() -> None:
    """An unknown format lists the known ones; the names of the built-in ones cannot be taken."""
    with pytest.raises(
        NotStorable,
        match=r"'arrow'; known are cloudpickle, json, .*parquet, pickle, .*text.*register_serializer",
    ):
        find_serializer("arrow")
    for name in ("text", "raw", "json", "msgpack", "npy", "parquet", "pickle", "cloudpickle"):
        impostor = _Upper()
        impostor.name = name
        with pytest.raises(ValueError, match="is taken; choose another"):
            register_serializer(impostor)


@pytest.mark.parametrize(
    ("name", "extension"),
    [("Up Per", "up"), ("up", "../up"), ("", "up"), ("up", "a/b"), ("up", "")],
)
def test_names_that_would_spoil_an_address_are_refused(name: str, extension: str) -> None:
    """K3: name and extension of a format are lower-case letters, digits and `-`: both stand in addresses."""
    impostor = _Upper()
    impostor.name, impostor.extension = name, extension
    with pytest.raises(ValueError, match="lower-case letters, digits"):
        register_serializer(impostor)
