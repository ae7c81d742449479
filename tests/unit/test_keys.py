"""Rules K1 and K2: which keys are legal, how a step key is shown, and that it can be pasted back."""

import datetime as dt
import enum
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runstore.errors import InvalidKey
from runstore.keys import (
    MAX_KEY_BYTES,
    check_mapping_key,
    check_run_id,
    escape_key,
    format_step_key,
    new_run_id,
    parse_step_key,
)
from tests.unit.strategies import NASTY_KEYS, key_paths, mapping_keys, names

BIDI_CLASSES = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
BIDI_MARKS = {"\u061c", "\u200e", "\u200f"}


@given(names, key_paths)
def test_step_keys_round_trip(node: str, key_path: tuple[str, ...]) -> None:
    """K2: what is printed parses back to the same node and key path, whatever the keys are."""
    assert parse_step_key(format_step_key(node, key_path)) == (node, key_path)


@given(mapping_keys)
def test_shown_keys_cannot_disturb_a_terminal(key: str) -> None:
    """K2: the shown form holds no bracket, control, line or bidi character, and `%` only as an escape."""
    shown = escape_key(key)
    for char in shown:
        assert unicodedata.category(char) not in ("Cc", "Zl", "Zp"), shown
        assert unicodedata.bidirectional(char) not in BIDI_CLASSES, shown
        assert char not in BIDI_MARKS, shown
    assert not set("[]") & set(shown)
    assert "%" not in re.sub("%[0-9A-F]{2}", "", shown)


@given(st.characters(codec="utf-8", exclude_characters="\0"))
def test_every_character_is_a_legal_key_that_round_trips(char: str) -> None:
    """K1, K2: no single character of Unicode but NUL and the surrogates is left out."""
    assert check_mapping_key(char) == char
    assert parse_step_key(format_step_key("op", (char, char))) == ("op", (char, char))


@given(mapping_keys)
def test_legal_keys_are_taken_as_they_are(key: str) -> None:
    """K1: a legal key is never changed, not even to another Unicode form."""
    assert check_mapping_key(key) == key


def test_plain_keys_are_shown_as_they_are() -> None:
    """K2: common keys stay readable."""
    assert format_step_key("summarise", ("America/New_York",)) == "summarise[America/New_York]"
    assert format_step_key("resize", ("cat.jpg", "128")) == "resize[cat.jpg][128]"
    assert format_step_key("total") == "total"
    assert format_step_key("op", ("é 100%", "c[0]")) == "op[é 100%25][c%5B0%5D]"


@given(st.integers())
@example(0)
@example(-1)
def test_an_int_becomes_its_decimal_text(number: int) -> None:
    """K1: an int key is its decimal text."""
    assert check_mapping_key(number) == str(number)


class Colour(str, enum.Enum):  # noqa: UP042
    """A text with another `str()`."""

    RED = "red"


class Size(int, enum.Enum):
    """An int with another `str()`."""

    BIG = 7


def test_subclasses_of_text_and_int_are_their_content() -> None:
    """K1: the key is the text or the number itself, not what a subclass shows for it."""
    for key, content in ((Colour.RED, "red"), (Size.BIG, "7")):
        checked = check_mapping_key(key)
        assert checked == content
        assert type(checked) is str


@pytest.mark.parametrize(
    ("key", "fact", "remedy"),
    [
        ("", "empty", "non-empty"),
        ("a\0b", "NUL", "another key"),
        ("a\ud800", "lone surrogate", "valid Unicode"),
        ("x" * (MAX_KEY_BYTES + 1), "1,025 bytes", "at most 1,024"),
        ("é" * 513, "1,026 bytes", "at most 1,024"),
        (None, "None", "use a text or an int"),
        (True, "a bool", "use a text or an int"),
        (1.5, "a float", "use a text or an int"),
        (b"a", "a bytes", "use a text or an int"),
    ],
)
def test_illegal_mapping_keys_are_refused(key: object, fact: str, remedy: str) -> None:
    """K1: an illegal key is refused with the fact, the key and the remedy."""
    with pytest.raises(InvalidKey) as caught:
        check_mapping_key(key)
    message = str(caught.value)
    assert message.startswith("mapping key")
    assert fact in message
    assert remedy in message
    assert len(message) < 300


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[a]",
        "op[",
        "op[]",
        "op[a",
        "op]",
        "op[a]b",
        "op[a][]",
        "op[[a]]",
        "op[a]]",
        "op[%]",
        "op[%4]",
        "op[%zz]",
        "op[%ff]",
        "op[a][b",
        "op[a]x[b]",
    ],
)
def test_texts_that_are_no_step_key_are_refused(text: str) -> None:
    """K2: what was not printed by runstore is refused, with the text in the message."""
    with pytest.raises(InvalidKey, match="is not a step key") as caught:
        parse_step_key(text)
    assert repr(text) in str(caught.value)


@given(st.text(st.sampled_from("op[]%0a4é\ud800"), max_size=12))
def test_parsing_any_text_gives_a_step_or_a_refusal(text: str) -> None:
    """K2: no text makes the parser fail in another way, and what it accepts prints as the same step."""
    try:
        node, key_path = parse_step_key(text)
    except InvalidKey:
        return
    assert parse_step_key(format_step_key(node, key_path)) == (node, key_path)


def test_nasty_keys_are_all_distinct_when_shown() -> None:
    """K2: no two keys print alike."""
    assert len({escape_key(key) for key in NASTY_KEYS}) == len(set(NASTY_KEYS))


def test_run_ids_sort_by_time_and_are_legal() -> None:
    """A new run id is legal and sorts after one made a second before."""
    now = dt.datetime(2026, 11, 22, 18, 10, 13, tzinfo=dt.UTC)
    first, second = new_run_id(now), new_run_id(now + dt.timedelta(seconds=1))
    assert first < second
    assert check_run_id(first) == first
    assert first.startswith("20261122-181013-")


@pytest.mark.parametrize(
    "run_id", ["", "last", ".x", "-x", "a/b", "..", "a b", "é", "x" * 101, "a\n"]
)
def test_illegal_run_ids_are_refused(run_id: str) -> None:
    """A run id that could be an option, a path or the word `last` is refused with what is allowed."""
    with pytest.raises(InvalidKey, match="use 1 to 100 of letters") as caught:
        check_run_id(run_id)
    assert repr(run_id) in str(caught.value)
