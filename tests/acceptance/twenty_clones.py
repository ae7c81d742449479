"""The job whose outputs go to object stores in these tests: twenty clones of two chained ops, collected.

A step waits while there is a file `hold-<step key>` beside the file of calls, so that a run can be killed right there.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    ResumePlan,
    RunResult,
    execute,
    job,
    op,
    plan_resume,
    resume,
)
from runstore import RunStore
from runstore.log.events import STORES
from runstore.log.state import RunState
from tests.acceptance.three_stages import finished_steps, note
from tests.object_stores.client import objects
from tests.object_stores.server import ObjectStore

RUN = "the-run"
KEYS = [f"{number:02}" for number in range(20)]
NODES = ("numbers", "double", "shift", "total")
ALL_STEPS = frozenset(
    ["numbers", "total", *(f"{node}[{key}]" for node in ("double", "shift") for key in KEYS)]
)
EXPECTED: dict[str, Any] = {
    "numbers": {key: int(key) for key in KEYS},
    "double": {key: 2 * int(key) for key in KEYS},
    "shift": {key: 2 * int(key) + 1 for key in KEYS},
    "total": [2 * int(key) + 1 for key in KEYS],
}
OUTPUTS = 3 * len(KEYS) + 1
"""How many objects an uninterrupted run stores."""
WINDOW = 16
"""Steps that a kill may cost where outputs are remote: running, or finished with bytes still on their way."""


def begin(context: OpContext) -> None:
    """Note the call, and wait while the step is held."""
    note(context)
    hold = Path(context.op_config["calls"]).with_name(f"hold-{context.step_key}")
    while hold.exists():
        time.sleep(0.005)


@op(out=DynamicOut(int))
def numbers(context: OpContext) -> Iterator[DynamicOutput[int]]:
    """Twenty numbers."""
    begin(context)
    for key in KEYS:
        yield DynamicOutput(int(key), mapping_key=key)


@op
def double(context: OpContext, number: int) -> int:
    """Twice."""
    begin(context)
    return 2 * number


@op
def shift(context: OpContext, number: int) -> int:
    """One more."""
    begin(context)
    return number + 1


@op
def total(context: OpContext, found: list[int]) -> list[int]:
    """All of them."""
    begin(context)
    return found


@job
def twenty() -> None:
    """Fan out, map, map, collect."""
    total(numbers().map(double).map(shift).collect())


@dataclass(frozen=True)
class Scene:
    """A folder with a store for one run of the job; its outputs go to `outputs`."""

    folder: Path
    outputs: str | None = None
    level: str = "durable"
    small_outputs: str = "file"

    @property
    def config(self) -> dict[str, Any]:
        """Tells each op where to note its call."""
        return {"ops": {node: {"config": {"calls": str(self.calls)}} for node in NODES}}

    @property
    def calls(self) -> Path:
        """The file of calls."""
        return self.folder / "calls.txt"

    @property
    def store(self) -> Path:
        """The store's directory."""
        return self.folder / "store"

    def open(self) -> RunStore:
        """The store, not yet opened on disk."""
        return RunStore.open(self.store, self.outputs, self.level, small_outputs=self.small_outputs)  # type: ignore[arg-type]

    def execute(self) -> RunResult:
        """Start the run."""
        return execute(twenty, self.open(), run_config=self.config, run_id=RUN)

    def resume(self) -> RunResult:
        """Go on with the run."""
        return resume(RUN, self.open(), job=twenty)

    def go_on(self) -> RunResult:
        """Resume the run, or start it where it was stopped before it was on disk."""
        return self.resume() if self.open().has_run(RUN) else self.execute()

    def plan(self) -> ResumePlan:
        """What a resume would do."""
        return plan_resume(RUN, self.open(), job=twenty)

    def state(self) -> RunState:
        """The fold of what is on disk."""
        with self.open() as store:
            return store.state(RUN)

    def hold(self, step_key: str) -> Path:
        """Let a step wait; until the file that is returned is removed."""
        path = self.folder / f"hold-{step_key}"
        path.touch()
        return path

    def take_calls(self) -> list[str]:
        """The step keys that were called since the last question, in order."""
        called = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return called


def values(result: RunResult) -> dict[str, Any]:
    """Every value of the run."""
    return {node: result.output_for_node(node) for node in NODES}


def assert_only_what_was_in_flight_runs_again(
    state: RunState, called: list[str], ran: list[str], window: int
) -> None:
    """What has a success in the log did not run again; of what was called, no more than the window did."""
    assert Counter(ran) == Counter(ALL_STEPS - finished_steps(state))
    again = set(called) & set(ran)
    assert again <= {str(step) for step in state.running}
    assert len(again) <= window


class HasStore(Protocol):
    """Where a run's log is."""

    def open(self) -> RunStore:
        """The store, not yet opened on disk."""


def assert_whole(scene: HasStore, server: ObjectStore, bucket: str, prefix: str) -> None:
    """The bytes of every output that the log names are there, as an independent client sees them."""
    found = objects(server, bucket)
    with scene.open() as store:
        events = [event for _, event in store.events(RUN)]
    stored = [event.reference for event in events if isinstance(event, STORES)]
    for reference in stored:
        data = found[f"{prefix}/{RUN}/{reference.path}"]
        offset = getattr(reference, "offset", None)
        if offset is not None:
            data = data[offset : offset + reference.size_bytes]
        assert len(data) == reference.size_bytes
        assert hashlib.sha256(data).hexdigest() == reference.sha256
