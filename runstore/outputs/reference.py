"""Which bytes an output is: the value that stands in the log instead of the value.

Built by `OutputStore.put` and by the codec, nowhere else, so that no event can precede its bytes.
"""

import msgspec


class OutputReference(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """The address and the content of one stored output."""

    path: str
    """Below the base; parts of `[A-Za-z0-9._=@+-]`."""
    size_bytes: int
    sha256: str
    """Lower-case hexadecimal, of the stored bytes."""
    serializer: str
    offset: int | None = None
    """Where the output begins in an object that it shares with others; None: it has the object for itself."""
    base: int = 0
    """Index into the bases that the run has declared (`RunStarted.base`, then one per `RunResumed.base`); `BaseMoved`
    says where one is now.
    """
