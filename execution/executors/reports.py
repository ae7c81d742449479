"""What a worker of a cluster says to the engine, as bytes: who it is, and what becomes of the tickets of a batch.

Reports of a batch are numbered, so that a gap is noticed; each line in them is what one ticket's attempt tells.
"""

import msgspec


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """A worker has been introduced: it has loaded the job and opened the outputs, or could not."""

    address: str
    token: str
    """Of the process, which may be another than the one that had this address before."""
    name: str = ""
    host: str = ""
    threads: int = 0
    resources: dict[str, float] = {}
    has_nanny: bool = False
    """Somebody there can end the process, and begins a new one."""
    left: str = ""
    """The name of the object that it has left where outputs go."""
    unreached: str = ""
    """Why it does not reach the outputs; empty where it does."""
    stops: bytes = b""
    """Why it cannot run steps, as `pack_stop` writes it."""
    introduction: int = 0
    """Which introduction this answers; an answer to an earlier one is of no use."""


class Line(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What is told of one ticket."""

    place: int
    """Of the ticket in its batch."""
    message: bytes = b""
    """As `pack_told` writes it; empty: the attempt begins."""
    took_s: float = 0.0
    """Of a whole attempt, with its last message."""


class Report(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Some lines of a batch."""

    batch: int
    number: int
    """Counts the reports of the batch, from 0 on."""
    lines: list[Line]
    back_from: int = -1
    """Tickets from this place on are given back: they have not begun, and will not."""
    is_end: bool = False
    """The last report of the batch."""
    has_no_session: bool = False
    """The process knows nothing of this run: nothing of the batch has begun, or will."""


def worker_name(name: str) -> str:
    """What the log calls the worker that its cluster calls so."""
    return f"dask {name}"


def no_session(batch: int) -> Report:
    """The answer of a process that has no session for a batch."""
    return Report(batch, 0, [], has_no_session=True)


encode = msgspec.msgpack.Encoder().encode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
