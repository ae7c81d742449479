"""What a rerun took from its parent is held against the parent's log: a planted fault of each kind is found.

Faults are planted in either log, and every digest is computed anew afterwards, as a forger would.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from execution import DynamicOut, DynamicOutput, Out, Output, execute, job, op, rerun
from runstore import RunStore
from runstore.audit import Verification, verify
from runstore.log.codec import keys_digest
from tests.acceptance.forging import Edit, Rows, at, change, forge, instead

PARENT, CHILD = "first", "second"
KEYS = ("a", "b", "c")


@op(out=DynamicOut())
def letters() -> Any:
    """Three of them."""
    for key in KEYS:
        yield DynamicOutput(key, key, metadata={"n": 1})


@op(out={"result": Out(), "rare": Out(is_required=False)})
def double(letter: str) -> Any:
    """Of two outputs one alone is stored."""
    yield Output(letter * 2, "result")


@op
def join(parts: list[str]) -> str:
    """All of them."""
    return " ".join(parts)


@job
def words() -> None:
    """Letters, doubled and joined."""
    join(letters().map(lambda one: double(one).result).collect())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a rerun of its last op."""
    directory = tmp_path_factory.mktemp("reruns") / "store"
    with RunStore.open(directory, level="fast") as store:
        assert execute(words, store, run_id=PARENT).success
        assert rerun(PARENT, store, select="join", job=words, new_run_id=CHILD).success
    return directory


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A copy of both, to be damaged."""
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


def verified(directory: Path, run: str = CHILD) -> Verification:
    """The answer."""
    with RunStore.open(directory, must_exist=True) as store:
        return verify(store, run)


def refer(kind: str, step: str, /, **fields: Any) -> Edit:
    """Change fields of a reference."""
    return lambda rows: rows[at(rows, kind, step)]["reference"].update(fields)


def of_a_sibling(rows: Rows) -> None:
    """The bytes of another clone."""
    mine, other = (rows[at(rows, "OutputStored", f"double[{key}]")] for key in "ab")
    mine["reference"] = other["reference"]


def in_another_order(rows: Rows) -> None:
    """Keys in an order of their own, well sealed."""
    first, second = (at(rows, "DynamicOutputStored", "letters", nth) for nth in (0, 1))
    rows[first], rows[second] = rows[second], rows[first]
    rows[first]["time"], rows[second]["time"] = rows[second]["time"], rows[first]["time"]
    sealed = rows[at(rows, "ExpansionSealed", "letters")]
    sealed["keys_digest"] = keys_digest(["b", "a", "c"])


def taken_later(rows: Rows) -> None:
    """All is said to be taken, and then one more is."""
    sealed = rows.pop(at(rows, "ReuseSealed"))
    place = at(rows, "StepReused", "double[c]")
    rows.insert(place, {**sealed, "time": rows[place]["time"]})


FAILED = instead(
    "StepSucceeded", "double[b]", 0, kind="StepFailed", step="double[b]", duration_s=0.0,
    error={"type": "E", "message": "", "traceback": ""},
)  # fmt: skip
FAULTS: dict[str, tuple[str, str, Edit]] = {
    "another event of the parent": ("A5", CHILD, change("StepReused", "double[b]", parent_seq=3)),
    "other code": ("A5", CHILD, change("StepReused", "double[b]", code="0" * 16)),
    "a step that had failed": ("A5", PARENT, FAILED),
    "a parent that lost its tail": ("A5", PARENT, lambda rows: rows.__delitem__(slice(-2, None))),
    "a step taken after the last": ("A5", CHILD, taken_later),
    "a step taken without a parent": ("A5", CHILD, change("RunStarted", parent=None)),
    "another digest": ("A6", CHILD, refer("OutputStored", "double[b]", sha256="0" * 64)),
    "another size": ("A6", CHILD, refer("OutputStored", "double[b]", size_bytes=99)),
    "another path": ("A6", CHILD, refer("OutputStored", "double[b]", path="x")),
    "another serializer": ("A6", CHILD, refer("OutputStored", "double[b]", serializer="text")),
    "another base": ("A6", CHILD, refer("OutputStored", "double[b]", base=1)),
    "a piece of another digest": ("A6", CHILD, refer("DynamicOutputStored", "letters", sha256="0" * 64)),
    "a piece of other metadata": ("A6", CHILD, change("DynamicOutputStored", "letters", metadata={"n": 2})),
    "the bytes of another clone": ("A6", CHILD, of_a_sibling),
    "another output": ("A6", CHILD, change("OutputStored", "double[b]", output="rare")),
    "an output that is left out": ("A6", CHILD, lambda rows: rows.pop(at(rows, "OutputStored", "double[b]"))),
    "keys in another order": ("A6", CHILD, in_another_order),
    "a parent that says otherwise": ("A6", PARENT, refer("OutputStored", "double[b]", sha256="0" * 64)),
    "other bases": ("A6", CHILD, lambda rows: rows[0]["parent"].update(bases=["outputs/elsewhere"])),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_its_rule(fault: str, copied: Path) -> None:
    """The first finding has the number of the rule that was broken, and says what the parent's log holds."""
    rule, run, edit = FAULTS[fault]
    forge(copied, run, edit)
    answer = verified(copied)
    first = answer.findings[0]
    assert first.rule == rule, answer.findings
    assert PARENT in first.fact or "parent" in first.fact
    assert not any("had succeeded there" in text for text in answer.proves)


def test_what_is_as_it_was_is_proved(copied: Path) -> None:
    """So is what a rerun of the rerun took, from its own parent."""
    with RunStore.open(copied, must_exist=True) as store:
        assert rerun(CHILD, store, select="join", job=words, new_run_id="third").success
    for run, parent in ((CHILD, PARENT), ("third", CHILD)):
        answer = verified(copied, run)
        assert answer.ok, answer.findings
        assert any(
            f"each of the 4 steps taken from run '{parent}' had succeeded there" in text
            for text in answer.proves
        )


def test_a_parent_that_is_gone_is_no_fault(copied: Path) -> None:
    """What was taken from it cannot be proven then, and the answer says so; its outputs are looked for all the same."""
    shutil.copytree(copied / "outputs", copied / "kept")
    with RunStore.open(copied, must_exist=True) as store:
        store.remove(PARENT, force=True)
    shutil.copytree(copied / "kept", copied / "outputs", dirs_exist_ok=True)
    answer = verified(copied)
    assert answer.ok, answer.findings
    assert any(
        "the log of its parent, run 'first', is not in the store" in text
        for text in answer.cannot_prove
    )
    forge(copied, CHILD, refer("OutputStored", "double[b]", path="x"))
    assert [one.rule for one in verified(copied).findings] == ["O1"]


def test_a_parent_that_is_damaged_is_no_fault_of_the_rerun(copied: Path) -> None:
    """The answer says that the parent's log cannot be read; the finding is the parent's own."""
    forge(copied, PARENT, change("StepStarted", "double[b]", kind="StepDreamt"))
    answer = verified(copied)
    assert answer.ok, answer.findings
    assert any("the log of its parent cannot be read" in text for text in answer.cannot_prove)
    assert not verified(copied, PARENT).ok
