"""Who wrote these bytes: which run, op, key, attempt and epoch, by their sha256 or by where they lie.

A digest is found by its index, also where the file was moved; an address is taken apart with the file names that the
graph gives, looked up by step, and counts only where the log names the very address.
"""

import datetime as dt
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from runstore.audit.lookup import Lookup, step_of
from runstore.errors import StepNotFound, StorageFailed
from runstore.keys import format_step_key
from runstore.log.codec import decode
from runstore.log.events import STORES, AnyEvent, DynamicOutputStored
from runstore.log.expanded import StepId
from runstore.outputs.addresses import file_name, key_of
from runstore.outputs.reference import OutputReference
from runstore.store import RunStore

# All events that store bytes whose sha256 begins so: by its first eight digits, then by the rest of what is known.
_SAME = """
FROM events WHERE row_id IN (SELECT row_id FROM digests WHERE sha8 = substr(?1, 1, 8))
AND substr(body ->> '$.reference.sha256', 1, length(?1)) = ?1"""
_COUNT = f"SELECT count(*) {_SAME}"
_BYTES = f"""
SELECT (SELECT id FROM runs WHERE run = row_id >> 32), seq, body {_SAME} ORDER BY row_id LIMIT ?2"""
# For an address that does not say its step, since its names were cut: one reading of the run.
_PATH = "SELECT seq, body FROM events WHERE row_id > ? AND row_id < ? AND body ->> '$.reference.path' = ?"

_DIGEST = re.compile(r"[0-9a-fA-F]{8,64}")
_ATTEMPT = re.compile(r"(?:\.e\d+a\d+)?\.[a-z0-9-]{1,16}$")
_READ_BYTES = 1 << 20

Found = Literal["sha256", "address", "address and sha256"]


class Writer(msgspec.Struct, frozen=True):
    """An attempt that stored these bytes, or stored at this address."""

    run_id: str
    op: str
    step: str
    output: str
    mapping_key: str | None
    """Of a piece of a dynamic output."""
    attempt: int
    epoch: int
    seq: int
    """Of the event that says so."""
    time: dt.datetime
    counts: bool
    """It is what readers of the output get now; else its attempt failed, or was followed by another."""
    reference: OutputReference
    address: str
    by: Found
    """How it was found. By address alone: what lies there is not what was stored, or is gone."""
    reused: bool = False
    """The run has it from its parent."""


class Writers(msgspec.Struct, frozen=True):
    """All that is known of who wrote some bytes."""

    writers: tuple[Writer, ...]
    """Those at the very address first, then the oldest run first."""
    total: int
    """How many there are; many outputs may have the same bytes."""


def who(store: RunStore, what: str, *, limit: int = 100) -> Writers:
    """The attempts that wrote the bytes of a file, a URL or a sha256 (eight digits or more), at most `limit`.

    Raises StepNotFound where no log knows them, StorageFailed where they cannot be read.
    """
    if _DIGEST.fullmatch(what) and not os.path.exists(what):
        at, digest = [], what.lower()
    else:
        at = list(_by_address(store, what))
        whole = (one.reference.sha256 for one in at if one.by != "address")
        digest = _digest_of(what) or next(whole, "")
    first = sorted(at, key=lambda one: one.by == "address")
    others = [one for one in at if one.reference.sha256 != digest]
    known = {(one.run_id, one.seq) for one in at}
    found = [one for one in _by_digest(store, digest, limit) if (one.run_id, one.seq) not in known]
    total = len(others) + (next(store.query(_COUNT, (digest,)))[0] if digest else 0)
    writers = (*first, *found)
    if not writers:
        raise StepNotFound(
            f"no run of {store.directory or 'this store'} has stored {what!r}; give a file, its URL or its sha256"
        )
    return Writers(writers[:limit], total)


def _by_digest(store: RunStore, digest: str, limit: int) -> Iterator[Writer]:
    looks: dict[str, Lookup] = {}
    for run_id, seq, body in list(store.query(_BYTES, (digest, limit))) if digest else ():
        look = looks.get(run_id) or looks.setdefault(run_id, Lookup(store, run_id))
        yield _writer(look, seq, decode(body, run_id, seq), "sha256")


def _digest_of(what: str) -> str:
    """The sha256 of the file of that name; empty where there is none."""
    path, digest = Path(what.removeprefix("file://")), hashlib.sha256()
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            while part := file.read(_READ_BYTES):
                digest.update(part)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return ""
        raise StorageFailed(
            f"{path}: {error.strerror}; make it readable, or give its sha256"
        ) from None
    return digest.hexdigest()


def _by_address(store: RunStore, what: str) -> Iterator[Writer]:
    given = _normal(what)
    for run in store.runs():
        look = Lookup(store, run.run_id)
        for base in range(len(look.frame.bases)):
            root = look.outputs.address(OutputReference("", 0, "", "", base=base))
            if given.startswith(_normal(root).rstrip("/") + "/"):
                path = given[len(_normal(root).rstrip("/")) + 1 :]
                for seq, event in _stored_at(look, path):
                    if isinstance(event, STORES) and event.reference.base == base:
                        there = look.outputs.is_there(event.reference, deep=True)
                        how: Found = "address and sha256" if there else "address"
                        yield _writer(look, seq, event, how)


def _normal(address: str) -> str:
    if "://" in address and not address.startswith("file://"):
        return address
    return os.path.realpath(address.removeprefix("file://"))


def _stored_at(look: Lookup, path: str) -> list[tuple[int, AnyEvent]]:
    """The events of a run that name this path below a base."""
    found: list[tuple[int, AnyEvent]] = [
        (seq, event)
        for step in _steps_at(look, path)
        for seq, event in look.stored(step)
        if isinstance(event, STORES) and event.reference.path == path
    ]
    if found:
        return found
    first, last = look.number << 32, (look.number + 1) << 32
    rows = list(look.store.query(_PATH, (first, last, path)))
    return [(seq, decode(body, look.run_id, seq)) for seq, body in rows]


def _steps_at(look: Lookup, path: str) -> Iterator[StepId]:
    """The steps that an output of this path can be of, as far as its names say it."""
    named = _ATTEMPT.sub("", path).split("/")
    for node in look.graph.nodes:
        for output in node.outputs:
            if named[:2] == [file_name(node.name), file_name(output.name)]:
                keys = [key_of(part) for part in named[2:]]
                depth = len(node.scope) + output.dynamic
                if len(keys) == depth and None not in keys:
                    yield StepId(node.name, tuple([key for key in keys if key is not None]))


def _writer(look: Lookup, seq: int, event: AnyEvent, by: Found) -> Writer:
    assert isinstance(event, STORES)
    step = step_of(event)
    attempts = {one.attempt: one for one in look.history(step).attempts if one.seq < seq}
    attempt = attempts.get(event.attempt)
    return Writer(
        run_id=look.run_id,
        op=step.node,
        step=format_step_key(step.node, step.key_path),
        output=event.output,
        mapping_key=event.mapping_key if isinstance(event, DynamicOutputStored) else None,
        attempt=event.attempt,
        epoch=event.epoch,
        seq=seq,
        time=event.time,
        counts=look.counts(seq, event),
        reference=event.reference,
        address=look.outputs.address(event.reference),
        by=by,
        reused=bool(attempt and attempt.parent_seq),
    )
