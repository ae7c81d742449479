"""R6 where small outputs share objects: a segment that is lost or altered costs its outputs, which are made again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from execution import DynamicOut, DynamicOutput, execute, job, op, plan_resume, resume
from runstore import RunStore
from runstore.log.events import STORES, StepInvalidated

COUNT = 60
calls: list[str] = []
is_mended = False


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Some numbers."""
    calls.append("numbers")
    for number in range(COUNT):
        yield DynamicOutput(number, number)


@op
def inc(number: int) -> int:
    """One more."""
    calls.append(f"inc[{number}]")
    return number + 1


@op
def total(values: list[int]) -> int:
    """The sum, once it can be had."""
    if not is_mended:
        raise ValueError("not yet")
    return sum(values)


@job
def counted() -> None:
    """Fan out, map, collect."""
    total(numbers().map(inc).collect())


def lose(segment: Path) -> None:
    """The file is gone."""
    segment.unlink()


def flip(segment: Path) -> None:
    """Its first output has another first digit."""
    data = segment.read_bytes()
    segment.write_bytes(b"9" + data[1:] if data[:1] != b"9" else b"8" + data[1:])


def cut(segment: Path) -> None:
    """Its end is gone."""
    segment.write_bytes(segment.read_bytes()[:-3])


@pytest.mark.parametrize("node", ["numbers", "inc"])
@pytest.mark.parametrize("damage", [lose, flip, cut])
@pytest.mark.parametrize("level", ["durable", "fast"])
def test_what_a_damaged_segment_held_is_made_again(
    level: str,
    damage: Callable[[Path], None],
    node: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The plan or the run finds it; what reads it gets the value that was there, and only its makers run again."""
    monkeypatch.setitem(globals(), "is_mended", False)
    with RunStore.open(tmp_path / "s", level=level, small_outputs="pack") as store:  # type: ignore[arg-type]
        assert not execute(counted, store, run_id="r").success
        stored = [
            (event.step, event.reference)
            for _, event in store.events("r")
            if isinstance(event, STORES) and event.reference.path.startswith(f"{node}/")
        ]
        path = stored[0][1].path
        held = {step for step, reference in stored if reference.path == path}
        damage(tmp_path / "s" / "outputs" / "r" / path)
        if damage is lose and node == "inc":
            assert set(plan_resume("r", store, job=counted).lost) == held
        monkeypatch.setitem(globals(), "is_mended", True)
        calls.clear()
        result = resume("r", store, job=counted)
        assert result.success
        assert result.output_for_node("total") == COUNT * (COUNT + 1) // 2
        invalidated = {
            step
            for _, event in store.events("r")
            if isinstance(event, StepInvalidated) and event.reason == "output lost"
            for step in event.steps or ()
        }
        if node == "inc":  # what only inc reads is not needed any longer
            assert invalidated
            assert set(calls) == invalidated <= held
        else:
            assert not calls
