"""What legal keys, JSON values and events can be, for tests that try them all."""

import datetime as dt
import types
import typing
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st

from runstore.keys import MAX_KEY_BYTES
from runstore.log.events import Durability

NASTY_KEYS = [
    "a/b",
    "a_b",
    "../x",
    "/etc/x",
    "A",
    "a",
    "é",
    "e\u0301",
    "CON",
    "con",
    "Con.txt",
    "c[0]",
    "a%2Fb",
    "a=2fb",
    "a@1",
    "A@1",
    "=-",
    "-x",
    ".x",
    "..",
    ".",
    "x ",
    " x",
    "x\n",
    "x\t",
    "x.",
    "~",
    "*",
    "?",
    "a:b",
    "🎉",
    "K",
    "ſ",
    "ß",
    "SS",
    "ss",
    "İ",
    "i",
    "I",
    "x.e2a1",
    "X.E2A1",
    "x=2ee2a1",
    "x.json",
    "\u202ea",
    "%",
    "]",
    "[",
    "America/New_York",
    "g++-12",
    "k" * MAX_KEY_BYTES,
    "K" * MAX_KEY_BYTES,
    "é" * (MAX_KEY_BYTES // 2),
    "|" * 80,
    "Aa" * 40,
    "aA" * 40,
    "a" * 71 + "|",
    "a" * 72,
    "a" * 73,
    "COM1",
    "nul.json",
    "\u2028",
    "\x7f",
    "\ufeff",
]

_letters = st.text(
    st.sampled_from("aAbBkKeé\u0301%[]=@._-+~ /\\:*?|\n\x7f\u202e\u2028🎉ſİß0123456789"),
    min_size=1,
    max_size=80,
)
_any_text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=60)

mapping_keys = st.one_of(st.sampled_from(NASTY_KEYS), _letters, _any_text).filter(
    lambda key: len(key.encode()) <= MAX_KEY_BYTES
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,30}", fullmatch=True)
key_paths = st.lists(mapping_keys, max_size=4).map(tuple)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def instances(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that stands in the log."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return json_values
    if hint is dt.datetime:
        return st.datetimes(timezones=st.just(dt.UTC))
    if origin is Literal or hint is Durability:
        return st.sampled_from(typing.get_args(hint))
    if origin in (types.UnionType, typing.Union):
        return st.one_of([instances(argument) for argument in arguments])
    if origin is list:
        return st.lists(instances(arguments[0]), max_size=3)
    if origin is tuple:
        return st.lists(instances(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(instances(arguments[0]), instances(arguments[1]), max_size=3)
    if issubclass(hint, msgspec.Struct):
        return st.builds(hint, **fields(hint))
    return {
        str: st.text(max_size=8),
        int: st.integers(0, 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
    }[hint]


def fields(struct: type[msgspec.Struct]) -> dict[str, st.SearchStrategy[Any]]:
    """A strategy for each field of a struct."""
    hints = typing.get_type_hints(struct)
    return {name: instances(hints[name]) for name in struct.__struct_fields__}
