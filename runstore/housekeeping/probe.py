"""Is a place fit for outputs? Tries what runs, prune and move will ask of it, in a folder of its own that goes again.

"ok", "lacks" (nothing that a run needs: the remedy says what it costs) or "failed" (runs cannot have outputs there).
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from runstore.config import find_settings
from runstore.credentials import redacted
from runstore.errors import OutputConflict, OutputMissing, RunStoreError
from runstore.log.medium import file_system
from runstore.outputs.base import Base
from runstore.outputs.output_store import open_base
from runstore.outputs.s3 import MULTIPART_BYTES, S3Base
from runstore.outputs.urls import below, public_url, scheme_of

ONE, MISSING, LARGE, WRONG = (
    "probe/one.bin",
    "probe/missing.bin",
    "probe/large.bin",
    "probe/wrong.bin",
)
SIZE_BYTES = 1_000
LARGE_BYTES = MULTIPART_BYTES + 2**20
_SEE = "see to the service, its settings and permissions"

Verdict = Literal["ok", "lacks", "failed"]


class Tried(msgspec.Struct, frozen=True):
    """One thing that was asked of a place."""

    name: str
    verdict: Verdict
    fact: str
    remedy: str = ""


class _Refused(Exception):
    """A place has answered otherwise than it should."""


def probe(url: str, *, quick: bool = False) -> Iterator[Tried]:
    """Try a place; `quick` leaves out the large object. Options are those that runs get.

    Raises ConfigError where there can be no place behind the URL.
    """
    settings = find_settings(outputs=url)
    assert settings.outputs is not None
    place = below(settings.outputs, f".probe-{secrets.token_hex(8)}")
    base = open_base(place, durable=True, options=settings.options)
    is_local = scheme_of(settings.outputs) == "file"
    folder = Path(settings.outputs.removeprefix("file://"))
    made = _missing_folders(folder) if is_local else []
    try:
        if is_local:
            yield _disk(folder)
        yield from _Probe(base, is_local=is_local, quick=quick).run()
    finally:
        with suppress(RunStoreError, OSError):
            base.remove()
            base.close()
            for directory in made:
                directory.rmdir()


def _missing_folders(folder: Path) -> list[Path]:
    """Those that the probe will make, innermost first."""
    return [one for one in (folder, *folder.parents) if not one.exists()]


def _disk(folder: Path) -> Tried:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    kind = file_system(there) or "unknown file system"
    remedy = "free space, or name another disk" if free < 2**30 else ""
    return Tried("disk", "lacks" if remedy else "ok", f"{kind}, {free / 1e9:,.1f} GB free", remedy)


class _Probe:
    """The questions, in an order in which each needs only what was answered before."""

    def __init__(self, base: Base, *, is_local: bool, quick: bool) -> None:
        self._base = base
        self._is_local = is_local
        self._quick = quick
        self._data = os.urandom(SIZE_BYTES)

    def run(self) -> Iterator[Tried]:
        """Ask them; where nothing can be written there is no other to ask."""
        written = self._needed("write", self._write)
        yield written
        if written.verdict == "failed":
            return
        yield self._needed("read", self._read)
        yield self._needed("range", self._range)
        yield self._needed("size", self._size)
        yield self._needed("missing", self._missing)
        if not self._is_local:
            yield self._useful(
                "create once",
                self._create_once,
                "two runs of the same id with outputs here would not notice each other; give each its own --run-id",
            )
        if isinstance(self._base, S3Base):
            yield self._useful(
                "checksum",
                self._checksum,
                "bytes that are altered on their way are noticed when they are read, and not before",
            )
            if not self._quick:
                yield self._needed("multipart", self._multipart)
        yield self._useful(
            "list",
            self._list,
            "prune, move and rm need it; runs do not: allow it to whoever calls those",
        )
        yield self._useful(
            "delete",
            self._delete,
            f"prune, move and rm need it; delete {public_url(self._base.describe(''))} by hand",
        )

    def _needed(self, name: str, ask: Callable[[], str]) -> Tried:
        return self._ask(name, ask, "failed", _SEE)

    def _useful(self, name: str, ask: Callable[[], str], remedy: str) -> Tried:
        return self._ask(name, ask, "lacks", remedy)

    def _ask(self, name: str, ask: Callable[[], str], otherwise: Verdict, remedy: str) -> Tried:
        try:
            return Tried(name, "ok", ask())
        except (RunStoreError, OSError, _Refused) as error:
            return Tried(name, otherwise, redacted(" ".join(str(error).split())), remedy)

    def _put(self, path: str, data: bytes) -> None:
        self._base.write(path, data, hashlib.sha256(data).hexdigest())

    def _write(self) -> str:
        self._put(ONE, self._data)
        return f"{SIZE_BYTES:,} bytes" + (", fsynced" if self._is_local else "")

    def _read(self) -> str:
        _same(self._base.read(ONE), self._data)
        return "the same bytes"

    def _range(self) -> str:
        _same(self._base.read(ONE, 100, 50), self._data[100:150])
        return "50 bytes out of the middle"

    def _size(self) -> str:
        _same(self._base.size(ONE), SIZE_BYTES)
        return f"{SIZE_BYTES:,} bytes"

    def _missing(self) -> str:
        _same(self._base.size(MISSING), None)
        try:
            self._base.read(MISSING)
        except OutputMissing:
            return "an object that is not there is told as missing"
        raise _Refused("an object that is not there was read")

    def _create_once(self) -> str:
        try:
            self._put(ONE, self._data[::-1])
        except OutputConflict:
            _same(self._base.read(ONE), self._data)
            return "other bytes are not written over those that are there"
        raise _Refused("other bytes were written over those that were there")

    def _checksum(self) -> str:
        assert isinstance(self._base, S3Base)
        if not self._base.checks_checksums(WRONG):
            raise _Refused("bytes were taken that are not those of their checksum")
        return "bytes that are not those of their checksum are refused"

    def _multipart(self) -> str:
        data = self._data * (LARGE_BYTES // SIZE_BYTES)
        self._put(LARGE, data)
        _same(self._base.size(LARGE), len(data))
        start = MULTIPART_BYTES - 500
        _same(self._base.read(LARGE, start, 1_000), data[start : start + 1_000])
        return f"{len(data):,} bytes in parts"

    def _list(self) -> str:
        found = {one.path: one.size_bytes for one in self._base.found()}
        if found.get(ONE) != SIZE_BYTES:
            raise _Refused(f"of what was written {len(found):,} objects are listed, and not all")
        return f"all that was written, {len(found):,} in number"

    def _delete(self) -> str:
        self._base.delete([ONE, LARGE, WRONG, MISSING])
        _same(self._base.size(ONE), None)
        return "what was deleted is gone"


def _same(found: object, expected: object) -> None:
    if found != expected:
        shown = "other bytes" if isinstance(found, bytes) else repr(found)
        raise _Refused(f"gave {shown}, not what was written")
