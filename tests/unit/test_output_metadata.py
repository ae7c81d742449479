"""What ops say about their outputs: given with them or before, kept in the log (issue point 3.3)."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from execution import (
    DynamicOut,
    DynamicOutput,
    OpContext,
    Out,
    Output,
    build_op_context,
    execute,
    job,
    op,
)
from execution.cli.main import cli
from execution.errors import StepError
from runstore import RunStore
from runstore.audit import explain
from runstore.errors import NotStorable
from runstore.log.events import DynamicOutputStored, OutputStored
from runstore.testing import Failpoint, armed, in_fork


@op(out=DynamicOut(int))
def fan(context: OpContext):
    context.add_output_metadata({"place": 0}, mapping_key="a")
    yield DynamicOutput(1, "a", metadata={"letter": "a"})
    yield DynamicOutput(2, "b")
    context.add_output_metadata({"place": 2}, output_name="result", mapping_key=3)
    yield DynamicOutput(3, 3)


@op
def double(context: OpContext, x: int) -> int:
    context.add_output_metadata({"rows": x, "path": "s3://b/x", "nested": [None, {"a": 1.5}]})
    context.add_output_metadata({"more": True})
    return 2 * x


@op(out={"left": Out(int), "right": Out(int), "none": Out(is_required=False)})
def both(context: OpContext, xs: list[int]):
    context.add_output_metadata({"n": len(xs)}, "right")
    return Output(1, metadata={"from": "Output"}), Output(2, "right"), 3


@job
def said() -> None:
    both(fan().map(double).collect())


def metadata_of(store: RunStore, run: str) -> dict[tuple[str, str], Any]:
    """(step, output or piece) -> metadata of the events that store."""
    found: dict[tuple[str, str], Any] = {}
    for _, event in store.events(run):
        if isinstance(event, DynamicOutputStored):
            found[event.step, event.mapping_key] = event.metadata
        elif isinstance(event, OutputStored):
            found[event.step, event.output] = event.metadata
    return found


SAID = {"path": "s3://b/x", "nested": [None, {"a": 1.5}], "more": True}
EXPECTED = {
    ("fan", "a"): {"place": 0, "letter": "a"},
    ("fan", "b"): None,
    ("fan", "3"): {"place": 2},
    ("double[a]", "result"): {"rows": 1, **SAID},
    ("double[b]", "result"): {"rows": 2, **SAID},
    ("double[3]", "result"): {"rows": 3, **SAID},
    ("both", "left"): {"from": "Output"},
    ("both", "right"): {"n": 3},
    ("both", "none"): None,
}


def test_what_is_said_stands_in_the_event(tmp_path: Path) -> None:
    """3.3: with Output and DynamicOutput, or before by the context; a row without it has no such field."""
    execute(said, tmp_path, run_id="r")
    with RunStore.open(tmp_path) as store:
        assert metadata_of(store, "r") == EXPECTED
        rows = [body for _, body in store.rows("r") if "metadata" in json.loads(body)]
    assert len(rows) == 7


def test_it_is_that_of_the_attempt_that_counts(tmp_path: Path) -> None:
    """F4: what a killed attempt has said does not come back; a resume says it anew."""

    def killed() -> None:
        with armed(Failpoint(point="event.after", kind="OutputStored", step="double[b]")):
            execute(said, tmp_path, run_id="r")

    assert in_fork(killed).killed
    with RunStore.open(tmp_path) as store:
        execute(said, store, run_id="r")
        assert metadata_of(store, "r") == EXPECTED


def test_it_is_shown(tmp_path: Path) -> None:
    """3.3: by explain, also as JSON, and by log."""
    execute(said, tmp_path, run_id="r")
    with RunStore.open(tmp_path) as store:
        facts = explain(store, "r", "double[b]").facts
        assert facts[1].metadata == EXPECTED["double[b]", "result"]
        assert '; metadata {"rows":2,' in facts[1].text
        texts = [fact.text for fact in explain(store, "r", "fan").facts]
    assert 'result[a] stored; metadata {"place":0,"letter":"a"}' in texts
    assert sum("stored" in text for text in texts) == 2
    run = CliRunner().invoke
    shown = run(cli, ["explain", "r", "both", "--json", "--store", str(tmp_path)]).output
    assert {"n": 3} in [fact.get("metadata") for fact in json.loads(shown)["facts"]]
    assert 'metadata {"n":3}' in run(cli, ["log", "r", "--store", str(tmp_path)]).output


def test_what_was_said_is_kept_as_it_was() -> None:
    """3.3: a dict that the op changes afterwards was recorded as it stood."""
    kept: dict[str, Any] = {"n": [1]}

    @op(out=DynamicOut())
    def growing():
        yield DynamicOutput(1, "a", metadata=kept)
        kept["n"].append(2)
        yield DynamicOutput(2, "b", metadata=kept)

    @job
    def j() -> None:
        growing()

    store = RunStore.in_memory()
    execute(j, store, run_id="r")
    assert metadata_of(store, "r") == {
        ("growing", "a"): {"n": [1]},
        ("growing", "b"): {"n": [1, 2]},
    }


def test_a_direct_call_is_checked_too() -> None:
    """3.11: what cannot be recorded fails a unit test of the op."""
    context = build_op_context()
    assert double(context, 2) == 4

    @op
    def inexact(context: OpContext) -> int:
        context.add_output_metadata({"when": {1}})
        return 1

    @op
    def late(context: OpContext) -> Any:
        yield Output(1)
        context.add_output_metadata({"a": 1})

    with pytest.raises(NotStorable, match=r"metadata \$\.when is \{1\}"):
        inexact(build_op_context())
    with pytest.raises(StepError, match="did not give afterwards"):
        list(late(build_op_context()))
