"""Stored bytes made smaller: any format, in one zstd frame, under its name followed by `+zstd`.

A small file must not be able to fill the memory of who reads it: a frame says how large its content is, is read up to
there and no further, and may say no more than `is_plausible` allows. What would say more is stored as it is.
"""

import re
from typing import Any

from runstore.errors import ExtraMissing, NotReadable
from runstore.outputs.formats.protocol import Serialized

NAME, EXTENSION = "zstd", "zst"
DEFAULT_LEVEL = 3
ANY_RATIO_BYTES = 64 * 1024 * 1024
MAX_RATIO = 1_000

_WRITTEN = re.compile("zstd(?::([1-9]|1[0-9]|2[0-2]))?")


def level_of(compress: str) -> int:
    """The level that `zstd` or `zstd:LEVEL` means; raises ValueError with what may be said."""
    found = _WRITTEN.fullmatch(str(compress))
    if found is None:
        raise ValueError(
            f"compress={compress!r} is not known; use 'zstd', or 'zstd:LEVEL' with a level of 1 to 22"
        )
    return int(found[1] or DEFAULT_LEVEL)


def compressed(serialized: Serialized, compress: str) -> Serialized:
    """The same value in fewer bytes; as it is where a reader would take it for a bomb."""
    data, serializer, extension = serialized
    packed = _zstandard().ZstdCompressor(level=level_of(compress)).compress(data)
    if not is_plausible(len(data), len(packed)):
        return serialized
    return Serialized(packed, f"{serializer}+{NAME}", f"{extension}.{EXTENSION}")


def expanded(data: bytes, serializer: str) -> tuple[bytes, str]:
    """The bytes that were compressed, and the name of their format; both as given where nothing was.

    Raises NotReadable where the data is not one frame of the size that it states.
    """
    name, _, codec = serializer.partition("+")
    if not codec:
        return data, serializer
    if codec != NAME:
        raise NotReadable(
            f"an output of serializer {serializer!r} is compressed in a way that this version does not know; "
            "read it with the version that stored it"
        )
    return _content(data), name


def is_plausible(content_bytes: int, stored_bytes: int) -> bool:
    """True for content of up to 64 MiB, and beyond that of up to 1,000 times what is stored."""
    return content_bytes <= max(ANY_RATIO_BYTES, MAX_RATIO * stored_bytes)


def _content(data: bytes) -> bytes:
    zstandard = _zstandard()
    try:
        size = zstandard.frame_content_size(data)
        if size < 0 or not is_plausible(size, len(data)):
            shown = f"{size:,} bytes" if size >= 0 else "no size"
            raise NotReadable(
                f"{len(data):,} bytes of zstd state {shown} as their content, which is no output of this program; "
                "look at how they came there"
            )
        # One buffer of the stated size: what does not fit into it is an error of zstd.
        return bytes(zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise NotReadable(
            f"{len(data):,} bytes are no zstd frame: {error}; look at how they came there"
        ) from error


def _zstandard() -> Any:
    # Imported late, at its one door: an optional extra.
    try:
        import zstandard
    except ImportError:
        raise ExtraMissing.of("zstandard", "zstd") from None
    return zstandard
