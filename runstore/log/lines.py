"""A run's log as lines of text, to be carried from store to store: a header, then each row, byte for byte.

Pure text. A line is the body of the row with its seq in front, so that it is read by whatever reads JSON, and the row
comes back as it was: the digests in it hold in the other store too.
"""

from collections.abc import Iterable, Iterator

import msgspec

from runstore.errors import LogDamaged
from runstore.keys import check_run_id
from runstore.log.codec import LogDigest
from runstore.log.event_log import Row

LINES_VERSION = 1


class Header(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The first line."""

    lines_version: int
    run: str
    """The id of the run."""
    rows: int
    log_digest: str
    """Over all rows, as FORMAT.md gives it."""


def to_lines(run_id: str, rows: Iterable[Row]) -> Iterator[str]:
    """The lines of a log, without their ends; the header comes last in time and first in order, so rows are held.

    Raises LogDamaged at a row that is no JSON object in one line.
    """
    digest, lines = LogDigest(), []
    for seq, body in rows:
        digest.update(seq, body)
        lines.append(_line(run_id, seq, body))
    header = Header(
        lines_version=LINES_VERSION, run=run_id, rows=len(lines), log_digest=digest.hexdigest()
    )
    yield msgspec.json.encode(header).decode()
    yield from lines


def _line(run_id: str, seq: int, body: str) -> str:
    if not body.startswith('{"') or "\n" in body or "\r" in body:
        raise LogDamaged(
            f"run {run_id!r}, seq {seq}: the row is not an event in one line; `runstore verify {run_id}` says more",
            "V2",
        )
    return f'{{"seq":{seq},{body[1:]}'


def from_lines(lines: Iterable[str], name: str) -> tuple[Header, list[Row]]:
    """The header and the rows; raises LogDamaged, naming `name` and the line, for what was not exported so."""
    rest = iter(lines)
    try:
        header = msgspec.json.decode(next(rest, ""), type=Header)
    except (msgspec.MsgspecError, UnicodeError):
        raise LogDamaged(
            f"{name}: its first line is no header of an exported run; give a file that `runstore export` has written"
        ) from None
    check_run_id(header.run)
    if header.lines_version != LINES_VERSION:
        raise LogDamaged(
            f"{name}: is of version {header.lines_version}, this runstore knows {LINES_VERSION}; upgrade runstore"
        )
    digest, rows = LogDigest(), []
    for number, line in enumerate(rest, 1):
        rows.append(_row(line.rstrip("\n"), number, name))
        digest.update(*rows[-1])
    if len(rows) != header.rows or digest.hexdigest() != header.log_digest:
        raise LogDamaged(
            f"{name}: has {len(rows):,} rows that are not the {header.rows:,} that were exported; export the run again"
        )
    return header, rows


def _row(line: str, number: int, name: str) -> Row:
    prefix = f'{{"seq":{number},'
    if not line.startswith(prefix + '"'):
        raise LogDamaged(
            f"{name}, line {number + 1}: is not row {number} of the run; export the run again"
        )
    return number, "{" + line[len(prefix) :]
