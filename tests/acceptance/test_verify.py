"""A planted fault of every kind is found, by the number of its rule; a log that is as it was passes.

Faults are planted behind the triggers' back, and every digest is computed anew afterwards, as a forger would: so what
is found is found by its own rule, and by no other.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import click.testing
import pytest

from execution.cli.main import cli
from runstore import RunStore
from runstore.audit import Verification, anchor, find_output, verify
from runstore.errors import ConfigError
from runstore.log.codec import LogDigest
from runstore.outputs import local
from tests.acceptance.audited import KILLED, RUN, Audited
from tests.acceptance.forging import Edit, Rows, at, change, forge, instead


@pytest.fixture
def copied(audited: Audited, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    shutil.copytree(audited.store, tmp_path / "store")
    return tmp_path / "store"


def verified(directory: Path, **options: Any) -> Verification:
    """The answer."""
    with RunStore.open(directory, must_exist=True) as store:
        return verify(store, RUN, **options)


def last_again(rows: Rows) -> None:
    """An event after the end of the run."""
    rows.append(
        {"kind": "StepSkipped", "step": "report", "cause": "", "epoch": 3, "time": rows[-1]["time"]}
    )


def drop(kind: str) -> Edit:
    """A row that is gone, without a gap closed."""

    def edit(rows: Rows) -> None:
        rows[at(rows, kind)] = None

    return edit


def twice(rows: Rows) -> None:
    """The same mapping key twice in one output."""
    second = at(rows, "DynamicOutputStored", "regions", 1)
    rows[second]["mapping_key"] = rows[at(rows, "DynamicOutputStored", "regions")]["mapping_key"]


def too_early(rows: Rows) -> None:
    """A run that failed says that it has succeeded."""
    rows[at(rows, "RunFailed")]["kind"] = "RunSucceeded"


def regraph(place: int, /, *path: Any, **fields: Any) -> Edit:
    """Change a node of the graph, or what lies at a path in it."""

    def edit(rows: Rows) -> None:
        found = rows[0]["graph"]["nodes"][place]
        for part in path:
            found = found[part]
        found.update(fields)

    return edit


PARIS = Audited.step("Europe", "Paris")
FAULTS: dict[str, tuple[str, Edit]] = {
    "a row is gone": ("V1", drop("OutputStored")),
    "a row is no event": ("V2", lambda rows: rows.__setitem__(9, {})),
    "a row is no object": ("V2", lambda rows: rows.__setitem__(9, "x")),
    "an unknown kind": ("V2", change("StepStarted", PARIS, kind="StepDreamt")),
    "an unknown field": ("V2", change("StepStarted", PARIS, mood="good")),
    "a newer format": ("V2", change("RunStarted", format=99)),
    "a time of no zone": ("V2", change("StepStarted", PARIS, time="2026-11-26T04:37:54")),
    "a node that reads what no node gives": ("V2", regraph(2, "inputs", 0, "source", node="nobody")),
    "a node that reads what a later node gives": ("V2", regraph(1, "inputs", 0, "source", node="report")),
    "a node that reads an output that the other has not": ("V2", regraph(2, "inputs", 0, "source", output="extra")),
    "a node twice": ("V2", regraph(3, name="length")),
    "a node cloned for keys that nobody yields": ("V2", regraph(2, "scope", 0, node="nobody")),
    "a node that is not cloned for what it reads": ("V2", regraph(2, scope=[])),
    "a collect over a level that it has not": ("V2", regraph(4, "inputs", 0, "source", over=[])),
    "a second start": ("V3", lambda rows: rows.__setitem__(5, {**rows[0], "time": rows[5]["time"]})),
    "no start": ("V3", lambda rows: rows.__setitem__(0, {**rows[1], "time": rows[0]["time"]})),
    "a skipped epoch": ("V4", change("RunResumed", epoch=7)),
    "an event of another epoch": ("V4", change("StepSucceeded", PARIS, epoch=2)),
    "an older event": ("V5", change("StepSucceeded", PARIS, time="2020-01-01T00:00:00Z")),
    "an event after the end": ("V6", last_again),
    "a step of no sealed key": ("V7", change("StepStarted", PARIS, step="length[Europe][Rome]")),
    "a step of no op": ("V7", change("StepStarted", PARIS, step="nobody")),
    "a step key that is none": ("V7", change("StepStarted", PARIS, step="length[")),
    "a step that is done starts": (
        "V8",
        instead("StepStarted", "report", 0, kind="StepStarted", step=PARIS, inputs={}, code="c" * 16, attempt=2),
    ),
    "another attempt": ("V9", change("StepSucceeded", PARIS, attempt=3)),
    "an attempt is left out": ("V9", change("StepStarted", PARIS, attempt=2)),
    "an output that the op has not": ("V10", change("OutputStored", PARIS, output="extra")),
    "a key twice": ("V10", twice),
    "a seal of another count": ("V11", change("ExpansionSealed", "regions", count=2)),
    "a seal of other keys": ("V11", change("ExpansionSealed", "regions", keys_digest="0" * 64)),
    "a success without a seal": (
        "V12",
        instead("ExpansionSealed", "cities[nowhere]", 0, kind="HooksDue", step="regions", hooks=["h"], outcome=1),
    ),
    "an end of reuse without a parent": (
        "V13",
        instead("OutputStored", PARIS, 0, kind="ReuseSealed", reused=0, left_out=0),
    ),
    "a hook that is not due": (
        "V14",
        instead("OutputStored", PARIS, 0, kind="HookSucceeded", step=PARIS, hook="h"),
    ),
    "an input of another clone": ("A1", change("StepStarted", PARIS, inputs={"city": 3})),
    "an input that is not named": ("A1", change("StepStarted", PARIS, inputs={})),
    "a collect of another digest": ("A2", change("CollectResolved", "report", digest="0" * 64)),
    "a collect of fewer keys": ("A2", change("CollectResolved", "report", sealed=2, succeeded=2)),
    "a collect of another source": ("A2", change("CollectResolved", "report", source="length.result")),
    "other counts at the end": ("A3", change("RunSucceeded", counts={"report": {"succeeded": 2}})),
    "a success with work left": ("A4", too_early),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_its_rule(fault: str, copied: Path) -> None:
    """Every finding but those that follow from it has the number of the rule that was broken."""
    rule, edit = FAULTS[fault]
    assert verified(copied).ok
    forge(copied, RUN, edit)
    answer = verified(copied)
    assert rule in {finding.rule for finding in answer.findings}
    assert answer.findings[0].rule == rule, answer.findings
    assert all(finding.fact for finding in answer.findings)


def test_an_edit_is_proved_by_the_next_digest(copied: Path) -> None:
    """V15: a row that is well formed, and not what was appended."""
    forge(copied, RUN, change("StepSucceeded", PARIS, duration_s=12.5), redo_digests=False)
    (finding,) = verified(copied).findings
    assert finding.rule == "V15"


def test_a_forger_who_computes_all_digests_is_found_by_the_anchor(copied: Path) -> None:
    """Without the anchor nothing is off, and the answer says that this cannot be told; with it the edit is found."""
    with RunStore.open(copied, must_exist=True) as store:
        kept = str(anchor(store, RUN))
    whole = verified(copied, anchor=kept)
    assert whole.ok
    assert "nothing up to seq" in whole.proves[0]
    forge(copied, RUN, change("StepSucceeded", PARIS, duration_s=12.5))
    without = verified(copied)
    assert without.ok
    assert any("can compute all digests anew" in text for text in without.cannot_prove)
    for given in (kept, kept.partition(":")[2]):
        (finding,) = verified(copied, anchor=given).findings
        assert finding.rule == "anchor"


def test_a_lost_tail_is_found_by_the_anchor(copied: Path) -> None:
    """A log that was cut is a valid, shorter log, but for the anchor."""
    with RunStore.open(copied, must_exist=True) as store:
        kept = str(anchor(store, RUN))
    forge(copied, RUN, lambda rows: rows.__delitem__(slice(20, None)))
    assert verified(copied).ok
    (finding,) = verified(copied, anchor=kept).findings
    assert "the log ends at seq 20" in finding.fact
    with pytest.raises(ConfigError, match="is no anchor"):
        verified(copied, anchor="abc")


def test_an_anchor_of_a_run_that_goes_on(copied: Path) -> None:
    """What was appended since leaves the anchor as it is."""
    with RunStore.open(copied, must_exist=True) as store:
        rows = list(store.rows(RUN))
    digest = LogDigest()
    digest.update_all(rows[:20])
    answer = verified(copied, anchor=f"20:{digest.hexdigest()}")
    assert answer.ok
    assert any("says nothing of the rows after seq 20" in text for text in answer.cannot_prove)


# Outputs


def output_file(directory: Path, step: str) -> Path:
    """Where a step's output lies."""
    with RunStore.open(directory, must_exist=True) as store:
        return Path(find_output(store, store.state(RUN), step).address)


