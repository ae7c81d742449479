"""Write-once outputs of one run: bytes first, then the reference that an event may name; verified on every read.

What takes long is done by a pool of threads: several outputs are on their way while ops compute, as many as the storage
gains from. An output on its way has no reference yet; it gives one when it has landed, so that no event can precede
its bytes.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from runstore.errors import OutputCorrupted, OutputMissing
from runstore.outputs.addresses import output_path
from runstore.outputs.base import BASE_REQUESTS, Base
from runstore.outputs.forks import guard
from runstore.outputs.local import LocalBase
from runstore.outputs.reference import OutputReference
from runstore.outputs.remote import RemoteBase
from runstore.outputs.s3 import S3Base
from runstore.outputs.segments import SMALL_BYTES, Packer, Segment, SegmentReader
from runstore.outputs.serializers import Serialized
from runstore.outputs.urls import S3_SCHEMES, options_at, scheme_of

AHEAD = 16
"""How many stores of one attempt, and loads of one collect, may be in flight (rule X1)."""
PACKED_AHEAD = 256
"""The same, and how many attempts may be in flight, where small outputs share objects."""
LOAD_BYTES = 64 * 2**20
"""What may be in memory of a collect beside the values that its op was given."""
LOOKED_AT_TOGETHER = 1_000
REQUESTS = (
    "put",
    "put_later",
    "get",
    "get_later",
    "get_each",
    "is_there",
    "are_there",
    "remove_all",
)
"""What is asked of outputs."""


def open_base(url: str, *, durable: bool, options: Mapping[str, Any] | None = None) -> Base:
    """The base behind a URL or an absolute path; `options`, of all places or of some, are for what is not on a disk of
    this machine.

    It is of this process alone: a fork is refused. Raises ConfigError where there cannot be one.
    """
    base = _base_of(url, scheme_of(url), durable=durable, options=options)
    guard(base, requests=BASE_REQUESTS, ends=("close",), address=base.describe("").rstrip("/"))
    return base


def _base_of(url: str, scheme: str, *, durable: bool, options: Mapping[str, Any] | None) -> Base:
    if scheme == "file":
        return LocalBase(url.removeprefix("file://").rstrip("/"), durable=durable)
    remote = S3Base if scheme in S3_SCHEMES else RemoteBase
    return remote(url.rstrip("/"), options_at(url, options or {}))


class Flight(NamedTuple):
    """An output on its way to storage."""

    written: "Future[None]"
    path: str
    offset: int | None
    size_bytes: int
    sha256: str
    serializer: str
    base: int

    def landed(self) -> OutputReference:
        """The reference, once the bytes are durable; raises what kept them from it."""
        self.written.result()
        return OutputReference(
            self.path, self.size_bytes, self.sha256, self.serializer, self.offset, self.base
        )


class Whereabouts(NamedTuple):
    """What another process of this machine needs in order to open the same outputs. Nothing of it is secret."""

    store: str
    """The store's folder."""
    looked_from: str
    """The folder from which `[tool.runstore]` is looked for, as this process has done."""
    outputs: str | None
    """Where the store's outputs go, without credentials."""
    bases: tuple[str, ...]
    """As the log declares them."""
    durable: bool
    pack: bool
    allow_pickle: bool


