"""How two runs differ, with answers known from what the second was told to do otherwise."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from execution import DynamicOut, DynamicOutput, OpContext, execute, job, op, resume
from execution.cli.main import cli
from runstore import RunStore
from runstore.audit import Changed, Setting, Single, diff, find_output
from runstore.testing import Failpoint, armed, in_fork


@op(out=DynamicOut(str))
def words(context: OpContext) -> Any:
    for word in context.op_config["words"]:
        yield DynamicOutput(word, mapping_key=word)


@op
def size(context: OpContext, word: str) -> int:
    return len(word) + int(context.op_config["more"].get(word, 0))


@op
def total(sizes: list[int]) -> int:
    return sum(sizes)


@job
def sizes() -> None:
    total(words().map(size).collect())


def config(words: list[str], **more: int) -> dict[str, Any]:
    """A run config."""
    return {"ops": {"words": {"config": {"words": words}}, "size": {"config": {"more": more}}}}


LEFT = config(["ash", "birch", "[x]%", "elm"])
RIGHT = config(["ash", "elm", "[x]%", "fir"], elm=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """Two runs; the second was killed, lost an output, and was resumed."""

    def killed() -> None:
        with armed(Failpoint(point="event.before", kind="StepStarted", step="total")):
            execute(sizes, tmp_path / "store", run_id="right", run_config=RIGHT)

    assert execute(sizes, tmp_path / "store", run_id="left", run_config=LEFT).success
    assert in_fork(killed).killed
    with RunStore.open(tmp_path / "store", must_exist=True) as store:
        Path(find_output(store, store.state("right"), "size[ash]").address).unlink()
    assert resume("right", tmp_path / "store", job=sizes).success
    with RunStore.open(tmp_path / "store", must_exist=True) as store:
        yield store


def test_what_differs(store: RunStore) -> None:
    """The keys that are new and gone, the outputs whose value differs, the setting; what is the same is counted."""
    found = diff(store, "left", "right")
    assert found.keys_added == (Single("words", "result", "fir"),)
    assert found.keys_gone == (Single("words", "result", "birch"),)
    assert found.outputs_added == (Single("size[fir]", "result", None),)
    assert found.outputs_gone == (Single("size[birch]", "result", None),)
    assert [(one.step, one.key) for one in found.changed] == [("size[elm]", None), ("total", None)]
    assert found.same == 5  # three pieces, and the sizes of two of them
    assert [one.path for one in found.config] == [
        "ops.words.config.words",
        "ops.size.config.more.elm",
    ]
    assert found.config[1] == Setting("ops.size.config.more.elm", None, 1)
    assert all(not one.code_changed and one.left_code == one.right_code for one in found.ops)
    assert [(one.left_steps, one.right_steps) for one in found.ops] == [(1, 1), (4, 4), (1, 1)]


def test_the_other_way_round(store: RunStore) -> None:
    """What was added is gone, and each change is turned."""
    there, back = diff(store, "left", "right"), diff(store, "right", "left")
    assert back.keys_added == there.keys_gone
    assert back.outputs_gone == there.outputs_added
    assert set(back.changed) == {
        Changed(one.step, one.output, one.key, one.right, one.left) for one in there.changed
    }
    same = diff(store, "right", "right")
    assert [same.changed, same.keys_added, same.keys_gone, same.config] == [()] * 4
    assert same.same == there.right.outputs


def test_the_command(store: RunStore) -> None:
    """For people and for programs."""
    call = click.testing.CliRunner()
    words = ["diff", "left", "right", "--store", str(store.directory)]
    shown = call.invoke(cli, words)
    assert shown.exit_code == 0
    assert "2 outputs changed" in shown.output
    assert "words[fir], result" in shown.output
    found = json.loads(call.invoke(cli, [*words, "--json"]).output)
    assert [one["step"] for one in found["changed"]] == ["size[elm]", "total"]
