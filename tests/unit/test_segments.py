"""Small outputs that share objects: what is written when, and what is read how often."""

import hashlib
import secrets
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstore.errors import OutputCorrupted, OutputMissing, StorageFailed
from runstore.outputs import segments
from runstore.outputs.local import LocalBase
from runstore.outputs.output_store import Flight, OutputStore
from runstore.outputs.remote import RemoteBase
from runstore.outputs.segments import SMALL_BYTES
from runstore.outputs.serializers import Serialized


class Counting(RemoteBase):
    """A base that counts its requests."""

    def __init__(self) -> None:
        super().__init__(f"memory://{secrets.token_hex(8)}")
        self.counts: Counter[str] = Counter()

    def _put(self, path: str, data: bytes, sha256: str) -> None:
        assert hashlib.sha256(data).hexdigest() == sha256
        self.counts["put"] += 1
        super()._put(path, data, sha256)

    def _get(self, path: str, offset: int, size: int | None) -> bytes:
        self.counts["whole" if size is None else "range"] += 1
        return super()._get(path, offset, size)

    def _size_of(self, path: str) -> int:
        self.counts["size"] += 1
        return super()._size_of(path)


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Segments that are written when somebody waits, not when time has passed."""
    monkeypatch.setattr(segments, "GROUP_S", 3600.0)
    return Counting()


def put(outputs: OutputStore, data: bytes, key: str, node: str = "op") -> Flight:
    """Begin to store some bytes."""
    return outputs.put_later(Serialized(data, "json", "json"), node, "result", [key], 1, 1)


def test_outputs_of_an_op_share_an_object(base: Counting) -> None:
    """One object for each op, whose lines are its outputs in the order in which they came; a few requests in all."""
    outputs = OutputStore([base], pack=True)
    flights = [put(outputs, b"%d" % n, str(n)) for n in range(100)]
    other = put(outputs, b'"b"', "b", "other")
    assert not any(flight.written.done() for flight in (*flights, other))
    assert not base.counts
    outputs.flush()
    references = [flight.landed() for flight in flights]
    assert other.landed().path.startswith("other/=+e1.")
    (path,) = {one.path for one in references}
    assert base.read(path) == b"".join(b"%d\n" % n for n in range(100))
    base.counts.clear()
    assert [outputs.get(one) for one in references] == [b"%d" % n for n in range(100)]
    assert base.counts == {"range": 1, "whole": 1}
    assert all(outputs.are_there(references, deep=False))
    assert base.counts["size"] == 1
    assert outputs.address(references[3]).endswith(f"{path}, bytes 6 to 7")


def test_what_is_large_has_an_object_of_its_own(base: Counting) -> None:
    """From 16 KiB on an output is a file under its own name."""
    outputs = OutputStore([base], pack=True)
    small, large = (put(outputs, b"x" * size, str(size)) for size in (SMALL_BYTES - 1, SMALL_BYTES))
    outputs.flush()
    assert large.landed().path == f"op/result/{SMALL_BYTES}.json"
    assert large.landed().offset is None
    assert small.landed().offset == 0


def test_a_full_segment_is_written_by_itself(
    base: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment is written once it is large enough, without anybody's waiting, and the next one begins."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 100)
    outputs = OutputStore([base], pack=True)
    flights = [put(outputs, b"x" * 9, str(n)) for n in range(25)]
    for flight in flights[:20]:
        flight.written.result(10)
    assert not any(flight.written.done() for flight in flights[20:])
    assert len({flight.path for flight in flights}) == 3


def test_time_ends_a_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next output after 10 ms a segment is written."""
    monkeypatch.setattr(segments, "GROUP_S", 0.0)
    outputs = OutputStore([Counting()], pack=True)
    assert put(outputs, b"1", "a").landed().offset == 0


def test_two_writers_never_share_an_address(base: Counting) -> None:
    """Two processes of one epoch choose different names."""
    one, other = (put(OutputStore([base], pack=True), b"1", "a") for _ in range(2))
    assert one.path != other.path


def test_a_segment_that_cannot_be_written_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a segment from storage is raised for each output in it."""

    class Full(Counting):
        def _put(self, path: str, data: bytes, sha256: str) -> None:
            raise OSError(28, "No space left on device")

    outputs = OutputStore([Full()], pack=True)
    flights = [put(outputs, b"1", "a"), put(outputs, b"2", "b")]
    outputs.flush()
    for flight in flights:
        with pytest.raises(StorageFailed, match="No space left"):
            flight.landed()


@pytest.mark.parametrize("neighbours", [0, 3])
def test_lost_and_altered_segments_are_noticed(tmp_path: Path, neighbours: int) -> None:
    """A flipped bit, a segment that was cut, and one that is gone: each output in it is noticed, before it is used."""
    outputs = OutputStore([LocalBase(str(tmp_path), durable=False)], pack=True)
    flights = [put(outputs, b"%d" % n, str(n)) for n in range(10)]
    outputs.flush()
    references = [flight.landed() for flight in flights]
    file = tmp_path / references[0].path
    whole = file.read_bytes()
    fresh = OutputStore([LocalBase(str(tmp_path), durable=False)])
    assert [fresh.get(one) for one in references[:neighbours]] == [b"0", b"1", b"2"][:neighbours]
    fresh = OutputStore([LocalBase(str(tmp_path), durable=False)])
    file.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    with pytest.raises(OutputCorrupted, match="bytes 18 to 19"):
        fresh.get(references[-1])
    assert fresh.is_there(references[0], deep=True)
    file.write_bytes(whole[:-2])
    assert list(fresh.are_there(references, deep=False)) == [True] * 9 + [False]
    with pytest.raises(OutputCorrupted):
        fresh.get(references[-1])
    file.unlink()
    with pytest.raises(OutputMissing):
        OutputStore([LocalBase(str(tmp_path), durable=False)]).get(references[-1])
    file.write_bytes(whole)
    assert [fresh.get(one) for one in references] == [b"%d" % n for n in range(10)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=80), st.randoms())
def test_any_bytes_come_back_in_any_order(values: list[bytes], random: object) -> None:
    """Whatever is packed, newlines and nothing among it, comes back, whoever asks first."""
    outputs = OutputStore([Counting()], pack=True)
    flights = [put(outputs, value, str(place)) for place, value in enumerate(values)]
    outputs.flush()
    pairs = [(flight.landed(), value) for flight, value in zip(flights, values, strict=True)]
    random.shuffle(pairs)  # type: ignore[attr-defined]
    found = [fetch() for _, fetch in outputs.get_each(reference for reference, _ in pairs)]
    assert found == [value for _, value in pairs]
    outputs.close()