class OutputStore:
    """The outputs of one run, over the bases that its log declares; `pack`: small ones share objects.

    Several threads may put and get at the same time; a fork of the process is refused.
    """

    def __init__(
        self,
        bases: Sequence[Base],
        *,
        pack: bool = False,
        allow_pickle: bool = False,
        whereabouts: Whereabouts | None = None,
    ) -> None:
        self.whereabouts = whereabouts
        """None where no other process can open these outputs."""
        self.allow_pickle = allow_pickle
        """Whoever stores here may pickle what no other format gives back."""
        self._bases = list(bases)
        self._pool: ThreadPoolExecutor | None = None
        self._making = threading.Lock()
        self._packer = Packer(self._write_segment_later) if pack else None
        self._segments = SegmentReader(self._read)
        newest = self._bases[-1] if self._bases else None
        writes_ahead = newest is not None and newest.writes > 1
        self.window = PACKED_AHEAD if pack else newest.window if newest else 1
        """How many attempts may be in flight: one computes, the others wait for bytes on their way; 1: no other."""
        self.ahead = PACKED_AHEAD if pack else AHEAD if writes_ahead else 0
        """How many stores of one attempt may be in flight; 0 where nothing is gained."""
        self.ever_loads_ahead = any(base.reads > 1 for base in self._bases)
        """True where something may be gained by loading some output before it is needed."""
        address = newest.describe("").rstrip("/") if newest else "no place"
        guard(self, requests=REQUESTS, ends=("flush", "close"), address=address)

    @property
    def bases(self) -> Sequence[Base]:
        """The places of the run's outputs, in the order in which the log declares them; new ones go to the last."""
        return self._bases

    def loads_ahead(self, reference: OutputReference) -> bool:
        """True where something is gained by loading an output before it is needed."""
        return self._bases[reference.base].reads > 1

    # Writing

    def put(
        self,
        serialized: Serialized,
        node: str,
        output: str,
        key_path: Sequence[str],
        epoch: int,
        attempt: int,
    ) -> OutputReference:
        """Write an output to the newest base, under an address that was never used; returns once it is durable."""
        if self._packer is not None:
            flight = self.put_later(serialized, node, output, key_path, epoch, attempt)
            self.flush()
            return flight.landed()
        data, serializer, extension = serialized
        path = output_path(
            node, output, key_path, epoch=epoch, attempt=attempt, extension=extension
        )
        digest = hashlib.sha256(data).hexdigest()
        self._bases[-1].write(path, data, digest)
        return OutputReference(path, len(data), digest, serializer, None, len(self._bases) - 1)

    def put_later(
        self,
        serialized: Serialized,
        node: str,
        output: str,
        key_path: Sequence[str],
        epoch: int,
        attempt: int,
    ) -> Flight:
        """Begin to write an output. Who waits for it calls `flush` first."""
        data, serializer, extension = serialized
        digest, base = hashlib.sha256(data).hexdigest(), len(self._bases) - 1
        if self._packer is not None and len(data) < SMALL_BYTES:
            segment, offset = self._packer.add(node, data, epoch=epoch)
            return Flight(
                segment.written, segment.path, offset, len(data), digest, serializer, base
            )
        path = output_path(
            node, output, key_path, epoch=epoch, attempt=attempt, extension=extension
        )
        written = self._workers().submit(self._bases[-1].write, path, data, digest)
        return Flight(written, path, None, len(data), digest, serializer, base)

    def flush(self) -> None:
        """Begin to write what still waits for company."""
        if self._packer is not None:
            self._packer.flush()

    def _write_segment_later(self, segment: Segment) -> None:
        self._workers().submit(self._write_segment, segment)

    def _write_segment(self, segment: Segment) -> None:
        data = bytes(segment.data)
        try:
            self._bases[-1].write(segment.path, data, hashlib.sha256(data).hexdigest())
        except BaseException as error:
            segment.written.set_exception(error)
        else:
            segment.written.set_result(None)

    # Reading

    def get(self, reference: OutputReference) -> bytes:
        """The bytes of an output; raises OutputMissing or OutputCorrupted if they are not those that were stored."""
        if reference.offset is None:
            data = self._bases[reference.base].read(reference.path)
        else:
            data = self._segments.get(reference)
        if (
            len(data) != reference.size_bytes
            or hashlib.sha256(data).hexdigest() != reference.sha256
        ):
            self._segments.forget((reference.base, reference.path))
            raise OutputCorrupted(
                f"{self.address(reference)} has {len(data):,} bytes that are not the {reference.size_bytes:,} bytes "
                "that were stored"
            )
        return data

    def get_later(self, reference: OutputReference) -> "Future[bytes]":
        """Begin to read an output."""
        return self._workers().submit(self.get, reference)

    def get_each(
        self, references: Iterable[OutputReference]
    ) -> Iterator[tuple[OutputReference, Callable[[], bytes]]]:
        """Each reference and how to get its bytes, in order; the next few are on their way, within LOAD_BYTES."""
        if not self.ever_loads_ahead:
            yield from ((reference, partial(self.get, reference)) for reference in references)
            return
        flying: deque[tuple[OutputReference, Callable[[], bytes]]] = deque()
        flying_bytes = 0
        for reference in references:
            if not self.loads_ahead(reference):
                fetch: Callable[[], bytes] = partial(self.get, reference)
            else:
                fetch = self.get_later(reference).result
            flying.append((reference, fetch))
            flying_bytes += reference.size_bytes
            while len(flying) >= AHEAD or flying_bytes > LOAD_BYTES:
                flying_bytes -= flying[0][0].size_bytes
                yield flying.popleft()
        yield from flying

    def _read(self, base: int, path: str, offset: int, size: int | None) -> bytes:
        return self._bases[base].read(path, offset, size)

    def is_there(self, reference: OutputReference, *, deep: bool) -> bool:
        """True when the output exists with its size and, if `deep`, its sha256."""
        if not deep:
            return _holds(reference, self._bases[reference.base].size(reference.path))
        try:
            self.get(reference)
        except (OutputMissing, OutputCorrupted):
            return False
        return True

    def are_there(self, references: Iterable[OutputReference], *, deep: bool) -> Iterator[bool]:
        """`is_there` of each, in order; several are looked at together where that is faster."""
        rest = iter(references)
        while batch := list(islice(rest, LOOKED_AT_TOGETHER)):
            if not deep:
                yield from self._have_sizes(batch)
            elif any(map(self.loads_ahead, batch)):
                yield from self._workers().map(partial(self.is_there, deep=True), batch)
            else:
                yield from map(partial(self.is_there, deep=True), batch)

    def _have_sizes(self, batch: Sequence[OutputReference]) -> Iterator[bool]:
        wanted: dict[int, dict[str, None]] = {}  # several outputs may share an object
        for one in batch:
            wanted.setdefault(one.base, {})[one.path] = None
        sizes = {base: self._sizes(base, list(paths)) for base, paths in wanted.items()}
        for one in batch:
            yield _holds(one, sizes[one.base][one.path])

    def _sizes(self, number: int, paths: list[str]) -> dict[str, int | None]:
        base = self._bases[number]
        found = self._workers().map(base.size, paths) if base.reads > 1 else base.sizes(paths)
        return dict(zip(paths, found, strict=True))

    def address(self, reference: OutputReference) -> str:
        """Where an output lies, as a person would type it."""
        where = self._bases[reference.base].describe(reference.path)
        if reference.offset is None:
            return where
        return f"{where}, bytes {reference.offset:,} to {reference.offset + reference.size_bytes:,}"

    # The whole

    def remove_all(self) -> None:
        """Delete every output of the run."""
        for base in self._bases:
            base.remove()

    def close(self) -> None:
        """Wait for what is on its way, and give the threads back; what would be tried again fails instead."""
        for base in self._bases:
            base.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _workers(self) -> ThreadPoolExecutor:
        with self._making:
            if self._pool is None:
                most = max(max(base.writes, base.reads) for base in self._bases)
                self._pool = ThreadPoolExecutor(max(2, most), thread_name_prefix="runstore-outputs")
            return self._pool


def _holds(reference: OutputReference, size: int | None) -> bool:
    if reference.offset is None:
        return size == reference.size_bytes
    return size is not None and size >= reference.offset + reference.size_bytes
