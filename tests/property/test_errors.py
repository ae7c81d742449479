"""The errors of a run are those that its log holds, however many there are."""

import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings

from runstore.audit import errors
from runstore.keys import parse_step_key
from runstore.log.events import HookFailed, StepFailed, StepRetried
from runstore.log.expanded import StepId
from runstore.log.transitions import SKIPPED, SUCCEEDED
from runstore.store import RunStore
from tests.property import nested
from tests.property.crashed import Crash, crashed, crashed_run, crashes
from tests.property.logs import RUN
from tests.property.test_runs import COMMON
from tests.property.test_waiting_for import failing_shapes
from tests.shapes import Shape

TRIED = settings(COMMON, max_examples=15)


@TRIED
@given(failing_shapes(), crashes)
def test_errors_of_runs_that_failed(shape: Shape, history: list[Crash]) -> None:
    """By op, type and message: how many attempts, of which steps, and how many of these are not done since."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed_run(shape, history, Path(root)) as store,
    ):
        check_errors(store)


@TRIED
@given(nested.plans, crashes)
def test_errors_of_runs_that_try_again(plan: nested.Plan, history: list[Crash]) -> None:
    """Also of those that a later attempt has mended."""
    with (
        tempfile.TemporaryDirectory() as root,
        crashed(nested.job_of(plan), history, Path(root)) as store,
    ):
        check_errors(store)


def check_errors(store: RunStore) -> None:
    """Both ways to know how steps stand."""
    expected = sorted(raised(store))
    for looked_up in (0, 2_000):
        with patch("runstore.audit.errors._LOOKED_UP", looked_up):
            found = errors(store, RUN)
        assert expected == sorted(
            (
                one.op,
                one.type,
                one.message,
                one.count,
                one.steps,
                one.standing,
                one.first_seq,
                one.last_seq,
            )
            for one in found
        )
        assert [one.count for one in found] == sorted((one.count for one in found), reverse=True)


def raised(store: RunStore) -> list[tuple[str, str, str, int, int, int, int, int]]:
    """The groups, from the events read one after the other and the fold."""
    state = store.state(RUN)
    groups: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for seq, event in store.events(RUN):
        if isinstance(event, StepFailed | StepRetried | HookFailed):
            op = f"hook {event.hook}" if isinstance(event, HookFailed) else event.step.split("[")[0]
            group = (op, event.error.type, event.error.message)
            groups.setdefault(group, []).append((seq, event.step))
    found = []
    for group, rows in groups.items():
        steps = {step for _, step in rows}
        left = [
            step
            for step in steps
            if state.status(StepId(*parse_step_key(step))) not in (SUCCEEDED, SKIPPED)
        ]
        standing = 0 if group[0].startswith("hook ") else len(left)
        found.append((*group, len(rows), len(steps), standing, rows[0][0], rows[-1][0]))
    return found
