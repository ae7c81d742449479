"""Bytes in a bucket that are not those that were stored are noticed before any op sees them."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from execution import DynamicOut, DynamicOutput, execute, job, op, resume
from runstore import OutputCorrupted, RunStore
from runstore.log.events import STORES, StepInvalidated
from runstore.testing import Failpoint, armed, in_fork
from tests.acceptance.twenty_clones import EXPECTED, RUN, Scene
from tests.object_stores.client import filesystem, lead_to, objects
from tests.object_stores.moto import Moto
from tests.object_stores.rclone import Rclone

FLIPS = 1_000


def flip(path: Path, draw: random.Random) -> bytes:
    """Flip one bit of a file; returns what it held."""
    before = path.read_bytes()
    after = bytearray(before)
    after[draw.randrange(len(after))] ^= 1 << draw.randrange(8)
    path.write_bytes(after)
    return before


def stop_before_the_collect(scene: Scene) -> None:
    """A run with all clones done, killed before what collects them."""

    def run() -> None:
        with armed(Failpoint(point="event.before", kind="StepStarted", step="total")):
            scene.execute()

    assert in_fork(run).killed


def files_of(rclone: Rclone, scene: Scene, bucket: str) -> list[Path]:
    """The files behind a bucket that the log names."""
    with scene.open() as store:
        events = [event for _, event in store.events(RUN)]
    paths = {event.reference.path for event in events if isinstance(event, STORES)}
    return [rclone.objects / bucket / "place" / RUN / path for path in sorted(paths)]


def test_every_flipped_bit_is_noticed(
    rclone: Rclone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand outputs with one bit flipped, drawn with a fixed seed, none can be read."""
    lead_to(monkeypatch, rclone)
    bucket = rclone.fresh_bucket()
    scene = Scene(tmp_path, f"s3://{bucket}/place")
    assert scene.execute().success
    draw = random.Random("bits")
    with scene.open() as store:
        references = [
            event.reference for _, event in store.events(RUN) if isinstance(event, STORES)
        ]
        outputs = store.outputs(store.state(RUN))
        for _ in range(FLIPS):
            reference = draw.choice(references)
            path = rclone.objects / bucket / "place" / RUN / reference.path
            before = flip(path, draw)
            with pytest.raises(OutputCorrupted):
                outputs.get(reference)
            path.write_bytes(before)
        assert [outputs.get(reference) for reference in references]


@pytest.mark.parametrize("level", ["durable", "fast"])
def test_damaged_outputs_are_made_again(
    level: str, rclone: Rclone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bit flipped in every output, a resume makes again what it has to read, and ends with the right values."""
    lead_to(monkeypatch, rclone)
    bucket = rclone.fresh_bucket()
    scene = Scene(tmp_path, f"s3://{bucket}/place", level)
    stop_before_the_collect(scene)
    draw = random.Random(level)
    for path in files_of(rclone, scene, bucket):
        flip(path, draw)
    result = scene.resume()
    assert result.success
    assert result.output_for_node("total") == EXPECTED["total"]
    assert result.output_for_node("shift") == EXPECTED["shift"]


def test_cut_and_lost_outputs_are_made_again(
    moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects that are gone, empty or longer than they were are made again before they are read."""
    lead_to(monkeypatch, moto)
    bucket = moto.fresh_bucket()
    scene = Scene(tmp_path, f"s3://{bucket}/place")
    stop_before_the_collect(scene)
    storage = filesystem(moto)
    for number, (name, data) in enumerate(objects(moto, bucket).items()):
        if number % 3 == 0:
            storage.rm_file(f"{bucket}/{name}")
        else:
            storage.pipe_file(f"{bucket}/{name}", b"" if number % 3 == 1 else data + b" ")
    assert scene.resume().output_for_node("total") == EXPECTED["total"]


@op(out=DynamicOut(int))
def pieces() -> Iterator[DynamicOutput[int]]:
    """Four pieces."""
    for number in range(4):
        yield DynamicOutput(number, mapping_key=number)


@op
def first_reader(number: int) -> int:
    """Twice."""
    return 2 * number


@op
def second_reader(number: int) -> int:
    """Thrice."""
    return 3 * number


@op
def both(one: list[int], other: list[int]) -> list[int]:
    """All of them."""
    return one + other


@job
def read_twice() -> None:
    """Each piece is read by two steps that do not wait for each other."""
    found = pieces()
    both(found.map(first_reader).collect(), found.map(second_reader).collect())


def test_a_loss_that_several_readers_find(
    moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are under way together and miss outputs of the same op, or the very same one, make it run again."""
    lead_to(monkeypatch, moto)
    bucket = moto.fresh_bucket()

    def run() -> None:
        with armed(Failpoint(nth=3, point="event.before", kind="StepStarted")):
            execute(read_twice, RunStore.open(tmp_path, f"s3://{bucket}/place"), run_id=RUN)

    assert in_fork(run).killed
    storage = filesystem(moto)
    for name, data in objects(moto, bucket).items():
        storage.pipe_file(f"{bucket}/{name}", bytes(byte ^ 1 for byte in data))
    with RunStore.open(tmp_path, f"s3://{bucket}/place") as store:
        result = resume(RUN, store, job=read_twice)
        assert result.output_for_node("both") == [0, 2, 4, 6, 0, 3, 6, 9]
        events = [event for _, event in store.events(RUN)]
    lost = [label for event in events if isinstance(event, StepInvalidated) for label in event.lost]
    assert sorted(lost) == [f"result[{number}]" for number in range(4)]
