"""Objects of a run copied from one place to another, each verified against the log on the way and read back.

Whoever copies again after a kill copies the rest: what is there and right is left, and nothing is ever overwritten.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

from runstore.errors import OutputConflict, OutputMissing, StorageFailed
from runstore.housekeeping.inventory import Seqs
from runstore.outputs.base import Base
from runstore.outputs.reference import OutputReference

IN_FLIGHT = 16
IN_FLIGHT_BYTES = 64 * 2**20
"""What may be in memory of objects on their way; a larger one goes alone."""


class Listed(NamedTuple):
    """An object as the log describes it: what each event that names it says is in it."""

    path: str
    seqs: Seqs
    references: tuple[OutputReference, ...]

    @property
    def size_bytes(self) -> int:
        """As far as the log can tell."""
        return max((one.offset or 0) + one.size_bytes for one in self.references)


class Copied(NamedTuple):
    """What came of one object."""

    how: Literal["copied", "there", "left"]
    """"there": it had been copied before; "left": nothing in it is what the log says."""
    size_bytes: int
    bad: Seqs
    """The events whose outputs are missing or altered at the source."""


def copy_all(
    listed: Iterator[Listed], source: Base, target: Base, alive: Callable[[], None]
) -> Iterator[tuple[Listed, Copied]]:
    """Copy objects, several at once where that is faster; `alive` is called now and then.

    Raises OutputConflict where other bytes lie at the target, and what the storages raise.
    """
    there = _prepared(target)
    most = max(1, min(IN_FLIGHT, max(source.reads, target.writes)))
    flying: deque[tuple[Listed, Future[Copied]]] = deque()
    flying_bytes = 0
    pool = ThreadPoolExecutor(most, thread_name_prefix="runstore-copies")
    try:
        for one in listed:
            while flying and (
                len(flying) >= most or flying_bytes + one.size_bytes > IN_FLIGHT_BYTES
            ):
                done, copied = flying.popleft()
                flying_bytes -= done.size_bytes
                yield done, copied.result()
                alive()
            flying.append((one, pool.submit(_copy, one, source, target, there)))
            flying_bytes += one.size_bytes
        for done, copied in flying:
            yield done, copied.result()
            alive()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepared(target: Base) -> Mapping[str, int]:
    """Path -> size of what is at the target; the half-written files of a killed process make way."""
    found = {one.path: one.size_bytes for one in target.found()}
    target.delete([path for path in found if _is_half_written(path)])
    for path, upload in target.unfinished():
        target.abort(path, upload)
    return found


def _is_half_written(path: str) -> bool:
    name = path.rpartition("/")[2]  # no output's name begins with a dot
    return name.startswith(".") and name.endswith(".tmp")


def _copy(one: Listed, source: Base, target: Base, there: Mapping[str, int]) -> Copied:
    try:
        data = source.read(one.path)
    except OutputMissing:
        return Copied("left", 0, one.seqs)
    bad = tuple(
        seq
        for seq, reference in zip(one.seqs, one.references, strict=True)
        if not _holds(data, reference)
    )
    if len(bad) == len(one.seqs):
        return Copied("left", len(data), bad)
    was_there = one.path in there
    if not was_there:
        target.write(one.path, data, hashlib.sha256(data).hexdigest())
    if target.read(one.path) != data:
        raise _not_arrived(target.describe(one.path), was_there=was_there)
    return Copied("there" if was_there else "copied", len(data), bad)


def _holds(data: bytes, reference: OutputReference) -> bool:
    begin = reference.offset or 0
    mine: Sequence[int] = memoryview(data)[begin : begin + reference.size_bytes]
    is_whole = reference.offset is not None or len(data) == reference.size_bytes
    return is_whole and hashlib.sha256(mine).hexdigest() == reference.sha256  # type: ignore[arg-type]


def _not_arrived(address: str, *, was_there: bool) -> Exception:
    if was_there:
        return OutputConflict(
            f"{address} holds other bytes than this run stored: another run of the same id has its outputs there. "
            "Nothing was overwritten; name another place"
        )
    return StorageFailed(
        f"{address} does not hold the bytes that were written there; `runstore storage test` says what the storage "
        "lacks"
    )
