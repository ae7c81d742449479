"""Compressed outputs: any format, in one frame of zstd that says how large its content is, and expands to no more."""

from typing import Any

import pandas as pd
import pytest
import zstandard
from hypothesis import given

from runstore.errors import NotReadable, NotStorable
from runstore.exactness import same
from runstore.outputs.formats import compression
from runstore.outputs.serializers import Serialized, deserialize, expanded, level_of, serialize
from tests.unit.strategies import json_values


def frame(data: bytes, **options: Any) -> bytes:
    """A frame of zstd."""
    return zstandard.ZstdCompressor(**options).compress(data)


@given(json_values)
def test_any_value_comes_back(value: Any) -> None:
    """Compression changes the bytes and the name of the format, and no value."""
    plain, stored = serialize(value), serialize(value, compress="zstd")
    assert stored.serializer == f"{plain.serializer}+zstd"
    assert stored.extension == f"{plain.extension}.zst"
    assert expanded(stored.data, stored.serializer) == (plain.data, plain.serializer)
    assert same(deserialize(stored.data, stored.serializer), value)


@pytest.mark.parametrize(
    ("value", "declared", "named", "serializer", "extension"),
    [
        ("a" * 1000, str, None, "text+zstd", "txt.zst"),
        (b"a" * 1000, bytes, None, "raw+zstd", "bin.zst"),
        (b"", bytes, None, "raw+zstd", "bin.zst"),
        ((1,) * 1000, tuple[int, ...], None, "json+zstd", "json.zst"),
        ([float("nan")] * 100, None, None, "msgpack+zstd", "msgpack.zst"),
        ({1}, None, "pickle", "pickle+zstd", "pickle.zst"),
    ],
)
def test_any_format_can_be_compressed(
    value: Any, declared: Any, named: Any, serializer: str, extension: str
) -> None:
    """The log and the file's extension say both the format and that it is compressed; large values become small."""
    stored = serialize(value, declared, named, "zstd")
    assert (stored.serializer, stored.extension) == (serializer, extension)
    assert (
        zstandard.ZstdDecompressor().decompress(stored.data)
        == serialize(value, declared, named).data
    )
    assert len(stored.data) < 200
    assert same(deserialize(stored.data, stored.serializer, declared), value)


def test_arrays_and_frames_can_be_compressed() -> None:
    """What is stored in formats of extras too."""
    table = pd.DataFrame({"a": range(1000)})
    stored = serialize(table, compress="zstd:19")
    assert (stored.serializer, stored.extension) == ("parquet+zstd", "parquet.zst")
    assert deserialize(stored.data, stored.serializer).equals(table)


def test_what_is_not_storable_is_not_compressed() -> None:
    """A value is held to what its format gives back, compressed or not."""
    with pytest.raises(NotStorable):
        serialize((1, 2), compress="zstd")


def test_the_level_is_part_of_the_word() -> None:
    """`zstd`, or `zstd:LEVEL` with a level of 1 to 22."""
    assert [level_of(word) for word in ("zstd", "zstd:1", "zstd:22")] == [3, 1, 22]
    for wrong in (True, False, 3, "", "gzip", "zstd:0", "zstd:23", "zstd:", "zstd:03", "zstd "):
        with pytest.raises(
            ValueError, match=r"compress=.* is not known; use 'zstd', or 'zstd:LEVEL'"
        ):
            level_of(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no zstd frame"),
        (b"garbage", "no zstd frame"),
        (frame(b"[1]")[:-1], "no zstd frame"),
        (frame(b"[1]") + b"x", "no zstd frame"),
        (frame(b"[1]") * 2, "no zstd frame"),
        (frame(b"[1]", write_content_size=False), "state no size as their content"),
    ],
    ids=["nothing", "garbage", "cut", "more", "twice", "no size"],
)
def test_what_is_not_one_whole_frame_is_not_expanded(data: bytes, told: str) -> None:
    """Bytes that are no output of this program are refused before they are decoded."""
    with pytest.raises(NotReadable, match=told):
        deserialize(data, "json+zstd")


def test_a_bomb_is_not_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that states too much is refused before it is expanded, one that lies about it while it is."""
    huge = frame(b"\0" * (compression.ANY_RATIO_BYTES + 1))
    assert len(huge) < 10_000
    with monkeypatch.context() as patched:
        patched.setattr(zstandard, "ZstdDecompressor", None)  # it would fail to be called
        with pytest.raises(NotReadable, match="state 67,108,865 bytes as their content"):
            deserialize(huge, "raw+zstd")
    parameters = zstandard.get_frame_parameters(frame(b"a" * 1000))
    assert parameters.content_size == 1000
    lying = frame(b"a" * 1000).replace(
        (1000 - 256).to_bytes(2, "little"), (10).to_bytes(2, "little")
    )
    assert zstandard.frame_content_size(lying) == 266
    with pytest.raises(NotReadable, match="no zstd frame"):
        deserialize(lying, "raw+zstd")


def test_what_a_reader_would_take_for_a_bomb_is_stored_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No value that was stored is refused when it is read: one that is too compressible is not compressed."""
    monkeypatch.setattr(compression, "ANY_RATIO_BYTES", 1000)
    zeros = serialize(b"\0" * 1_000_000, bytes, compress="zstd")
    assert zeros == Serialized(b"\0" * 1_000_000, "raw", "bin")
    letters = serialize(b"a" * 1000, bytes, compress="zstd")
    assert letters.serializer == "raw+zstd"
    assert deserialize(letters.data, letters.serializer) == b"a" * 1000


def test_another_compression_is_not_guessed_at() -> None:
    """An output of a later version, compressed in another way, is refused with what to do."""
    with pytest.raises(NotReadable, match=r"'json\+br' is compressed in a way .* the version that"):
        deserialize(b"", "json+br")