def lose(path: Path) -> None:
    """It is gone."""
    path.unlink()


def lengthen(path: Path) -> None:
    """It has another size."""
    path.write_bytes(path.read_bytes() + b" ")


def alter(path: Path) -> None:
    """It has other bytes, as many."""
    path.write_bytes(path.read_bytes()[::-1].replace(b"5", b"7"))


@pytest.mark.parametrize(
    ("damage", "rule", "shallow"),
    [(lose, "O1", True), (lengthen, "O2", True), (alter, "O3", False)],
)
def test_damaged_outputs(damage: Any, rule: str, shallow: bool, copied: Path) -> None:
    """What is missing or of another size is found at once, other bytes with --deep; the address is named."""
    path = output_file(copied, PARIS)
    damage(path)
    assert verified(copied).ok is not shallow
    (finding,) = verified(copied, deep=True).findings
    assert (finding.rule, finding.step, finding.address) == (rule, PARIS, str(path))


def test_what_does_not_count_need_not_be_there(copied: Path) -> None:
    """The output that a killed attempt has left is nobody's."""
    with RunStore.open(copied, must_exist=True) as store:
        kept = find_output(store, store.state(RUN), Audited.step(*KILLED)).address
        named = [
            event.reference.path
            for _, event in store.step_events(RUN, Audited.step(*KILLED))
            if hasattr(event, "reference")
        ]
    others = [copied / "outputs" / RUN / path for path in named]
    for path in others:
        if str(path) != kept:
            path.unlink()
    assert verified(copied, deep=True).ok


