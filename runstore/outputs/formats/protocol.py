"""What a format is: a name for the log, an extension for the file, a way to bytes and back."""

import re
from typing import Any, NamedTuple, Protocol

_WORD = re.compile("[a-z0-9-]{1,16}")


class Serializer(Protocol):
    """A format. `declared` is the type of the op's output, None where it has none."""

    @property
    def name(self) -> str:
        """What stands in the log: lower-case letters, digits and `-`."""

    @property
    def extension(self) -> str:
        """Of the file, without the dot."""

    def encode(self, value: Any, declared: Any) -> bytes:
        """The bytes of a value; raises TypeError or ValueError where it has none."""

    def decode(self, data: bytes, declared: Any) -> Any:
        """The value of the bytes."""


class ExactSerializer(Serializer, Protocol):
    """A format of which every value is read back, and compared, before its bytes count."""

    def is_same(self, value: Any, back: Any) -> bool:
        """True where what came back is the value, type and all."""


class Serialized(NamedTuple):
    """A value as bytes, and the format they are in."""

    data: bytes
    serializer: str
    extension: str


def check_words(name: str, extension: str) -> None:
    """Raise ValueError where name or extension of a format cannot stand in an address."""
    for word in (name, extension):
        if not _WORD.fullmatch(word):
            raise ValueError(
                f"serializer {name!r} with extension {extension!r}: both stand in addresses; "
                "use 1 to 16 lower-case letters, digits and '-'"
            )
