"""Something that is off: the shape in which every check of `verify` says so."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Something that is off."""

    rule: str
    """V1 to V18 and A1 to A6 of the log, O1 to O3 of the outputs, `anchor`."""
    seq: int
    """Of the event that it was found at."""
    fact: str
    step: str = ""
    address: str = ""
    """Of an output, where its bytes should be."""
