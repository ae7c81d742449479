"""Event <-> row.

The body of a row is the event as JSON with full field names; defaults (`attempt` 1, `base` 0) are left out. An unknown
kind, an unknown field or a newer format is refused here, never guessed at. Older formats are brought up to date here.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from runstore.errors import FormatTooNew, LogDamaged, NotStorable
from runstore.exactness import same
from runstore.log.events import FORMAT_VERSION, KINDS, AnyEvent, RunStarted
from runstore.outputs.reference import OutputReference

HASHED_TOGETHER = 64
"""Rows that the rolling digest takes in at a time; each by itself would cost more in calls than in bytes."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyEvent)


class _Envelope(msgspec.Struct):
    kind: str = ""
    format: int = 0


class _Stored(msgspec.Struct, gc=False):
    reference: OutputReference | None = None


_reference_decoder = msgspec.json.Decoder(_Stored)


def encode(event: AnyEvent) -> str:
    """The body of the event's row."""
    return _encoder.encode(event).decode()


def decode(body: str, run_id: str, seq: int) -> AnyEvent:
    """The event of a row; raises FormatTooNew or LogDamaged naming run and seq."""
    try:
        event: AnyEvent = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError) as error:
        raise _refusal(body, run_id, seq, error) from None
    if type(event) is RunStarted and event.format != FORMAT_VERSION:
        raise _refusal(body, run_id, seq, None)
    return event


def decode_reference(body: str, run_id: str, seq: int) -> OutputReference:
    """The reference that a row of a replayed log holds; raises LogDamaged where it holds none, and as `decode`."""
    reference = find_reference(body)
    if reference is not None:
        return reference
    event = decode(body, run_id, seq)
    raise LogDamaged(
        f"run {run_id!r}, seq {seq}: {type(event).__name__} stores no output; nothing was written. "
        "Restore it from a copy"
    )


def find_reference(body: str) -> OutputReference | None:
    """The reference that a row holds, None where it holds none that can be read; in a third of the time that its whole
    event takes.
    """
    try:
        return _reference_decoder.decode(body).reference
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
        return None


def _refusal(body: str, run_id: str, seq: int, error: Exception | None) -> Exception:
    where = f"run {run_id!r}, seq {seq}"
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
        return LogDamaged(
            f"{where}: the row is not an event ({error}); nothing was written. Restore it from a copy",
            "V2",
        )
    if envelope.format > FORMAT_VERSION or envelope.kind not in KINDS:
        return FormatTooNew(
            f"{where}: kind {envelope.kind!r}, format {envelope.format or FORMAT_VERSION}, is not known to this "
            f"version, which writes format {FORMAT_VERSION}; nothing was written. Upgrade runstore"
        )
    return LogDamaged(
        f"{where}: the row is not a valid event ({error}); nothing was written. Restore it from a copy",
        "V2",
    )


def check_exact(value: Any, what: str) -> Any:
    """Return `value` if JSON holds it exactly; else raise NotStorable that names `what`."""
    try:
        exact = same(msgspec.json.decode(_encoder.encode(value)), value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        exact = False
    if not exact:
        raise NotStorable(
            f"{what} is {_shortened(value)}, which JSON does not hold exactly; "
            "use None, bool, int, finite float, str, list and dict with str keys"
        )
    return value


def _shortened(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "…"


def keys_digest(keys: Iterable[str]) -> str:
    """Of the ordered keys of an expansion: sha256 over each key in UTF-8 followed by NUL."""
    text = "\0".join(keys)
    return hashlib.sha256(f"{text}\0".encode() if text else b"").hexdigest()


class LogDigest:
    """The rolling digest of a run's rows: sha256 over `<seq> <body>` and a newline for each, in order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._waiting: list[str] = []

    def update(self, seq: int, body: str) -> None:
        """Take in the next row."""
        self._waiting.append(f"{seq} {body}\n")
        if len(self._waiting) == HASHED_TOGETHER:
            self._take_in()

    def update_all(self, rows: Iterable[tuple[int, str]]) -> None:
        """Take in the next rows at once."""
        self._take_in()
        self._digest.update("".join([f"{seq} {body}\n" for seq, body in rows]).encode())

    def hexdigest(self) -> str:
        """Over all rows taken in so far."""
        self._take_in()
        return self._digest.hexdigest()

    def _take_in(self) -> None:
        self._digest.update("".join(self._waiting).encode())
        self._waiting.clear()
