"""Small outputs of the same op written together, as one object: a segment.

A segment is written once, when it is large enough, when its oldest output has waited for 10 ms, or when somebody waits.
Outputs stand in it in the order in which they came, each followed by a newline, so that a segment of JSON values is
JSON Lines; a reference says where its output begins.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from runstore.outputs.addresses import segment_path
from runstore.outputs.reference import OutputReference

SMALL_BYTES = 16 * 1024
"""What is smaller shares an object with others."""
SEGMENT_BYTES = 2**20
GROUP_S = 0.010
HELD = 32
"""Segments that may stay in memory for their readers: at most some 32 MiB."""


class Segment:
    """What will be one object."""

    __slots__ = ("begun", "data", "path", "written")

    def __init__(self, path: str) -> None:
        self.path = path
        self.data = bytearray()
        self.written: Future[None] = Future()
        """Done when the bytes are where they belong, or cannot get there."""
        self.begun = time.monotonic()


class Packer:
    """The segments that are open, one for each op. Any thread may add to them."""

    def __init__(self, write_later: Callable[[Segment], None]) -> None:
        self._write_later = write_later
        self._open: dict[str, Segment] = {}
        self._lock = threading.Lock()
        # No two processes of an epoch may choose the same address.
        self._token = secrets.token_hex(4)
        self._count = 0

    def add(self, node: str, data: bytes, *, epoch: int) -> tuple[Segment, int]:
        """Put an output into the open segment of its op; (segment, offset)."""
        with self._lock:
            segment = self._open.get(node)
            if segment is None:
                self._count += 1
                path = segment_path(node, f"e{epoch}.{self._token}.{self._count}")
                segment = self._open[node] = Segment(path)
            offset = len(segment.data)
            segment.data += data
            segment.data += b"\n"
            is_full = len(segment.data) >= SEGMENT_BYTES
            if is_full or time.monotonic() - segment.begun >= GROUP_S:
                del self._open[node]
                self._write_later(segment)
        return segment, offset

    def flush(self) -> None:
        """Begin to write all that is open."""
        if self._open:
            with self._lock:
                waiting, self._open = self._open, {}
                for segment in waiting.values():
                    self._write_later(segment)


_Place = tuple[int, str]
"""Base and path of an object."""


class SegmentReader:
    """Outputs out of segments: one by its range, its neighbours out of the whole segment, which is read once."""

    def __init__(self, read: Callable[[int, str, int, int | None], bytes]) -> None:
        self._read = read
        self._asked: OrderedDict[_Place, Future[bytes] | None] = OrderedDict()
        """The last segments; None where a range was read of it and nothing else."""
        self._lock = threading.Lock()

    def get(self, reference: OutputReference) -> bytes:
        """The bytes of an output, as they are in its segment: perhaps altered, perhaps fewer."""
        assert reference.offset is not None
        begin, end = reference.offset, reference.offset + reference.size_bytes
        place = (reference.base, reference.path)
        with self._lock:
            is_first = place not in self._asked
            whole = self._asked.get(place)
            is_mine = not is_first and whole is None
            if is_mine:
                whole = Future()
            self._asked[place] = whole
            self._asked.move_to_end(place)
            if len(self._asked) > HELD:
                self._asked.popitem(last=False)
        if whole is None:
            return self._read(*place, begin, reference.size_bytes)
        if is_mine:
            self._fill(place, whole)
        return whole.result()[begin:end]

    def _fill(self, place: _Place, whole: "Future[bytes]") -> None:
        try:
            whole.set_result(self._read(*place, 0, None))
        except BaseException as error:
            self.forget(place)
            whole.set_exception(error)
            raise

    def forget(self, place: _Place) -> None:
        """Read a segment anew when it is next asked for."""
        with self._lock:
            self._asked.pop(place, None)
