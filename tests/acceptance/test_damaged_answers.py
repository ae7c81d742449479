"""Whatever is wrong with a log, each question about the run is answered, or refused with one clear error."""

import shutil
from pathlib import Path

import click.testing
import pytest

from execution.cli.main import cli
from tests.acceptance.audited import RUN, Audited
from tests.acceptance.forging import Edit, Rows, at, change, forge
from tests.acceptance.test_verify import FAULTS, PARIS

NO_FILE = {"path": "a\0b", "size_bytes": 1, "sha256": "0" * 64, "serializer": "json"}


def reads_no_output(rows: Rows) -> None:
    """A step names the end of another as what it has read."""
    rows[at(rows, "StepStarted", "report")]["inputs"] = {"sums": at(rows, "StepSucceeded") + 1}


ALL: dict[str, Edit] = {name: edit for name, (_, edit) in FAULTS.items()} | {
    "an attempt that was never started": change("StepStarted", PARIS, step="report"),
    "an end of another step": change("StepSucceeded", PARIS, step="report"),
    "a failure of another step": change("StepFailed", step="report"),
    "an input that is no output": reads_no_output,
    "a path that no file can have": change("OutputStored", PARIS, reference=NO_FILE),
    "no reference": change("OutputStored", PARIS, reference=None),
}
QUESTIONS = (
    ("runs",),
    ("show", RUN),
    ("show", RUN, PARIS),
    ("show", RUN, "report"),
    ("keys", RUN),
    ("keys", RUN, "length"),
    ("keys", RUN, "--retried"),
    ("keys", RUN, "--like", "P*"),
    ("search", "*"),
    ("who", "0" * 8),
    ("lineage", RUN, "report"),
    ("lineage", RUN, "regions", "--down"),
    ("collect-inputs", RUN, "report"),
    ("explain", RUN, PARIS),
    ("explain", RUN, "report"),
    ("diff", RUN, RUN),
    ("errors", RUN),
    ("verify", RUN, "--deep"),
    ("anchor", RUN),
    ("timeline", RUN),
    ("log", RUN),
    ("cat", RUN, PARIS),
    *(("export", RUN, "--format", form) for form in ("jsonl", "html", "openlineage", "otel")),
    *(("export", RUN, "--table", table) for table in ("steps", "outputs", "keys", "lineage")),
)


@pytest.mark.parametrize("fault", ALL)
def test_each_question_is_answered_or_refused(fault: str, audited: Audited, tmp_path: Path) -> None:
    """No question about a damaged log ends in a traceback, and none that fails says nothing."""
    shutil.copytree(audited.store, tmp_path / "store")
    forge(tmp_path / "store", RUN, ALL[fault])
    for question in QUESTIONS:
        asked = [*question, "--store", str(tmp_path / "store")]
        answer = click.testing.CliRunner().invoke(cli, asked)
        assert isinstance(answer.exception, SystemExit | None), (question, answer.exc_info)
        assert answer.exit_code in (0, 1, 2, 3)
        assert answer.exit_code == 0 or answer.output.strip(), question
