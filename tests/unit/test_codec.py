"""What JSON holds exactly, and the exact bytes that each digest covers."""

import collections
import datetime as dt
import enum
import hashlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstore.errors import NotStorable, RunStoreError
from runstore.exactness import same
from runstore.log.codec import (
    HASHED_TOGETHER,
    LogDigest,
    check_exact,
    decode,
    decode_reference,
    encode,
    keys_digest,
)
from runstore.log.events import STORES, AnyEvent, RunStarted, StepSucceeded
from tests.unit.logs import T0, run_started
from tests.unit.strategies import instances, json_values, mapping_keys


class Size(enum.IntEnum):
    """Equal to its number, and not it."""

    BIG = 7


class Unshowable:
    """Its repr raises."""

    def __repr__(self) -> str:
        raise ValueError("no")


Point = collections.namedtuple("Point", "x y")
DEEP: list[Any] = []
for _ in range(3000):
    DEEP = [DEEP]

INEXACT = [
    math.nan,
    math.inf,
    -math.inf,
    (1, 2),
    {1: 2},
    {1, 2},
    b"x",
    "\ud800",
    {"\udfff": 1},
    Size.BIG,
    Point(1, 2),
    dt.date(2026, 1, 1),
    T0,
    collections.OrderedDict(a=1),
    1 + 2j,
    object(),
    Unshowable(),
    DEEP,
    bytearray(b"x"),
    range(3),
    {None: 1},
    {True: 1},
]


@given(json_values)
def test_what_json_holds_is_taken_as_it_is(value: Any) -> None:
    """None, bool, int, finite float, text, list and dict of them are returned unchanged."""
    assert check_exact(value, "config") is value


@given(st.integers(-(10**40), 10**40))
def test_ints_of_any_size_are_exact(number: int) -> None:
    """An int of more than 64 bits, which many readers of JSON round, comes back whole."""
    row = encode(run_started(config={"n": check_exact(number, "config")}))
    event = decode(row, "r", 1)
    assert isinstance(event, RunStarted)
    assert event.config == {"n": number}


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [1, x], lambda x: {"a": {"b": x}}])
@pytest.mark.parametrize("value", INEXACT, ids=lambda value: type(value).__name__)
def test_what_json_would_change_is_refused(value: Any, wrap: Any) -> None:
    """A value that would come back as another is refused at any depth, with the remedy and in one short line."""
    with pytest.raises(
        NotStorable, match=r"the thing is .*does not hold exactly; use None, bool"
    ) as caught:
        check_exact(wrap(value), "the thing")
    assert len(str(caught.value)) < 300


@given(json_values, json_values)
def test_same_is_stricter_than_equal(one: Any, other: Any) -> None:
    """Same values are equal; a value is the same as itself; the order of two does not matter."""
    assert same(one, one)
    assert same(one, other) == same(other, one)
    if same(one, other):
        assert one == other
        assert type(one) is type(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (Size.BIG, 7),
        (Point(1, 2), (1, 2)),
        ([1], (1,)),
        ({1}, frozenset({1})),
        ({1}, {True}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, collections.OrderedDict(a=1)),
        ("a", b"a"),
        ([[1]], [[1.0]]),
        (None, 0),
    ],
)
def test_equal_but_not_the_same(one: Any, other: Any) -> None:
    """What `==` lets pass, or what only differs in type, sign or order, is not the same value."""
    assert not same(one, other)


def test_a_value_that_is_not_a_number_is_the_same_as_itself() -> None:
    """NaN comes back from MessagePack as NaN, which is exact though not equal."""
    assert same(math.nan, math.nan)


@given(st.lists(mapping_keys, unique=True, max_size=5))
def test_the_digest_of_keys_covers_each_key_and_a_nul(keys: list[str]) -> None:
    """FORMAT.md: sha256 over each key in UTF-8 followed by one NUL byte, in order."""
    assert (
        keys_digest(keys)
        == hashlib.sha256(b"".join(key.encode() + b"\0" for key in keys)).hexdigest()
    )


@given(st.lists(mapping_keys, unique=True, min_size=2, max_size=5), st.randoms())
def test_the_digest_of_keys_tells_every_set_and_order(keys: list[str], random: Any) -> None:
    """No other order and no other split of the same text has the same digest."""
    shuffled = random.sample(keys, len(keys))
    assert (keys_digest(shuffled) == keys_digest(keys)) == (shuffled == keys)
    assert keys_digest(["".join(keys)]) != keys_digest(keys)


@given(st.lists(st.text(), max_size=5))
def test_the_log_digest_covers_seq_and_body_of_each_row(bodies: list[str]) -> None:
    """FORMAT.md: sha256 over `<seq> <body>` and a newline for each row, in order; it can be asked at any time."""
    digest, text = LogDigest(), b""
    for seq, row in enumerate(bodies, 1):
        assert digest.hexdigest() == hashlib.sha256(text).hexdigest()
        digest.update(seq, row)
        text += f"{seq} {row}\n".encode()
    assert digest.hexdigest() == hashlib.sha256(text).hexdigest()


def test_the_rolling_digest_does_not_depend_on_when_it_is_asked_for() -> None:
    """Rows are hashed many at a time; the digest is that of all of them, however many there are."""
    digest, text = LogDigest(), ""
    for seq in range(1, 3 * HASHED_TOGETHER // 2):
        digest.update(seq, "{}")
        text += f"{seq} {{}}\n"
    assert digest.hexdigest() == hashlib.sha256(text.encode()).hexdigest()


def test_a_row_is_exactly_this() -> None:
    """The bytes of a row are a contract: full names, the kind first, defaults left out, time in UTC with a Z."""
    event = StepSucceeded("echo[a]", 0.25, epoch=2, time=T0)
    assert encode(event) == (
        '{"kind":"StepSucceeded","step":"echo[a]","duration_s":0.25,"epoch":2,"time":"2026-11-22T18:00:00Z"}'
    )


@given(instances(AnyEvent))
def test_a_reference_is_read_out_of_just_the_rows_that_hold_one(event: AnyEvent) -> None:
    """It is the event's own; a row that stores no output is refused by its seq."""
    body = encode(event)
    if isinstance(event, STORES):
        assert decode_reference(body, "night", 7) == event.reference
    else:
        with pytest.raises(RunStoreError, match="run 'night', seq 7"):
            decode_reference(body, "night", 7)
