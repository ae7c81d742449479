"""Names of runs and steps: legal, shown and parsed (rules K1 and K2).

Pure text. A step is known by its node and its key path, never by a position; both are carried as one text, the step
key, in which `[`, `]`, `%`, control and bidi characters of a mapping key are percent-encoded, so that every step key
that is printed can be pasted back.
"""

import datetime as dt
import re
import secrets
import unicodedata
from functools import lru_cache
from urllib.parse import quote

from runstore.errors import InvalidKey

KeyPath = tuple[str, ...]

MAX_KEY_BYTES = 1024

_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9 ._/@+=:,-]+")
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def new_run_id(now: dt.datetime) -> str:
    """A run id that sorts by time and is easily typed by its prefix: `20261122-181013-k3f9`."""
    suffix = "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(4))
    return f"{now:%Y%m%d-%H%M%S}-{suffix}"


def check_run_id(run_id: str) -> str:
    """Return `run_id` if it is legal: 1-100 of `A-Z a-z 0-9 . _ -`, not starting with `.` or `-`, not `last`."""
    if run_id == "last" or not _RUN_ID.fullmatch(run_id):
        raise InvalidKey(
            f"run id {run_id!r} is not legal: use 1 to 100 of letters, digits, '.', '_' and '-', "
            "not starting with '.' or '-', and not the word 'last'"
        )
    return run_id


def check_mapping_key(key: object) -> str:
    """Return the mapping key as text (K1): non-empty, at most 1,024 bytes of UTF-8, no NUL, no lone surrogate.

    An int becomes its decimal text.
    """
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(int(key))
    if not isinstance(key, str):
        raise InvalidKey(
            f"mapping key {key!r} is {_article(type(key).__name__)}; use a text or an int"
        )
    if not key:
        raise InvalidKey("mapping key '' is empty; use a non-empty text")
    if "\0" in key:
        raise InvalidKey(f"mapping key {key!r} contains NUL; use another key")
    if not key.isascii() or len(key) > MAX_KEY_BYTES:
        _check_encoded(key)
    return str.__str__(key)  # of a subclass the text itself, not what its `str()` shows


def _check_encoded(key: str) -> None:
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKey(
            f"mapping key {key!r} contains a lone surrogate; use valid Unicode"
        ) from None
    if size_bytes > MAX_KEY_BYTES:
        raise InvalidKey(
            f"mapping key {key[:40]!r}… has {size_bytes:,} bytes in UTF-8; at most {MAX_KEY_BYTES:,} are allowed"
        )


def format_step_key(node: str, key_path: KeyPath = ()) -> str:
    """`echo`, `echo[a]`, `resize[cat.jpg][128]` (K2)."""
    if not key_path:
        return node
    return node + "".join([f"[{escape_key(key)}]" for key in key_path])


def escape_key(key: str) -> str:
    """A mapping key as it is shown inside brackets; the inverse stands in `parse_step_key`."""
    if _PLAIN_KEY.fullmatch(key):
        return key
    return "".join([quote(char, safe="") if _must_escape(char) else char for char in key])


@lru_cache(maxsize=4096)
def _must_escape(char: str) -> bool:
    return char in "[]%" or char in _BIDI or unicodedata.category(char) in ("Cc", "Zl", "Zp")


def parse_step_key(text: str) -> tuple[str, KeyPath]:
    """(node, key path) of a step key; raises InvalidKey for anything that is not one."""
    node, bracket, rest = text.partition("[")
    if not bracket:
        if not node or "]" in node:
            raise InvalidKey(f"{text!r} is not a step key; write 'op' or 'op[key]'")
        return node, ()
    if not node or not rest.endswith("]"):
        raise InvalidKey(f"{text!r} is not a step key; write 'op' or 'op[key]'")
    inside = rest[:-1]
    if "%" in inside or "]" in inside or "[" in inside or not inside:
        return node, tuple([_unescape(key, text) for key in inside.split("][")])
    return node, (inside,)


def _unescape(key: str, text: str) -> str:
    if not key or "[" in key or "]" in key:
        raise InvalidKey(
            f"{text!r} is not a step key; inside a key '[' is written %5B and ']' is written %5D"
        )
    raw = key.encode("utf-8", "surrogatepass")
    if raw.count(b"%") != len(_ESCAPE.findall(raw)):
        raise InvalidKey(f"{text!r} is not a step key; inside a key '%' is written %25")
    try:
        return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw).decode()
    except UnicodeDecodeError:
        raise InvalidKey(f"{text!r} is not a step key; its % sequences are not UTF-8") from None


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"
