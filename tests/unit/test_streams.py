"""D9: an input annotated `Iterator[T]` or `Iterable[T]` receives a collect one by one, never all at once."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, execute, job, op, resume
from runstore import RunStore
from runstore.outputs.output_store import AHEAD, OutputStore

COUNT = 50
seen: list[tuple[str, int]] = []


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """Some numbers."""
    for number in range(COUNT):
        yield DynamicOutput(number, number)


@op
def inc(number: int) -> int:
    """One more."""
    return number + 1


@op
def total(values: Iterator[int]) -> int:
    """Their sum, noting when each of them arrived."""
    found = 0
    for value in values:
        seen.append(("used", value))
        found += value
    return found


@job
def counted() -> None:
    """A stream of what was mapped."""
    total(numbers().map(inc).collect())


@pytest.mark.parametrize("level", ["fast", "durable"])
def test_values_come_one_by_one(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is used before all are read; at most a window is read ahead; the order is that of the keys."""
    seen.clear()
    read = OutputStore.get

    def noted(store: OutputStore, reference: Any) -> bytes:
        if reference.path.startswith("inc/"):
            seen.append(("read", 0))
        return read(store, reference)

    monkeypatch.setattr(OutputStore, "get", noted)
    with RunStore.open(tmp_path / "store", level=level) as store:  # type: ignore[arg-type]
        result = execute(counted, store)
    assert result.output_for_node("total") == sum(range(1, COUNT + 1))
    assert [value for what, value in seen if what == "used"] == list(range(1, COUNT + 1))
    ahead = 0
    for what, _ in seen:
        ahead += 1 if what == "read" else -1
        assert 0 <= ahead <= AHEAD


def test_an_iterable_of_lists() -> None:
    """Of a collect over two levels the outer one is a stream, its elements are lists."""

    @op
    def lengths(rows: Iterable[list[int]]) -> list[int]:
        assert not isinstance(rows, list)
        return [len(row) for row in rows]

    @op(out=DynamicOut(int))
    def below(number: int) -> Iterator[DynamicOutput[int]]:
        for inner in range(number % 3):
            yield DynamicOutput(inner, inner)

    @job
    def nested() -> None:
        lengths(numbers().map(below).collect().collect())

    result = nested.execute_in_process()
    assert result.output_for_node("lengths") == [number % 3 for number in range(COUNT)]


def test_a_value_of_another_type_is_an_error_when_it_comes() -> None:
    """Each value is held to the type of the items."""

    @op
    def join(texts: Iterator[str]) -> str:
        return "".join(texts)

    @job
    def wrong() -> None:
        join(numbers().map(inc).collect())

    result = wrong.execute_in_process(raise_on_error=False)
    (failure,) = result.failures
    assert (
        "step 'join', input 'texts': $ is 1 of type int, where str is declared"
        in failure.error.message
    )


@op
def stubborn(values: Iterator[int]) -> int:
    """The sum of what it got, whatever happens on the way."""
    found = 0
    try:
        for value in values:
            found += value
    except Exception:
        return -1
    return found


@job
def stubborn_job() -> None:
    """Collected by an op that catches everything."""
    stubborn(numbers().map(inc).collect())


def test_a_loss_on_the_way_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3, R6: what is missing is made again, also where the op has swallowed the exception that said so."""
    get, lost = OutputStore.get, []

    def once_lost(store: OutputStore, reference: Any) -> bytes:
        if reference.path == "inc/result/30.json" and not lost:
            lost.append(reference)
            (tmp_path / "store" / "outputs" / "r" / reference.path).unlink()
        return get(store, reference)

    monkeypatch.setattr(OutputStore, "get", once_lost)
    with RunStore.open(tmp_path / "store", level="fast") as store:
        result = execute(stubborn_job, store, run_id="r")
        assert result.output_for_node("stubborn") == sum(range(1, COUNT + 1))
        assert resume("r", store, job=stubborn_job).success
    assert lost
