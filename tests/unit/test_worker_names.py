"""Who ran an attempt: what the log and the commands say of it."""

import json
from collections import Counter
from pathlib import Path

import click.testing
import pytest

from execution import execute, resume, threads
from execution.cli.main import cli
from execution.executors.base import Executor
from execution.executors.in_process import InProcessExecutor
from runstore import RunStore
from runstore.audit import show_step, timeline
from runstore.audit.export_otel import otel_lines
from runstore.log.events import StepStarted, StepSucceeded
from runstore.testing import Failpoint, armed, in_fork
from tests.unit.jobs import chained, retried_once


@pytest.mark.parametrize(
    ("executor", "worker", "shown"),
    [(threads(1), "thread 1", "thread 1"), (InProcessExecutor(), "", "the executor")],
)
def test_each_attempt_says_who_ran_it(
    tmp_path: Path, executor: Executor, worker: str, shown: str
) -> None:
    """Failed and succeeded attempts name their worker in `show`, `log` and the spans; the executor has no name."""
    assert execute(retried_once, tmp_path / "s", run_id="r", executor=executor).success
    with RunStore.open(tmp_path / "s", must_exist=True) as store:
        attempts = show_step(store, "r", "flaky").attempts
        spans = [json.loads(line) for line in otel_lines(store, "r")] if _has_otel() else []
    assert [(one.outcome, one.worker) for one in attempts] == [
        ("to be tried again", worker),
        ("succeeded", worker),
    ]
    rows = [line for line in _printed(tmp_path, "show", "r", "flaky").splitlines() if shown in line]
    assert len(rows) == 2
    lines = [line for line in _printed(tmp_path, "log", "r").splitlines() if "flaky" in line]
    ends = [line for line in lines if "StepRetried" in line or "StepSucceeded" in line]
    assert [f", {shown}" in line for line in ends] == [bool(worker)] * 2
    told = [span["attributes"] for span in spans if "runstore.step" in span["attributes"]]
    assert {one.get("runstore.worker", "") for one in told} <= {worker}


def test_a_timeline_by_worker(tmp_path: Path) -> None:
    """Each worker has a line with what it ran; so has the executor, and what was interrupted is nobody's."""

    def killed() -> None:
        with armed(Failpoint(point="commit.after", nth=5)):
            execute(chained("abcd"), tmp_path / "s", run_id="r")

    assert in_fork(killed).killed
    assert resume("r", tmp_path / "s", job=chained("abcd"), executor=threads(2)).success
    with RunStore.open(tmp_path / "s", must_exist=True) as store:
        found = timeline(store, "r", by="worker")
        ran = Counter(
            event.worker or "the executor"
            for _, event in store.events("r")
            if isinstance(event, StepSucceeded)
        )
        started = sum(isinstance(event, StepStarted) for _, event in store.events("r"))
    lines = {line.name: sum(bar.attempts for bar in line.bars) for line in found.lines}
    assert lines.pop("not known") == started - ran.total() == 1
    assert lines == ran
    assert ran["the executor"]
    assert ran["thread 1"]
    printed = _printed(tmp_path, "timeline", "r", "--by", "worker")
    assert {"the executor", "thread 1", "not known"} <= {
        line[:12].strip() for line in printed.splitlines()
    }


def _printed(folder: Path, *words: str) -> str:
    ended = click.testing.CliRunner().invoke(cli, [*words, "--store", str(folder / "s")])
    assert ended.exit_code == 0, ended.output
    return ended.output


def _has_otel() -> bool:
    try:
        import opentelemetry.sdk  # noqa: F401
    except ImportError:
        return False
    return True
