"""Outputs on their way while the next step runs: how many, in which order they are told, and what a failure costs."""

import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, RetryPolicy, execute, job, op, resume
from execution.executors import in_process
from runstore import RunStore, StorageFailed, TransferFailed, bases
from runstore.log.events import (
    DynamicOutputStored,
    OutputStored,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from runstore.outputs.remote import RemoteBase
from runstore.testing import Point, record_points

COUNT = 40


class Far(RemoteBase):
    """Memory, as far away as the test wants it to be."""

    reads = writes = window = 16
    before_write: Callable[[str], None] = staticmethod(lambda path: None)
    before_read: Callable[[str], None] = staticmethod(lambda path: None)

    def write(self, path: str, data: bytes, sha256: str) -> None:
        """Perhaps late."""
        self.before_write(path)
        super().write(path, data, sha256)

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """Perhaps late."""
        self.before_read(path)
        return super().read(path, offset, size)


class Meeting:
    """Objects of a node that wait until four of them are under way at once."""

    def __init__(self, node: str) -> None:
        self._folder = f"{node}/"
        self._lock = threading.Lock()
        self._came = 0
        self.happened = threading.Event()

    def __call__(self, path: str) -> None:
        if path.startswith(self._folder):
            with self._lock:
                self._came += 1
                if self._came == 4:
                    self.happened.set()
            assert self.happened.wait(20), "came alone"


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> type[Far]:
    """What stands behind each URL of outputs in this test."""

    class Here(Far):
        """Of this test."""

    monkeypatch.setattr(bases, "open_base", lambda url, **_: Here(url))
    return Here


@pytest.fixture(params=["file", "pack"])
def opened(request: pytest.FixtureRequest, tmp_path: Any, far: type[Far]) -> Iterator[RunStore]:
    """A store whose outputs are far away."""
    url = f"memory://{secrets.token_hex(8)}"
    with RunStore.open(tmp_path / "s", url, "fast", small_outputs=request.param) as found:
        yield found


@pytest.fixture
def always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No op is too long to have company, however slow the machine is."""
    monkeypatch.setattr(in_process, "FAR_LONGER", float("inf"))
    monkeypatch.setattr(in_process, "inf", 1.0)
    initial = in_process.InProcessExecutor.__init__

    def begun(executor: in_process.InProcessExecutor) -> None:
        initial(executor)
        executor._storage_s = 1.0

    monkeypatch.setattr(in_process.InProcessExecutor, "__init__", begun)


running: list[str] = []


@op(out=DynamicOut(int))
def numbers() -> Iterator[DynamicOutput[int]]:
    """As many as the window takes more than twice."""
    for number in range(COUNT):
        yield DynamicOutput(number, number)


@op
def inc(number: int) -> int:
    """One more."""
    running.append(f"inc[{number}]")
    return number + 1


@op
def twice(number: int) -> int:
    """Twice as much."""
    running.append(f"twice[{number - 1}]")
    return 2 * number


@op
def total(values: list[int]) -> int:
    """The sum."""
    return sum(values)


@job
def chained() -> None:
    """Two mapped ops and a collect."""
    total(numbers().map(lambda number: twice(inc(number))).collect())


EXPECTED = sum(2 * (number + 1) for number in range(COUNT))


@pytest.mark.usefixtures("always_worth_it")
def test_steps_run_while_outputs_are_on_their_way(opened: RunStore, far: type[Far]) -> None:
    """The outputs of many steps are in flight at once, never more steps than the window, each run once, and each
    success stands behind its bytes.
    """
    if opened.small_outputs == "pack":
        far.window = 256
    running.clear()
    together = Meeting("inc")
    if opened.small_outputs == "file":
        far.before_write = staticmethod(together)
    result = execute(chained, opened)
    assert result.output_for_node("total") == EXPECTED
    assert sorted(running) == sorted(
        f"{one}[{n}]" for one in ("inc", "twice") for n in range(COUNT)
    )
    assert opened.small_outputs == "pack" or together.happened.is_set()
    open_steps = most_open = 0
    stored: set[str] = set()
    for _, event in opened.events(result.run_id):
        if isinstance(event, StepStarted):
            open_steps += 1
            most_open = max(most_open, open_steps)
        elif isinstance(event, OutputStored):
            stored.add(event.step)
        elif isinstance(event, StepSucceeded):
            open_steps -= 1
            assert event.step in stored or event.step == "numbers"
    assert 4 <= most_open <= far.window


@pytest.mark.usefixtures("always_worth_it")
def test_a_chain_is_not_held_up_by_its_neighbours(tmp_path: Any, far: type[Far]) -> None:
    """What has landed goes on while others are still on their way, whichever began first."""
    running.clear()
    may_land = threading.Event()

    def late(path: str) -> None:
        if path == "inc/result/0.json":
            assert may_land.wait(20), "held up everything"
        if path == "twice/result/5.json":
            may_land.set()

    far.before_write = staticmethod(late)
    with RunStore.open(tmp_path / "s", f"memory://{secrets.token_hex(8)}", "fast") as opened:
        assert execute(chained, opened).output_for_node("total") == EXPECTED
    assert running.index("twice[5]") < running.index("twice[0]")


@pytest.mark.usefixtures("always_worth_it")
def test_inputs_are_loaded_together(tmp_path: Any, far: type[Far]) -> None:
    """Several steps have their inputs on the way at once, and a collect its values."""
    pieces, values = Meeting("numbers"), Meeting("twice")

    def late(path: str) -> None:
        pieces(path)
        values(path)

    far.before_read = staticmethod(late)
    with RunStore.open(tmp_path / "s", f"memory://{secrets.token_hex(8)}", "fast") as opened:
        assert execute(chained, opened).success
    assert pieces.happened.is_set()
    assert values.happened.is_set()


@pytest.mark.usefixtures("far")
def test_beside_a_long_op_nothing_waits_unwritten(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an op takes far longer than storage, the success of a step is in the log before the next one begins."""
    monkeypatch.setattr(in_process, "FAR_LONGER", 0)  # any op does
    seen = []

    @op
    def slow(number: int) -> int:
        succeeded = [
            event.step
            for _, event in opened.events("r")
            if isinstance(event, StepSucceeded) and event.step.startswith("slow")
        ]
        seen.append(len(succeeded))
        return number

    @op(out=DynamicOut(int))
    def few() -> Iterator[DynamicOutput[int]]:
        for number in range(6):
            yield DynamicOutput(number, number)

    @job
    def slowly() -> None:
        few().map(slow)

    with RunStore.open(tmp_path / "s", f"memory://{secrets.token_hex(8)}", "fast") as opened:
        assert execute(slowly, opened, run_id="r").success
    assert len(seen) == 6
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("policy", [None, RetryPolicy(max_retries=1)])
def test_a_transfer_that_fails_costs_its_step_alone(
    opened: RunStore, far: type[Far], policy: RetryPolicy | None
) -> None:
    """A step whose upload finally fails is a failed attempt, which a policy or a resume tries again; others go on."""
    failed: list[str] = []

    def failing(path: str) -> None:
        if path.startswith("inc/") and not failed:
            failed.append(path)
            raise TransferFailed(f"{path}: reset")

    far.before_write = staticmethod(failing)

    @op(retry_policy=policy)
    def inc(number: int) -> int:
        return number + 1

    @job
    def mapped() -> None:
        total(numbers().map(inc).collect())

    result = execute(mapped, opened, run_id="r")
    events = [event for _, event in opened.events("r")]
    ends = [event for event in events if isinstance(event, StepFailed | StepRetried)]
    assert ends
    assert {end.error.type for end in ends} == {"runstore.errors.TransferFailed"}
    assert len(ends) == 1 or opened.small_outputs == "pack", "only outputs that share the object"
    assert result.success is (policy is not None)
    if not result.success:
        assert len(result.failures) == len(ends)
        result = resume("r", opened, job=mapped)
    assert result.output_for_node("total") == COUNT * (COUNT + 1) // 2
    started = [event.step for event in events if isinstance(event, StepStarted)]
    assert set(started) >= {f"inc[{number}]" for number in range(COUNT)}


def test_no_reference_names_bytes_that_are_not_there(opened: RunStore, far: type[Far]) -> None:
    """Law 3: when an event is in the log, what it names can be read, whatever is still in flight."""
    result = execute(chained, opened, run_id="r")
    outputs = opened.outputs(opened.state("r"))
    references = [
        event.reference
        for _, event in opened.events("r")
        if isinstance(event, OutputStored | DynamicOutputStored)
    ]
    assert len(references) == 3 * COUNT + 1
    assert all(outputs.are_there(references, deep=True))
    assert all(one.offset is not None for one in references) is (opened.small_outputs == "pack")
    assert list(result.output_for_node("twice")) == [str(number) for number in range(COUNT)]


@pytest.mark.usefixtures("always_worth_it")
def test_what_is_known_is_kept_where_outputs_cannot_be_written(
    tmp_path: Any, far: type[Far]
) -> None:
    """A storage that refuses stops the run; all that was told before is in the log, and does not run again."""

    def refusing(path: str) -> None:
        if path == "inc/result/20.json":
            raise StorageFailed(f"{path}: no space left")

    far.before_write = staticmethod(refusing)
    with RunStore.open(tmp_path / "s", f"memory://{secrets.token_hex(8)}", "fast") as opened:

        def stopped() -> None:
            with pytest.raises(StorageFailed, match="no space left"):
                execute(chained, opened, run_id="r")

        points = record_points(stopped)
        told = [str(point.subject.step) for point in points if is_success(point)]
        kept = [event.step for _, event in opened.events("r") if isinstance(event, StepSucceeded)]
        assert told == kept
        assert len(told) > 10
        far.before_write = staticmethod(lambda path: None)
        running.clear()
        assert resume("r", opened, job=chained).output_for_node("total") == EXPECTED
        assert not set(running) & set(kept)


def is_success(point: Point) -> bool:
    """True for the appending of a success."""
    return point.name == "event.after" and isinstance(point.subject, StepSucceeded)
