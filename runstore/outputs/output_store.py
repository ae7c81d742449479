"""Write-once outputs of one run: bytes first, then the reference that an event may name; verified on every read."""

import hashlib
from collections.abc import Sequence
from typing import Protocol

from runstore.errors import OutputCorrupted, OutputMissing
from runstore.outputs.addresses import output_path
from runstore.outputs.local import LocalBase
from runstore.outputs.reference import OutputReference
from runstore.outputs.remote import RemoteBase, scheme_of
from runstore.outputs.serializers import Serialized


class Base(Protocol):
    """A place that outputs go below."""

    @property
    def parallel(self) -> int:
        """How many writes are worth having in flight."""

    def write(self, path: str, data: bytes) -> None:
        """Store an object whole; it counts (survives what the level promises) when this returns."""

    def read(self, path: str) -> bytes:
        """The object's bytes; raises OutputMissing."""

    def size(self, path: str) -> int | None:
        """Size in bytes, None where there is no object."""

    def remove(self) -> None:
        """Delete everything below."""

    def describe(self, path: str) -> str:
        """The address for a message, without credentials."""


def open_base(url: str, *, durable: bool) -> Base:
    """The base behind a URL or an absolute path."""
    if scheme_of(url) == "file":
        return LocalBase(url.removeprefix("file://").rstrip("/"), durable=durable)
    return RemoteBase(url.rstrip("/"))


class OutputStore:
    """The outputs of one run, over the bases that its log declares."""

    def __init__(self, bases: Sequence[Base]) -> None:
        self._bases = list(bases)

    @property
    def parallel(self) -> int:
        """How many writes are worth having in flight."""
        return self._bases[-1].parallel

    def put(
        self,
        serialized: Serialized,
        node: str,
        output: str,
        key_path: Sequence[str],
        *,
        epoch: int,
        attempt: int,
    ) -> OutputReference:
        """Write an output to the newest base, under an address that was never used; returns once it is durable."""
        data, serializer, extension = serialized
        path = output_path(
            node, output, key_path, epoch=epoch, attempt=attempt, extension=extension
        )
        self._bases[-1].write(path, data)
        digest = hashlib.sha256(data).hexdigest()
        return OutputReference(path, len(data), digest, serializer, len(self._bases) - 1)

    def get(self, reference: OutputReference) -> bytes:
        """The bytes of an output; raises OutputMissing or OutputCorrupted if they are not those that were stored."""
        data = self._bases[reference.base].read(reference.path)
        if (
            len(data) != reference.size_bytes
            or hashlib.sha256(data).hexdigest() != reference.sha256
        ):
            raise OutputCorrupted(
                f"{self.address(reference)} has {len(data):,} bytes that are not the {reference.size_bytes:,} bytes "
                "that were stored"
            )
        return data

    def is_there(self, reference: OutputReference, *, deep: bool) -> bool:
        """True when the output exists with its size and, if `deep`, its sha256."""
        if not deep:
            return self._bases[reference.base].size(reference.path) == reference.size_bytes
        try:
            self.get(reference)
        except (OutputMissing, OutputCorrupted):
            return False
        return True

    def address(self, reference: OutputReference) -> str:
        """Where an output lies, as a person would type it."""
        return self._bases[reference.base].describe(reference.path)

    def remove_all(self) -> None:
        """Delete every output of the run."""
        for base in self._bases:
            base.remove()