# The commands


def ask(directory: Path, *words: str, code: int = 0) -> str:
    """What a command prints."""
    ended = click.testing.CliRunner().invoke(cli, [*words, "--store", str(directory)])
    assert ended.exit_code == code, ended.output
    return ended.output


def test_the_commands(copied: Path) -> None:
    """Exit code 0 and the proof; 1 and the finding with its rule, for people and for machines."""
    kept = ask(copied, "anchor", RUN).strip()
    shown = ask(copied, "verify", RUN, "--deep", "--anchor", kept)
    assert "nothing is off" in shown
    assert kept in shown
    output_file(copied, PARIS).unlink()
    assert "O1 " in ask(copied, "verify", RUN, code=1)
    found = json.loads(ask(copied, "verify", RUN, "--json", code=1))
    assert found["ok"] is False
    assert [one["rule"] for one in found["findings"]] == ["O1"]


@pytest.mark.parametrize("deep", [False, True])
def test_an_output_that_storage_refuses_is_a_finding(
    deep: bool, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each output that nothing can be said of is one, and no other, whatever else is looked for with it."""
    steps = {PARIS, "add[nowhere]", Audited.step(*KILLED)}
    asked_for = "SELECT path FROM outputs WHERE run_id = ? AND step = ? AND accepted"
    with RunStore.open(copied, must_exist=True) as store:
        refused = {path for step in steps for (path,) in store.query(asked_for, (RUN, step))}

    def refuse(function: Any) -> Any:
        def asked(path: Any, *rest: Any, **options: Any) -> Any:
            if str(path).endswith(tuple(refused)):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *rest, **options)

        return asked

    for name in ("open", "stat"):
        monkeypatch.setattr(local.os, name, refuse(getattr(os, name)))
    found = verified(copied, deep=deep).findings
    assert {(one.rule, one.step) for one in found} == {("O1", step) for step in steps}
    assert all("Permission denied" in one.fact for one in found)


@pytest.mark.parametrize("put", [os.mkdir, os.mkfifo, lambda path: os.symlink(path, path)])
@pytest.mark.parametrize("deep", [False, True])
def test_what_is_no_file_is_no_output(deep: bool, put: Any, copied: Path) -> None:
    """A folder, a pipe or a link to itself in the place of an output is a finding; nobody waits for a pipe."""
    path = copied / "outputs" / RUN / "add" / "result" / "nowhere.e2a1.json"
    path.unlink()
    put(path)
    (finding,) = verified(copied, deep=deep).findings
    assert (finding.rule in ("O1", "O2"), finding.step) == (True, "add[nowhere]")
    assert path.name in finding.fact
