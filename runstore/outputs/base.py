"""A place that outputs go below: what is asked of a local disk and of a service alike."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

BASE_REQUESTS = (
    "write",
    "read",
    "size",
    "sizes",
    "found",
    "is_used",
    "delete",
    "unfinished",
    "abort",
    "remove",
)
"""What is asked of a base."""


class Found(NamedTuple):
    """An object that lies below a base."""

    path: str
    size_bytes: int


class Base(Protocol):
    """A place that outputs go below. Its methods may be called from several threads."""

    @property
    def writes(self) -> int:
        """How many writes are worth having in flight."""

    @property
    def reads(self) -> int:
        """How many reads are worth having in flight."""

    @property
    def window(self) -> int:
        """How many attempts may be in flight: one runs, the others wait for bytes on their way."""

    def write(self, path: str, data: bytes, sha256: str) -> None:
        """Store an object whole, under an address that was never used; it counts (survives what the level promises)
        when this returns. `sha256`: hexadecimal, of the data.

        Raises TransferFailed where it may help to try the step again, else StorageFailed.
        """

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """The object's bytes, or `size` of them from `offset` on, fewer where it ends before; raises OutputMissing."""

    def size(self, path: str) -> int | None:
        """Size in bytes, None where there is no object."""

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """As `size`, of many."""

    def found(self) -> Iterator[Found]:
        """Every object below; for housekeeping alone, since it may take a listing."""

    def is_used(self) -> bool:
        """True where objects lie below, as far as that can be told without a listing."""

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; those that are not there are no error."""

    def unfinished(self, path: str = "") -> list[tuple[str, str]]:
        """(path, upload) of uploads in parts that were not ended, of all objects or of one."""

    def abort(self, path: str, upload: str) -> None:
        """Throw the parts of an unfinished upload away."""

    def remove(self) -> None:
        """Delete everything below."""

    def close(self) -> None:
        """Wait for nothing any longer: a request that is to be tried again fails instead."""

    def describe(self, path: str) -> str:
        """The address for a message, without credentials."""
