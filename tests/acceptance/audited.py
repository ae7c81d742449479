"""A nested run that was killed, failed and was resumed twice, and what its ops noted of themselves outside of the log.

`regions` yields keys, `cities` yields keys below each, `length` is cloned for both, `add` collects the inner keys and
`report` the outer ones. Keys and messages are hostile on purpose. Each op writes a line into a file of its own as it is
called, so that what is asked of the log can be held against what has happened.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, OpContext, execute, job, op, resume
from runstore.keys import format_step_key
from runstore.testing import Failpoint, armed, in_fork

RUN = "audited"
HOSTILE = "<script>document.title='owned'</script>"
TREE = {
    "Europe": ["Paris", "a/b [0]%", "é"],
    HOSTILE: ["\u202egnp.exe", "\x1b[31mred", '"onload="x'],
    "nowhere": [],
}
KILLED = ("Europe", "é")
FAILED = (HOSTILE, "\x1b[31mred")
MESSAGE = "<img src=x onerror=\"document.title='owned'\">\x1b[2J"


def noted(context: OpContext, value: Any) -> None:
    """Write down what was called, and what came of it."""
    line = {"step": context.step_key, "attempt": context.attempt, "value": value}
    with Path(os.environ["AUDITED_NOTES"]).open("a") as file:
        file.write(json.dumps(line) + "\n")


@op(out=DynamicOut(str))
def regions(context: OpContext) -> Any:
    noted(context, list(TREE))
    for region in TREE:
        yield DynamicOutput(region, mapping_key=region)


@op(out=DynamicOut(str))
def cities(context: OpContext, region: str) -> Any:
    noted(context, TREE[region])
    for city in TREE[region]:
        yield DynamicOutput(city, mapping_key=city)


@op
def length(context: OpContext, city: str) -> int:
    if context.op_config.get("fails") and context.key_path == FAILED:
        noted(context, None)
        raise ValueError(MESSAGE)
    noted(context, len(city))
    return len(city)


@op
def add(context: OpContext, lengths: list[int]) -> int:
    noted(context, sum(lengths))
    return sum(lengths)


@op
def report(context: OpContext, sums: dict[str, int]) -> str:
    noted(context, json.dumps(sums))
    return json.dumps(sums)


@job
def count_cities() -> None:
    sums = regions().map(lambda region: add(cities(region).map(length).collect()))
    report(sums.collect(as_dict=True))


class Audited:
    """The run, and the notes of its ops."""

    def __init__(self, root: Path) -> None:
        self.store = root / "store"
        self._notes = root / "notes"

    def make(self) -> None:
        """Kill it in a clone, let another clone fail, resume to the end: three epochs."""
        fails = {"ops": {"length": {"config": {"fails": True}}}}

        def killed() -> None:
            with armed(
                Failpoint(point="event.before", kind="StepSucceeded", step=self.step(*KILLED))
            ):
                execute(count_cities, self.store, run_id=RUN, run_config=fails)

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AUDITED_NOTES", str(self._notes))
            assert in_fork(killed).killed
            assert resume(RUN, self.store, job=count_cities).status == "failed"
            assert resume(RUN, self.store, job=count_cities, run_config={}).success

    @staticmethod
    def step(*keys: str) -> str:
        """The step key of the clone of `length` with these keys."""
        return format_step_key("length", keys)

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What the ops have written down, in the order in which they were called."""
        return [json.loads(line) for line in self._notes.read_text().splitlines()]

    def values(self) -> dict[str, Any]:
        """Step -> what its last call gave."""
        return {note["step"]: note["value"] for note in self.notes}

    def attempts(self) -> dict[str, int]:
        """Step -> how often it was called."""
        called = [note["step"] for note in self.notes]
        return {step: called.count(step) for step in called}
